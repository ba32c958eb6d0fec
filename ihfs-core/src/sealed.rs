//! Sealed things that nodes store, and the refs that open them.
//!
//! A *piece* is sealed under its own key. A *chunk* is one large piece, or a *pack* of several small ones with
//! keyed padding behind them, or a *root*. A ref says where a piece stands and holds its key, so whoever may
//! read a tree page reads what it points at, and nothing else.

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::codec::{self, DecodeError};
use crate::crypto::derive::{PieceKey, RecordKey, Role, RootKey, SealingSecrets};
use crate::crypto::seal::{self, FRAME_SIZE, FRAME_SIZE_LOG2, TAG_SIZE, sealed_length};
use crate::cut::ReadAt;
use crate::ids::{ChunkId, Digest, Epoch, FixedBytes, RecordId, Version};

/// Most plaintext bytes of one chunk.
pub const CHUNK_PLAINTEXT_MAX: usize = 1 << 20;
/// Most bytes of one stored chunk: a full one with its tags. Packs keep to it too.
pub const CHUNK_BYTES_MAX: usize = sealed_length(CHUNK_PLAINTEXT_MAX);
/// Files, tails and DICOM headers up to this size go into packs.
pub const PACKED_PIECE_MAX: usize = 64 << 10;
/// Most plaintext bytes of a root: it lists nested records and devices, and points at everything else.
pub const ROOT_PLAINTEXT_MAX: usize = 512 << 10;

/// Version, log2 of the frame size and padding scheme (1 = Padmé) of every piece key.
const PIECE_FORMAT: [u8; 3] = [1, FRAME_SIZE_LOG2, 1];
/// Bytes of the synthetic nonce in front of a root.
const SIV_SIZE: usize = 32;
/// Bytes of the length in front of a root's plaintext.
const LENGTH_SIZE: usize = 4;

/// Bytes that are proven to be those of their address.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedChunk {
    id: ChunkId,
    bytes: Vec<u8>,
}

/// Where a piece stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// In this chunk.
    Chunk(ChunkId),
    /// In the same pack as the page that holds the ref. Only on the wire: refs in memory are resolved.
    Here,
    /// In the pack with this number of the commit that is being written.
    Pack(u32),
}

/// Record and epoch under which a piece was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize_tuple, Deserialize_tuple)]
pub struct Source {
    /// The record.
    pub record: RecordId,
    /// Its epoch at that time.
    pub epoch: Epoch,
}

/// Points at a piece and opens it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Ref {
    /// Where the piece stands.
    pub place: Place,
    /// Its first byte in the chunk.
    pub offset: u32,
    /// Bytes of its plaintext; the sealed length follows from it.
    pub size: u32,
    /// Its key.
    pub key: PieceKey,
    /// What it was sealed under.
    pub source: Source,
}

/// Why a sealed chunk did not open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The bytes do not hash to the address they were fetched by: damage or a lying node.
    #[error("chunk {expected:?} hashes to {actual:?}")]
    WrongAddress {
        /// The address asked for.
        expected: ChunkId,
        /// The address of the bytes that came.
        actual: ChunkId,
    },
    /// The address is right but the key is not, or the ref points past the chunk's end.
    #[error("chunk {id:?} does not open with this key")]
    WrongKey {
        /// The chunk.
        id: ChunkId,
    },
    /// It opened, but what is inside is not what it should be: its writer was faulty or dishonest.
    #[error("chunk {id:?} opens to something malformed")]
    Malformed {
        /// The chunk.
        id: ChunkId,
        /// What is wrong with it.
        source: DecodeError,
    },
}

impl SealedChunk {
    /// Takes bytes that must be those of `expected`.
    ///
    /// # Errors
    /// [`OpenError::WrongAddress`] when they are not.
    pub fn verify(expected: ChunkId, bytes: Vec<u8>) -> Result<Self, OpenError> {
        let actual = ChunkId::of(&bytes);
        if actual != expected {
            return Err(OpenError::WrongAddress { expected, actual });
        }
        Ok(Self { id: actual, bytes })
    }

