//! Wall time of a process and its peak of memory.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Runs a command to its end, from nothing to exit, and gives the time it took and what it printed.
pub fn timed(command: &mut Command) -> Result<(Duration, String)> {
    let started = Instant::now();
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    let took = started.elapsed();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok((took, said))
}

/// The most memory that a running process ever held, in KiB: `VmHWM` of proc(5).
pub fn peak_kib(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// The middle of several figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Seconds of work, repeated; the median.
pub fn median_seconds(rounds: usize, mut work: impl FnMut()) -> f64 {
    let one = |_| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    };
    median((0..rounds.max(1)).map(one).collect())
}
