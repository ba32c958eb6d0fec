//! Real files, if the variable `IHFS_CORPUS` names a folder of them.

#![allow(clippy::disallowed_methods, reason = "real files are read for the tests alone")]

use std::fs;
use std::path::{Path, PathBuf};

use super::{checked_pieces, content, plan};
use crate::cut::{PieceKind, cut};
use crate::dicom::Summary;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn corpus() -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Some(folder) = std::env::var_os("IHFS_CORPUS") {
        files(Path::new(&folder), &mut found);
    }
    found.sort();
    found
}

/// The file with one more meta element, which moves all that follows.
fn with_longer_header(bytes: &[u8]) -> Option<Vec<u8>> {
    let meta = (bytes.get(128..134)? == b"DICM\x02\x00").then_some(132)?;
    // Meta elements are written in explicit VR little endian whatever follows.
    let element = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01";
    let mut longer = bytes.to_vec();
    (bytes[meta + 2..meta + 6] == *b"\x00\x00UL").then_some(())?;
    longer.splice(meta + 12..meta + 12, *element);
    Some(longer)
}

#[test]
fn real_files_are_covered_and_keep_their_pixel_pieces() {
    let (mut plain, mut with_content, mut told) = (0, 0, 0);
    for path in corpus() {
        let bytes = fs::read(&path).unwrap();
        checked_pieces(&bytes);
        let Ok(before) = cut(&bytes[..]);
        let Some(header) = before.header_size() else {
            plain += 1;
            continue;
        };
        let beginning = &bytes[..header as usize];
        told += usize::from(Summary::read(beginning).is_some());
        if let Some(longer) = with_longer_header(&bytes) {
            assert_eq!(plan(&longer).header_size(), Some(header + 14), "{}", path.display());
            assert_eq!(content(&bytes), content(&longer), "{}", path.display());
            with_content += usize::from(before.pieces().any(|piece| piece.kind != PieceKind::Header));
        }
    }
    println!("plain: {plain}, with stable content: {with_content}, with summary: {told}");
}
