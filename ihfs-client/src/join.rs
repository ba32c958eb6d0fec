//! Becoming a member by an invitation, and coming back by the recovery sheet.

use std::path::PathBuf;
use std::sync::Arc;

use ihfs_core::codec;
use ihfs_core::crypto::derive::Seed;
use ihfs_core::crypto::envelope::SealingKey;
use ihfs_core::crypto::keyring::{GenerationSecrets, Keyring, KeyringError};
use ihfs_core::crypto::secret::Secret;
use ihfs_core::crypto::sign::SigningKey;
use ihfs_core::ids::{ChainId, DeviceId, Generation, Height, MemberId, NodeId};
use ihfs_core::invitation::Invitation;
use ihfs_core::ledger::identity::{DeviceKeys, MemberSealingKey, PRIVATE_NONCE, Role, VAULT_NONCE};
use ihfs_core::ledger::operation::{Admission, CreateRecord, Operation, RegisterMember};
use ihfs_core::ledger::state::{MemberEntry, MemberLists, RememberedTransaction, SpentInvite, StateKey};
use ihfs_core::ledger::transaction::{SignedTransaction, TRANSACTION_FORMAT, Transaction};
use ihfs_core::members::{Handle, HandleProof};
use ihfs_core::words::fingerprint_words;
use ihfs_proto::join;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::book::{BookError, Contact};
use crate::client::{Client, ConnectError, now, start_link, start_runtime};
use crate::home::{
    HOME_FORMAT, Home, HomeError, NetworkFile, NodeAddress, OwnHandle, Owner, OwnerText, ParsedNetwork,
};
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
    /// Somebody redeemed it before: an invitation makes one member.
    #[error("the invitation was used already")]
    InviteSpent,
    /// The folder is another member's, or of another network.
    #[error("{path:?} belongs to another member than the recovery sheet")]
    OtherMember {
        /// The folder.
        path: PathBuf,
    },
}

/// Where a network is and how to know it: what a recovery sheet and an invitation say of it.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    /// Fingerprint of the genesis document.
    pub chain: ChainId,
    /// Nodes and their addresses.
    pub nodes: Vec<(NodeId, Vec<String>)>,
    /// The member's handle, where it is known: it finds what opens the ledger's commitment to it.
    pub handle: Option<Handle>,
}

/// What joining came to.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Joined {
    /// The member.
    pub member: String,
    /// The handle; of a drill, what the sheet says.
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
    /// Whether the folder belongs to another member, so that a recovery would refuse it.
    pub folder_of_another: bool,
    /// The device that the folder had until now, if it is still the member's.
    pub replaced: Option<String>,
}

/// A stranger's or newcomer's way to the network.
struct Door {
    link: Link,
    view: View,
    parsed: ParsedNetwork,
    runtime: Runtime,
}

/// Looks whether the invitation can still be redeemed, before anybody writes 24 words down for it.
///
/// # Errors
/// [`JoinError::InviteExpired`], [`JoinError::InviteSpent`], and what the network gives.
pub fn check_invitation(invitation: &Invitation) -> Result<(), JoinError> {
    check_time(invitation)?;
    // Whoever only looks needs no name: keys for this question alone.
    let keyring = new_keyring(invitation.chain, &Seed::from_random(rand::random()));
    let door = knock(&Whereabouts::of(invitation), &keyring.device)?;
    check_unspent(&door.view, invitation)
}

