//! Becoming a member by an invitation, and coming back by the recovery sheet.

use std::sync::Arc;

use ihfs_core::codec;
use ihfs_core::crypto::derive::Seed;
use ihfs_core::crypto::envelope::SealingKey;
use ihfs_core::crypto::keyring::{GenerationSecrets, Keyring, KeyringError};
use ihfs_core::crypto::secret::Secret;
use ihfs_core::crypto::sign::SigningKey;
use ihfs_core::ids::{ChainId, DeviceId, Generation, MemberId, NodeId};
use ihfs_core::invitation::Invitation;
use ihfs_core::ledger::identity::{DeviceKeys, MemberSealingKey, PRIVATE_NONCE, Role, VAULT_NONCE};
use ihfs_core::ledger::operation::{Admission, CreateRecord, Operation, RegisterMember};
use ihfs_core::ledger::state::{MemberEntry, RememberedTransaction, StateKey};
use ihfs_core::ledger::transaction::{SignedTransaction, TRANSACTION_FORMAT, Transaction};
use ihfs_proto::join;
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use crate::book::{BookError, Contact};
use crate::client::{Client, ConnectError, now, start_link, start_runtime};
use crate::home::{HOME_FORMAT, Home, HomeError, NetworkFile, NodeAddress, OwnHandle, ParsedNetwork};
use crate::link::{ANSWER_TIME_MAX, AskError, DECISION_TIME_MAX, Link};
use crate::openings::InProcess;
use crate::view::{Trust, View, ViewError};

/// How long the registration may take to be decided.
const VALIDITY_MILLIS: u64 = 10 * 60 * 1000;

/// Why joining or recovering did not work.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The network could not be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// HOME.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The node could not be asked, or refuses.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The ledger could not be verified.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The keyring could not be sealed.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The address book could not be begun. HOME is set up; the next command may go on.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The ledger knows no member with the key of these words.
    #[error("no member of this network has these 24 words")]
    UnknownMember,
    /// The node says that it is done, and the ledger proves that it is not.
    #[error("the node says that this device is registered, the ledger does not hold it")]
    NotRegistered,
    /// The invitation's time is over.
    #[error("the invitation has expired by this machine's clock")]
    InviteExpired,
}

/// Where a network is and how to know it: what a recovery sheet and an invitation say of it.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    /// Fingerprint of the genesis document.
    pub chain: ChainId,
    /// Nodes and their addresses.
    pub nodes: Vec<(NodeId, Vec<String>)>,
}

/// What joining came to.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Joined {
    /// The member.
    pub member: String,
    /// The handle.
    pub handle: Option<String>,
    /// Six words of the member key.
    pub fingerprint: String,
    /// The role.
    pub role: Role,
    /// The network.
    pub chain: String,
}

/// What a recovery found; with a drill, nothing was changed.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Recovered {
    /// Who came back.
    pub who: Joined,
    /// Records of the member.
    pub records: u64,
    /// Grants that the member received.
    pub received: u64,
    /// Records of those whose newest version this device could open.
    pub readable: u64,
    /// Whether this was a drill.
    pub drill: bool,
}

/// A stranger's or newcomer's way to the network.
struct Door {
    link: Link,
    view: View,
    parsed: ParsedNetwork,
    runtime: Runtime,
}

/// Registers a new member by an invitation, and sets up `home` with this device's keys.
///
/// # Errors
/// [`JoinError`]. When the outcome is unknown, running it again with the same seed is safe.
pub fn join(
    home: &Home,
    seed: &Seed,
    passphrase: &[u8],
    invitation: &Invitation,
) -> Result<Joined, JoinError> {
    if home.is_set_up() {
        return Err(HomeError::AlreadySetUp { path: home.path().to_owned() }.into());
    }
    if invitation.invite.expires <= now() {
        return Err(JoinError::InviteExpired);
    }
    let place =
        Whereabouts { chain: invitation.chain, nodes: vec![(invitation.node, invitation.addresses.clone())] };
    let keyring = new_keyring(place.chain, seed, Generation(0));
    let door = knock(&place, &keyring)?;
    let transaction = registration(&door.view, seed, &keyring, invitation);
    redeem(&door, &transaction, &codec::encode(&invitation.handle))?;
    let network = network_file(&door.parsed, Some(OwnHandle::of(&invitation.handle)));
    save(home, &keyring, passphrase, &network, &door.view)?;
    drop(door);
    let joined = Joined {
        member: keyring.member.to_string(),
        handle: Some(invitation.handle.handle.to_string()),
        fingerprint: ihfs_core::words::fingerprint_words(&keyring.member_key),
        role: invitation.invite.role,
        chain: place.chain.to_string(),
    };
    // The address book is where a recovery finds the handle again.
    let own =
        Contact { member: keyring.member, proof: invitation.handle.clone(), pinned_key: keyring.member_key };
    let client = Client::connect(home, Arc::new(keyring), Box::<InProcess>::default())?;
    client.change_book(|book| book.add_contact(own.clone()))?;
    Ok(joined)
}

