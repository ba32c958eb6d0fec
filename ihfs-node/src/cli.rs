//! Arguments, what they do, and what people read.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ihfs_core::ledger::identity::Role;
use ihfs_node::admin::{self, AdminError, init, invite};
use ihfs_node::config::{Config, LogConfig, LogTarget, StoreConfig};
use ihfs_node::consensus::driver::system_clock;
use ihfs_node::run::{self, NodeError, NodeHandle, Options};
use tracing_appender::non_blocking::WorkerGuard;

/// Milliseconds of a day.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// Runs and looks after a hospital's IHFS storage node.
#[derive(Debug, Parser)]
#[command(name = "ihfs-node", version, about, propagate_version = true)]
#[command(after_help = "Exit codes: 0 done, 1 not found or not running, 2 error, 3 not allowed.")]
pub struct Arguments {
    /// Print JSON for programs instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// The node's data folder.
    #[arg(long, global = true, env = "IHFS_NODE_DATA", default_value = "/var/lib/ihfs/node")]
    data: PathBuf,
    /// Answer questions with yes.
    #[arg(long, global = true)]
    yes: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Found a network with this node: keys, genesis document, configuration.
    Init(Init),
    /// Run the node until it is told to stop; supervision is systemd's, or that of `ihfs solo`.
    Run(Run),
    /// How the running node fares, measured now.
    Status,
    /// Sign an invite for a new member of this hospital, and print its text.
    Invite(Invite),
    /// The hospital's members.
    #[command(subcommand)]
    Member(Member),
    /// Write a sealed backup of node key and key shares, good for 30 days. The node must stand still.
    BackupKeys(Backup),
    /// Bring key shares back from a backup. The node must stand still.
    RestoreKeys(Backup),
    /// Remove the node's data from this machine: chunks, key shares, ledger, keys.
    Uninstall,
}

#[derive(Debug, Args)]
struct Init {
    /// A network of this one machine, on loopback.
    #[arg(long)]
    solo: bool,
    /// Name of the hospital: the part of handles behind the @.
    #[arg(long)]
    hospital: String,
    /// Name of the network, for people.
    #[arg(long, default_value = "ihfs")]
    network: String,
    /// Where to listen; port 0 lets the system choose.
    #[arg(long, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// Addresses that others use, if not those listened on.
    #[arg(long, value_name = "ADDRESS")]
    announce: Vec<String>,
    /// Space of the file system to leave alone, in MiB.
    #[arg(long, default_value_t = StoreConfig::default().reserve_mib)]
    reserve_mib: u64,
}

#[derive(Debug, Args)]
struct Run {
    /// Stay in the foreground: the only mode, named for supervisors.
    #[arg(long)]
    foreground: bool,
    /// Write logs to files in the data folder, whatever the configuration says.
    #[arg(long)]
    log_files: bool,
}

#[derive(Debug, Args)]
struct Invite {
    /// What the new member does.
    #[arg(long, value_enum)]
    role: RoleName,
    /// The new member's name; the hospital's part may be left out.
    #[arg(long = "as", value_name = "NAME")]
    name: String,
    /// How long it is good: 30m, 12h, 7d.
    #[arg(long, default_value = "7d", value_parser = parse_life)]
    expires: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleName {
    Patient,
    Practitioner,
    Pharmacist,
    Researcher,
    Registrar,
    Auditor,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Patient => Self::Patient,
            RoleName::Practitioner => Self::Practitioner,
            RoleName::Pharmacist => Self::Pharmacist,
            RoleName::Researcher => Self::Researcher,
            RoleName::Registrar => Self::Registrar,
            RoleName::Auditor => Self::Auditor,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Member {
    /// Members whose handles this node knows.
    List,
}

#[derive(Debug, Args)]
struct Backup {
    /// The backup.
    file: PathBuf,
    /// File with the passphrase on its first line.
    #[arg(long)]
    passphrase_file: PathBuf,
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An act of administration failed.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The node did not start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The node ended by itself.
    #[error("the node stopped: {0}")]
    Stopped(String),
    /// A file or the runtime failed.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why.
        source: io::Error,
    },
}

impl Failure {
    /// Tells it, with its causes and what to do, and gives the exit code.
    pub fn report(&self, arguments: &Arguments) -> ExitCode {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        if arguments.json {
            eprintln!("{}", serde_json::json!({ "error": text, "code": self.code() }));
        } else {
            eprintln!("ihfs-node: {text}");
        }
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Self::Admin(AdminError::NotRunning { .. } | AdminError::Folder(run::FolderError::NotAFolder { .. })) => 1,
            Self::Node(NodeError::Folder(run::FolderError::NotAFolder { .. })) => 1,
            Self::Admin(AdminError::Refused(_) | AdminError::NotConfirmed) => 3,
            _ => 2,
        }
    }
}

