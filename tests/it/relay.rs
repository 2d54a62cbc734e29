//! Conversation scripts: `tests/golden/relay/*.txt`, played against the relay over the shop's world.
//!
//! Input lines: `user NAME` begins a conversation; `C>` the client says, `S>` the server says (neighbouring lines come in
//! one read; `then` parts reads), `log ok` and `log fails` answer the oldest gated record, `catalog read` answers a refresh; with
//! a type, the database gave it to `customers.email` meanwhile, which `catalog polled` tells unasked. Output lines:
//! `>S` and `>C` what was sent, `audit` what was recorded, `catalog?` and `close`, `(waits)` when the client's message is
//! held. The order of the lines is the assertion. `UPDATE=1` rewrites the output; look at what changed.

use crate::conversation::{
    Pump, Seen, client_frame, record_text, retyped, server_frames, to_client_text, to_server_text, world,
};
use pgveil::relay::World;
use pgveil::relay::ledger::Tried;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn show(pump: &mut Pump, out: &mut String) {
    let world = pump.world.clone();
    for seen in pump.seen() {
        let line = match seen {
            Seen::ToServer(frame) => match to_server_text(&world, &frame) {
                // The question for the path is eight messages: one line says so.
                text if text.starts_with("Execute pgveil_path") => ">S (asks for the path)".into(),
                text if text.contains("pgveil_path") => continue,
                text => format!(">S {text}"),
            },
            Seen::ToClient(frame) => format!(">C {}", to_client_text(&world, &frame)),
            Seen::Record(record, gate) => {
                format!("audit {}{}", record_text(&record), if gate { " (waits)" } else { "" })
            }
            Seen::Ask => "ledger?".into(),
            Seen::Refresh => "catalog?".into(),
            Seen::Close => "close".into(),
        };
        writeln!(out, "    {line}").unwrap();
    }
}

fn opened(world: &Arc<World>, user: &str) -> Pump {
    let mut pump = Pump::unheard(world.clone(), user);
    pump.seen();
    pump.server.extend(server_frames(world, "Path pg_catalog,public I"));
    while pump.step() {}
    assert!(pump.seen().is_empty(), "the opening is for us alone");
    pump
}

/// Plays one script: its input lines with the output that they lead to.
fn played(script: &str) -> String {
    let world = world(|_| {});
    let mut pump = None;
    let mut out = String::new();
    let mut lines = script.lines().filter(|line| !line.starts_with("    ")).peekable();
    while let Some(line) = lines.next() {
        writeln!(out, "{line}").unwrap();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(user) = line.strip_prefix("user ") {
            pump = Some(opened(&world, user));
            continue;
        }
        let pump = pump.as_mut().expect("a script begins with a user");
        if let Some(text) = line.strip_prefix("C> ") {
            pump.client.push_back(client_frame(&world, text));
        } else if let Some(text) = line.strip_prefix("S> ") {
            pump.server.extend(server_frames(&world, text));
            if lines.peek().is_some_and(|next| next.starts_with("S> ")) {
                continue;
            }
        } else {
            match line {
                "then" => {}
                "log ok" | "log fails" if pump.gates == 0 => out.push_str("    (no record waits)\n"),
                line if line.starts_with("catalog read") && !pump.refreshing => {
                    out.push_str("    (nobody asked)\n")
                }
                "ledger given" => pump.ledger(Tried::Given),
                "ledger used" => pump.ledger(Tried::Used),
                "ledger locked" => pump.ledger(Tried::Locked(61)),
                "log ok" => pump.log(true),
                "log fails" => pump.log(false),
                "fence up" => pump.relay.fence(true),
                "fence down" => pump.relay.fence(false),
                "under way?" => {
                    writeln!(out, "    ({})", if pump.relay.uses_under_way() { "yes" } else { "no" })
                        .unwrap();
                }
                "catalog read" => pump.refreshed(pump.world.clone()),
                line => match (line.strip_prefix("catalog read "), line.strip_prefix("catalog polled ")) {
                    (Some(retype), _) => pump.refreshed(retyped(&pump.world, retype)),
                    (_, Some(retype)) => pump.polled(retyped(&pump.world, retype)),
                    _ => panic!("line {line}"),
                },
            }
        }
        while pump.step() {}
        show(pump, &mut out);
        if line.starts_with("C> ") && !pump.closed && !pump.relay.wants().client {
            writeln!(out, "    (waits)").unwrap();
        }
    }
    out
}

#[test]
fn conversations_go_as_the_scripts_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/relay");
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = vec![];
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let now = played(&text);
        if now == text {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, now).unwrap();
            continue;
        }
        let differs = now.lines().zip(text.lines()).find(|(now, then)| now != then);
        wrong.push(format!("{}: {differs:?}", file.display()));
    }
    assert!(
        wrong.is_empty(),
        "conversations changed; look, and run with UPDATE=1 when they are right:\n{}",
        wrong.join("\n")
    );
}