/// Comes back by the 24 words: adds this machine as a device and sets up `home`, over what is there.
/// A drill only looks whether it would work.
///
/// # Errors
/// [`JoinError`].
pub fn recover(
    home: &Home,
    seed: &Seed,
    passphrase: &[u8],
    place: &Whereabouts,
    drill: bool,
) -> Result<Recovered, JoinError> {
    let keyring = new_keyring(place.chain, seed, Generation(0));
    let door = knock(place, &keyring)?;
    let member: MemberEntry =
        door.view.entry(StateKey::Member(keyring.member))?.ok_or(JoinError::UnknownMember)?;
    let generations = (0..=member.generation.0).map(|g| GenerationSecrets::of(seed, Generation(g)));
    let keyring = Keyring { generations: generations.collect(), ..keyring };
    let who = |handle: Option<String>| Joined {
        member: keyring.member.to_string(),
        handle,
        fingerprint: ihfs_core::words::fingerprint_words(&keyring.member_key),
        role: member.role,
        chain: place.chain.to_string(),
    };
    let (records, received) = (member.records.count, member.received.count);
    if drill {
        return Ok(Recovered { who: who(None), records, received, readable: 0, drill });
    }
    let member_key = seed.member_key();
    let device =
        DeviceKeys::sign(&member_key, place.chain, keyring.device_id(), keyring.device_sealing.public());
    let transaction = signed(&door.view, &member_key, keyring.member, vec![Operation::AddDevice(device)]);
    redeem(&door, &transaction, &[])?;
    let network = network_file(&door.parsed, None);
    save(home, &keyring, passphrase, &network, &door.view)?;
    let (handle, readable) = look_around(home, keyring.to_secret_bytes(), network)?;
    Ok(Recovered { who: who(handle), records, received, readable, drill })
}

/// After a recovery: the handle from the address book, and how many records open.
fn look_around(
    home: &Home,
    keyring: Zeroizing<Vec<u8>>,
    mut network: NetworkFile,
) -> Result<(Option<String>, u64), JoinError> {
    let keyring = Keyring::from_secret_bytes(&keyring)?;
    let client = Client::connect(home, Arc::new(keyring), Box::<InProcess>::default())?;
    let own = client.book().ok().and_then(|book| book.contact(client.member()).cloned());
    let handle = own.map(|contact| {
        network.handle = Some(OwnHandle::of(&contact.proof));
        contact.proof.handle.to_string()
    });
    home.write_network(&network)?;
    Ok((handle, client.count_readable()?))
}

impl Client {
    fn count_readable(&self) -> Result<u64, ViewError> {
        let records = self.own_records()?;
        let opens = |id: &ihfs_core::ids::RecordId| {
            self.own_record(*id).and_then(|mut record| self.open_head(&mut record)).is_ok()
        };
        Ok(records.iter().filter(|id| opens(id)).count() as u64)
    }

    /// Ids of all records of this member, proved complete.
    pub(crate) fn own_records(&self) -> Result<Vec<ihfs_core::ids::RecordId>, ViewError> {
        let Some(member): Option<MemberEntry> = self.view.entry(StateKey::Member(self.member()))? else {
            return Ok(Vec::new());
        };
        let key = ihfs_core::ledger::lists::ListKey::Records(self.member());
        let items: Vec<ihfs_core::ledger::state::RecordItem> =
            self.view.items(key, Default::default(), member.records)?;
        Ok(items.into_iter().map(|item| item.record).collect())
    }
}

