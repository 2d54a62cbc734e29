//! The `pgveil` binary: hands the command line to [`pgveil::cli`] and its exit code to the shell.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgveil::cli::run()
}
