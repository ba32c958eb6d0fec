//! What every cut must hold, and how DICOM files of each class are cut.

use dicom_dictionary_std::uids;
use proptest::prelude::*;

use self::write::{File, Syntax};
use super::*;

mod corpus;
pub(crate) mod write;

const MIB: usize = 1 << 20;

/// Bytes that differ everywhere, so that moved pieces cannot pass for unmoved ones.
fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn plan(bytes: &[u8]) -> CutPlan {
    let Ok(plan) = cut(bytes);
    plan
}

/// The cut, after it was checked to cover the file in order with pieces of allowed length.
fn checked_pieces(bytes: &[u8]) -> Vec<Piece> {
    let plan = plan(bytes);
    let mut at = 0;
    for piece in plan.pieces() {
        assert_eq!(piece.start, at);
        assert!(piece.length > 0 && u64::from(piece.length) <= PIECE_BYTES_MAX, "{piece:?}");
        at += u64::from(piece.length);
    }
    assert_eq!(at, bytes.len() as u64);
    plan.pieces().collect()
}

fn lengths(bytes: &[u8], kind: PieceKind) -> Vec<usize> {
    checked_pieces(bytes)
        .iter()
        .filter(|piece| piece.kind == kind)
        .map(|piece| piece.length as usize)
        .collect()
}

/// The bytes of all pieces behind the header.
fn content(bytes: &[u8]) -> Vec<&[u8]> {
    let pieces = checked_pieces(bytes).into_iter().filter(|piece| piece.kind != PieceKind::Header);
    pieces.map(|piece| &bytes[piece.start as usize..][..piece.length as usize]).collect()
}

fn is_plain(bytes: &[u8]) -> bool {
    plan(bytes) == CutPlan::plain(bytes.len() as u64)
}

/// A CT-like slice: 16 bits, one sample.
fn slice(syntax: Syntax, description: &str) -> Vec<u8> {
    let mut file = File::part10(syntax, syntax.uid());
    file.identify(description);
    file.image(512, 512, 1);
    file.pixels(&noise(512 * 512 * 2));
    file.bytes
}

#[test]
fn a_file_that_is_not_dicom_is_cut_every_mib() {
    let bytes = noise(2 * MIB + 5);
    assert_eq!(lengths(&bytes, PieceKind::Content), [MIB, MIB, 5]);
    assert_eq!(lengths(&noise(2 * MIB), PieceKind::Content), [MIB, MIB]);
    assert_eq!(checked_pieces(&[]), []);
}

#[test]
fn the_plan_of_a_tebibyte_is_a_few_words() {
    struct Zeros;
    impl ReadAt for Zeros {
        type Error = std::convert::Infallible;
        fn read_at(&self, _: u64, buffer: &mut [u8]) -> Result<usize, Self::Error> {
            buffer.fill(0);
            Ok(buffer.len())
        }
        fn size(&self) -> u64 {
            1 << 40
        }
    }
    let Ok(plan) = cut(&Zeros);
    assert_eq!(plan.regions.len(), 1);
    assert_eq!(plan.pieces().count(), 1 << 20);
}

#[test]
fn a_failed_read_is_reported() {
    struct Broken;
    impl ReadAt for Broken {
        type Error = &'static str;
        fn read_at(&self, _: u64, _: &mut [u8]) -> Result<usize, Self::Error> {
            Err("broken")
        }
        fn size(&self) -> u64 {
            1000
        }
    }
    assert_eq!(cut(&Broken), Err("broken"));
}

#[test]
fn a_source_that_ends_before_its_size_is_cut_plainly() {
    struct Short;
    impl ReadAt for Short {
        type Error = std::convert::Infallible;
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Self::Error> {
            slice(Syntax::ExplicitLittle, "x")[..200].read_at(offset, buffer)
        }
        fn size(&self) -> u64 {
            1000
        }
    }
    let Ok(plan) = cut(&Short);
    assert_eq!(plan, CutPlan::plain(1000));
}