/// Fresh device keys beside the secrets of one generation.
fn new_keyring(chain: ChainId, seed: &Seed, generation: Generation) -> Keyring {
    let member_key = seed.member_key().public();
    Keyring {
        chain,
        member: MemberId::of_key(&member_key),
        member_key,
        device: SigningKey::from_seed(Secret::new(rand::random())),
        device_sealing: SealingKey::from_seed(Secret::new(rand::random())),
        generations: vec![GenerationSecrets::of(seed, generation)],
    }
}

/// Reaches a node as a guest and verifies its ledger from the fingerprint.
fn knock(place: &Whereabouts, keyring: &Keyring) -> Result<Door, JoinError> {
    let runtime = start_runtime().map_err(ConnectError::from)?;
    let mut parsed =
        ParsedNetwork { chain: place.chain, genesis: Vec::new(), nodes: place.nodes.clone(), handle: None };
    let link = start_link(&runtime, keyring, &parsed)?;
    let genesis = join::request::Request::Genesis(join::Genesis {});
    let join::response::Response::Genesis(genesis) = link.ask_join(genesis, ANSWER_TIME_MAX)? else {
        let node = parsed.nodes.first().map(|(node, _)| *node);
        return Err(node.map_or(AskError::NoNode, |node| AskError::Malformed { node }).into());
    };
    parsed.genesis = genesis.to_vec();
    let trust = Trust::begin(place.chain, &parsed.genesis)?;
    let view = View::new(link.clone(), trust, true);
    view.refresh()?;
    Ok(Door { link, view, parsed, runtime })
}

fn registration(view: &View, seed: &Seed, keyring: &Keyring, invitation: &Invitation) -> SignedTransaction {
    let member_key = seed.member_key();
    let sealing = MemberSealingKey::sign(&member_key, Generation(0), keyring.generations[0].sealing.public());
    let device =
        DeviceKeys::sign(&member_key, keyring.chain, keyring.device_id(), keyring.device_sealing.public());
    let register = RegisterMember {
        key: keyring.member_key,
        admission: Admission::Invite(invitation.invite.clone()),
        sealing,
        device,
    };
    let record = |nonce| Operation::CreateRecord(CreateRecord { nonce });
    let operations =
        vec![Operation::RegisterMember(Box::new(register)), record(VAULT_NONCE), record(PRIVATE_NONCE)];
    signed(view, &member_key, keyring.member, operations)
}

fn signed(view: &View, key: &SigningKey, member: MemberId, operations: Vec<Operation>) -> SignedTransaction {
    let trust = view.trust();
    Transaction {
        format: TRANSACTION_FORMAT,
        chain: trust.chain,
        member,
        signer: DeviceId::from_bytes(key.public()),
        valid_until: now().max(trust.time).plus_millis(VALIDITY_MILLIS),
        random: rand::random(),
        operations,
    }
    .sign(key)
}

/// Has the transaction applied, and believes that it is by proof alone.
fn redeem(door: &Door, transaction: &SignedTransaction, handle: &[u8]) -> Result<(), JoinError> {
    let redeem =
        join::Redeem { transaction: transaction.to_bytes().into(), handle_proof: handle.to_vec().into() };
    door.link.ask_join(join::request::Request::Redeem(redeem), DECISION_TIME_MAX)?;
    let remembered: Option<RememberedTransaction> =
        door.view.entry(StateKey::Transaction(transaction.id()))?;
    remembered.map(|_| ()).ok_or(JoinError::NotRegistered)
}

fn network_file(parsed: &ParsedNetwork, handle: Option<OwnHandle>) -> NetworkFile {
    let node = |(key, addresses): &(NodeId, Vec<String>)| NodeAddress {
        key: key.to_string(),
        addresses: addresses.clone(),
    };
    NetworkFile {
        format: HOME_FORMAT,
        chain: parsed.chain.to_string(),
        genesis: data_encoding::HEXLOWER.encode(&parsed.genesis),
        nodes: parsed.nodes.iter().map(node).collect(),
        handle,
    }
}

/// The keyring last: HOME counts as set up once it is there.
fn save(
    home: &Home,
    keyring: &Keyring,
    passphrase: &[u8],
    network: &NetworkFile,
    view: &View,
) -> Result<(), JoinError> {
    let sealed = keyring.seal(passphrase, rand::random())?;
    home.create()?;
    home.write_network(network)?;
    home.save_view(&view.trust())?;
    Ok(home.write_keyring(&sealed)?)
}

impl Drop for Door {
    fn drop(&mut self) {
        let network = self.link.network().clone();
        self.runtime.block_on(network.shutdown());
    }
}