    fn address(bytes: Vec<u8>) -> Self {
        Self { id: ChunkId::of(&bytes), bytes }
    }

    /// Its address.
    pub const fn id(&self) -> ChunkId {
        self.id
    }

    /// Its bytes, as nodes store them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its bytes, handed on.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Opens a whole piece.
    ///
    /// # Errors
    /// [`OpenError::WrongKey`] when the ref does not open these bytes.
    pub fn open(&self, piece: &Ref) -> Result<Vec<u8>, OpenError> {
        let size = piece.size as usize;
        let wrong_key = || OpenError::WrongKey { id: self.id };
        let start = piece.offset as usize;
        let sealed = self.bytes.get(start..start + sealed_length(size)).ok_or_else(wrong_key)?;
        seal::open(&piece.key, sealed, size).map_err(|_| wrong_key())
    }

    /// Opens the frames of a piece that hold `start .. start + length`, cut to that range.
    ///
    /// # Errors
    /// [`OpenError::WrongKey`] when the ref does not open these bytes or the range passes the piece's end.
    pub fn open_range(&self, piece: &Ref, start: usize, length: usize) -> Result<Vec<u8>, OpenError> {
        let wrong_key = || OpenError::WrongKey { id: self.id };
        let at = piece.offset as usize;
        let sealed = self.bytes.get(at..at + sealed_length(piece.size as usize)).ok_or_else(wrong_key)?;
        if start.checked_add(length).is_none_or(|end| end > piece.size as usize) {
            return Err(wrong_key());
        }
        let (first, end) = frames_of(start, length);
        let plaintext = seal::open_frames(&piece.key, sealed, first, end).map_err(|_| wrong_key())?;
        Ok(cut_to(plaintext, start - first * FRAME_SIZE, length))
    }

    /// Opens a root and gives its plaintext.
    ///
    /// # Errors
    /// [`OpenError::WrongKey`] for another key; [`OpenError::Malformed`] for a length that does not fit.
    pub fn open_root(&self, key: &RootKey) -> Result<Vec<u8>, OpenError> {
        let sealed = self.bytes.get(SIV_SIZE..).ok_or(OpenError::WrongKey { id: self.id })?;
        let padded = seal::open_padded(key, sealed).map_err(|_| OpenError::WrongKey { id: self.id })?;
        let malformed = || OpenError::Malformed { id: self.id, source: DecodeError::Malformed };
        let (length, rest) = padded.split_first_chunk::<LENGTH_SIZE>().ok_or_else(malformed)?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > rest.len() || rest[length..].iter().any(|byte| *byte != 0) {
            return Err(malformed());
        }
        Ok(rest[..length].to_vec())
    }

    /// The key of this root, for who holds the record key.
    ///
    /// # Errors
    /// [`OpenError::WrongKey`] when the chunk is too short to be a root.
    pub fn root_key(&self, secrets: &SealingSecrets) -> Result<RootKey, OpenError> {
        let siv = self.bytes.first_chunk().ok_or(OpenError::WrongKey { id: self.id })?;
        Ok(secrets.root_key(siv))
    }
}

impl std::fmt::Debug for SealedChunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedChunk({:?}, {} bytes)", self.id, self.bytes.len())
    }
}

/// The frames that hold `start .. start + length` of a piece.
const fn frames_of(start: usize, length: usize) -> (usize, usize) {
    (start / FRAME_SIZE, (start + length).div_ceil(FRAME_SIZE))
}

fn cut_to(mut plaintext: Vec<u8>, skip: usize, length: usize) -> Vec<u8> {
    plaintext.truncate(skip + length);
    plaintext.drain(..skip);
    plaintext
}

/// A chunk that this device verified whole when it took it in, and now reads in parts from where it keeps it.
///
/// The only thing whose frames are opened by their tags alone. What was changed since then does not open, unless by
/// one who has the piece's key.
#[derive(Clone, Debug)]
pub struct KeptChunk<R> {
    id: ChunkId,
    bytes: R,
}

