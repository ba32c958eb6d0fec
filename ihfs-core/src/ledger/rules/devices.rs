//! Devices of a member: added and removed by the member key, from the words.

use crate::ids::{DeviceId, Generation, MemberId, NodeId, RecordId};
use crate::ledger::identity::DeviceKeys;
use crate::ledger::news::News;
use crate::ledger::operation::{RemoveDevice, SEALED_SECRETS_BYTES_MAX, SealedSecrets};
use crate::ledger::rules::members::need_member_key;
use crate::ledger::rules::refused::Stop;
use crate::ledger::rules::work::{Asking, Work};
use crate::ledger::rules::{Refused, epochs};
use crate::ledger::state::{DEVICES_MAX, DeviceEntry, MemberEntry, StateKey};

pub(super) fn add(work: &mut Work<'_>, asking: &Asking, device: &DeviceKeys) -> Result<(), Stop> {
    need_member_key(asking, "add-device")?;
    let mut member = work.member(asking.member)?;
    place(work, asking.member, &mut member, device)?;
    work.write(&StateKey::Member(asking.member), &member);
    Ok(())
}

/// Puts a device under a member. A device that was ever removed, or is a node's key, never comes in.
pub(super) fn place(
    work: &mut Work<'_>,
    id: MemberId,
    member: &mut MemberEntry,
    keys: &DeviceKeys,
) -> Result<(), Stop> {
    let DeviceKeys { device, sealing, signature, .. } = keys;
    let as_node = NodeId::from_bytes(*device.as_bytes());
    if work.has(&StateKey::Device(*device))? || work.has(&StateKey::Node(as_node))? {
        return Err(Refused::DeviceTaken { device: *device }.into());
    }
    if member.devices.len() >= DEVICES_MAX {
        return Err(Refused::TooManyDevices { member: id }.into());
    }
    keys.verify(work.place.chain, id, &member.key).map_err(|_| Refused::UnsignedKey { member: id })?;
    // Without its consent, a member could take another's device, or a node to come, for his own.
    keys.verify_consent(work.place.chain, id).map_err(|_| Refused::NoConsent { device: *device })?;
    member.devices.push(*device);
    member.devices.sort_unstable();
    let entry = DeviceEntry {
        member: id,
        sealing: sealing.clone(),
        signature: *signature,
        added: work.place.height,
        removed: None,
    };
    work.write(&StateKey::Device(*device), &entry);
    work.tell(News::DeviceAdded { member: id, device: *device });
    Ok(())
}

/// Ends a device, starts the next generation and a new epoch of every record of the member.
pub(super) fn remove(work: &mut Work<'_>, asking: &Asking, removal: &RemoveDevice) -> Result<(), Stop> {
    need_member_key(asking, "remove-device")?;
    let mut member = work.member(asking.member)?;
    let lists = work.member_lists(asking.member)?;
    let records = u32::try_from(lists.records.count).expect("bounded by RECORDS_MAX");
    work.take_epochs(records as usize)?;
    take_out(work, asking.member, &mut member, removal.device)?;
    let next = next_generation(asking.member, &member, removal)?;
    check_secrets(&member.devices, &removal.secrets)?;
    for SealedSecrets { device, sealed } in &removal.secrets {
        work.write(&StateKey::DeviceSecrets(*device, next), sealed);
    }
    work.write(&StateKey::MemberKey(asking.member, next), &removal.sealing);
    member.generation = next;
    work.write(&StateKey::Member(asking.member), &member);
    for number in 0..records {
        let record: RecordId = work.must(&StateKey::MemberRecord(asking.member, number))?;
        epochs::advance(work, asking, record, next)?;
    }
    work.tell(News::DeviceRemoved { member: asking.member, device: removal.device });
    Ok(())
}

fn take_out(
    work: &mut Work<'_>,
    id: MemberId,
    member: &mut MemberEntry,
    device: DeviceId,
) -> Result<(), Stop> {
    let Some(place) = member.devices.iter().position(|known| *known == device) else {
        return Err(Refused::NotADevice { member: id, signer: device }.into());
    };
    if member.devices.len() == 1 {
        return Err(Refused::LastDevice { device }.into());
    }
    member.devices.remove(place);
    let mut entry: DeviceEntry = work.must(&StateKey::Device(device))?;
    entry.removed = Some(work.place.height);
    work.write(&StateKey::Device(device), &entry);
    Ok(())
}

fn next_generation(
    id: MemberId,
    member: &MemberEntry,
    removal: &RemoveDevice,
) -> Result<Generation, Refused> {
    let expected = Generation(member.generation.0.saturating_add(1));
    if removal.sealing.generation != expected || expected == member.generation {
        return Err(Refused::WrongGeneration { expected });
    }
    removal.sealing.verify(id, &member.key).map_err(|_| Refused::UnsignedKey { member: id })?;
    Ok(expected)
}

/// Secrets must be there for exactly the devices that stay: one left out could read nothing new.
fn check_secrets(devices: &[DeviceId], secrets: &[SealedSecrets]) -> Result<(), Refused> {
    let all = devices.iter().eq(secrets.iter().map(|secret| &secret.device));
    let short = secrets.iter().all(|secret| (1..=SEALED_SECRETS_BYTES_MAX).contains(&secret.sealed.len()));
    if all && short { Ok(()) } else { Err(Refused::WrongSecrets { expected: devices.len() }) }
}
