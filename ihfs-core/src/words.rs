//! Words that people read and write: the 24 words of the seed (BIP-39) and six fingerprint words of a key.

use bip39::{Language, Mnemonic};
use zeroize::Zeroizing;

use crate::crypto::derive::Seed;
use crate::crypto::secret::Secret;

/// Words of a recovery sheet: 256 bits of seed and 8 of checksum.
pub const SEED_WORDS: usize = 24;
/// Words of a fingerprint: 66 bits, each comparison a person can make over the phone.
pub const FINGERPRINT_WORDS: usize = 6;

/// Why words are no seed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// There must be [`SEED_WORDS`].
    #[error("{found} words, where a recovery sheet has {SEED_WORDS}")]
    WrongCount {
        /// How many there were.
        found: usize,
    },
    /// A word stands not in the list of BIP-39.
    #[error("word {place} is not one of the 2,048 words")]
    UnknownWord {
        /// Its place, counted from 1.
        place: usize,
    },
    /// The words are words, but not these or not in this order.
    #[error("the words do not fit together: one is wrong or two are swapped")]
    WrongChecksum,
}

impl Seed {
    /// The seed of 32 random bytes.
    pub fn from_random(random: [u8; 32]) -> Self {
        Self(Secret::new(random))
    }

    /// Its 24 words, for the recovery sheet.
    pub fn to_words(&self) -> Zeroizing<String> {
        let mnemonic = Mnemonic::from_entropy(self.0.expose()).expect("32 bytes make 24 words");
        Zeroizing::new(mnemonic.words().collect::<Vec<_>>().join(" "))
    }

    /// Reads 24 words; case and spaces between them do not matter.
    ///
    /// # Errors
    /// [`WordsError`].
    pub fn from_words(text: &str) -> Result<Self, WordsError> {
        let text = Zeroizing::new(text.to_lowercase());
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.len() != SEED_WORDS {
            return Err(WordsError::WrongCount { found: words.len() });
        }
        if let Some(place) = words.iter().position(|word| Language::English.find_word(word).is_none()) {
            return Err(WordsError::UnknownWord { place: place + 1 });
        }
        let joined = Zeroizing::new(words.join(" "));
        let mnemonic = Mnemonic::parse_in_normalized(Language::English, &joined)
            .map_err(|_| WordsError::WrongChecksum)?;
        let entropy = Zeroizing::new(mnemonic.to_entropy());
        Ok(Self(Secret::new(entropy.as_slice().try_into().expect("24 words have 32 bytes"))))
    }
}

/// Six words of a member key: `BLAKE3-derive-key("IHFS 1 fingerprint", key)`, 11 bits a word.
pub fn fingerprint_words(member_key: &[u8; 32]) -> String {
    let digest = blake3::derive_key("IHFS 1 fingerprint", member_key);
    let bits = u128::from_be_bytes(digest[..16].try_into().expect("16 of 32 bytes"));
    let list = Language::English.word_list();
    let word = |place: usize| list[(bits >> (128 - 11 * (place + 1))) as usize & 0x7ff];
    (0..FINGERPRINT_WORDS).map(word).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO_WORDS: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon \
        abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
        abandon abandon art";

    /// BIP-39's own vector for 32 zero bytes.
    #[test]
    fn words_are_those_of_bip_39() {
        assert_eq!(
            Seed::from_random([0; 32]).to_words().as_str(),
            ZERO_WORDS.split_whitespace().collect::<Vec<_>>().join(" ")
        );
        assert_eq!(Seed::from_words(&ZERO_WORDS.to_uppercase()).unwrap().0.expose(), &[0; 32]);
    }

    #[test]
    fn wrong_words_say_what_is_wrong() {
        assert_eq!(Seed::from_words("abandon").err(), Some(WordsError::WrongCount { found: 1 }));
        let typed = ZERO_WORDS.replace("art", "arte");
        assert_eq!(Seed::from_words(&typed).err(), Some(WordsError::UnknownWord { place: 24 }));
        let other = ZERO_WORDS.replace("art", "zoo");
        assert_eq!(Seed::from_words(&other).err(), Some(WordsError::WrongChecksum));
    }

    #[test]
    fn a_fingerprint_has_six_words_and_is_pinned() {
        assert_eq!(fingerprint_words(&[1; 32]).split('-').count(), FINGERPRINT_WORDS);
        assert_ne!(fingerprint_words(&[1; 32]), fingerprint_words(&[2; 32]));
    }
}