/// Why a part of a kept chunk was not had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeptError<E> {
    /// It could not be read.
    #[error("a kept chunk could not be read")]
    Read(#[source] E),
    /// It was cut or changed where it is kept, or the ref is not one to it.
    #[error(transparent)]
    Open(OpenError),
}

impl<R: ReadAt> KeptChunk<R> {
    /// The chunk in `bytes`: the word of the local cache that these were those of `id` when it took them in.
    pub const fn taken_in(id: ChunkId, bytes: R) -> Self {
        Self { id, bytes }
    }

    /// Its address.
    pub const fn id(&self) -> ChunkId {
        self.id
    }

    /// Reads and opens the frames of a piece that hold `start .. start + length`, cut to that range.
    ///
    /// # Errors
    /// [`KeptError::Read`]; [`KeptError::Open`] with [`OpenError::WrongKey`] when the ref does not open these bytes
    /// or the range passes the piece's end.
    pub fn open_range(
        &self,
        piece: &Ref,
        start: usize,
        length: usize,
    ) -> Result<Vec<u8>, KeptError<R::Error>> {
        let wrong_key = || KeptError::Open(OpenError::WrongKey { id: self.id });
        if start.checked_add(length).is_none_or(|end| end > piece.size as usize) {
            return Err(wrong_key());
        }
        let (first, end) = frames_of(start, length);
        let sealed_bytes = sealed_length(piece.size as usize);
        let range = seal::frame_bytes(sealed_bytes, first, end);
        let mut some = vec![0; range.len()];
        let read = read_full(&self.bytes, u64::from(piece.offset) + range.start as u64, &mut some);
        if read.map_err(KeptError::Read)? < some.len() {
            return Err(wrong_key());
        }
        let plaintext = seal::open_some_frames(&piece.key, some, first, sealed_bytes);
        Ok(cut_to(plaintext.map_err(|_| wrong_key())?, start - first * FRAME_SIZE, length))
    }
}

