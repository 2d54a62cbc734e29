//! Goals: what a bench is held to, measured side by side in one process, and the line that says whether it was met.
//!
//! `goal NAME measured M wanted W met`, or `missed`, one for each; a script reads them.

use std::time::{Duration, Instant};

fn say(name: &str, measured: f64, wanted: f64, met: bool) {
    println!("goal {name} measured {measured:.2} wanted {wanted} {}", if met { "met" } else { "missed" });
}

/// The more, the better.
#[allow(dead_code)]
pub fn at_least(name: &str, measured: f64, wanted: f64) {
    say(name, measured, wanted, measured >= wanted);
}

/// The less, the better.
#[allow(dead_code)]
pub fn at_most(name: &str, measured: f64, wanted: f64) {
    say(name, measured, wanted, measured <= wanted);
}

/// How long one call takes of each of these, in nanoseconds: calls in turn for short whiles, so that a slow moment is
/// everybody's, and of each the quick tenth of its whiles, which nobody disturbed.
#[allow(dead_code)]
pub fn side_by_side<const N: usize>(mut calls: [&mut dyn FnMut(); N]) -> [f64; N] {
    const WHILE: Duration = Duration::from_micros(30);
    const ROUNDS: usize = 500;
    let mut counts = [1_u32; N];
    for (call, count) in calls.iter_mut().zip(&mut counts) {
        let start = Instant::now();
        let mut calls = 0;
        while start.elapsed() < WHILE * 20 {
            call();
            calls += 1;
        }
        *count = (calls / 20).max(1);
    }
    let mut taken = [const { Vec::<f64>::new() }; N];
    for _ in 0..ROUNDS {
        for ((call, count), taken) in calls.iter_mut().zip(counts).zip(&mut taken) {
            let start = Instant::now();
            (0..count).for_each(|_| call());
            taken.push(start.elapsed().as_nanos() as f64 / f64::from(count));
        }
    }
    taken.map(|mut taken| {
        taken.sort_by(f64::total_cmp);
        taken[taken.len() / 10]
    })
}