/// Registers a new member by an invitation, and sets up `home` with this device's keys.
///
/// The keys are kept before the ledger knows them. Wherever this ends, running it again with the same seed goes on:
/// what is registered then is taken up, not registered again.
///
/// # Errors
/// [`JoinError`].
pub fn join(
    home: &Home,
    seed: &Seed,
    passphrase: &[u8],
    invitation: &Invitation,
) -> Result<Joined, JoinError> {
    if home.is_set_up() {
        return Err(HomeError::AlreadySetUp { path: home.path().to_owned() }.into());
    }
    let place = Whereabouts::of(invitation);
    let mut keyring = begun(home, seed, passphrase, place.chain)?;
    let door = knock(&place, &keyring.device)?;
    let known = [Some(invitation.handle.clone()), handle_in(home)];
    let member: Option<MemberEntry> = entry_at(&door.view, StateKey::Member(keyring.member))?;
    let own = match &member {
        None => {
            check_time(invitation)?;
            check_unspent(&door.view, invitation)?;
            Some(invitation.handle.clone())
        }
        Some(entry) => {
            keyring.generations = generations(seed, entry);
            known.iter().flatten().find(|proof| proof.opens(entry.handle)).cloned()
        }
    };
    home.write_network(&network_file(&door.parsed, &keyring, own.as_ref()))?;
    home.save_view(&door.view.trust())?;
    home.write_unconfirmed_keyring(&keyring.seal(passphrase, rand::random())?)?;
    match &member {
        None => {
            let transaction = registration(&door.view, seed, &keyring, invitation);
            redeem(&door, &transaction, &codec::encode(&invitation.handle))?;
        }
        Some(entry) => add_device(&door, seed, &keyring, entry)?,
    }
    home.confirm_keyring()?;
    drop(door);
    let client = connect_with(home, &keyring)?;
    let own = client.settle_handle(home, &[own, Some(invitation.handle.clone())])?;
    Ok(Joined {
        member: keyring.member.to_string(),
        handle: own.map(|proof| proof.handle.to_string()),
        fingerprint: fingerprint_words(&keyring.member_key),
        role: member.map_or(invitation.invite.role, |entry| entry.role),
        chain: place.chain.to_string(),
    })
}

/// Comes back by the 24 words: adds this machine as a device and sets up `home`, over what is there of the same
/// member. A drill only looks whether it would work.
///
/// # Errors
/// [`JoinError`]. Running it again is safe.
pub fn recover(
    home: &Home,
    seed: &Seed,
    passphrase: &[u8],
    place: &Whereabouts,
    drill: bool,
) -> Result<Recovered, JoinError> {
    let mut keyring =
        if drill { new_keyring(place.chain, seed) } else { begun(home, seed, passphrase, place.chain)? };
    let door = knock(place, &seed.member_key())?;
    let entry: MemberEntry =
        entry_at(&door.view, StateKey::Member(keyring.member))?.ok_or(JoinError::UnknownMember)?;
    let lists: MemberLists = entry_at(&door.view.as_member(), StateKey::MemberLists(keyring.member))?
        .ok_or(JoinError::UnknownMember)?;
    keyring.generations = generations(seed, &entry);
    let before = Folder::of(home, &keyring, &entry);
    let sheet = place.handle.as_ref().map(ToString::to_string);
    let found = |handle: Option<String>, readable| Recovered {
        who: Joined {
            member: keyring.member.to_string(),
            handle,
            fingerprint: fingerprint_words(&keyring.member_key),
            role: entry.role,
            chain: place.chain.to_string(),
        },
        records: lists.records.count,
        received: lists.received.count,
        readable,
        drill,
        folder_of_another: matches!(before, Folder::OfAnother),
        replaced: before.replaced().map(|device| device.to_string()),
    };
    if drill {
        return Ok(found(sheet, 0));
    }
    if matches!(before, Folder::OfAnother) {
        return Err(JoinError::OtherMember { path: home.path().to_owned() });
    }
    home.write_unconfirmed_keyring(&keyring.seal(passphrase, rand::random())?)?;
    add_device(&door, seed, &keyring, &entry)?;
    let known = handle_in(home).filter(|proof| proof.opens(entry.handle));
    home.write_network(&network_file(&door.parsed, &keyring, known.as_ref()))?;
    home.save_view(&door.view.trust())?;
    home.confirm_keyring()?;
    drop(door);
    let client = connect_with(home, &keyring)?;
    let own = client.settle_handle(home, &[known, None]).and_then(|own| match (own, &place.handle) {
        (None, Some(handle)) => client.handle_in_directory(home, handle),
        (own, _) => Ok(own),
    })?;
    Ok(found(own.map(|proof| proof.handle.to_string()), client.count_readable()?))
}

/// Whose a folder is, seen from a member who comes back.
enum Folder {
    /// Nobody's.
    Empty,
    /// The member's, perhaps with a device that is still on the ledger.
    Own(Option<DeviceId>),
    /// Somebody else's.
    OfAnother,
}