#[test]
fn the_header_stands_apart_in_every_syntax() {
    for syntax in Syntax::ALL {
        let bytes = slice(syntax, "head");
        let pieces = checked_pieces(&bytes);
        assert_eq!(pieces.len(), 2, "{syntax:?}");
        assert!(content(&bytes) == [noise(512 * 512 * 2)], "{syntax:?}");
        assert!(plan(&bytes).header_size() == Some(u64::from(pieces[0].length)));
    }
}

#[test]
fn a_changed_tag_leaves_every_piece_of_pixel_data() {
    for syntax in Syntax::ALL {
        let before = slice(syntax, "head");
        let after = slice(syntax, "head, with contrast, second attempt");
        assert_ne!(before.len(), after.len());
        assert!(content(&before) == content(&after), "{syntax:?}");
    }
}

#[test]
fn a_header_beyond_a_pack_is_cut_every_mib() {
    let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    file.identify("x");
    file.element(0x0009_1001, b"OB", &noise(MIB + 100));
    file.image(4, 4, 1);
    file.pixels(&noise(32));
    let headers = lengths(&file.bytes, PieceKind::Header);
    assert_eq!((headers.len(), headers[0]), (2, MIB));
    assert_eq!(lengths(&file.bytes, PieceKind::Frame), [32]);
}

#[test]
fn data_sets_without_a_preamble_are_cut_too() {
    for syntax in Syntax::ALL {
        let mut file = File::bare(syntax);
        file.identify("x");
        file.image(512, 512, 1);
        file.pixels(&noise(512 * 512 * 2));
        assert_eq!(lengths(&file.bytes, PieceKind::Frame), [512 * 512 * 2], "{syntax:?}");
    }
}

#[test]
fn a_bare_data_set_with_tags_out_of_order_is_no_dicom() {
    let mut file = File::bare(Syntax::ImplicitLittle);
    file.image(512, 512, 1);
    file.identify("x");
    assert!(is_plain(&file.bytes));
}

#[test]
fn small_frames_are_grouped_behind_the_first() {
    let frame = 100 * 100 * 2;
    let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    file.image(100, 100, 120);
    file.pixels(&noise(frame * 120));
    let group = MIB / frame * frame;
    assert_eq!(lengths(&file.bytes, PieceKind::Frame), [frame, group, group, frame * 119 - 2 * group]);
}

#[test]
fn large_frames_are_cut_from_where_they_begin() {
    let frame = 1000 * 1000 * 2;
    let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    file.image(1000, 1000, 3);
    file.pixels(&noise(frame * 3));
    assert_eq!(lengths(&file.bytes, PieceKind::Frame), [MIB, frame - MIB].repeat(3));
}

#[test]
fn a_value_that_fits_a_pack_stays_whole() {
    let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    file.image(10, 10, 100);
    file.pixels(&noise(20_000));
    assert_eq!(lengths(&file.bytes, PieceKind::Frame), [20_000]);
}

#[test]
fn pixel_data_that_is_not_whole_frames_is_content() {
    let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    file.image(512, 512, 1);
    file.pixels(&noise(MIB + 10));
    assert_eq!(lengths(&file.bytes, PieceKind::Content), [MIB, 10]);
}

#[test]
fn a_wrong_number_of_frames_changes_no_boundary() {
    let file = |frames| {
        let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
        file.image(512, 512, frames);
        file.pixels(&noise(512 * 512 * 2 * 8));
        file.bytes
    };
    assert!(content(&file(8)) == content(&file(1_000_000)));
}

#[test]
fn elements_behind_the_pixel_data_are_a_piece() {
    let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    file.image(512, 512, 1);
    file.pixels(&noise(512 * 512 * 2));
    file.element(0xFFFC_FFFC, b"OB", &[0; 100]);
    assert_eq!(lengths(&file.bytes, PieceKind::Tail), [112]);
}

