//! Inviting a member: needs the hospital's key and the genesis document, and so works beside a running node.

use std::net::SocketAddr;
use std::path::Path;

use ihfs_core::crypto::sign::Signature;
use ihfs_core::ids::{DeviceId, InviteId, Time};
use ihfs_core::invitation::{INVITATION_FORMAT, Invitation};
use ihfs_core::ledger::identity::{Invite, Role};
use ihfs_core::members::{Handle, HandleProof};

use super::AdminError;
use crate::config::Config;
use crate::keys::KeyBytes;
use crate::run::DataFolder;
use crate::run::folder::{hospital_key, kept_addresses, node_key, read_genesis, read_node_file};

/// How long an invite is good unless said otherwise, in milliseconds: a week.
pub const INVITE_LIFE: u64 = 7 * 24 * 60 * 60 * 1000;

/// Signs an invite of the node's own hospital. `name` may leave out the hospital's part.
///
/// # Errors
/// [`AdminError`].
pub fn invite(data: &Path, role: Role, name: &str, expires: Time) -> Result<Invitation, AdminError> {
    DataFolder::check_version(data)?;
    let config = Config::read(data)?;
    let handle = handle(&config, name)?;
    let registrar = KeyBytes::read(&hospital_key(data))?.key();
    let node = KeyBytes::read(&node_key(data))?.key().node();
    let chain = read_genesis(data)?.chain();
    let handle = HandleProof { handle, blind: rand::random() };
    let invite = Invite {
        chain,
        id: InviteId::from_bytes(rand::random()),
        registrar: registrar.member(),
        role,
        hospital: registrar.member(),
        handle: handle.commitment(),
        expires,
        // Both are set by signing.
        signer: DeviceId::from_bytes(registrar.public()),
        signature: Signature::from_bytes([0; 64]),
    };
    let (format, addresses) = (INVITATION_FORMAT, addresses(data, &config)?);
    Ok(Invitation { format, chain, node, addresses, invite: invite.signed(registrar.get()), handle })
}

fn handle(config: &Config, name: &str) -> Result<Handle, AdminError> {
    let name = if name.contains('@') { name.to_owned() } else { format!("{name}@{}", config.hospital) };
    let bad = |source| AdminError::Handle { name: name.clone(), source };
    let handle = Handle::parse(&name).map_err(bad)?;
    if handle.hospital() != config.hospital {
        return Err(bad(ihfs_core::members::HandleError::WrongLetter));
    }
    Ok(handle)
}

/// Where the node can be reached: as configured, or where it listens now or listened last.
fn addresses(data: &Path, config: &Config) -> Result<Vec<String>, AdminError> {
    if !config.announce.is_empty() {
        return Ok(config.announce.clone());
    }
    if let Some(running) = read_node_file(data) {
        return Ok(running.announce);
    }
    let kept = kept_addresses(data, &config.listen);
    // "Everywhere" is no address, nor is a port that the system will choose.
    let is_address = |at: &&SocketAddr| at.port() != 0 && !at.ip().is_unspecified();
    let listening: Vec<String> = kept.iter().filter(is_address).map(ToString::to_string).collect();
    if listening.is_empty() { Err(AdminError::NoAddress) } else { Ok(listening) }
}
