//! `revoke`: one transaction, whatever the size of the record. The remaining readers get the new key in it if the
//! custodians answer soon; else the revocation goes at once, and theirs directly afterwards.

use std::time::Duration;

use ihfs_core::ids::{GrantId, MemberId, RecordId};
use ihfs_core::ledger::operation::{Operation, Revoke, RevokeTarget};
use ihfs_core::ledger::state::{GrantEntry, StateKey};
use ihfs_core::members::Handle;

use crate::client::Client;
use crate::held::{HeldVersion, Holdings, Wider};
use crate::issue::REISSUED_MAX;
use crate::location::Location;
use crate::nesting::Ending;
use crate::record::{Record, RecordError};
use crate::resolve::ResolveError;
use crate::share::ShareError;
use crate::submit::{Decided, SubmitError};
use crate::view::ViewError;
use crate::writing::CommitError;

/// How long a revocation waits until the remaining readers' grants are ready: some ten round trips to distant
/// nodes and custodians. Whoever is to lose access keeps it no longer than that for their sake.
pub const REISSUE_TIME_MAX: Duration = Duration::from_secs(5);

/// How long the lists behind what a reader may hold may take, after the revocation: some hundred round trips.
pub const HOLDINGS_TIME_MAX: Duration = Duration::from_secs(20);

/// Why access was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The location could not be found.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The reader could not be looked up.
    #[error(transparent)]
    LookUp(#[from] Box<ShareError>),
    /// A record could not be opened.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The ledger's word was not had.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Only the owner revokes.
    #[error("only the owner can revoke")]
    NotOwn,
    /// The path is, or was, a part of a record that is granted as a whole; nothing was changed.
    #[error("{reader} may read {wider}, which holds or held this path; nothing was revoked")]
    Wider {
        /// The reader.
        reader: Handle,
        /// The record that the grant is for.
        wider: Location,
    },
    /// The reader has no grant on it.
    #[error("{reader} has no live grant on this")]
    NothingGranted {
        /// The reader.
        reader: Handle,
    },
    /// It is no grant of this member's, or it ended.
    #[error("you gave no grant {grant:?} that is live")]
    UnknownGrant {
        /// The grant.
        grant: GrantId,
    },
    /// The ledger did not take it.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// What revoking came to.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Revoked {
    /// The record.
    pub record: String,
    /// The block from which on it holds.
    pub height: u64,
    /// What the reader may have read and kept.
    pub may_hold: Vec<HeldVersion>,
    /// Records that hold older versions of this one, from before it was split out of them, and on which the reader
    /// still has a live grant.
    pub wider: Vec<Wider>,
    /// Grants on the record itself that the reader still has.
    pub others: Vec<String>,
    /// Why the lists above could not be had or proved in time; they are empty then.
    pub unproved: Option<String>,
    /// How many readers stay.
    pub remaining: u64,
    /// Whether they have the new key already; if not, the next command of this device gives it to them.
    pub reissued: bool,
}

