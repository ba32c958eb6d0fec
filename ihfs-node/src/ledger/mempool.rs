//! Transactions that wait to be decided: bounded, each once, members served in turn.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ihfs_core::ids::{Height, MemberId, TransactionId};
use ihfs_core::ledger::block::BLOCK_BYTES_MAX;
use ihfs_core::ledger::rules::Refused;
use ihfs_core::ledger::transaction::{SignedTransaction, Transaction};
use tokio::sync::oneshot;

/// Most transactions that wait: some seconds' worth of full blocks.
const WAITING_MAX: usize = 8192;
/// Most bytes that wait.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Most transactions of one member: nobody fills the pool alone.
const WAITING_PER_MEMBER_MAX: usize = 64;
/// Most who wait for the same transaction: a submitter and its repeats.
const ANSWERS_MAX: usize = 16;
/// Most transactions of a block: their signatures are checked in well under a second.
const BLOCK_TRANSACTIONS_MAX: usize = 1000;
/// Bytes of a block that header and framing may take.
const BLOCK_OVERHEAD_BYTES: usize = 2048;
/// Bytes that each transaction's frame may take in a block.
const FRAME_BYTES: usize = 16;

/// What became of a transaction: its height, or the rule that refuses it.
pub(super) type Outcome = Result<Height, Arc<Refused>>;

/// Too much waits already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many transactions wait to be decided")]
pub struct PoolFull;

/// The pool.
#[derive(Default)]
pub(super) struct Mempool(Mutex<Pool>);

#[derive(Default)]
struct Pool {
    waiting: BTreeMap<TransactionId, Waiting>,
    queues: BTreeMap<MemberId, VecDeque<TransactionId>>,
    /// The member whose turn came last.
    turn: Option<MemberId>,
    /// The member whose transaction found no room in the last block: his turn comes first.
    first: Option<MemberId>,
    bytes: usize,
}

struct Waiting {
    transaction: SignedTransaction,
    member: MemberId,
    answers: Vec<oneshot::Sender<Outcome>>,
}