#[test]
fn a_document_stands_apart_from_its_header() {
    let document = |title: &str| {
        let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
        file.identify(title);
        file.element(0x0042_0011, b"OB", &noise(3 * MIB));
        file.element(0x0042_0012, b"LO", b"application/pdf ");
        file.bytes
    };
    assert_eq!(lengths(&document("a"), PieceKind::Content), [MIB; 3]);
    assert!(content(&document("a")) == content(&document("a longer title")));
}

#[test]
fn a_file_without_pixel_data_is_all_header() {
    let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    file.identify("x");
    assert_eq!(lengths(&file.bytes, PieceKind::Header), [file.bytes.len()]);
}

#[test]
fn a_deflated_data_set_is_opaque_behind_its_meta_group() {
    let mut file = File::part10(Syntax::ExplicitLittle, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN);
    let header = file.bytes.len();
    file.bytes.extend(noise(MIB + 1));
    assert_eq!(lengths(&file.bytes, PieceKind::Header), [header]);
    assert_eq!(lengths(&file.bytes, PieceKind::Content), [MIB, 1]);
}

/// An encapsulated file of these fragments, with an offset table of these entries.
fn encapsulated(description: &str, table: &[u32], fragments: &[usize]) -> Vec<u8> {
    let mut file = File::part10(Syntax::ExplicitLittle, uids::JPEG_BASELINE8_BIT);
    file.identify(description);
    file.image(512, 512, 1);
    file.fragments(table, fragments.iter().map(|length| noise(*length)));
    file.bytes
}

#[test]
fn fragments_are_frames_where_no_table_says_otherwise() {
    let bytes = encapsulated("x", &[], &[400_000, 400_000, 400_000, 400_000]);
    let item = 400_008;
    assert_eq!(lengths(&bytes, PieceKind::Frame), [8 + item, 2 * item, item + 8]);
    assert!(content(&bytes)[1].starts_with(&[0xFE, 0xFF, 0x00, 0xE0]));
}

#[test]
fn the_offset_table_says_where_frames_begin() {
    let (small, item) = (300_000, 300_008);
    let table = [0, 2 * item, 4 * item];
    let bytes = encapsulated("x", &table, &[small; 6]);
    let item = item as usize;
    assert_eq!(lengths(&bytes, PieceKind::Frame), [8 + 12 + 2 * item, 2 * item, 2 * item + 8]);
}

#[test]
fn a_table_that_points_beside_the_fragments_is_not_believed() {
    let fragments = [300_000; 6];
    let without = lengths(&encapsulated("x", &[], &fragments), PieceKind::Frame);
    for table in [&[0, 5][..], &[8], &[0, 600_016, 300_008], &[0, u32::MAX]] {
        let mut with = lengths(&encapsulated("x", table, &fragments), PieceKind::Frame);
        with[0] -= 4 * table.len();
        assert_eq!(with, without, "{table:?}");
    }
}

#[test]
fn a_frame_beyond_a_mib_is_cut_from_where_it_begins() {
    let bytes = encapsulated("x", &[], &[1_500_000, 2_000, 1_500_000, 2_000]);
    let large = [MIB, 1_500_008 - MIB];
    assert_eq!(
        lengths(&bytes, PieceKind::Frame),
        [MIB, 1_500_016 - MIB, 2_008, large[0], large[1], 2_008 + 8]
    );
}

#[test]
fn a_changed_tag_leaves_every_compressed_frame() {
    for table in [&[][..], &[0, 300_008]] {
        let before = encapsulated("head", table, &[300_000; 2]);
        let after = encapsulated("head, with contrast", table, &[300_000; 2]);
        assert!(content(&before) == content(&after));
    }
}

#[test]
fn elements_behind_compressed_frames_are_a_piece() {
    let mut bytes = encapsulated("x", &[], &[300_000; 2]);
    bytes.extend([0; 50]);
    assert_eq!(lengths(&bytes, PieceKind::Tail), [50]);
}

