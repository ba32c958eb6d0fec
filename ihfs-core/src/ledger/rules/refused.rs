//! Why a transaction is refused: every rule by name.

use crate::ids::{
    DeviceId, Digest, Epoch, Generation, GrantId, Height, InviteId, MemberId, NodeId, RecordId, Time,
    TransactionId, Version,
};
use crate::ledger::rules::EPOCHS_PER_BLOCK_MAX;
use crate::ledger::state::StateError;
use crate::ledger::transaction::TransactionError;

/// The rule that a transaction breaks. A refused transaction changes nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are the ids that the message shows")]
pub enum Refused {
    /// The bytes are no signed transaction.
    #[error(transparent)]
    NotATransaction(#[from] TransactionError),
    /// It is for another chain.
    #[error("the transaction is for another chain")]
    WrongChain,
    /// Its time is over.
    #[error("the transaction was valid until {valid_until}, the block's time is {time}")]
    Expired { valid_until: Time, time: Time },
    /// It would have to be remembered for too long.
    #[error("the transaction is valid until {valid_until}, more than a day after {time}")]
    ValidTooLong { valid_until: Time, time: Time },
    /// It was applied before.
    #[error("transaction {id:?} was applied at height {height}")]
    AlreadyApplied { id: TransactionId, height: Height },
    /// Nobody has this id.
    #[error("there is no member {member:?}")]
    UnknownMember { member: MemberId },
    /// The key that signed is not the member's, or no longer.
    #[error("{signer:?} is no device of member {member:?}")]
    NotADevice { member: MemberId, signer: DeviceId },
    /// Only the member key, from the words, may ask for this.
    #[error("{operation} is signed by the member key")]
    NeedsMemberKey { operation: &'static str },
    /// Only a device may ask for this, not the member key.
    #[error("{operation} is signed by a device")]
    NeedsDevice { operation: &'static str },
    /// It removes more than one device.
    #[error("a transaction removes one device at most")]
    SeveralRemovals,
    /// It opens more epochs than one block may.
    #[error("a transaction opens {EPOCHS_PER_BLOCK_MAX} epochs at most")]
    TooManyEpochs,
    /// The block opens as many epochs as it may without it; it fits into a later one.
    #[error("the block opens no more epochs")]
    BlockFull,
    /// A code that is reserved for later rules.
    #[error("{operation} is reserved")]
    Reserved { operation: &'static str },
    /// Only a hospital may ask for this.
    #[error("member {member:?} is no hospital")]
    NotAHospital { member: MemberId },

    /// The member registered before.
    #[error("member {member:?} is registered")]
    AlreadyMember { member: MemberId },
    /// The transaction's member is not the one of the key that registers.
    #[error("the key is of member {expected:?}")]
    NotOwnKey { expected: MemberId },
    /// The invite is for another chain, expired, or not signed by who it says.
    #[error("invite {invite:?} is for another chain")]
    InviteOfAnotherChain { invite: InviteId },
    /// The invite's time is over.
    #[error("invite {invite:?} expired")]
    InviteExpired { invite: InviteId },
    /// The invite does not run out soon enough to be remembered.
    #[error("invite {invite:?} is valid for too long")]
    InviteTooLong { invite: InviteId },
    /// The invite was redeemed.
    #[error("invite {invite:?} was redeemed by {member:?}")]
    InviteSpent { invite: InviteId, member: MemberId },
    /// Who signed the invite may not sign it.
    #[error("{registrar:?} may not sign invite {invite:?}")]
    NotTheRegistrar { invite: InviteId, registrar: MemberId },
    /// The consortium did not vote for this hospital.
    #[error("the consortium did not admit {member:?} as a hospital")]
    NotAdmitted { member: MemberId },
    /// A key's signature by the member key is wrong.
    #[error("a key of member {member:?} is not signed by the member key")]
    UnsignedKey { member: MemberId },
    /// The device's own key did not sign for its place under the member.
    #[error("device {device:?} does not consent")]
    NoConsent { device: DeviceId },
    /// The device, or a node with this key, is or was on the ledger.
    #[error("device {device:?} was registered before")]
    DeviceTaken { device: DeviceId },
    /// The member has as many devices as are allowed.
    #[error("member {member:?} has too many devices")]
    TooManyDevices { member: MemberId },
    /// The last device cannot go: nothing could open the next generation but the words.
    #[error("device {device:?} is the last one")]
    LastDevice { device: DeviceId },
    /// The new generation is not the next one.
    #[error("generation {expected} is next")]
    WrongGeneration { expected: Generation },
    /// The sealed secrets are not for exactly the devices that stay, or are too long.
    #[error("the secrets are not sealed to exactly the {expected} devices that stay")]
    WrongSecrets { expected: usize },

    /// The node, or a device with this key, is on the ledger.
    #[error("node {node:?} was registered before")]
    NodeTaken { node: NodeId },
    /// The node did not consent, has no weight, or has too many addresses.
    #[error("the registration of node {node:?} is not well formed")]
    BadNode { node: NodeId },
    /// There are as many nodes as are allowed.
    #[error("there are too many nodes")]
    TooManyNodes,
    /// There is no such node, or it was drained.
    #[error("there is no node {node:?} that takes records")]
    UnknownNode { node: NodeId },
    /// The node is another hospital's.
    #[error("node {node:?} is not run by {member:?}")]
    NotTheNodesHospital { node: NodeId, member: MemberId },
    /// The last node must stay.
    #[error("node {node:?} is the last one that takes records")]
    LastNode { node: NodeId },
    /// A statement about a version that is not there, or older than the last, or from the future.
    #[error("the statement about record {record:?} does not follow the last one")]
    StaleAttestation { record: RecordId },

    /// The record exists.
    #[error("record {record:?} exists")]
    RecordExists { record: RecordId },
    /// The member has as many records as are allowed.
    #[error("member {member:?} has too many records")]
    TooManyRecords { member: MemberId },
    /// There is no such record.
    #[error("there is no record {record:?}")]
    UnknownRecord { record: RecordId },
    /// Only the owner may ask for this.
    #[error("{member:?} does not own record {record:?}")]
    NotTheOwner { record: RecordId, member: MemberId },
    /// The epoch is not the live one.
    #[error("record {record:?} is in epoch {live}, not {named}")]
    WrongEpoch { record: RecordId, live: Epoch, named: Epoch },
    /// Somebody else was first: merge and try again.
    #[error("record {record:?} is at version {head}, not {base}")]
    Conflict { record: RecordId, head: Version, base: Version },
    /// A grant that was opened in this epoch expired: the reader could go on reading.
    #[error("record {record:?} must be rotated first: a grant that was opened expired at {expired}")]
    RotateFirst { record: RecordId, expired: Time },
    /// Only the owner drops.
    #[error("only the owner of record {record:?} may drop chunks")]
    OnlyOwnerDrops { record: RecordId },
    /// More is dropped than there is, or sizes overflow.
    #[error("the sizes of the anchor of record {record:?} do not add up")]
    BadSizes { record: RecordId },
    /// Not enough receipts, or two of one zone.
    #[error("record {record:?} needs {needed} receipts of different zones, found {found}")]
    WrongReceipts { record: RecordId, needed: usize, found: usize },
    /// The receipt is about something else, or not signed by its node.
    #[error("the receipt of node {node:?} does not verify")]
    BadReceipt { node: NodeId },
    /// The receipt's time is over.
    #[error("the receipt of node {node:?} expired")]
    ReceiptExpired { node: NodeId },
    /// The node does not keep this record.
    #[error("record {record:?} is not placed on node {node:?}")]
    NotPlaced { record: RecordId, node: NodeId },

    /// The grant exists.
    #[error("grant {grant:?} exists")]
    GrantExists { grant: GrantId },
    /// There is no such grant.
    #[error("there is no grant {grant:?}")]
    UnknownGrant { grant: GrantId },
    /// The grant is another member's, of another record, or of another kind.
    #[error("grant {grant:?} is not for this")]
    WrongGrant { grant: GrantId },
    /// The grant ended.
    #[error("grant {grant:?} ended")]
    GrantEnded { grant: GrantId },
    /// The grant expired.
    #[error("grant {grant:?} expired")]
    GrantExpired { grant: GrantId },
    /// The grant's time has not come.
    #[error("grant {grant:?} is not open before {not_before}")]
    NotYet { grant: GrantId, not_before: Time },
    /// Its last opening is but a moment ago.
    #[error("grant {grant:?} was opened just now; it opens again at {again}")]
    OpenedLately { grant: GrantId, again: Time },
    /// The writer did not open the grant, or too long ago.
    #[error("grant {grant:?} was not opened lately")]
    NotOpened { grant: GrantId },
    /// The writer's grant holds the key of an older epoch.
    #[error("grant {grant:?} is of epoch {epoch}, record at {live}")]
    GrantOfOlderEpoch { grant: GrantId, epoch: Epoch, live: Epoch },
    /// A live grant needs a head that is sealed in the live epoch.
    #[error("record {record:?} has no head in epoch {live} yet")]
    NoHeadInEpoch { record: RecordId, live: Epoch },
    /// There is no such version in that epoch.
    #[error("record {record:?} has no version {version} in epoch {epoch}")]
    NoSuchVersion { record: RecordId, version: Version, epoch: Epoch },
    /// A snapshot cannot be written to, an expiry lies before the beginning or in the past, or the reader is the owner.
    #[error("the conditions of grant {grant:?} contradict themselves")]
    BadConditions { grant: GrantId },
    /// The envelope is sealed to a key that the reader no longer has, or never had.
    #[error("{reader:?} has no sealing key of generation {generation}, or a newer one")]
    WrongReaderGeneration { reader: MemberId, generation: Generation },
    /// A grant that is issued again keeps its conditions.
    #[error("grant {grant:?} is issued again under other conditions")]
    OtherConditions { grant: GrantId },
    /// Too many grants of this reader on this record.
    #[error("{reader:?} has too many grants on record {record:?}")]
    TooManyGrants { record: RecordId, reader: MemberId },
    /// Too many grants are nested in one, or too deep.
    #[error("too many grants are nested in {grant:?}, or too deep")]
    TooManyNested { grant: GrantId },
    /// The parent is a grant to another reader or by another owner.
    #[error("grant {parent:?} is no parent for {grant:?}")]
    BadParent { grant: GrantId, parent: GrantId },
    /// Custodians are t to n nodes of different zones, t and n as the network's size says.
    #[error("grant {grant:?} needs {threshold} to {wanted} custodians of different zones")]
    WrongCustodians { grant: GrantId, threshold: usize, wanted: usize },
    /// A custodian did not sign, or will not keep the share long enough.
    #[error("custodian {node:?} did not sign for grant {grant:?}")]
    BadCustodian { grant: GrantId, node: NodeId },
    /// Nothing to revoke.
    #[error("there is no such grant on record {record:?} that has not ended")]
    NothingToRevoke { record: RecordId },
    /// Grants of an opening stand in ascending order, 1 to 64.
    #[error("an opening names 1 to 64 grants in ascending order")]
    BadOpening,
    /// All numbers of epochs or generations are used up.
    #[error("record {record:?} has no epoch left")]
    NoEpochLeft { record: RecordId },

    /// The change does not keep its limits, or names nodes that are not there.
    #[error("the proposed change is not well formed")]
    BadChange,
    /// The proposal exists.
    #[error("proposal {proposal:?} exists")]
    ProposalExists { proposal: Digest },
    /// There is no such proposal that is still open.
    #[error("there is no open proposal {proposal:?}")]
    UnknownProposal { proposal: Digest },
    /// The hospital voted before.
    #[error("{member:?} voted for proposal {proposal:?} before")]
    AlreadyVoted { proposal: Digest, member: MemberId },
    /// The hospital runs no validator.
    #[error("{member:?} runs no validator")]
    NoVotingPower { member: MemberId },
    /// Too many changes wait for their height.
    #[error("too many changes wait for their height")]
    TooManyChanges,
}

/// Why applying stops: the transaction is refused, or the state cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// The transaction breaks a rule.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The state is not to be had.
    #[error(transparent)]
    State(#[from] StateError),
}
