//! Places for requests that wait long: so many in all, and so many for one asker, so that nobody takes them all.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ihfs_core::ids::{MemberId, NodeId};
use ihfs_proto::ledger::Refusal;

use super::access::Who;
use super::busy;

/// Who is counted: a member with all devices, a node, or all guests together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asker {
    Member(MemberId),
    Node(NodeId),
    Guests,
}

impl From<Who> for Asker {
    fn from(who: Who) -> Self {
        match who {
            Who::Device(_, member) | Who::MemberKey(member) => Self::Member(member),
            Who::Node(node) => Self::Node(node),
            Who::Guest => Self::Guests,
        }
    }
}

/// The places, and who holds how many.
pub(super) struct Places {
    total_max: usize,
    each_max: usize,
    held: Mutex<HashMap<Asker, usize>>,
}

impl Places {
    pub(super) fn new(total_max: usize, each_max: usize) -> Self {
        Self { total_max, each_max, held: Mutex::default() }
    }

    /// A place until the answer is dropped; refused when this asker, or all together, hold too many.
    pub(super) fn take(&self, who: Who) -> Result<Place<'_>, Refusal> {
        let asker = Asker::from(who);
        let mut held = self.lock();
        let total: usize = held.values().sum();
        let own = held.get(&asker).copied().unwrap_or(0);
        if total >= self.total_max || own >= self.each_max {
            return Err(busy());
        }
        held.insert(asker, own + 1);
        Ok(Place { places: self, asker })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Asker, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that is held.
pub(super) struct Place<'a> {
    places: &'a Places,
    asker: Asker,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = self.places.lock();
        match held.get_mut(&self.asker) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                held.remove(&self.asker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ihfs_core::ids::DeviceId;

    use super::*;

    fn device(device: u8, member: u8) -> Who {
        Who::Device(DeviceId::from_bytes([device; 32]), MemberId::from_bytes([member; 32]))
    }

    #[test]
    fn one_member_takes_his_share_of_places_and_leaves_the_others_theirs() {
        let places = Places::new(5, 2);
        let one = [places.take(device(1, 1)).ok(), places.take(device(2, 1)).ok()];
        assert!(one.iter().all(Option::is_some));
        assert!(places.take(device(3, 1)).is_err());
        let other = places.take(device(4, 2));
        assert!(other.is_ok());
        drop(one);
        assert!(places.take(device(3, 1)).is_ok());
    }

    #[test]
    fn all_together_hold_no_more_than_there_are() {
        let places = Places::new(2, 2);
        let held = [places.take(device(1, 1)), places.take(device(2, 2))];
        assert!(held.iter().all(Result::is_ok));
        assert!(places.take(device(3, 3)).is_err());
        drop(held);
        assert!(places.take(device(3, 3)).is_ok() && places.lock().is_empty());
    }
}