#[test]
fn an_extended_offset_table_keeps_frames_on_fragments() {
    let mut file = File::part10(Syntax::ExplicitLittle, uids::JPEG_BASELINE8_BIT);
    file.image(512, 512, 3);
    let offsets: Vec<u8> =
        [0u64, 700_008, 1_400_016].iter().flat_map(|offset| offset.to_le_bytes()).collect();
    file.element(0x7FE0_0001, b"OV", &offsets);
    file.fragments(&[], (0..3).map(|_| noise(700_000)));
    assert_eq!(lengths(&file.bytes, PieceKind::Frame), [700_016, 700_008, 700_016]);
}

/// Sequences of undefined and defined length, items of both kinds, an icon with fragments, an unknown
/// sequence in implicit VR.
fn nested(syntax: Syntax) -> Vec<u8> {
    let mut file = File::part10(syntax, syntax.uid());
    file.identify("x");
    file.sequence(0x0008_1115, b"SQ", |file| {
        file.item(|file| {
            file.element(0x0020_000E, b"UI", b"1.9\0");
            file.sequence(0x0008_1199, b"SQ", |file| {
                file.item(|file| file.element(0x0008_1150, b"UI", b"1.2\0"))
            });
            file.sequence(0x7FE0_0010, b"OB", |file| file.defined_item(&noise(31)));
        });
        file.defined_item(&[]);
    });
    file.element(0x0008_1140, b"SQ", &[]);
    let outer = std::mem::replace(&mut file.syntax, syntax);
    file.sequence(0x0009_1001, b"UN", |file| {
        file.syntax = syntax.inside_unknown();
        file.item(|file| file.element(0x0009_1002, b"LO", b"abc "));
    });
    file.syntax = outer;
    file.image(512, 512, 1);
    file.pixels(&noise(512 * 512 * 2));
    file.bytes
}

#[test]
fn pixel_data_is_found_behind_nested_sequences_and_not_inside() {
    for syntax in [Syntax::ExplicitLittle, Syntax::ImplicitLittle] {
        assert!(content(&nested(syntax)) == [noise(512 * 512 * 2)], "{syntax:?}");
    }
}

#[test]
fn nesting_beyond_the_limit_is_cut_plainly() {
    fn nest(file: &mut File, depth: usize) {
        if depth > 0 {
            file.sequence(0x0040_A730, b"SQ", |file| file.item(|file| nest(file, depth - 1)));
        }
    }
    for (depth, plainly) in [(20, false), (31, false), (33, true), (500, true)] {
        let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
        nest(&mut file, depth);
        file.image(10, 10, 1);
        file.pixels(&noise(200));
        assert_eq!(is_plain(&file.bytes), plainly, "{depth}");
    }
}

#[test]
fn values_of_odd_length_are_read_as_they_stand() {
    let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    file.element(0x0010_0010, b"PN", b"odd");
    file.image(301, 301, 1);
    file.pixels(&noise(301 * 301 * 2 + 1));
    assert_eq!(lengths(&file.bytes, PieceKind::Frame), [301 * 301 * 2 + 1]);
}

#[test]
fn a_data_set_in_another_syntax_than_declared_is_found() {
    for syntax in Syntax::ALL {
        let mut file = File::part10(syntax, uids::JPEG_BASELINE8_BIT);
        file.identify("x");
        file.image(512, 512, 1);
        file.pixels(&noise(512 * 512 * 2));
        assert_eq!(lengths(&file.bytes, PieceKind::Frame), [512 * 512 * 2], "{syntax:?}");
    }
}

#[test]
fn a_data_set_that_begins_with_a_private_group_is_read_as_declared() {
    for syntax in Syntax::ALL {
        let mut file = File::part10(syntax, syntax.uid());
        file.element(0x3F03_0010, b"LO", b"CREATOR ");
        assert_eq!(plan(&file.bytes).header_size(), Some(file.bytes.len() as u64), "{syntax:?}");
    }
}

