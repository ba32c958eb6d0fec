//! Flows over the real programs: `ihfs` and `ihfs-node` as processes of their own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;

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
    /// Before the folder that they are in.
    disks: Mutex<Vec<Disk>>,
    folder: TempDir,
}

/// A small disk of its own.
struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts it over a folder, with what that folder holds.
    fn over(path: PathBuf, size_mib: u32) -> Option<Self> {
        let mut beside = path.clone().into_os_string();
        beside.push(".before");
        let beside = PathBuf::from(beside);
        if path.exists() {
            std::fs::rename(&path, &beside).expect("renames");
        }
        std::fs::create_dir(&path).expect("makes a folder");
        let options = format!("size={size_mib}m,mode=700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "ihfs-tests"]).arg(&path);
        let output = mount.output().expect("the program mount");
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            // Past the harness, which would keep it to itself.
            let _ = writeln!(std::io::stderr(), "SKIPPED, not tested: a full disk needs mount: {said}");
            return None;
        }
        let disk = Self { path };
        if beside.exists() {
            let all = format!("{}/.", beside.display());
            let copied = Command::new("cp").args(["-a", &all]).arg(&disk.path).status().expect("runs");
            assert!(copied.success());
        }
        Some(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also while a process that a failed test left still holds it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// Founds a one-node network with `ann@home` as its patient.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let machine = Self { disks: Mutex::default(), folder };
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
        let invited = self.done_node(&["invite", "--role", "practitioner", "--as", name]);
        std::fs::write(self.path("invite"), invited).expect("writes");
        let (invite, sheet) = (self.text("invite"), self.text(&format!("{name}.sheet")));
        self.done(name, &["init", "--invite", &invite, "--yes", "--sheet", &sheet]);
    }

    /// Runs `ihfs-node` on the node's data, which must succeed; gives what it printed.
    pub fn done_node(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program("ihfs-node"));
        let output = command.args(arguments).arg("--data").arg(self.path("ann/node")).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// An `ihfs` of one person, ready to run.
    pub fn command(&self, home: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("ihfs"));
        command.args(arguments).arg("--home").arg(self.path(home));
        command.arg("--passphrase-file").arg(self.path("pass"));
        command.stdin(Stdio::null()).env_remove("IHFS_HOME").env("IHFS_NODE_BIN", program("ihfs-node"));
        command
    }

    /// The same on a machine whose clock is wrong by so many seconds.
    pub fn command_at(&self, shift_seconds: i64, home: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(home, arguments);
        command.env("LD_PRELOAD", self.clock_shim()).env("CLOCK_SHIFT_SECONDS", shift_seconds.to_string());
        command
    }

    /// The library that shifts the wall clock of whoever loads it, compiled once for each machine.
    fn clock_shim(&self) -> PathBuf {
        let (source, shim) = (self.path("clock.c"), self.path("clock.so"));
        if !shim.exists() {
            std::fs::write(&source, include_str!("clock.c")).expect("writes");
            let mut compile = Command::new("cc");
            compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(&source);
            assert!(compile.status().expect("a C compiler").success());
        }
        shim
    }

    /// Puts a disk of this size, in MiB, under a path of the machine, which keeps what it holds. It goes with the
    /// machine. None, and a loud word, where mounting is not permitted.
    pub fn mount(&self, name: &str, size_mib: u32) -> Option<PathBuf> {
        let disk = Disk::over(self.path(name), size_mib)?;
        let path = disk.path.clone();
        self.disks.lock().expect("mounting does not panic").push(disk);
        Some(path)
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
