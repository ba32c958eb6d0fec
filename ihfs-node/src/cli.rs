//! Arguments, what they do, and what people read.

mod failure;
mod manual;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ihfs_core::ledger::identity::Role;
use ihfs_node::admin::{self, Listed, Losses, init, invite};
use ihfs_node::config::{Config, LogConfig, LogTarget, StoreConfig};
use ihfs_node::consensus::driver::system_clock;
use ihfs_node::run::{self, NodeError, NodeHandle, Options};
use tracing_appender::non_blocking::WorkerGuard;

use failure::EXIT_HELP;
pub use failure::{Failure, report_usage};

/// Milliseconds of a day.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// Heading of the options that every command has.
const GLOBAL: &str = "Global options";
/// What the consensus engine logs at "info" is each of its steps: of interest to who mends it alone.
const ENGINE: &str = "arc_malachitebft=warn";

/// Runs and looks after a hospital's IHFS storage node.
#[derive(Debug, Parser)]
#[command(name = "ihfs-node", version, about, propagate_version = true)]
#[command(after_help = EXIT_HELP, max_term_width = 110)]
pub struct Arguments {
    /// Print JSON for programs instead of text.
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,
    /// The node's data folder.
    #[arg(
        long, global = true, env = "IHFS_NODE_DATA", default_value = "/var/lib/ihfs/node", help_heading = GLOBAL
    )]
    data: PathBuf,
    /// Answer questions with yes.
    #[arg(long, global = true, help_heading = GLOBAL)]
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
    /// Print the script that completes words in a shell.
    Completions(manual::Completions),
    /// Print or write the manual pages.
    Man(manual::Man),
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
    /// Addresses that others use, if not those listened on; needed when that is 0.0.0.0 or ::.
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
            say(
                arguments,
                &format!("Backup written to {}. It is worth nothing after 30 days.", backup.file.display()),
            )
        }
        Command::RestoreKeys(backup) => {
            let passphrase = passphrase(backup)?;
            let shares = admin::restore_keys(&arguments.data, &backup.file, &passphrase, system_clock())?;
            say(
                arguments,
                &format!(
                    "{shares} key shares are back; those that the ledger ended go before the node serves."
                ),
            )
        }
        Command::Uninstall => uninstall(arguments),
        Command::Completions(completions) => manual::completions(completions),
        Command::Man(man) => manual::man(man),
    }
}

impl Arguments {
    /// The command as it is typed, for messages.
    pub const fn command_name(&self) -> &'static str {
        match self.command {
            Command::Init(_) => "init",
            Command::Run(_) => "run",
            Command::Status => "status",
            Command::Invite(_) => "invite",
            Command::Member(_) => "member",
            Command::BackupKeys(_) => "backup-keys",
            Command::RestoreKeys(_) => "restore-keys",
            Command::Uninstall => "uninstall",
            Command::Completions(_) => "completions",
            Command::Man(_) => "man",
        }
    }

    /// Whether a program reads.
    pub const fn is_json(&self) -> bool {
        self.json
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
    let filter = EnvFilter::try_new(log_filter(&config.log.level)).unwrap_or_else(|_| EnvFilter::new("info"));
    if !to_files && config.log.target == LogTarget::Stderr {
        let ansi = io::stderr().is_terminal();
        // Somebody may have set a subscriber before; then its logs go there.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(ansi)
            .try_init();
        return None;
    }
    let folder = arguments.data.join("logs");
    std::fs::create_dir_all(&folder).ok()?;
    let files = tracing_appender::rolling::Builder::new()
        .rotation(tracing_appender::rolling::Rotation::DAILY)
        .filename_prefix("node")
        .filename_suffix("log")
        .max_log_files(config.log.keep_days.max(1))
        .build(folder)
        .ok()?;
    let (writer, guard) = tracing_appender::non_blocking(files);
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false).try_init();
    Some(guard)
}

/// The configured level, at which the engine is quieter unless something is said of parts.
fn log_filter(level: &str) -> String {
    if matches!(level, "info" | "debug") { format!("{level},{ENGINE}") } else { level.to_owned() }
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
        file.hospital,
        file.pid,
        listen.join(", "),
        status.height,
        status.store_chunks,
        status.store_bytes >> 20,
        status.free_bytes >> 20,
        status.key_shares,
        status.releases,
        status.denials,
        if status.last_error.is_empty() { "none" } else { &status.last_error },
    ))
}

