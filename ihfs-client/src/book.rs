//! The address book: whom this member deals with, the keys that were pinned, the labels that were given.
//!
//! It lies in the member's private record, whose id follows from the member id, so that the recovery sheet finds
//! it again. One small file in canonical bytes.

use ihfs_core::codec::{self, DecodeError};
use ihfs_core::crypto::derive::Role;
use ihfs_core::ids::{Digest, MemberId, RecordId};
use ihfs_core::ledger::identity::PRIVATE_NONCE;
use ihfs_core::members::{Handle, HandleProof, label_commitment};
use ihfs_core::sealed::PackWriter;
use ihfs_core::tree::Found;
use ihfs_core::tree::edit::TreeEdit;
use ihfs_core::tree::entry::{Content, Item, Metadata};
use ihfs_core::tree::file::{Extent, FileContentBuilder};
use ihfs_core::tree::name::Name;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::client::Client;
use crate::fetch::FetchError;
use crate::record::RecordError;
use crate::writing::{CommitError, empty_root, new_item};

/// Version of the file.
const BOOK_FORMAT: u32 = 1;
/// Most bytes of the file: 3,000 contacts.
const BOOK_BYTES_MAX: usize = 1 << 20;
/// How often a lost race is run again.
const ATTEMPTS: usize = 5;

/// Why the address book was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The private record could not be opened.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The file does not decode.
    #[error("the address book does not decode")]
    Decode(#[from] DecodeError),
    /// The file is of a newer program.
    #[error("the address book has format {found}, where {BOOK_FORMAT} is known")]
    UnknownFormat {
        /// The format found.
        found: u32,
    },
    /// The change was not committed.
    #[error(transparent)]
    Commit(#[from] Box<CommitError>),
    /// The book is full.
    #[error("the address book has at most {BOOK_BYTES_MAX} bytes")]
    Full,
}

/// The address book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Book {
    format: u32,
    contacts: Vec<Contact>,
    labels: Vec<Label>,
}

/// A member that was dealt with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Contact {
    /// The member.
    pub member: MemberId,
    /// The handle, with what opens the ledger's commitment to it.
    pub proof: HandleProof,
    /// The member key that was confirmed by its fingerprint words.
    #[serde(with = "serde_bytes")]
    pub pinned_key: [u8; 32],
}

/// A label that was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Label {
    /// The text.
    pub text: String,
    /// Blinds its commitment.
    #[serde(with = "serde_bytes")]
    pub blind: [u8; 32],
}

impl Default for Book {
    fn default() -> Self {
        Self { format: BOOK_FORMAT, contacts: Vec::new(), labels: Vec::new() }
    }
}

impl Book {
    /// The contact with this id.
    pub fn contact(&self, member: MemberId) -> Option<&Contact> {
        self.contacts.iter().find(|contact| contact.member == member)
    }

    /// The contact with this handle.
    pub fn by_handle(&self, handle: &Handle) -> Option<&Contact> {
        self.contacts.iter().find(|contact| contact.proof.handle == *handle)
    }

    /// Everybody.
    pub fn contacts(&self) -> &[Contact] {
        &self.contacts
    }

    /// The label behind a commitment; a grant whose label was lost is called "unnamed".
    pub fn label(&self, commitment: Digest) -> (String, [u8; 32]) {
        let found =
            self.labels.iter().find(|label| label_commitment(&label.text, &label.blind) == commitment);
        found.map_or_else(|| ("unnamed".to_owned(), [0; 32]), |label| (label.text.clone(), label.blind))
    }

    /// Notes a contact, in the place of one with the same id.
    pub fn add_contact(&mut self, contact: Contact) {
        self.contacts.retain(|known| known.member != contact.member);
        self.contacts.push(contact);
    }

    /// Notes a label.
    pub fn add_label(&mut self, label: Label) {
        if !self.labels.contains(&label) {
            self.labels.push(label);
        }
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, BookError> {
        let book: Self = codec::decode(bytes, BOOK_BYTES_MAX)?;
        if book.format == BOOK_FORMAT {
            Ok(book)
        } else {
            Err(BookError::UnknownFormat { found: book.format })
        }
    }
}

impl Client {
    /// The address book as it is on the network.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn book(&self) -> Result<Book, BookError> {
        let mut record = self.own_record(RecordId::of(self.member(), &PRIVATE_NONCE))?;
        let Some(tree) = self.open_head(&mut record)? else { return Ok(Book::default()) };
        match tree.lookup(&[book_name()]).map_err(RecordError::from)? {
            Found::Item(Item { content: Content::File(content), .. }) => {
                let bytes = crate::snapshot::read_small(&tree, &content, BOOK_BYTES_MAX as u64)?;
                Book::from_bytes(&bytes)
            }
            _ => Ok(Book::default()),
        }
    }

    /// Changes the address book, on its newest version; again when another device was faster.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn change_book(&self, change: impl Fn(&mut Book)) -> Result<(), BookError> {
        for attempt in 1.. {
            let mut book = self.book()?;
            let before = book.clone();
            change(&mut book);
            if book == before {
                return Ok(());
            }
            match self.write_book(&book) {
                Err(BookError::Commit(error))
                    if attempt < ATTEMPTS
                        && matches!(
                            *error,
                            CommitError::Conflict { .. } | CommitError::EpochMoved { .. }
                        ) => {}
                done => return done,
            }
        }
        unreachable!("the last attempt returns")
    }

    fn write_book(&self, book: &Book) -> Result<(), BookError> {
        let bytes = codec::encode(book);
        if bytes.len() > BOOK_BYTES_MAX {
            return Err(BookError::Full);
        }
        let mut record = self.own_record(RecordId::of(self.member(), &PRIVATE_NONCE))?;
        let root = match self.open_head(&mut record)? {
            Some(tree) => tree.root().clone(),
            None => empty_root(record.id),
        };
        let chunks = record.chunks.clone();
        let exists = record.entry.is_some();
        let mut writing =
            if exists { self.write_record(record) } else { self.write_new_record(PRIVATE_NONCE) }
                .map_err(Box::new)?;
        let mut packs = PackWriter::new(&writing.sealer);
        let piece = packs.add(Role::Content, &bytes);
        let piece = packs.resolve(piece);
        let mut builder = FileContentBuilder::new();
        builder
            .push(Extent::piece(piece).expect("a book is not empty"), &mut packs)
            .expect("a book is small");
        let content = builder.finish(&mut packs);
        packs.close();
        for pack in packs.take_closed() {
            writing.uploader.push(pack).map_err(CommitError::from).map_err(Box::new)?;
        }
        let mut edit = TreeEdit::new(root, chunks);
        put_book(&mut edit, content).map_err(|error| Box::new(CommitError::from(error)))?;
        self.commit(writing, &edit, &[]).map_err(Box::new)?;
        Ok(())
    }
}

fn put_book(
    edit: &mut TreeEdit<crate::fetch::Fetcher>,
    content: ihfs_core::tree::file::FileContent,
) -> Result<(), ihfs_core::tree::edit::EditError<FetchError>> {
    let path = [book_name()];
    match edit.lookup(&path)? {
        Found::Item(_) => edit.set_content(&path, content),
        _ => edit.create(&path, new_item(Content::File(content), Metadata::default())),
    }
}

fn book_name() -> Name {
    Name::new(*b"book").expect("a name")
}
