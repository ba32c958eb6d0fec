//! Flows over the real programs: `ihfs` and `ihfs-node` as processes of their own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The programs as this build made them, beside the test's own.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test is a program");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    let path = folder.join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --workspace --bins`", path.display());
    path
}

/// A machine: a folder with homes, a passphrase file, and a one-node network that ends with it.
pub struct Machine {
    folder: TempDir,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// Founds a one-node network with `ann@home` as its patient.
    pub fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        std::fs::write(machine.path("pass"), "a passphrase of tests\n").expect("writes");
        let sheet = machine.text("ann.sheet");
        machine.done("ann", &["init", "--solo", "--as", "ann", "--yes", "--sheet", &sheet]);
        machine
    }

    /// A path in the machine's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("temporary folders have plain names").to_owned()
    }

    /// Registers somebody in the network.
    pub fn invite(&self, name: &str) {
        let node = self.text("ann/node");
        let invited = Command::new(program("ihfs-node"))
            .args(["invite", "--data", &node, "--role", "practitioner", "--as", name])
            .output()
            .expect("runs");
        assert!(invited.status.success(), "{}", String::from_utf8_lossy(&invited.stderr));
        std::fs::write(self.path("invite"), &invited.stdout).expect("writes");
        let (invite, sheet) = (self.text("invite"), self.text(&format!("{name}.sheet")));
        self.done(name, &["init", "--invite", &invite, "--yes", "--sheet", &sheet]);
    }

    /// An `ihfs` of one person, ready to run.
    pub fn command(&self, home: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("ihfs"));
        command.args(arguments).arg("--home").arg(self.path(home));
        command.arg("--passphrase-file").arg(self.path("pass"));
        command.stdin(Stdio::null()).env_remove("IHFS_HOME").env("IHFS_NODE_BIN", program("ihfs-node"));
        command
    }

    /// Runs `ihfs` to its end.
    pub fn run(&self, home: &str, arguments: &[&str]) -> Output {
        self.command(home, arguments).output().expect("runs")
    }

    /// Runs `ihfs`, which must succeed; gives what it printed.
    pub fn done(&self, home: &str, arguments: &[&str]) -> String {
        let output = self.run(home, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ihfs {arguments:?}: {:?}\n{said}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `ihfs --json`, which must succeed.
    pub fn json(&self, home: &str, arguments: &[&str]) -> Value {
        let text = self.done(home, &[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Exit code of an `ihfs` that is expected to fail.
    pub fn code(&self, home: &str, arguments: &[&str]) -> i32 {
        self.run(home, arguments).status.code().expect("ended by itself")
    }

    /// Starts `ihfs` in the background.
    pub fn spawn(&self, home: &str, arguments: &[&str]) -> Child {
        self.command(home, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs")
    }

    /// Kills the node as a power cut would end it, and waits until it is gone.
    pub fn kill_node(&self) {
        let file = std::fs::read(self.path("ann/node/node.json")).expect("the node runs");
        let file: Value = serde_json::from_slice(&file).expect("whole");
        let pid = file["pid"].as_u64().expect("a process id");
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().expect("runs");
        assert!(killed.success());
        while Path::new(&format!("/proc/{pid}/exe")).exists() {
            std::thread::yield_now();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Whatever a failed test left running ends here.
        let _ = self.run("ann", &["solo", "stop"]);
    }
}
