//! The consortium: proposes and votes on validators, policy, rules and new hospitals.
//!
//! A change that more than two thirds of the voting power wants takes effect at its height: it is
//! written at the end of the block before, so that headers and proofs of that block name it.

use crate::codec;
use crate::ids::{Digest, Height, MemberId};
use crate::ledger::certificate::ValidatorSet;
use crate::ledger::news::News;
use crate::ledger::operation::{Change, Propose, Vote};
use crate::ledger::rules::members::need_hospital;
use crate::ledger::rules::refused::Stop;
use crate::ledger::rules::work::{Asking, Work};
use crate::ledger::rules::{RULES_VERSION, Refused};
use crate::ledger::state::{
    ConsortiumEntry, NodeEntry, ProposalEntry, SCHEDULED_MAX, Scheduled, StateError, StateKey,
};

/// Longest time for votes on a proposal, in milliseconds: 90 days.
const VOTING_MAX: u64 = 90 * 24 * 60 * 60 * 1000;

impl Propose {
    /// The proposal's id: `BLAKE3-derive-key("IHFS 1 proposal id", proposal)`.
    pub fn id(&self) -> Digest {
        Digest::from_bytes(blake3::derive_key("IHFS 1 proposal id", &codec::encode(self)))
    }
}

/// The validators that were next decide this block.
pub(super) fn begin(work: &mut Work<'_>) -> Result<(), StateError> {
    let mut consortium: ConsortiumEntry = work.must(&StateKey::Consortium)?;
    if consortium.validators != consortium.next {
        consortium.validators = consortium.next.clone();
        work.write(&StateKey::Consortium, &consortium);
    }
    Ok(())
}

/// Writes the changes that hold from the next block on.
pub(super) fn finish(work: &mut Work<'_>) -> Result<ConsortiumEntry, StateError> {
    let mut consortium: ConsortiumEntry = work.must(&StateKey::Consortium)?;
    let next_height = work.place.height.next();
    let (due, later): (Vec<_>, Vec<_>) =
        consortium.scheduled.iter().copied().partition(|scheduled| scheduled.effective <= next_height);
    if due.is_empty() {
        return Ok(consortium);
    }
    consortium.scheduled = later;
    for Scheduled { proposal, .. } in due {
        let entry: ProposalEntry = work.must(&StateKey::Proposal(proposal))?;
        match entry.change {
            Change::Validators(set) => consortium.next = set,
            Change::Policy(policy) => consortium.policy = policy,
            Change::Rules(version) => consortium.rules = version,
            Change::Hospital(member) => work.write(&StateKey::Admitted(member), &true),
        }
    }
    work.write(&StateKey::Consortium, &consortium);
    work.tell(News::Consortium);
    Ok(consortium)
}

/// Proposes a change, which is also the proposer's vote for it.
pub(super) fn propose(work: &mut Work<'_>, asking: &Asking, propose: &Propose) -> Result<(), Stop> {
    let proposal = propose.id();
    if work.has(&StateKey::Proposal(proposal))? {
        return Err(Refused::ProposalExists { proposal }.into());
    }
    let lasts =
        propose.expires > work.place.time && propose.expires <= work.place.time.plus_millis(VOTING_MAX);
    if !lasts || !is_sound(work, &propose.change)? {
        return Err(Refused::BadChange.into());
    }
    let Propose { change, effective, expires } = propose.clone();
    let entry = ProposalEntry { change, effective, expires, voted: Vec::new(), passed: false };
    count(work, asking, proposal, entry)
}

fn is_sound(work: &Work<'_>, change: &Change) -> Result<bool, StateError> {
    Ok(match change {
        Change::Validators(set) => {
            let mut known = true;
            for validator in set.as_slice() {
                known &= work.has(&StateKey::Node(validator.node))?;
            }
            known
        }
        Change::Policy(policy) => policy.check().is_ok(),
        Change::Rules(version) => *version > RULES_VERSION,
        Change::Hospital(member) => !work.has(&StateKey::Member(*member))?,
    })
}

pub(super) fn vote(work: &mut Work<'_>, asking: &Asking, vote: &Vote) -> Result<(), Stop> {
    let proposal = vote.proposal;
    let entry: Option<ProposalEntry> = work.read(&StateKey::Proposal(proposal))?;
    match entry {
        Some(entry) if !entry.passed && entry.expires > work.place.time => {
            count(work, asking, proposal, entry)
        }
        _ => Err(Refused::UnknownProposal { proposal }.into()),
    }
}

fn count(
    work: &mut Work<'_>,
    asking: &Asking,
    proposal: Digest,
    mut entry: ProposalEntry,
) -> Result<(), Stop> {
    need_hospital(work, asking)?;
    let member = asking.member;
    let mut consortium: ConsortiumEntry = work.must(&StateKey::Consortium)?;
    if power_of(work, &consortium.next, &[member])? == 0 {
        return Err(Refused::NoVotingPower { member }.into());
    }
    match entry.voted.binary_search(&member) {
        Ok(_) => return Err(Refused::AlreadyVoted { proposal, member }.into()),
        Err(place) => entry.voted.insert(place, member),
    }
    if consortium.next.is_quorum(power_of(work, &consortium.next, &entry.voted)?) {
        entry.passed = true;
        schedule(&mut consortium, proposal, entry.effective)?;
        work.write(&StateKey::Consortium, &consortium);
    }
    work.write(&StateKey::Proposal(proposal), &entry);
    Ok(())
}

fn schedule(consortium: &mut ConsortiumEntry, proposal: Digest, effective: Height) -> Result<(), Refused> {
    if consortium.scheduled.len() >= SCHEDULED_MAX {
        return Err(Refused::TooManyChanges);
    }
    consortium.scheduled.push(Scheduled { effective, proposal });
    // Stable: of two changes for one height the one that was decided later holds.
    consortium.scheduled.sort_by_key(|scheduled| scheduled.effective);
    Ok(())
}

/// Voting power of the validators that these hospitals run.
fn power_of(work: &Work<'_>, set: &ValidatorSet, hospitals: &[MemberId]) -> Result<u64, StateError> {
    let mut power = 0;
    for validator in set.as_slice() {
        let node: Option<NodeEntry> = work.read(&StateKey::Node(validator.node))?;
        if node.is_some_and(|node| hospitals.contains(&node.hospital)) {
            power += validator.power;
        }
    }
    Ok(power)
}
