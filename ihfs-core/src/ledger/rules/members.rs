//! Who asks, and who comes in: members by invite or by the consortium's vote.

use crate::ids::{Generation, MemberId, TransactionId};
use crate::ledger::identity::{Invite, Role};
use crate::ledger::news::News;
use crate::ledger::operation::{Admission, Operation, RegisterMember};
use crate::ledger::rules::refused::Stop;
use crate::ledger::rules::work::{Asking, Work};
use crate::ledger::rules::{Refused, devices, expiry};
use crate::ledger::state::{DeviceEntry, MemberEntry, MemberLists, SpentInvite, StateKey};
use crate::ledger::transaction::Transaction;

/// Longest life of an invite, in milliseconds: 90 days. Its id is remembered until it expires.
const INVITE_LIFE_MAX: u64 = 90 * 24 * 60 * 60 * 1000;

/// Finds whose key signed. Somebody new signs with the member key that the first operation registers.
pub(super) fn who_asks(
    work: &Work<'_>,
    id: TransactionId,
    transaction: &Transaction,
) -> Result<Asking, Stop> {
    let Transaction { member, signer, valid_until, random, .. } = *transaction;
    let member_key = match work.read::<MemberEntry>(&StateKey::Member(member))? {
        Some(entry) => entry.key,
        None => registering_key(transaction)?,
    };
    let by_member_key = signer.as_bytes() == &member_key;
    if !by_member_key {
        let device: Option<DeviceEntry> = work.read(&StateKey::Device(signer))?;
        if !device.is_some_and(|device| device.member == member && device.removed.is_none()) {
            return Err(Refused::NotADevice { member, signer }.into());
        }
    }
    Ok(Asking { id, member, signer, by_member_key, valid_until, random })
}

fn registering_key(transaction: &Transaction) -> Result<[u8; 32], Refused> {
    match transaction.operations.first() {
        Some(Operation::RegisterMember(registration)) => Ok(registration.key),
        _ => Err(Refused::UnknownMember { member: transaction.member }),
    }
}

/// Refuses what only the words may ask for.
pub(super) fn need_member_key(asking: &Asking, operation: &'static str) -> Result<(), Refused> {
    if asking.by_member_key { Ok(()) } else { Err(Refused::NeedsMemberKey { operation }) }
}

pub(super) fn register(work: &mut Work<'_>, asking: &Asking, new: &RegisterMember) -> Result<(), Stop> {
    let expected = MemberId::of_key(&new.key);
    if asking.member != expected {
        return Err(Refused::NotOwnKey { expected }.into());
    }
    need_member_key(asking, "register-member")?;
    let member = asking.member;
    if work.has(&StateKey::Member(member))? {
        return Err(Refused::AlreadyMember { member }.into());
    }
    let mut entry = admit(work, member, new)?;
    if new.sealing.generation != Generation(0) {
        return Err(Refused::WrongGeneration { expected: Generation(0) }.into());
    }
    new.sealing.verify(member, &new.key).map_err(|_| Refused::UnsignedKey { member })?;
    work.write(&StateKey::MemberKey(member, Generation(0)), &new.sealing);
    work.tell(News::Registered { member });
    devices::place(work, member, &mut entry, &new.device)?;
    work.write(&StateKey::Member(member), &entry);
    work.write(&StateKey::MemberLists(member), &MemberLists::default());
    Ok(())
}

fn admit(work: &mut Work<'_>, member: MemberId, new: &RegisterMember) -> Result<MemberEntry, Stop> {
    let (hospital, handle) = match &new.admission {
        Admission::Invite(invite) => {
            redeem(work, member, invite)?;
            (invite.hospital, invite.handle)
        }
        Admission::Vote(handle) => {
            if !work.has(&StateKey::Admitted(member))? {
                return Err(Refused::NotAdmitted { member }.into());
            }
            (member, *handle)
        }
    };
    Ok(MemberEntry {
        key: new.key,
        role: new.admission.role(),
        hospital,
        handle,
        generation: Generation(0),
        devices: Vec::new(),
    })
}

/// Spends the invite.
fn redeem(work: &mut Work<'_>, member: MemberId, invite: &Invite) -> Result<(), Stop> {
    let (id, time) = (invite.id, work.place.time);
    if invite.chain != work.place.chain {
        return Err(Refused::InviteOfAnotherChain { invite: id }.into());
    }
    if invite.expires <= time {
        return Err(Refused::InviteExpired { invite: id }.into());
    }
    if invite.expires > time.plus_millis(INVITE_LIFE_MAX) {
        return Err(Refused::InviteTooLong { invite: id }.into());
    }
    check_registrar(work, invite)?;
    let key = StateKey::SpentInvite(id);
    if let Some(SpentInvite { member, .. }) = work.read(&key)? {
        return Err(Refused::InviteSpent { invite: id, member }.into());
    }
    work.write(&key, &SpentInvite { member, height: work.place.height });
    Ok(expiry::forget_after(work, &key, invite.expires)?)
}

/// A hospital invites anyone but hospitals; its registrars invite neither those nor registrars.
fn check_registrar(work: &Work<'_>, invite: &Invite) -> Result<(), Stop> {
    let refused = Refused::NotTheRegistrar { invite: invite.id, registrar: invite.registrar };
    let Some(registrar) = work.read::<MemberEntry>(&StateKey::Member(invite.registrar))? else {
        return Err(refused.into());
    };
    let may = registrar.hospital == invite.hospital
        && match registrar.role {
            Role::Hospital => invite.role != Role::Hospital,
            Role::Registrar => !matches!(invite.role, Role::Hospital | Role::Registrar),
            _ => false,
        };
    let own_key = invite.signer.as_bytes() == &registrar.key || registrar.devices.contains(&invite.signer);
    if !may || !own_key || invite.verify().is_err() {
        return Err(refused.into());
    }
    Ok(())
}

/// The asking member, if it is a hospital.
pub(super) fn need_hospital(work: &Work<'_>, asking: &Asking) -> Result<MemberEntry, Stop> {
    let entry = work.member(asking.member)?;
    if entry.role != Role::Hospital {
        return Err(Refused::NotAHospital { member: asking.member }.into());
    }
    Ok(entry)
}
