//! The smallest DICOM files that a reader accepts: Part 10, explicit VR little endian (PS3.5, PS3.10).

/// One image of 16 bits a pixel.
#[derive(Clone, Debug)]
pub struct Slice<'a> {
    /// Patient's Name (0010,0010).
    pub patient: &'a str,
    /// Instance Number (0020,0013).
    pub number: u16,
    /// Rows and Columns.
    pub side: u16,
    /// Pixel Data, `2 · side²` bytes.
    pub pixels: &'a [u8],
}

impl Slice<'_> {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut meta = Vec::new();
        short(&mut meta, (0x0002, 0x0010), b"UI", b"1.2.840.10008.1.2.1\0");
        let mut file = vec![0; 128];
        file.extend_from_slice(b"DICM");
        let length = u32::try_from(meta.len()).expect("a few elements");
        short(&mut file, (0x0002, 0x0000), b"UL", &length.to_le_bytes());
        file.extend_from_slice(&meta);
        short(&mut file, (0x0008, 0x0060), b"CS", b"CT");
        short(&mut file, (0x0010, 0x0010), b"PN", &even(self.patient));
        short(&mut file, (0x0020, 0x000d), b"UI", b"1.2.826.0.1.3680043.2.1125.1\0\0");
        short(&mut file, (0x0020, 0x0013), b"IS", &even(&self.number.to_string()));
        short(&mut file, (0x0028, 0x0002), b"US", &1u16.to_le_bytes());
        short(&mut file, (0x0028, 0x0010), b"US", &self.side.to_le_bytes());
        short(&mut file, (0x0028, 0x0011), b"US", &self.side.to_le_bytes());
        short(&mut file, (0x0028, 0x0100), b"US", &16u16.to_le_bytes());
        long(&mut file, (0x7fe0, 0x0010), b"OW", self.pixels);
        file
    }
}

fn even(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.len() % 2 == 1 {
        bytes.push(b' ');
    }
    bytes
}

fn tag(file: &mut Vec<u8>, (group, element): (u16, u16), vr: &[u8; 2]) {
    file.extend_from_slice(&group.to_le_bytes());
    file.extend_from_slice(&element.to_le_bytes());
    file.extend_from_slice(vr);
}

/// An element whose length has 16 bits.
fn short(file: &mut Vec<u8>, at: (u16, u16), vr: &[u8; 2], value: &[u8]) {
    tag(file, at, vr);
    file.extend_from_slice(&u16::try_from(value.len()).expect("short").to_le_bytes());
    file.extend_from_slice(value);
}

/// An element whose length has 32 bits.
fn long(file: &mut Vec<u8>, at: (u16, u16), vr: &[u8; 2], value: &[u8]) {
    tag(file, at, vr);
    file.extend_from_slice(&[0, 0]);
    file.extend_from_slice(&u32::try_from(value.len()).expect("below 4 GiB").to_le_bytes());
    file.extend_from_slice(value);
}
