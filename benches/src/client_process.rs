//! One act of a client in a process of its own, as a command line does it: read the keys, connect, act, end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use ihfs_client::client::Client;
use ihfs_client::get::GetOptions;
use ihfs_client::home::Home;
use ihfs_client::location::Location;
use ihfs_client::openings::InProcess;
use ihfs_client::progress::Silent;
use ihfs_client::put::Put;
use ihfs_core::crypto::derive::Seed;
use ihfs_core::crypto::keyring::Keyring;
use ihfs_core::invitation::Invitation;

use crate::measure::{peak_kib, timed};

/// The passphrase of everybody here.
const PASSPHRASE: &[u8] = b"a passphrase of benches";
/// Where things are put.
const TARGET: &[u8] = b"/bench";

#[derive(Debug, Args)]
pub struct ClientProcess {
    home: PathBuf,
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum Act {
    Join { invitation: String },
    Put { source: PathBuf },
    Get { into: PathBuf },
}

impl ClientProcess {
    /// Acts, and prints its peak of memory in KiB.
    pub fn run(&self) -> Result<()> {
        let home = Home::at(&self.home);
        let target = Location::parse(TARGET)?;
        match &self.act {
            Act::Join { invitation } => {
                let seed = Seed::from_random(*blake3::hash(PASSPHRASE).as_bytes());
                ihfs_client::join::join(&home, &seed, PASSPHRASE, &Invitation::from_text(invitation)?)?;
            }
            Act::Put { source } => {
                connect(&home)?.put(&[Put::path(source.clone(), target)], &Silent)?;
            }
            Act::Get { into } => {
                connect(&home)?.get(&target, into, GetOptions::default(), &Silent)?;
            }
        }
        println!("{}", peak_kib(std::process::id())?);
        Ok(())
    }
}

fn connect(home: &Home) -> Result<Client> {
    let keyring = Keyring::open(&home.keyring()?, PASSPHRASE)?;
    Ok(Client::connect(home, Arc::new(keyring), Box::<InProcess>::default())?)
}

/// Time of a client's act, and its peak of memory in KiB.
pub fn act(home: &Path, act: &str, argument: impl AsRef<std::ffi::OsStr>) -> Result<(Duration, u64)> {
    let mut command = Command::new(std::env::current_exe()?);
    let (took, said) = timed(command.arg("client").arg(home).arg(act).arg(argument))?;
    Ok((took, said.trim().parse().context("a client says its peak of memory")?))
}
