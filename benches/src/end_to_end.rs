//! Puts and gets of whole folders, node and client each a process, beside `cp` with fsync and `restic`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::client_process::act;
use crate::measure::median;
use crate::network::Network;
use crate::rivals::{Restic, copy, sync};
use crate::workload::{Workload, check_equal};

/// Most memory that a process may ever hold, in MiB.
const PEAK_MIB_MAX: u64 = 128;

#[derive(Debug, Args)]
pub struct EndToEnd {
    /// COUNTxKIB; several may be given.
    #[arg(default_values = ["1x1048576", "2000x256", "10000x4"])]
    workloads: Vec<Workload>,
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A folder of the disk to measure. What is made there is removed again.
    #[arg(long, default_value = "target/benches")]
    folder: PathBuf,
    /// What restic does about compression: auto (its default) or off.
    #[arg(long, default_value = "auto")]
    restic_compression: String,
    /// Leave the rivals out.
    #[arg(long)]
    alone: bool,
}

/// Seconds of one round.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    copy: f64,
    backup: f64,
    restore: f64,
    put: f64,
    get: f64,
    client_peak_kib: u64,
    node_peak_kib: u64,
}

impl EndToEnd {
    /// Measures and prints a table.
    pub fn run(&self) -> Result<()> {
        println!("{}", HEADING.join(" | "));
        println!("{}", HEADING.map(|_| "---").join(" | "));
        for load in &self.workloads {
            let rounds = self.measure(*load).with_context(|| load.to_string())?;
            print_line(*load, &rounds);
        }
        Ok(())
    }

    fn measure(&self, load: Workload) -> Result<Vec<Round>> {
        std::fs::create_dir_all(&self.folder)?;
        let folder = self.folder.canonicalize()?.join(format!("{}x{}", load.files, load.file_bytes >> 10));
        remove(&folder)?;
        let source = folder.join("source");
        load.write(&source)?;
        sync(&source)?;
        let mut rounds = Vec::new();
        for number in 0..self.rounds {
            // Nothing is removed before all is measured: a file system that has just deleted many files makes new
            // ones slowly (ext4 passes over inodes of the last minutes).
            let round = self.round(&folder.join(format!("round-{number}")), &source, number)?;
            eprintln!("{load}: {round:.2?}");
            rounds.push(round);
        }
        remove(&folder)?;
        Ok(rounds)
    }

    /// Who goes first changes with the number of the round.
    fn round(&self, folder: &Path, source: &Path, number: usize) -> Result<Round> {
        std::fs::create_dir_all(folder)?;
        let mut round = Round::default();
        if number.is_multiple_of(2) {
            self.rivals(folder, source, &mut round)?;
            ours(folder, source, &mut round)?;
        } else {
            ours(folder, source, &mut round)?;
            self.rivals(folder, source, &mut round)?;
        }
        Ok(round)
    }

    fn rivals(&self, folder: &Path, source: &Path, round: &mut Round) -> Result<()> {
        if self.alone {
            return Ok(());
        }
        settle();
        round.copy = copy(source, &folder.join("copy"))?.as_secs_f64();
        let restic = Restic::create(&folder.join("restic"), &self.restic_compression)?;
        settle();
        round.backup = restic.backup(source)?.as_secs_f64();
        settle();
        round.restore = restic.restore(&folder.join("restored"))?.as_secs_f64();
        Ok(())
    }
}

/// Puts and gets through a fresh network.
fn ours(folder: &Path, source: &Path, round: &mut Round) -> Result<()> {
    let network = Network::start(folder)?;
    let (home, got) = (folder.join("home"), folder.join("got"));
    act(&home, "join", network.invite("ada")?)?;
    settle();
    let (took, peak) = act(&home, "put", source)?;
    (round.put, round.client_peak_kib) = (took.as_secs_f64(), peak);
    settle();
    let (took, peak) = act(&home, "get", &got)?;
    (round.get, round.client_peak_kib) = (took.as_secs_f64(), peak.max(round.client_peak_kib));
    check_equal(source, &got)?;
    round.node_peak_kib = network.peak_kib()?;
    Ok(())
}

const HEADING: [&str; 10] = [
    "workload",
    "cp + fsync",
    "restic backup",
    "put",
    "put : restic",
    "restic restore + fsync",
    "get",
    "get : restic",
    "client MiB",
    "node MiB",
];

fn print_line(load: Workload, rounds: &[Round]) {
    let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    let peak = |figure: fn(&Round) -> u64| rounds.iter().map(figure).max().unwrap_or(0) >> 10;
    let (client, node) = (peak(|round| round.client_peak_kib), peak(|round| round.node_peak_kib));
    println!(
        "{load} | {:.2} s | {:.2} s | {:.2} s | {:.2} | {:.2} s | {:.2} s | {:.2} | {client} | {node}",
        of(|round| round.copy),
        of(|round| round.backup),
        of(|round| round.put),
        of(|round| round.backup / round.put),
        of(|round| round.restore),
        of(|round| round.get),
        of(|round| round.restore / round.get),
    );
    if client.max(node) > PEAK_MIB_MAX {
        println!("more than {PEAK_MIB_MAX} MiB of memory");
    }
}

/// Lets the disk finish what came before, so that nobody pays for another's writes.
fn settle() {
    rustix::fs::sync();
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