/// Fills `out` as far as there are bytes.
fn read_full<R: ReadAt>(bytes: &R, offset: u64, out: &mut [u8]) -> Result<usize, R::Error> {
    let mut filled = 0;
    while filled < out.len() {
        match bytes.read_at(offset + filled as u64, &mut out[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Seals under one record key.
#[derive(Debug)]
pub struct Sealer {
    source: Source,
    secrets: SealingSecrets,
}

impl Sealer {
    /// Seals for `record` in `epoch` under its record key.
    pub fn new(record: RecordId, epoch: Epoch, key: &RecordKey) -> Self {
        Self { source: Source { record, epoch }, secrets: key.sealing_secrets() }
    }

    /// Record and epoch that it seals under.
    pub const fn source(&self) -> Source {
        self.source
    }

    /// The secrets of its record key.
    pub const fn secrets(&self) -> &SealingSecrets {
        &self.secrets
    }

    /// The key that `plaintext` has, or would have, under this record key.
    pub fn piece_key(&self, role: Role, plaintext: &[u8]) -> PieceKey {
        self.secrets.piece_key(PIECE_FORMAT, role, plaintext)
    }

    /// Seals a piece of at most [`CHUNK_PLAINTEXT_MAX`] bytes as a chunk of its own.
    pub fn seal_chunk(&self, role: Role, plaintext: &[u8]) -> (Ref, SealedChunk) {
        assert!(plaintext.len() <= CHUNK_PLAINTEXT_MAX, "a chunk holds at most 1 MiB");
        let key = self.piece_key(role, plaintext);
        let mut bytes = Vec::new();
        seal::seal_into(&key, plaintext, &mut bytes);
        let chunk = SealedChunk::address(bytes);
        (self.piece_ref(Place::Chunk(chunk.id), 0, plaintext.len(), key), chunk)
    }

    /// Seals a root: `s ‖ frames`.
    pub fn seal_root(&self, version: Version, plaintext: &[u8]) -> (RootKey, SealedChunk) {
        assert!(plaintext.len() <= ROOT_PLAINTEXT_MAX, "a root is small");
        let siv = self.secrets.root_siv(self.source.record, self.source.epoch, version, plaintext);
        let key = self.secrets.root_key(&siv);
        let length = u32::try_from(plaintext.len()).expect("checked above");
        let mut bytes = siv.to_vec();
        seal::seal_into(&key, &[&length.to_be_bytes(), plaintext].concat(), &mut bytes);
        (key, SealedChunk::address(bytes))
    }

    fn piece_ref(&self, place: Place, offset: usize, size: usize, key: PieceKey) -> Ref {
        let narrow = |length: usize| u32::try_from(length).expect("chunks have at most 1 MiB");
        Ref { place, offset: narrow(offset), size: narrow(size), key, source: self.source }
    }
}

/// A page of a tree: something that holds refs.
pub trait Page: Clone + serde::Serialize + serde::de::DeserializeOwned {
    /// Calls `visit` with every ref of the page.
    fn for_each_ref(&mut self, visit: &mut dyn FnMut(&mut Ref));
}

/// Most bytes of one encoded tree page.
pub const PAGE_BYTES_MAX: usize = 256 << 10;

/// Opens a tree page and resolves its refs to the chunk that it came from.
///
/// # Errors
/// [`OpenError::WrongKey`], [`OpenError::Malformed`].
pub fn open_page<P: Page>(chunk: &SealedChunk, at: &Ref) -> Result<P, OpenError> {
    let plaintext = chunk.open(at)?;
    let mut page: P = codec::decode(&plaintext, PAGE_BYTES_MAX)
        .map_err(|source| OpenError::Malformed { id: chunk.id, source })?;
    page.for_each_ref(&mut |piece| {
        if piece.place == Place::Here {
            piece.place = Place::Chunk(chunk.id);
        }
    });
    Ok(page)
}

/// Collects small pieces of one commit into packs, in the order in which they come.
#[derive(Debug)]
pub struct PackWriter<'a> {
    sealer: &'a Sealer,
    open: Vec<u8>,
    closed: Vec<SealedChunk>,
    /// Addresses of all packs closed so far, also of those already taken.
    addresses: Vec<ChunkId>,
}

impl<'a> PackWriter<'a> {
    /// Starts with an empty pack.
    pub const fn new(sealer: &'a Sealer) -> Self {
        Self { sealer, open: Vec::new(), closed: Vec::new(), addresses: Vec::new() }
    }

    /// Seals a piece into the open pack. The ref names the pack by its number until [`Self::resolve`].
    pub fn add(&mut self, role: Role, plaintext: &[u8]) -> Ref {
        assert!(sealed_length(plaintext.len()) <= CHUNK_BYTES_MAX, "a piece fits a pack");
        if self.open.len() + sealed_length(plaintext.len()) > CHUNK_PLAINTEXT_MAX {
            self.close();
        }
        let key = self.sealer.piece_key(role, plaintext);
        let offset = self.open.len();
        seal::seal_into(&key, plaintext, &mut self.open);
        self.sealer.piece_ref(self.open_pack(), offset, plaintext.len(), key)
    }

    /// Seals a tree page. Refs to pieces of the same pack say so, since its address is not known yet.
    pub fn add_page<P: Page>(&mut self, page: &P) -> Ref {
        let mut bytes = self.encode_page(page);
        if self.open.len() + sealed_length(bytes.len()) > CHUNK_PLAINTEXT_MAX {
            self.close();
            bytes = self.encode_page(page);
        }
        assert!(bytes.len() <= PAGE_BYTES_MAX, "tree pages split long before");
        self.add(Role::TreePage, &bytes)
    }

    /// The ref with the address of its pack, which is closed for that if need be.
    pub fn resolve(&mut self, mut piece: Ref) -> Ref {
        if piece.place == self.open_pack() {
            self.close();
        }
        self.place(&mut piece);
        piece
    }

    /// Takes the packs that are complete.
    pub fn take_closed(&mut self) -> Vec<SealedChunk> {
        std::mem::take(&mut self.closed)
    }

    /// Closes the last pack. Afterwards every ref resolves.
    pub fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.open);
        let length = bytes.len();
        let digest = Digest::of(&bytes);
        bytes.resize(seal::padded_length(length).min(CHUNK_BYTES_MAX).max(length), 0);
        self.sealer.secrets.pad(digest, &mut bytes[length..]);
        let pack = SealedChunk::address(bytes);
        self.addresses.push(pack.id);
        self.closed.push(pack);
    }

    fn open_pack(&self) -> Place {
        Place::Pack(u32::try_from(self.addresses.len()).expect("a commit has fewer than 2^32 packs"))
    }

    fn encode_page<P: Page>(&self, page: &P) -> Vec<u8> {
        let mut placed = page.clone();
        placed.for_each_ref(&mut |piece| self.place(piece));
        codec::encode(&placed)
    }

    fn place(&self, piece: &mut Ref) {
        if let Place::Pack(number) = piece.place {
            let closed = self.addresses.get(number as usize);
            piece.place = closed.map_or(Place::Here, |id| Place::Chunk(*id));
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Chunk(id) => serializer.serialize_some(id),
            Self::Here => serializer.serialize_none(),
            Self::Pack(_) => Err(serde::ser::Error::custom("an open pack has no address")),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Here, Self::Chunk))
    }
}