impl Folder {
    fn of(home: &Home, keyring: &Keyring, entry: &MemberEntry) -> Self {
        if !home.is_set_up() {
            return Self::Empty;
        }
        // What cannot be read says nothing, and is what a recovery is for.
        let Ok(network) = home.network().and_then(|file| file.parse()) else { return Self::Own(None) };
        let same_handle = network.handle.is_none_or(|proof| proof.opens(entry.handle));
        let same_member = network.owner.map_or(same_handle, |owner| owner.member == keyring.member);
        if network.chain != keyring.chain || !same_member {
            return Self::OfAnother;
        }
        let device = network.owner.map(|owner| owner.device);
        Self::Own(device.filter(|device| *device != keyring.device_id() && entry.devices.contains(device)))
    }

    const fn replaced(&self) -> Option<DeviceId> {
        match self {
            Self::Own(device) => *device,
            Self::Empty | Self::OfAnother => None,
        }
    }
}

impl Client {
    /// One's own handle: the first of `known` or the one in the address book that opens the ledger's commitment.
    /// Noted in the address book, where a recovery finds it again, and in `home`.
    fn settle_handle(
        &self,
        home: &Home,
        known: &[Option<HandleProof>],
    ) -> Result<Option<HandleProof>, JoinError> {
        let commitment = self.own_entry()?.handle;
        // A book that does not open must not keep anybody out.
        let Ok(book) = self.book() else { return Ok(known.iter().flatten().next().cloned()) };
        let noted = book.contact(self.member()).map(|contact| &contact.proof);
        let opens = |proof: &&HandleProof| proof.opens(commitment);
        let own = noted.into_iter().chain(known.iter().flatten()).find(opens).cloned();
        if let Some(proof) = &own {
            self.note_handle(home, proof)?;
        }
        Ok(own)
    }

    /// One's own handle as a node knows it, believed only if it opens the ledger's commitment.
    fn handle_in_directory(&self, home: &Home, handle: &Handle) -> Result<Option<HandleProof>, JoinError> {
        // Nodes forget nothing on purpose, but a handle that none knows must not keep anybody out.
        let Ok(person) = self.look_up(handle) else { return Ok(None) };
        if person.member != self.member() {
            return Ok(None);
        }
        self.note_handle(home, &person.proof)?;
        Ok(Some(person.proof))
    }

    fn note_handle(&self, home: &Home, proof: &HandleProof) -> Result<(), JoinError> {
        let mut network = home.network()?;
        network.handle = Some(OwnHandle::of(proof));
        home.write_network(&network)?;
        let pinned_key = self.keys.member_key;
        let own = Contact { member: self.member(), proof: proof.clone(), pinned_key };
        Ok(self.change_book(|book| {
            if book.contact(own.member) != Some(&own) {
                book.add_contact(own.clone());
            }
        })?)
    }
}

impl Whereabouts {
    /// Where an invitation leads.
    fn of(invitation: &Invitation) -> Self {
        let nodes = vec![(invitation.node, invitation.addresses.clone())];
        Self { chain: invitation.chain, nodes, handle: Some(invitation.handle.handle.clone()) }
    }
}

/// An entry by proof. Before the first block there is no header to prove by, and nobody has registered.
fn entry_at<T: Serialize + DeserializeOwned>(view: &View, key: StateKey) -> Result<Option<T>, ViewError> {
    if view.trust().height == Height(0) { Ok(None) } else { view.entry(key) }
}

fn check_time(invitation: &Invitation) -> Result<(), JoinError> {
    if invitation.invite.expires <= now() { Err(JoinError::InviteExpired) } else { Ok(()) }
}

fn check_unspent(view: &View, invitation: &Invitation) -> Result<(), JoinError> {
    let spent: Option<SpentInvite> = entry_at(view, StateKey::SpentInvite(invitation.invite.id))?;
    if spent.is_some() { Err(JoinError::InviteSpent) } else { Ok(()) }
}

