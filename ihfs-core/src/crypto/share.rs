//! Splitting a release key among custodians: Shamir's secret sharing over GF(256) (Shamir 1979).

use blahaj::{Share, Sharks};
use rand_core::CryptoRng;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::derive::{Committed, commitment};
use crate::crypto::seal::StreamKey;
use crate::crypto::secret::Secret;
use crate::ids::{Digest, FixedBytes};

/// Bytes of a share: its place and one byte for each byte of the key.
const SHARE_SIZE: usize = 33;

/// R: the key that custodians release together. It seals one envelope.
#[derive(Debug)]
pub struct ReleaseKey(Secret<[u8; 32]>);

impl StreamKey for ReleaseKey {
    fn stream_key(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

/// One custodian's piece of a release key.
#[derive(zeroize::ZeroizeOnDrop)]
pub struct KeyShare([u8; SHARE_SIZE]);

/// Why shares do not make the key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// Fewer than the threshold, or the same one twice.
    #[error("{found} key shares, where {wanted} different ones are needed")]
    TooFew {
        /// How many different ones there were.
        found: usize,
        /// How many are needed.
        wanted: usize,
    },
    /// The key that they make is not the one that the ledger commits to.
    #[error("the key shares do not make the key that the grant names")]
    WrongKey,
}

impl ReleaseKey {
    /// A fresh key.
    pub fn random(random: &mut impl CryptoRng) -> Self {
        let mut key = [0; 32];
        random.fill_bytes(&mut key);
        let secret = Secret::new(key);
        key.zeroize();
        Self(secret)
    }

    /// What the ledger keeps of it.
    pub fn digest(&self) -> Digest {
        commitment(Committed::ReleaseKey, self.0.expose())
    }

    /// Splits it so that any `threshold` of `count` shares make it, and fewer tell nothing.
    pub fn split(&self, threshold: u8, count: u8, random: &mut impl CryptoRng) -> Vec<KeyShare> {
        assert!(0 < threshold && threshold <= count, "a threshold of 1 to all");
        let shares = Sharks(threshold).dealer_rng(self.0.expose(), random);
        shares.take(count.into()).map(|share| KeyShare::from_share(&share)).collect()
    }

    /// Puts the key together from at least `threshold` shares, each checked by its digest before.
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn combine(shares: &[KeyShare], threshold: u8, digest: Digest) -> Result<Self, ShareError> {
        let mut parts: Vec<Share> = shares.iter().map(KeyShare::to_share).collect();
        parts.sort_by_key(|part| part.x.0);
        parts.dedup_by_key(|part| part.x.0);
        let too_few = ShareError::TooFew { found: parts.len(), wanted: threshold.into() };
        let secret = Zeroizing::new(Sharks(threshold).recover(&parts).map_err(|_| too_few)?);
        let bytes =
            Zeroizing::new(<[u8; 32]>::try_from(secret.as_slice()).map_err(|_| ShareError::WrongKey)?);
        let key = Self(Secret::new(*bytes));
        if key.digest() == digest { Ok(key) } else { Err(ShareError::WrongKey) }
    }
}

impl KeyShare {
    /// What the ledger keeps of it: names a bad share.
    pub fn digest(&self) -> Digest {
        commitment(Committed::KeyShare, &self.0)
    }

    fn from_share(share: &Share) -> Self {
        let bytes = Zeroizing::new(Vec::from(share));
        Self(bytes.as_slice().try_into().expect("the secret has 32 bytes"))
    }

    fn to_share(&self) -> Share {
        Share::try_from(self.0.as_slice()).expect("a share has more than 2 bytes")
    }
}

impl std::fmt::Debug for KeyShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyShare(#{}, …)", self.0[0])
    }
}

/// Custodians store shares and hand them on; both go through the codec.
impl Serialize for KeyShare {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for KeyShare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(FixedBytes::<SHARE_SIZE>).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn five() -> (ReleaseKey, Vec<KeyShare>) {
        let random = &mut ChaCha20Rng::from_seed([4; 32]);
        let key = ReleaseKey::random(random);
        let shares = key.split(3, 5, random);
        (key, shares)
    }

    #[test]
    fn any_three_of_five_make_the_key() {
        let (key, shares) = five();
        for skipped in 0..5 {
            let mut some: Vec<KeyShare> = shares.iter().map(|share| KeyShare(share.0)).collect();
            some.remove(skipped);
            some.remove(0);
            let made = ReleaseKey::combine(&some, 3, key.digest()).unwrap();
            assert_eq!(made.0.expose(), key.0.expose());
        }
    }

    #[test]
    fn two_of_three_needed_are_refused_also_when_one_comes_twice() {
        let (key, shares) = five();
        let too_few = Some(ShareError::TooFew { found: 2, wanted: 3 });
        assert_eq!(ReleaseKey::combine(&shares[..2], 3, key.digest()).err(), too_few);
        let twice = [KeyShare(shares[0].0), KeyShare(shares[1].0), KeyShare(shares[0].0)];
        assert_eq!(ReleaseKey::combine(&twice, 3, key.digest()).err(), too_few);
    }

    /// Two shares of a 3-of-5 split fit every key: for each guess of the third there is a polynomial.
    #[test]
    fn two_shares_fit_every_key() {
        let (_, shares) = five();
        let mut seen = std::collections::BTreeSet::new();
        for guess in 0..=255 {
            let mut third = KeyShare(shares[2].0);
            third.0[1] = guess;
            let parts = [shares[0].to_share(), shares[1].to_share(), third.to_share()];
            seen.insert(Sharks(3).recover(&parts).unwrap()[0]);
        }
        assert_eq!(seen.len(), 256);
    }

    #[test]
    fn a_changed_share_is_known_by_its_digest_and_makes_no_key() {
        let (key, mut shares) = five();
        let digest = shares[0].digest();
        shares[0].0[5] ^= 1;
        assert_ne!(shares[0].digest(), digest);
        let made = ReleaseKey::combine(&shares[..3], 3, key.digest());
        assert_eq!(made.err(), Some(ShareError::WrongKey));
    }
}
