//! `ihfs completions SHELL`: the script that lets a shell ask this program what comes next.

use clap_complete::env::Shells;

use crate::COMPLETE_VARIABLE;
use crate::args::setup::Completions;
use crate::config::Config;
use crate::failure::Failure;
use crate::output::write_all;

/// Bash breaks words at `@` and `:`, which stand in `//owner@hospital/label`: the words are put together again.
const BASH: &str = include_str!("completions.bash");

/// Prints the script.
pub(super) fn run(_config: &Config, args: &Completions) -> Result<(), Failure> {
    write_all(&mut std::io::stdout().lock(), &script(&args.shell)?)
}

fn script(shell: &str) -> Result<Vec<u8>, Failure> {
    if shell == "bash" {
        return Ok(BASH.as_bytes().to_vec());
    }
    let shells = Shells::builtins();
    let shell = shells.completer(shell).expect("the argument allows only these");
    let mut script = Vec::new();
    shell.write_registration(COMPLETE_VARIABLE, "ihfs", "ihfs", "ihfs", &mut script)?;
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_a_script_that_asks_this_program() {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = String::from_utf8(script(shell).unwrap()).unwrap();
            assert!(script.contains(COMPLETE_VARIABLE), "{shell}");
        }
    }
}