/// The keys of an earlier try that may be on the ledger already, or fresh ones. What another passphrase sealed, or
/// other words, is not gone on with.
fn begun(home: &Home, seed: &Seed, passphrase: &[u8], chain: ChainId) -> Result<Keyring, JoinError> {
    let fresh = new_keyring(chain, seed);
    let Some(sealed) = home.unconfirmed_keyring()? else { return Ok(fresh) };
    let earlier = Keyring::open(&sealed, passphrase).ok();
    Ok(earlier.filter(|keys| keys.chain == chain && keys.member == fresh.member).unwrap_or(fresh))
}

/// The handle that a folder knows, whoever it is of.
fn handle_in(home: &Home) -> Option<HandleProof> {
    home.network().and_then(|file| file.parse()).ok()?.handle
}

/// The secrets of every generation of a member.
fn generations(seed: &Seed, entry: &MemberEntry) -> Vec<GenerationSecrets> {
    (0..=entry.generation.0).map(|generation| GenerationSecrets::of(seed, Generation(generation))).collect()
}

/// Connects with keys that are in memory already.
fn connect_with(home: &Home, keyring: &Keyring) -> Result<Client, JoinError> {
    let keyring = Keyring::from_secret_bytes(&keyring.to_secret_bytes())?;
    Ok(Client::connect(home, Arc::new(keyring), Box::<InProcess>::default())?)
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
        let lists = self.own_lists()?;
        let key = ihfs_core::ledger::lists::ListKey::Records(self.member());
        let items: Vec<ihfs_core::ledger::state::RecordItem> =
            self.view.items(key, Default::default(), lists.records)?;
        Ok(items.into_iter().map(|item| item.record).collect())
    }
}

/// Fresh device keys beside the secrets of the first generation.
fn new_keyring(chain: ChainId, seed: &Seed) -> Keyring {
    let member_key = seed.member_key().public();
    Keyring {
        chain,
        member: MemberId::of_key(&member_key),
        member_key,
        device: SigningKey::from_seed(Secret::new(rand::random())),
        device_sealing: SealingKey::from_seed(Secret::new(rand::random())),
        generations: vec![GenerationSecrets::of(seed, Generation(0))],
    }
}

/// Reaches a node and verifies its ledger from the fingerprint: as a guest by the key of a device that is not on it
/// yet, as the member by the member key.
fn knock(place: &Whereabouts, key: &SigningKey) -> Result<Door, JoinError> {
    let runtime = start_runtime().map_err(ConnectError::from)?;
    let mut parsed = ParsedNetwork {
        chain: place.chain,
        genesis: Vec::new(),
        nodes: place.nodes.clone(),
        handle: None,
        owner: None,
    };
    let link = start_link(&runtime, key, &parsed)?;
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
        DeviceKeys::sign(&member_key, keyring.chain, &keyring.device, keyring.device_sealing.public());
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

/// Adds this device to a member, unless an earlier try did.
fn add_device(door: &Door, seed: &Seed, keyring: &Keyring, entry: &MemberEntry) -> Result<(), JoinError> {
    if entry.devices.contains(&keyring.device_id()) {
        return Ok(());
    }
    let member_key = seed.member_key();
    let device =
        DeviceKeys::sign(&member_key, keyring.chain, &keyring.device, keyring.device_sealing.public());
    let transaction = signed(&door.view, &member_key, keyring.member, vec![Operation::AddDevice(device)]);
    redeem(door, &transaction, &[])
}

fn network_file(parsed: &ParsedNetwork, keyring: &Keyring, handle: Option<&HandleProof>) -> NetworkFile {
    let node = |(key, addresses): &(NodeId, Vec<String>)| NodeAddress {
        key: key.to_string(),
        addresses: addresses.clone(),
    };
    NetworkFile {
        format: HOME_FORMAT,
        chain: parsed.chain.to_string(),
        genesis: data_encoding::HEXLOWER.encode(&parsed.genesis),
        nodes: parsed.nodes.iter().map(node).collect(),
        handle: handle.map(OwnHandle::of),
        owner: Some(OwnerText::of(Owner { member: keyring.member, device: keyring.device_id() })),
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let network = self.link.network().clone();
        self.runtime.block_on(network.shutdown());
    }
}
