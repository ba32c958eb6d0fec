//! Devices of a member: listed, and removed with the 24 words, which begins a new generation.

use ihfs_core::crypto::derive::Seed;
use ihfs_core::crypto::envelope::EnvelopeError;
use ihfs_core::crypto::keyring::{GenerationSecrets, Keyring, KeyringError};
use ihfs_core::ids::{DeviceId, MemberId};
use ihfs_core::ledger::identity::{MemberSealingKey, Role};
use ihfs_core::ledger::operation::{Operation, RemoveDevice, SealedSecrets};
use ihfs_core::ledger::state::{DeviceEntry, StateKey};
use ihfs_core::members::HandleProof;
use ihfs_core::words::fingerprint_words;
use serde_bytes::ByteBuf;

use crate::client::Client;
use crate::submit::SubmitError;
use crate::view::{View, ViewError, decode_entry};

/// Why a device was not removed, or the secrets of a new generation not had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The ledger's word was not had.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The words are another member's.
    #[error("these are not the 24 words of this member")]
    OtherWords,
    /// The member has no such device.
    #[error("no device of yours begins with {device:?}")]
    UnknownDevice {
        /// The device.
        device: DeviceId,
    },
    /// Without a device nobody could open the next generation.
    #[error("this is your only device")]
    LastDevice,
    /// A device's sealing key is unusable, or the secrets are not for this device.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The keyring in memory is damaged.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The ledger did not take it.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// Who one is.
#[derive(Clone, Debug, serde::Serialize)]
pub struct WhoAmI {
    /// The member.
    pub member: String,
    /// The handle.
    pub handle: Option<String>,
    /// The role; none where no node was asked.
    pub role: Option<Role>,
    /// Six words of the member key.
    pub fingerprint: String,
    /// This device.
    pub device: String,
    /// The network.
    pub chain: String,
}

/// A device.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DeviceReport {
    /// Its key.
    pub device: String,
    /// Whether it is the one that asks.
    pub this_device: bool,
    /// The block that added it.
    pub added: u64,
}

/// What removing a device came to.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DeviceRemoved {
    /// The device.
    pub device: String,
    /// Whether it was the one that asked: it can do nothing more.
    pub this_device: bool,
    /// The generation that began.
    pub generation: u32,
    /// How many records began a new epoch.
    pub records: u64,
}

impl WhoAmI {
    /// What the keys and the folder alone tell, without a node.
    pub fn offline(keys: &Keyring, handle: Option<&HandleProof>) -> Self {
        Self {
            member: keys.member.to_string(),
            handle: handle.map(|own| own.handle.to_string()),
            role: None,
            fingerprint: fingerprint_words(&keys.member_key),
            device: keys.device_id().to_string(),
            chain: keys.chain.to_string(),
        }
    }
}

impl Client {
    /// Who this is.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn whoami(&self) -> Result<WhoAmI, ViewError> {
        let role = Some(self.own_entry()?.role);
        Ok(WhoAmI { role, ..WhoAmI::offline(&self.keys, self.handle.as_ref()) })
    }

    /// The devices of this member.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn devices(&self) -> Result<Vec<DeviceReport>, ViewError> {
        let own = self.keys.device_id();
        let entries = self.device_entries()?;
        let report = |(id, entry): &(DeviceId, DeviceEntry)| DeviceReport {
            device: id.to_string(),
            this_device: *id == own,
            added: entry.added.0,
        };
        Ok(entries.iter().map(report).collect())
    }

    fn device_entries(&self) -> Result<Vec<(DeviceId, DeviceEntry)>, ViewError> {
        let member = self.own_entry()?;
        let keys: Vec<StateKey> = member.devices.iter().map(|id| StateKey::Device(*id)).collect();
        let mut devices = Vec::new();
        for (id, bytes) in member.devices.iter().zip(self.view.entries(&keys)?) {
            if let Some(entry) = decode_entry(bytes)? {
                devices.push((*id, entry));
            }
        }
        Ok(devices)
    }

    /// Removes a device: a new generation begins, sealed to each that remains, and every record a new epoch.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn remove_device(&self, seed: &Seed, device: DeviceId) -> Result<DeviceRemoved, DeviceError> {
        let member_key = seed.member_key();
        if MemberId::of_key(&member_key.public()) != self.member() {
            return Err(DeviceError::OtherWords);
        }
        let entry = self.own_entry()?;
        let devices = self.device_entries()?;
        if !devices.iter().any(|(id, _)| *id == device) {
            return Err(DeviceError::UnknownDevice { device });
        }
        if devices.len() == 1 {
            return Err(DeviceError::LastDevice);
        }
        let records = self.own_lists()?.records.count;
        let generation = entry.generation.next();
        let next = GenerationSecrets::of(seed, generation);
        let remaining = devices.iter().filter(|(id, _)| *id != device);
        let seal = |(id, entry): &(DeviceId, DeviceEntry)| {
            let sealed = next.seal_to(self.chain(), *id, &entry.sealing, &mut rand::rng())?;
            Ok(SealedSecrets { device: *id, sealed: ByteBuf::from(sealed) })
        };
        let secrets = remaining.map(seal).collect::<Result<Vec<_>, EnvelopeError>>()?;
        let sealing = MemberSealingKey::sign(&member_key, generation, next.sealing.public());
        let remove = Operation::RemoveDevice(Box::new(RemoveDevice { device, sealing, secrets }));
        let this_device = device == self.keys.device_id();
        match self.submit_signed(&self.sign_with(&member_key, rand::random(), vec![remove])) {
            // Nodes answer this device only as a guest from that block on; the ledger says that it was done.
            Err(_) if this_device && self.is_removed(device)? => {}
            done => {
                done?;
            }
        }
        Ok(DeviceRemoved { device: device.to_string(), this_device, generation: generation.0, records })
    }

    /// Whether the ledger has removed the device, asked as a guest asks.
    fn is_removed(&self, device: DeviceId) -> Result<bool, ViewError> {
        let view = View::new(self.link.clone(), self.view.trust(), true);
        let entry: Option<DeviceEntry> = view.entry(StateKey::Device(device))?;
        Ok(entry.is_some_and(|entry| entry.removed.is_some()))
    }

    /// Secrets of generations that began since this device's keyring was sealed: the ledger has them, sealed to
    /// this device.
    pub(crate) fn catch_up(&mut self) -> Result<(), DeviceError> {
        let newest = self.keys.newest().map(|secrets| secrets.generation);
        let live = self.own_entry()?.generation;
        let Some(mut newest) = newest.filter(|newest| *newest < live) else { return Ok(()) };
        let mut keys = Keyring::from_secret_bytes(&self.keys.to_secret_bytes())?;
        let device = keys.device_id();
        while newest < live {
            newest = newest.next();
            let sealed: Option<ByteBuf> = self.view.entry(StateKey::DeviceSecrets(device, newest))?;
            let Some(sealed) = sealed else { return Ok(()) };
            let secrets =
                GenerationSecrets::open(self.chain(), device, &keys.device_sealing, newest, &sealed)?;
            keys.generations.push(secrets);
        }
        self.keys = std::sync::Arc::new(keys);
        self.has_learned = true;
        Ok(())
    }
}