/// Does what was asked.
///
/// # Errors
/// [`Failure`].
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Init(init) => found(arguments, init),
        Command::Run(run) => serve(arguments, run),
        Command::Status => status(arguments),
        Command::Invite(ask) => print_invite(arguments, ask),
        Command::Member(Member::List) => list_members(arguments),
        Command::BackupKeys(backup) => {
            let passphrase = passphrase(backup)?;
            admin::backup_keys(&arguments.data, &backup.file, &passphrase, system_clock())?;
            say(arguments, &format!("Backup written to {}. It is worth nothing after 30 days.", backup.file.display()))
        }
        Command::RestoreKeys(backup) => {
            let passphrase = passphrase(backup)?;
            let shares = admin::restore_keys(&arguments.data, &backup.file, &passphrase, system_clock())?;
            say(arguments, &format!("{shares} key shares are back; those that the ledger ended go before the node serves."))
        }
        Command::Uninstall => uninstall(arguments),
    }
}

fn found(arguments: &Arguments, init: &Init) -> Result<(), Failure> {
    let listen = match (init.listen.as_slice(), init.solo) {
        ([], true) => vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        ([], false) => vec![SocketAddr::from(([0, 0, 0, 0], 4040))],
        (some, _) => some.to_vec(),
    };
    let founded = init::found(&init::Founding {
        data: arguments.data.clone(),
        hospital: init.hospital.clone(),
        network: if init.solo { "solo".to_owned() } else { init.network.clone() },
        listen,
        announce: init.announce.clone(),
        store: StoreConfig { reserve_mib: init.reserve_mib, ..StoreConfig::default() },
        log: LogConfig::default(),
        now: system_clock(),
    })?;
    if arguments.json {
        let (node, hospital, chain) =
            (founded.node.to_string(), founded.hospital.to_string(), founded.chain.to_string());
        return print(&serde_json::json!({ "node": node, "hospital": hospital, "chain": chain }).to_string());
    }
    let data = arguments.data.display();
    print(&format!(
        "Founded the network of {} in {data}.\n  genesis fingerprint  {}\n  node                 {}\n\
         The keys in {data}/keys are the hospital's: back them up offline.\n\
         This is the network's only node: one copy of everything.\n\
         Next: ihfs-node run --data {data}",
        init.hospital, founded.chain, founded.node
    ))
}

fn serve(arguments: &Arguments, run: &Run) -> Result<(), Failure> {
    run::DataFolder::check_version(&arguments.data).map_err(NodeError::from)?;
    let config = Config::read(&arguments.data).map_err(NodeError::from)?;
    // Kept until the end: what is logged last must be written.
    let _logs = start_logs(arguments, &config, run.log_files);
    // Foreground is the only mode.
    let _ = run.foreground;
    runtime()?.block_on(async {
        let mut node = run::start(Options::new(&arguments.data)).await?;
        announce(arguments, &node)?;
        tokio::select! {
            () = told_to_stop() => {
                node.shutdown().await;
                Ok(())
            }
            why = node.failed() => {
                tracing::error!(why, "node stops");
                node.stop_failed().await;
                Err(Failure::Stopped(why))
            }
        }
    })
}

fn announce(arguments: &Arguments, node: &NodeHandle) -> Result<(), Failure> {
    let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
    if arguments.json {
        let (node, chain) = (node.node.to_string(), node.chain.to_string());
        return print(&serde_json::json!({ "node": node, "chain": chain, "listen": addresses }).to_string());
    }
    print(&format!("Node {:?} is ready on {}.", node.node, addresses.join(", ")))
}

async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn start_logs(arguments: &Arguments, config: &Config, to_files: bool) -> Option<WorkerGuard> {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(&config.log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    if !to_files && config.log.target == LogTarget::Stderr {
        let ansi = io::stderr().is_terminal();
        // Somebody may have set a subscriber before; then its logs go there.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(ansi).try_init();
        return None;
    }
    let files = tracing_appender::rolling::Builder::new()
        .rotation(tracing_appender::rolling::Rotation::DAILY)
        .filename_prefix("node")
        .filename_suffix("log")
        .max_log_files(config.log.keep_days.max(1))
        .build(arguments.data.join("logs"))
        .ok()?;
    let (writer, guard) = tracing_appender::non_blocking(files);
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false).try_init();
    Some(guard)
}

