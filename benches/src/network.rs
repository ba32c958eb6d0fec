//! A network of one real node: the `ihfs-node` program, a process of its own, over loopback sockets.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::measure::{peak_kib, timed};

/// A running node with its data in a folder.
pub struct Network {
    program: PathBuf,
    data: PathBuf,
    process: Child,
}

impl Network {
    /// Founds a network below `folder` and starts its node.
    pub fn start(folder: &Path) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("ihfs-node");
        ensure!(program.exists(), "{} is missing: cargo build --release -p ihfs-node", program.display());
        let data = folder.join("node");
        timed(Command::new(&program).args(["init", "--solo", "--hospital", "st-mary", "--data"]).arg(&data))?;
        let mut process = Command::new(&program)
            .args(["run", "--log-files", "--data"])
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = String::new();
        BufReader::new(process.stdout.take().context("its output is piped")?).read_line(&mut ready)?;
        ensure!(ready.contains("ready"), "the node does not start");
        Ok(Self { program, data, process })
    }

    /// An invitation for a patient, as text.
    pub fn invite(&self, name: &str) -> Result<String> {
        let mut command = Command::new(&self.program);
        let (_, said) =
            timed(command.args(["invite", "--role", "patient", "--as", name, "--data"]).arg(&self.data))?;
        let text = said.split_whitespace().max_by_key(|word| word.len());
        Ok(text.context("no invitation")?.to_owned())
    }

    /// The most memory that the node held, in KiB.
    pub fn peak_kib(&self) -> Result<u64> {
        peak_kib(self.process.id())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