impl Serialize for PieceKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for PieceKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(FixedBytes::<32>).map(Self::from_bytes)
    }
}

// A tag is a part of what a full chunk adds.
const _: () = assert!(CHUNK_BYTES_MAX == CHUNK_PLAINTEXT_MAX + CHUNK_PLAINTEXT_MAX / FRAME_SIZE * TAG_SIZE);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::derive::VaultSecret;
    use crate::crypto::secret::Secret;

    #[derive(Clone, Serialize_tuple, Deserialize_tuple)]
    struct TwoRefs {
        left: Ref,
        right: Option<Ref>,
    }

    impl Page for TwoRefs {
        fn for_each_ref(&mut self, visit: &mut dyn FnMut(&mut Ref)) {
            visit(&mut self.left);
            self.right.iter_mut().for_each(visit);
        }
    }

    fn sealer(epoch: u32) -> Sealer {
        let vault = VaultSecret(Secret::new([1; 32]));
        let record = RecordId::from_bytes([2; 32]);
        let key = vault.record_key(record, Epoch(epoch), Digest::from_bytes([3; 32]));
        Sealer::new(record, Epoch(epoch), &key)
    }

    #[test]
    fn equal_content_seals_equal_in_one_epoch_and_differently_in_the_next() {
        let first = sealer(0).seal_chunk(Role::Content, &[7; 100_000]).1;
        assert_eq!(first, sealer(0).seal_chunk(Role::Content, &[7; 100_000]).1);
        assert_ne!(first.id(), sealer(1).seal_chunk(Role::Content, &[7; 100_000]).1.id());
        assert_ne!(first.id(), sealer(0).seal_chunk(Role::TreePage, &[7; 100_000]).1.id());
    }

    #[test]
    fn a_range_opens_to_the_same_bytes_as_the_whole() {
        let plaintext: Vec<u8> = (0..100_000u32).map(|i| (i / 7) as u8).collect();
        let (piece, chunk) = sealer(0).seal_chunk(Role::Content, &plaintext);
        assert_eq!(chunk.open(&piece).as_ref(), Ok(&plaintext));
        for (start, length) in [(0, 1), (16_383, 2), (50_000, 50_000), (99_999, 1), (5, 0)] {
            let range = chunk.open_range(&piece, start, length).unwrap();
            assert_eq!(range, plaintext[start..start + length], "{start} {length}");
        }
        assert!(chunk.open_range(&piece, 99_999, 2).is_err());
    }

    #[test]
    fn a_range_of_a_kept_chunk_opens_to_the_same_bytes_unless_they_were_cut_or_changed() {
        let plaintext: Vec<u8> = (0..100_000u32).map(|i| (i / 7) as u8).collect();
        let sealer = sealer(0);
        let mut writer = PackWriter::new(&sealer);
        writer.add(Role::Content, b"before it");
        let piece = writer.add(Role::Content, &plaintext);
        writer.close();
        let pack = writer.take_closed().remove(0);
        let kept = |bytes: Vec<u8>| KeptChunk::taken_in(pack.id(), InVec(bytes));
        let whole = kept(pack.bytes().to_vec());
        for (start, length) in [(0, 1), (16_383, 2), (50_000, 50_000), (99_999, 1), (5, 0), (0, 100_000)] {
            let range = whole.open_range(&piece, start, length).unwrap();
            assert_eq!(range, plaintext[start..start + length], "{start} {length}");
        }
        let wrong = Err(KeptError::Open(OpenError::WrongKey { id: pack.id() }));
        assert_eq!(whole.open_range(&piece, 99_999, 2), wrong);
        let mut changed = pack.bytes().to_vec();
        changed[piece.offset as usize + 20_000] ^= 1;
        assert_eq!(kept(changed.clone()).open_range(&piece, 0, 1).unwrap(), plaintext[..1]);
        assert_eq!(kept(changed).open_range(&piece, 16_384, 1), wrong);
        let cut = pack.bytes()[..piece.offset as usize + 20_000].to_vec();
        assert_eq!(kept(cut).open_range(&piece, 20_000, 1), wrong);
    }

    struct InVec(Vec<u8>);

    impl ReadAt for InVec {
        type Error = std::convert::Infallible;

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error> {
            self.0.as_slice().read_at(offset, buffer)
        }

        fn size(&self) -> u64 {
            self.0.len() as u64
        }
    }

    #[test]
    fn pages_of_one_pack_point_at_each_other_without_its_address() {
        let sealer = sealer(0);
        let mut writer = PackWriter::new(&sealer);
        let leaf = writer.add(Role::Content, b"leaf");
        let page = writer.add_page(&TwoRefs { left: leaf, right: None });
        let page = writer.resolve(page);
        let packs = writer.take_closed();
        let opened: TwoRefs = open_page(&packs[0], &page).unwrap();
        assert_eq!(opened.left.place, Place::Chunk(packs[0].id()));
        assert_eq!(packs[0].open(&opened.left).unwrap(), b"leaf");
    }

    #[test]
    fn a_page_points_into_a_full_pack_by_its_address() {
        let sealer = sealer(0);
        let mut writer = PackWriter::new(&sealer);
        let first = writer.add(Role::Content, &[1; 700_000]);
        let second = writer.add(Role::Content, &[2; 700_000]);
        let page = writer.add_page(&TwoRefs { left: first, right: Some(second) });
        let page = writer.resolve(page);
        let packs = writer.take_closed();
        assert_eq!(packs.len(), 2);
        let opened: TwoRefs = open_page(&packs[1], &page).unwrap();
        assert_eq!(opened.left.place, Place::Chunk(packs[0].id()));
        assert_eq!(packs[1].open(&opened.right.unwrap()).unwrap(), [2; 700_000]);
    }

    #[test]
    fn a_root_opens_with_its_own_key_and_the_record_key_finds_it() {
        let sealer = sealer(0);
        let (key, root) = sealer.seal_root(Version(1), b"root");
        assert_eq!(root.open_root(&key).as_deref(), Ok(b"root".as_slice()));
        let found = root.root_key(sealer.secrets()).unwrap();
        assert_eq!(root.open_root(&found).as_deref(), Ok(b"root".as_slice()));
        let (other, _) = sealer.seal_root(Version(2), b"root");
        assert_eq!(root.open_root(&other), Err(OpenError::WrongKey { id: root.id() }));
    }

    #[test]
    fn changed_bytes_are_reported_as_wrong_address() {
        let (_, chunk) = sealer(0).seal_chunk(Role::Content, b"bytes");
        let mut bytes = chunk.bytes().to_vec();
        bytes[0] ^= 1;
        let error = SealedChunk::verify(chunk.id(), bytes).unwrap_err();
        assert!(matches!(error, OpenError::WrongAddress { expected, .. } if expected == chunk.id()));
    }
}
