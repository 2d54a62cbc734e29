//! Where the keyring and its master key are kept. The only part of `crypto` that does I/O.

pub mod file;

use super::Random;

/// The operating system's generator, for keys and nonces.
pub struct SystemRandom;

impl Random for SystemRandom {
    /// # Panics
    /// When the operating system gives no randomness: nothing can be sealed then.
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives randomness");
    }
}