fn print_invite(arguments: &Arguments, ask: &Invite) -> Result<(), Failure> {
    let expires = system_clock().plus_millis(ask.expires);
    let invitation = invite::invite(&arguments.data, ask.role.into(), &ask.name, expires)?;
    let text = invitation.to_text();
    if arguments.json {
        let handle = invitation.handle.handle.as_str();
        return print(
            &serde_json::json!({ "invite": text, "handle": handle, "expires": expires.0 }).to_string(),
        );
    }
    print(&text)
}

fn list_members(arguments: &Arguments) -> Result<(), Failure> {
    let members = runtime()?.block_on(admin::members(&arguments.data))?;
    if arguments.json {
        let members = serde_json::to_string(&members).expect("text and numbers are JSON");
        return print(&members);
    }
    print(table(&members).trim_end())
}

/// Handle, role and fingerprint words in columns as wide as what stands in them.
fn table(members: &[Listed]) -> String {
    let head = ["HANDLE", "ROLE", "FINGERPRINT", "DEVICES", "MEMBER"].map(str::to_owned);
    let row = |member: &Listed| {
        let (devices, short) = (member.devices.to_string(), member.member.chars().take(8).collect());
        [member.handle.clone(), member.role.clone(), member.fingerprint.clone(), devices, short]
    };
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(members.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn uninstall(arguments: &Arguments) -> Result<(), Failure> {
    let losses = admin::losses(&arguments.data, system_clock)?;
    let yes = arguments.yes || (io::stdin().is_terminal() && confirmed(arguments, &losses)?);
    admin::uninstall(&arguments.data, yes)?;
    say(arguments, &format!("Removed {}.{}", arguments.data.display(), lost(&losses)))
}

/// What nobody else has, as a sentence; nothing where other nodes go on.
fn lost(losses: &Losses) -> String {
    if losses.only_node == Some(false) {
        return String::new();
    }
    let count = |number: Option<u64>, noun: &str| match number {
        None => format!("an unknown number of {noun}s"),
        Some(1) => format!("1 {noun}"),
        Some(number) => format!("{number} {noun}s"),
    };
    format!(
        "\nNo other node has what is in it: {} and the network of {} end with it, for good.",
        count(losses.chunks, "chunk"),
        count(losses.members, "member"),
    )
}

fn confirmed(arguments: &Arguments, losses: &Losses) -> Result<bool, Failure> {
    let data = arguments.data.display();
    let lost = lost(losses);
    print(&format!(
        "This removes all chunks, key shares, ledger and keys in {data}.{lost}\nType yes to go on:"
    ))?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|source| Failure::Io { what: "cannot read the answer".into(), source })?;
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
    if (1..=90 * DAY).contains(&life) {
        Ok(life)
    } else {
        Err("an invite is good for at most 90 days".to_owned())
    }
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_valid() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_engine_is_quiet_unless_its_parts_are_named() {
        assert_eq!(log_filter("info"), "info,arc_malachitebft=warn");
        assert_eq!(log_filter("error"), "error");
        assert_eq!(log_filter("info,arc_malachitebft=debug"), "info,arc_malachitebft=debug");
    }

    #[test]
    fn uninstalling_the_only_node_says_what_is_lost() {
        let only = Losses { only_node: Some(true), chunks: Some(12), members: Some(1) };
        assert!(lost(&only).contains("12 chunks and the network of 1 member end"));
        assert!(lost(&Losses { only_node: None, ..only }).contains("12 chunks"), "nobody knows of another");
        assert_eq!(lost(&Losses { only_node: Some(false), ..only }), "");
    }

    #[test]
    fn members_stand_in_columns_under_their_headings() {
        let member = Listed {
            handle: "dr.lee@st-mary".to_owned(),
            member: "0123456789".to_owned(),
            role: "practitioner".to_owned(),
            fingerprint: "six-words".to_owned(),
            devices: 1,
        };
        let text = table(&[member]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("DEVICES"), lines[1].find(" 1 ").map(|at| at + 1));
        assert!(lines[1].ends_with("01234567"));
    }
}
