//! Benchmarks: what IHFS does beside something that does the same work, in the same run, as ratios.
//!
//! A machine is fast or slow, and busy or idle; ratios of rounds that take turns say something on any machine.
//! docs/PERFORMANCE.md has the results and the commands.

mod client_process;
mod end_to_end;
mod measure;
mod network;
mod parts;
mod rivals;
mod workload;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measures IHFS beside `cp`, `restic` and plain loops.
#[derive(Debug, Parser)]
#[command(name = "ihfs-benches")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Whole puts and gets by processes of their own, beside cp with fsync and restic.
    EndToEnd(end_to_end::EndToEnd),
    /// Sealing, cutting, storing, the ledger: each beside the least that the machine must do for it.
    Parts {
        /// How often each is measured; the median counts.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// A folder of the disk to measure.
        #[arg(long, default_value = "target/benches")]
        folder: PathBuf,
    },
    /// One act of a client, as a process of its own.
    #[command(hide = true)]
    Client(client_process::ClientProcess),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::EndToEnd(bench) => bench.run(),
        Command::Parts { rounds, folder } => parts::run(rounds, &folder),
        Command::Client(client) => client.run(),
    }
}
