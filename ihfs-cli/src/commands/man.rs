//! `ihfs man`: the manual, made from the definition of the command line.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man as Page;

use crate::args::Cli;
use crate::args::setup::Man;
use crate::config::Config;
use crate::failure::Failure;
use crate::output::write_all;

/// Prints the page of `ihfs`, or writes one page for each command into a folder.
pub(super) fn run(config: &Config, args: &Man) -> Result<(), Failure> {
    let mut command = Cli::command();
    command.build();
    match &args.dir {
        None => write_all(&mut std::io::stdout().lock(), &page(&command)?),
        Some(folder) => {
            std::fs::create_dir_all(folder)?;
            let pages = write_pages(&command, "ihfs", folder)?;
            config.output.note(&format!("{pages} pages in {}", folder.display()));
            Ok(())
        }
    }
}

fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    Page::new(command.clone()).render(&mut text)?;
    Ok(text)
}

/// Writes the page of a command and those of its verbs; says how many.
fn write_pages(command: &Command, name: &str, folder: &Path) -> Result<usize, Failure> {
    // clap_mangen wants names that live as long as the program; these are few and made once.
    let named: &'static str = Box::leak(name.to_owned().into_boxed_str());
    let text = page(&command.clone().name(named).display_name(named))?;
    std::fs::write(folder.join(format!("{name}.1")), text)?;
    let mut pages = 1;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        pages += write_pages(verb, &format!("{name}-{}", verb.get_name()), folder)?;
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_that_can_be_typed_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Cli::command();
        command.build();
        write_pages(&command, "ihfs", folder.path()).unwrap();
        for page in ["ihfs", "ihfs-put", "ihfs-solo-start", "ihfs-device-remove"] {
            assert!(folder.path().join(format!("{page}.1")).exists(), "{page}");
        }
        assert!(!folder.path().join("ihfs-agent-run.1").exists());
    }
}