impl Mempool {
    /// Adds a transaction, or one more who waits for it.
    pub(super) fn add(
        &self,
        signed: SignedTransaction,
        transaction: &Transaction,
        answer: oneshot::Sender<Outcome>,
    ) -> Result<(), PoolFull> {
        let mut pool = self.lock();
        let id = signed.id();
        if let Some(waiting) = pool.waiting.get_mut(&id) {
            waiting.answers.retain(|answer| !answer.is_closed());
            if waiting.answers.len() >= ANSWERS_MAX {
                return Err(PoolFull);
            }
            waiting.answers.push(answer);
            return Ok(());
        }
        let bytes = signed.bytes.len();
        let of_member = pool.queues.get(&transaction.member).map_or(0, VecDeque::len);
        let is_full = pool.waiting.len() >= WAITING_MAX || pool.bytes + bytes > WAITING_BYTES_MAX;
        if is_full || of_member >= WAITING_PER_MEMBER_MAX {
            return Err(PoolFull);
        }
        pool.bytes += bytes;
        pool.queues.entry(transaction.member).or_default().push_back(id);
        let member = transaction.member;
        pool.waiting.insert(id, Waiting { transaction: signed, member, answers: vec![answer] });
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Whether transactions of this member wait.
    pub(super) fn holds_of(&self, member: MemberId) -> bool {
        self.lock().queues.contains_key(&member)
    }

    /// What the next block may hold: one of each member in turn, until it is full.
    pub(super) fn candidates(&self) -> Vec<SignedTransaction> {
        let mut pool = self.lock();
        let mut order: Vec<MemberId> = Vec::new();
        let first = pool.first.take();
        order.extend(first.filter(|member| pool.queues.contains_key(member)));
        let after = pool.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = pool.queues.range((after, Bound::Unbounded)).map(|(member, _)| *member);
        order.extend(behind.filter(|member| first != Some(*member)));
        order
            .extend(pool.queues.keys().filter(|member| !order.contains(member)).copied().collect::<Vec<_>>());
        let mut room = BLOCK_BYTES_MAX - BLOCK_OVERHEAD_BYTES;
        let mut chosen = Vec::new();
        for place in 0..WAITING_PER_MEMBER_MAX {
            for member in &order {
                let Some(id) = pool.queues[member].get(place) else { continue };
                let transaction = &pool.waiting[id].transaction;
                let size = transaction.to_bytes().len() + FRAME_BYTES;
                if size > room || chosen.len() == BLOCK_TRANSACTIONS_MAX {
                    return chosen;
                }
                room -= size;
                chosen.push(transaction.clone());
                if place == 0 {
                    pool.turn = Some(*member);
                }
            }
        }
        chosen
    }

    /// These are on the ledger.
    pub(super) fn settle(&self, ids: &[TransactionId], height: Height) {
        for id in ids {
            self.answer(*id, Ok(height));
        }
    }

    /// This one stays: the block had no room for it. The first that finds none comes first in the next.
    pub(super) fn defer(&self, id: TransactionId) {
        let mut pool = self.lock();
        let member = pool.waiting.get(&id).map(|waiting| waiting.member);
        pool.first = pool.first.or(member);
    }

    /// The rules refuse this one.
    pub(super) fn refuse(&self, id: TransactionId, refused: Refused) {
        let outcome = match refused {
            Refused::AlreadyApplied { height, .. } => Ok(height),
            refused => Err(Arc::new(refused)),
        };
        self.answer(id, outcome);
    }

    fn answer(&self, id: TransactionId, outcome: Outcome) {
        let Some(waiting) = self.lock().remove(id) else { return };
        for answer in waiting.answers {
            // Whoever no longer waits asks for the outcome by the transaction's id.
            let _ = answer.send(outcome.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    fn remove(&mut self, id: TransactionId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.bytes -= waiting.transaction.bytes.len();
        if let Some(queue) = self.queues.get_mut(&waiting.member) {
            queue.retain(|queued| *queued != id);
            if queue.is_empty() {
                self.queues.remove(&waiting.member);
            }
        }
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use ihfs_core::crypto::secret::Secret;
    use ihfs_core::crypto::sign::SigningKey;
    use ihfs_core::ids::{ChainId, DeviceId, RecordId, Time};
    use ihfs_core::ledger::operation::{Operation, Rotate};

    use super::*;

    fn transaction(member: u8, number: u8) -> Transaction {
        Transaction {
            format: 1,
            chain: ChainId::from_bytes([1; 32]),
            member: MemberId::from_bytes([member; 32]),
            signer: DeviceId::from_bytes([member; 32]),
            valid_until: Time(1),
            random: [number; 32],
            operations: vec![Operation::Rotate(Rotate { record: RecordId::from_bytes([2; 32]) })],
        }
    }

    fn add(pool: &Mempool, member: u8, number: u8) -> Result<oneshot::Receiver<Outcome>, PoolFull> {
        let transaction = transaction(member, number);
        let (answer, answered) = oneshot::channel();
        let signed = transaction.clone().sign(&SigningKey::from_seed(Secret::new([member; 32])));
        pool.add(signed, &transaction, answer).map(|()| answered)
    }

    #[test]
    fn members_take_turns_whoever_came_first() {
        let pool = Mempool::default();
        for number in 0..3 {
            add(&pool, 1, number).unwrap();
        }
        add(&pool, 2, 0).unwrap();
        let members: Vec<u8> =
            pool.candidates().iter().map(|signed| signed.open().unwrap().member.as_bytes()[0]).collect();
        assert_eq!(members, [1, 2, 1, 1]);
    }

    #[test]
    fn who_found_no_room_comes_first_in_the_next_block() {
        let pool = Mempool::default();
        let mut answers: Vec<_> = (1..=3).map(|member| add(&pool, member, 0).unwrap()).collect();
        let candidates = pool.candidates();
        pool.defer(candidates[1].id());
        pool.defer(candidates[2].id());
        let members: Vec<u8> =
            pool.candidates().iter().map(|signed| signed.open().unwrap().member.as_bytes()[0]).collect();
        assert_eq!(members, [2, 1, 3]);
        assert!(answers.iter_mut().all(|answer| answer.try_recv().is_err()), "nobody is refused");
    }

    #[test]
    fn one_member_does_not_fill_the_pool() {
        let pool = Mempool::default();
        for number in 0..64 {
            add(&pool, 1, number).unwrap();
        }
        assert_eq!(add(&pool, 1, 64).err(), Some(PoolFull));
        assert!(add(&pool, 2, 0).is_ok());
    }

    #[test]
    fn all_who_wait_for_a_transaction_are_answered_once() {
        let pool = Mempool::default();
        let (mut first, mut second) = (add(&pool, 1, 0).unwrap(), add(&pool, 1, 0).unwrap());
        let id = pool.candidates()[0].id();
        assert_eq!(pool.candidates().len(), 1);
        pool.settle(&[id], Height(7));
        assert_eq!(first.try_recv().unwrap().unwrap(), Height(7));
        assert_eq!(second.try_recv().unwrap().unwrap(), Height(7));
        assert!(pool.is_empty() && !pool.holds_of(MemberId::from_bytes([1; 32])));
    }
}