impl Client {
    /// Ends the reader's grants on the record at `location` and on those nested in it.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub fn revoke(&self, location: &Location, reader: &Handle) -> Result<Revoked, RevokeError> {
        let Location::Own(path) = location else { return Err(RevokeError::NotOwn) };
        let spot = self.resolve(location)?;
        let member = self.member_of(reader)?;
        if self.live_grants_to(&[spot.record.id], member)?.is_empty() {
            return Err(self.nothing_granted(spot.record, reader, member));
        }
        if !spot.path.is_empty() {
            let top = path[..path.len() - spot.path.len()].to_vec();
            return Err(RevokeError::Wider { reader: reader.clone(), wider: Location::Own(top) });
        }
        self.end(spot.record, member, RevokeTarget::Reader(member))
    }

    /// Ends one grant, with those that came from it, also where its record is no longer in the vault.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub fn revoke_grant(&self, grant: GrantId) -> Result<Revoked, RevokeError> {
        let unknown = RevokeError::UnknownGrant { grant };
        let entry: Option<GrantEntry> = self.view.entry(StateKey::Grant(grant))?;
        let entry = entry.filter(|entry| entry.owner == self.member() && entry.ended.is_none());
        let Some(entry) = entry else { return Err(unknown) };
        let record = self.own_record(entry.conditions.record)?;
        self.end(record, entry.conditions.reader, RevokeTarget::Grant(grant))
    }

    /// Without a grant on the record, one on a record that it was split out of may still cover older versions.
    fn nothing_granted(&self, record: Record, reader: &Handle, member: MemberId) -> RevokeError {
        let reader = reader.clone();
        let listed = self.within(HOLDINGS_TIME_MAX).holdings(record, member);
        let path = listed.ok().and_then(|holdings| holdings.wider.into_iter().find_map(|wider| wider.path));
        match path.and_then(|path| Location::parse(path.as_bytes()).ok()) {
            Some(wider) => RevokeError::Wider { reader, wider },
            None => RevokeError::NothingGranted { reader },
        }
    }

    fn end(&self, record: Record, reader: MemberId, target: RevokeTarget) -> Result<Revoked, RevokeError> {
        let id = record.id;
        let (decided, is_whole) = self.end_grants(id, target)?;
        let (remaining, reissued) = self.within(REISSUE_TIME_MAX).reissue_after(id, is_whole);
        // Lists are as long as the record's history, and a node may withhold them: access goes before they are asked.
        let listed = self.within(HOLDINGS_TIME_MAX).holdings(record, reader);
        let (Holdings { may_hold, wider, others }, unproved) = match listed {
            Ok(holdings) => (holdings, None),
            Err(error) => (Holdings::default(), Some(error.to_string())),
        };
        let (record, height) = (id.to_string(), decided.height.0);
        Ok(Revoked { record, height, may_hold, wider, others, unproved, remaining, reissued })
    }

    /// The pinned member; the directory is not asked, so nobody can point elsewhere.
    fn member_of(&self, reader: &Handle) -> Result<MemberId, RevokeError> {
        let book = self.book().map_err(|error| Box::new(ShareError::from(error)))?;
        match book.by_handle(reader) {
            Some(contact) => Ok(contact.member),
            None => Ok(self.look_up(reader).map_err(Box::new)?.member),
        }
    }

    /// Ends the grants, with the remaining readers' new ones if these are ready in time; says whether they are.
    fn end_grants(&self, record: RecordId, target: RevokeTarget) -> Result<(Decided, bool), SubmitError> {
        let revoke = vec![Operation::Revoke(Revoke { record, target })];
        let random = rand::random();
        let ready = self.within(REISSUE_TIME_MAX).with_reissues(record, target, random);
        if let Ok(operations) = ready {
            match self.submit_signed(&self.sign(random, operations)) {
                // Surely not applied: somebody wrote meanwhile, or it is too much for one transaction. The
                // revocation alone takes no version and has a constant size.
                Err(SubmitError::Refused(_) | SubmitError::Ask(_)) => {}
                decided => return Ok((decided?, true)),
            }
        }
        Ok((self.submit(revoke)?, false))
    }

    /// The revocation, and after it the heads of new epochs and the grants of those who stay.
    fn with_reissues(
        &self,
        record: RecordId,
        target: RevokeTarget,
        random: [u8; 32],
    ) -> Result<Vec<Operation>, CommitError> {
        let ends = self.ends_of(&self.with_all_nested(vec![record])?, Ending::Target(target))?;
        let hung = self.hang(&[record], &[], &ends, random)?;
        Ok([ends.operations().to_vec(), hung.into_operations()].concat())
    }

    /// Counts the remaining readers, and gives them the key of the new epoch if they do not have it yet. What
    /// fails here is done by the next commit.
    fn reissue_after(&self, record: RecordId, is_done: bool) -> (u64, bool) {
        let Ok(own) = self.own_record(record) else { return (0, is_done) };
        let remaining = self.live_grants(&own).map_or(0, |grants| grants.len() as u64);
        let is_whole = is_done && remaining <= REISSUED_MAX as u64;
        let reissued = is_whole || self.reseal_where_due(record).is_ok();
        (remaining, reissued)
    }

    /// Seals the heads of the record and of those nested in it again, where an epoch began and readers stay.
    fn reseal_where_due(&self, record: RecordId) -> Result<(), CommitError> {
        for id in self.with_all_nested(vec![record])? {
            let mut record = self.own_record(id)?;
            while self.has_grants_due(&record)? {
                self.reseal(record)?;
                record = self.own_record(id)?;
            }
        }
        Ok(())
    }

    fn has_grants_due(&self, record: &Record) -> Result<bool, ViewError> {
        let is_due =
            |grant: &GrantEntry| grant.conditions.snapshot.is_none() && grant.epoch != record.epoch();
        Ok(self.live_grants(record)?.iter().any(|(_, grant)| is_due(grant)))
    }
}
