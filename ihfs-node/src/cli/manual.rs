//! The manual and the completions of the command line, made from its definition.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man as Page;

use super::{Arguments, Failure};

/// `ihfs-node man`.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write one page for each command into FOLDER
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// `ihfs-node completions`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// Prints the page of `ihfs-node`, or writes one page for each command into a folder.
pub(super) fn man(arguments: &Man) -> Result<(), Failure> {
    let mut command = Arguments::command();
    command.build();
    let written = match &arguments.dir {
        None => Page::new(command).render(&mut io::stdout().lock()),
        Some(folder) => {
            std::fs::create_dir_all(folder).and_then(|()| write_pages(&command, "ihfs-node", folder))
        }
    };
    written.map_err(|source| Failure::Io { what: "cannot write the manual".to_owned(), source })
}

/// Prints the script that completes words in a shell.
pub(super) fn completions(arguments: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "ihfs-node", &mut script);
    let written = io::Write::write_all(&mut io::stdout().lock(), &script);
    written.map_err(|source| Failure::Io { what: "cannot write the script".to_owned(), source })
}

fn write_pages(command: &Command, name: &str, folder: &Path) -> io::Result<()> {
    // clap_mangen wants names that live as long as the program; these are few and made once.
    let named: &'static str = Box::leak(name.to_owned().into_boxed_str());
    let mut text = Vec::new();
    Page::new(command.clone().name(named).display_name(named)).render(&mut text)?;
    std::fs::write(folder.join(format!("{name}.1")), text)?;
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        write_pages(verb, &format!("{name}-{}", verb.get_name()), folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_the_first_tells_the_exit_codes() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Arguments::command();
        command.build();
        write_pages(&command, "ihfs-node", folder.path()).unwrap();
        for page in ["ihfs-node-run", "ihfs-node-member-list", "ihfs-node-backup-keys"] {
            assert!(folder.path().join(format!("{page}.1")).exists(), "{page}");
        }
        let first = std::fs::read_to_string(folder.path().join("ihfs-node.1")).unwrap();
        assert!(first.contains("Exit codes"));
    }
}