fn status(arguments: &Arguments) -> Result<(), Failure> {
    let admin::Measured { file, status } = runtime()?.block_on(admin::status(&arguments.data))?;
    if arguments.json {
        return print(
            &serde_json::json!({
                "node": file.node, "chain": file.chain, "hospital": file.hospital, "pid": file.pid,
                "listen": file.listen, "version": status.version, "measured": status.measured,
                "height": status.height, "block_time": status.block_time,
                "store_bytes": status.store_bytes, "store_chunks": status.store_chunks,
                "free_bytes": status.free_bytes, "key_shares": status.key_shares,
                "releases": status.releases, "denials": status.denials,
                "last_error": status.last_error,
            })
            .to_string(),
        );
    }
    let listen: Vec<String> = file.listen.iter().map(ToString::to_string).collect();
    print(&format!(
        "Node of {} runs as process {} on {}, measured just now:\n  ledger      height {}\n  \
         store       {} chunks, {} MiB; {} MiB free\n  custody     {} key shares, {} releases and {} denials since the start\n  \
         last error  {}",
        file.hospital, file.pid, listen.join(", "), status.height, status.store_chunks,
        status.store_bytes >> 20, status.free_bytes >> 20, status.key_shares, status.releases, status.denials,
        if status.last_error.is_empty() { "none" } else { &status.last_error },
    ))
}

fn print_invite(arguments: &Arguments, ask: &Invite) -> Result<(), Failure> {
    let expires = system_clock().plus_millis(ask.expires);
    let invitation = invite::invite(&arguments.data, ask.role.into(), &ask.name, expires)?;
    let text = invitation.to_text();
    if arguments.json {
        let handle = invitation.handle.handle.as_str();
        return print(&serde_json::json!({ "invite": text, "handle": handle, "expires": expires.0 }).to_string());
    }
    print(&text)
}

fn list_members(arguments: &Arguments) -> Result<(), Failure> {
    let members = runtime()?.block_on(admin::members(&arguments.data))?;
    if arguments.json {
        let members = serde_json::to_string(&members).expect("text and numbers are JSON");
        return print(&members);
    }
    for member in members {
        print(&format!(
            "{}  {}  {}  {} devices  {}",
            member.handle, member.role, member.fingerprint, member.devices, &member.member[..8]
        ))?;
    }
    Ok(())
}

fn uninstall(arguments: &Arguments) -> Result<(), Failure> {
    let yes = arguments.yes || (io::stdin().is_terminal() && confirmed(arguments)?);
    admin::uninstall(&arguments.data, yes)?;
    say(arguments, &format!("Removed {}.", arguments.data.display()))
}

fn confirmed(arguments: &Arguments) -> Result<bool, Failure> {
    let data = arguments.data.display();
    print(&format!("This removes all chunks, key shares, ledger and keys in {data}. Type yes to go on:"))?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|source| Failure::Io { what: "cannot read the answer".into(), source })?;
    Ok(answer.trim() == "yes")
}

fn passphrase(backup: &Backup) -> Result<String, Failure> {
    let path = &backup.passphrase_file;
    let what = format!("cannot read the passphrase from {}", path.display());
    let text = fs::read_to_string(path).map_err(|source| Failure::Io { what, source })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn parse_life(text: &str) -> Result<u64, String> {
    let bad = || "write a time as 30m, 12h or 7d".to_owned();
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(bad)?;
    let (count, unit) = text.split_at(unit_at);
    let count: u64 = count.parse().map_err(|_| bad())?;
    let unit = match unit {
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(60 * 60),
        "d" => Duration::from_millis(DAY),
        _ => return Err(bad()),
    };
    let life = count.checked_mul(u64::try_from(unit.as_millis()).map_err(|_| bad())?).ok_or_else(bad)?;
    if (1..=90 * DAY).contains(&life) { Ok(life) } else { Err("an invite is good for at most 90 days".to_owned()) }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let what = || "cannot start the runtime".to_owned();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().map_err(|source| Failure::Io { what: what(), source })
}

fn say(arguments: &Arguments, text: &str) -> Result<(), Failure> {
    if arguments.json { print(&serde_json::json!({ "done": text }).to_string()) } else { print(text) }
}

fn print(text: &str) -> Result<(), Failure> {
    let written = writeln!(io::stdout(), "{text}").and_then(|()| io::stdout().flush());
    written.map_err(|source| Failure::Io { what: "cannot write the answer".to_owned(), source })
}

