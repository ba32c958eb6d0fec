//! What `stat` shows of any file that claims to be DICOM.

#![no_main]

use ihfs_core::dicom::Summary;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Summary::read(bytes);
});