#[test]
fn a_wrong_group_length_does_no_harm() {
    let mut bytes = slice(Syntax::ExplicitLittle, "x");
    let before = plan(&bytes);
    for length in [0, 1, 1000, u32::MAX] {
        bytes[140..144].copy_from_slice(&u32::to_le_bytes(length));
        assert_eq!(plan(&bytes), before, "{length}");
    }
}

#[test]
fn a_preamble_that_lies_is_cut_plainly() {
    let mut bytes = noise(3 * MIB);
    bytes[128..132].copy_from_slice(b"DICM");
    assert!(is_plain(&bytes));
    assert!(is_plain(&bytes[..132 + 7]));
}

#[test]
fn huge_lengths_do_no_harm() {
    for length in [0x8000_0000, 0xFFFF_FFFE, u32::MAX] {
        for tag in [0x0009_1001u32, 0x7FE0_0010] {
            let mut file = File::part10(Syntax::ExplicitLittle, uids::EXPLICIT_VR_LITTLE_ENDIAN);
            file.identify("x");
            file.header(tag, b"OB", length);
            file.bytes.extend(noise(1000));
            checked_pieces(&file.bytes);
        }
    }
}

#[test]
fn every_truncation_is_cut() {
    let small = |syntax| {
        let mut bytes = nested(syntax);
        bytes.truncate(bytes.len() - 512 * 512 * 2 + 20);
        bytes
    };
    for bytes in [
        small(Syntax::ExplicitLittle),
        small(Syntax::ImplicitLittle),
        encapsulated("x", &[0, 28, 56], &[20, 20, 20]),
        encapsulated("x", &[], &[20, 20, 20]),
    ] {
        for length in 0..bytes.len() {
            checked_pieces(&bytes[..length]);
            crate::dicom::Summary::read(&bytes[..length]);
        }
    }
}

#[test]
fn a_truncated_file_keeps_the_pieces_that_it_has() {
    let bytes = encapsulated("x", &[0, 700_008], &[700_000; 2]);
    let whole = content(&bytes);
    assert!(content(&bytes[..bytes.len() - 100_000])[0] == whole[0]);
}

/// Small files of each class, to be damaged.
fn samples() -> Vec<Vec<u8>> {
    let mut short = nested(Syntax::ExplicitLittle);
    short.truncate(2000);
    let mut bare = File::bare(Syntax::ImplicitLittle);
    bare.identify("x");
    bare.image(10, 10, 1);
    bare.pixels(&noise(200));
    vec![
        short,
        nested(Syntax::ImplicitLittle),
        slice(Syntax::ExplicitBig, "x"),
        bare.bytes,
        encapsulated("x", &[0, 28, 56], &[20, 20, 20]),
        encapsulated("x", &[], &[70_000, 20, 1_100_000]),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_covered(bytes in proptest::collection::vec(any::<u8>(), 0..3000), magic: bool) {
        let mut bytes = bytes;
        if magic && bytes.len() > 132 {
            bytes[128..132].copy_from_slice(b"DICM");
            bytes.splice(132..132, *b"\x08\x00\x05\x00CS");
        }
        checked_pieces(&bytes);
        crate::dicom::Summary::read(&bytes);
    }

    #[test]
    fn damaged_dicom_is_covered(
        sample in 0usize..6,
        changes in proptest::collection::vec((0usize..1500, any::<u8>()), 1..8),
        cut_at in any::<proptest::sample::Index>(),
        truncate: bool,
    ) {
        let mut bytes = samples().swap_remove(sample);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if truncate {
            bytes.truncate(cut_at.index(bytes.len()));
        }
        checked_pieces(&bytes);
        crate::dicom::Summary::read(&bytes);
    }
}
