//! The binary `ihfs`: everything is in the library, so that tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ihfs_cli::main()
}
