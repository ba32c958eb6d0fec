//! Opens the identity for a command: keys from the agent or by the passphrase, and the way to the network.

use std::sync::Arc;

use ihfs_client::client::{Client, now};
use ihfs_client::home::Home;
use ihfs_client::openings::{InProcess, OpeningStore};
use ihfs_core::crypto::keyring::{Keyring, KeyringError};
use ihfs_core::ids::{GrantId, Time};
use zeroize::Zeroizing;

use crate::agent::client::Agent;
use crate::config::Config;
use crate::failure::Failure;
use crate::solo::{Solo, SoloError, SoloStatus};
use crate::until::show_time;

/// How far the ledger's time may be ahead of this machine's clock before somebody is told: what validators let pass.
const CLOCK_BEHIND_MAX_MILLIS: u64 = 30_000;

/// The identity's folder, which must be set up.
///
/// # Errors
/// [`Failure::Home`].
pub(crate) fn home(config: &Config) -> Result<Home, Failure> {
    let home = Home::at(&config.home);
    home.network()?;
    Ok(home)
}

/// Opens the keys and connects.
///
/// # Errors
/// [`Failure`].
pub(crate) fn open(config: &Config) -> Result<Client, Failure> {
    let home = home(config)?;
    // Before a passphrase is typed in vain.
    check_solo(config)?;
    let keys = open_keys(config, &home)?;
    connect(config, &home, keys)
}

/// The keys of this device, in memory.
pub(crate) struct Keys {
    /// The keys.
    pub(crate) ring: Keyring,
    /// What they were opened from, unless the agent had them.
    unsealed: Option<Unsealed>,
}

/// What a keyring was opened from.
struct Unsealed {
    file: Vec<u8>,
    passphrase: Zeroizing<Vec<u8>>,
}

/// Opens the keys, by the agent or by the passphrase; asks no node.
///
/// # Errors
/// [`Failure`].
pub(crate) fn open_keys(config: &Config, home: &Home) -> Result<Keys, Failure> {
    match Agent::of(&config.home).keyring()? {
        Some(bytes) => {
            config.output.detail("Keys from the agent.");
            Ok(Keys { ring: Keyring::from_secret_bytes(&bytes)?, unsealed: None })
        }
        None => unseal(config, home),
    }
}

/// Connects with open keys.
///
/// # Errors
/// [`Failure`].
pub(crate) fn connect(config: &Config, home: &Home, keys: Keys) -> Result<Client, Failure> {
    check_solo(config)?;
    let Keys { ring, unsealed } = keys;
    let openings = Openings { here: InProcess::default(), agent: Agent::of(&config.home) };
    let client = Client::connect(home, Arc::new(ring), Box::new(openings))?;
    if let Some(Unsealed { file, passphrase }) = unsealed {
        // What cannot be written down is asked for again next time.
        let _ = client.keep_learned(&file, &passphrase);
    }
    tell_age(config, &client);
    tell_clock(config, &client);
    Ok(client)
}

/// Opens the keys by the passphrase, whatever the agent has.
///
/// # Errors
/// [`Failure`].
pub(crate) fn by_passphrase(config: &Config, home: &Home) -> Result<Keyring, Failure> {
    unseal(config, home).map(|keys| keys.ring)
}

fn unseal(config: &Config, home: &Home) -> Result<Keys, Failure> {
    let file = home.keyring()?;
    let open = || -> Result<_, Failure> {
        let passphrase = config.passphrase.read(&config.asker)?;
        Ok((Keyring::open(&file, &passphrase)?, passphrase))
    };
    let is_slip = |failure: &_| matches!(failure, Failure::Keyring(KeyringError::WrongPassphrase));
    let (ring, passphrase) = config.passphrase.until_right(&config.asker, open, is_slip)?;
    Ok(Keys { ring, unsealed: Some(Unsealed { file, passphrase }) })
}

/// A node of this identity's own that stands still is better said than found out by a deadline.
fn check_solo(config: &Config) -> Result<(), Failure> {
    let solo = Solo::of(&config.home);
    if solo.exists() && matches!(solo.status()?, SoloStatus::Stopped) {
        return Err(SoloError::Stopped.into());
    }
    Ok(())
}

/// Nothing is passed off as new that is not known to be.
fn tell_age(config: &Config, client: &Client) {
    let freshness = client.freshness();
    if !freshness.current {
        let time = show_time(Time(freshness.time));
        config
            .output
            .note(&format!("As of block {}, {time}: no newer one could be proved.", freshness.height));
    }
}

/// A clock that is ahead cannot be told from a ledger at rest; one that is behind can.
fn tell_clock(config: &Config, client: &Client) {
    let ledger = Time(client.freshness().time);
    if ledger > now().plus_millis(CLOCK_BEHIND_MAX_MILLIS) {
        let text =
            format!("This machine's clock is behind the ledger's time, {}: set it.", show_time(ledger));
        config.output.note(&text);
    }
}

/// Openings, kept by this process and by the agent if one runs.
struct Openings {
    here: InProcess,
    agent: Agent,
}

impl OpeningStore for Openings {
    fn get(&self, grant: GrantId, now: Time) -> Option<Zeroizing<Vec<u8>>> {
        self.here.get(grant, now).or_else(|| self.agent.get(grant, now))
    }

    fn put(&self, grant: GrantId, bytes: Zeroizing<Vec<u8>>, until: Time) {
        self.agent.put(grant, bytes.clone(), until);
        self.here.put(grant, bytes, until);
    }

    fn remove(&self, grant: GrantId) {
        self.here.remove(grant);
        self.agent.remove(grant);
    }
}
