//! The `hdai` binary: parse the command line, hand over.

use std::process::ExitCode;

fn main() -> ExitCode {
    health_data_ai::cli::run()
}
