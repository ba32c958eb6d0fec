//! What the flow tests share: a network of one real node in this process, over loopback sockets, and people on
//! it with homes of their own.

pub mod dicom;
pub mod liar;
pub mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ihfs_client::client::Client;
use ihfs_client::home::Home;
use ihfs_client::join::{Joined, Whereabouts, join};
use ihfs_client::location::Location;
use ihfs_client::openings::InProcess;
use ihfs_client::progress::Silent;
use ihfs_client::put::Put;
use ihfs_client::share::ShareOptions;
use ihfs_core::crypto::derive::Seed;
use ihfs_core::crypto::keyring::Keyring;
use ihfs_core::ledger::identity::Role;
use ihfs_core::ledger::operation::GrantPurpose;
use ihfs_core::members::Handle;
use ihfs_node::admin::init::{Founding, found};
use ihfs_node::admin::invite::{INVITE_LIFE, invite};
use ihfs_node::run::{NodeHandle, Options, start};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The passphrase of everybody in tests.
pub const PASSPHRASE: &[u8] = b"a passphrase of tests";

/// A network of one hospital, `st-mary`, with one node.
pub struct Solo {
    folder: TempDir,
    runtime: Option<Runtime>,
    node: Option<NodeHandle>,
}

/// Somebody with a home on this machine.
pub struct Person {
    /// The folder.
    pub home: Home,
    /// The 24 words, as bytes.
    pub seed: [u8; 32],
    /// What joining said.
    pub joined: Joined,
}

impl Default for Solo {
    fn default() -> Self {
        Self::new()
    }
}

impl Solo {
    /// Founds a network and starts its node.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut founding = Founding::solo(folder.path().join("node"), "st-mary", ihfs_client::client::now());
        // Small disks run these tests too.
        founding.store.reserve_mib = 1;
        found(&founding).expect("a network is founded");
        let mut solo = Self { folder, runtime: None, node: None };
        solo.start();
        solo
    }

    /// A folder that goes with the network.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The node's data.
    pub fn node_path(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    /// Starts the node.
    pub fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let node = runtime.block_on(start(Options::new(self.node_path()))).expect("the node starts");
        self.runtime = Some(runtime);
        self.node = Some(node);
    }

    /// Ends the node in good order.
    pub fn stop(&mut self) {
        if let (Some(node), Some(runtime)) = (self.node.take(), self.runtime.take()) {
            runtime.block_on(node.shutdown());
        }
    }

    /// Ends the node and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Registers somebody.
    pub fn join(&self, name: &str, role: Role) -> Person {
        let expires = ihfs_client::client::now().plus_millis(INVITE_LIFE);
        let invitation = invite(&self.node_path(), role, name, expires).expect("an invitation");
        let home = Home::at(self.folder.path().join(name));
        let seed: [u8; 32] = *blake3_of(name).as_bytes();
        let joined = join(&home, &Seed::from_random(seed), PASSPHRASE, &invitation).expect("joins");
        Person { home, seed, joined }
    }
}

impl Drop for Solo {
    fn drop(&mut self) {
        self.stop();
    }
}

fn blake3_of(text: &str) -> ihfs_core::ids::Digest {
    ihfs_core::ids::Digest::of(text.as_bytes())
}

impl Person {
    /// The handle.
    pub fn handle(&self) -> Handle {
        self.joined.handle.as_deref().expect("joined by an invitation").parse().expect("a handle")
    }

    /// The 24 words' seed.
    pub fn seed(&self) -> Seed {
        Seed::from_random(self.seed)
    }

    /// Connects with this device's keys.
    pub fn connect(&self) -> Client {
        connect(&self.home, PASSPHRASE)
    }

    /// What a recovery sheet says besides the words.
    pub fn whereabouts(&self) -> Whereabouts {
        let network = self.home.network().expect("set up").parse().expect("whole");
        Whereabouts { chain: network.chain, nodes: network.nodes, handle: None }
    }
}

/// Connects with the keys of a home.
pub fn connect(home: &Home, passphrase: &[u8]) -> Client {
    let keyring = Keyring::open(&home.keyring().expect("set up"), passphrase).expect("opens");
    Client::connect(home, Arc::new(keyring), Box::<InProcess>::default()).expect("connects")
}

/// A patient with one file in a folder, and a doctor.
pub struct Scene {
    /// The network.
    pub solo: Solo,
    /// The patient, who has `/ct/slice`.
    pub ann: Person,
    /// The doctor.
    pub lee: Person,
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

impl Scene {
    /// Founds the network and puts the file.
    pub fn new() -> Self {
        let solo = Solo::new();
        let (ann, lee) = (solo.join("ann", Role::Patient), solo.join("dr.lee", Role::Practitioner));
        let scene = Self { solo, ann, lee };
        scene.put(&scene.ann.connect(), "/ct/slice", 1);
        scene
    }

    /// Puts 100,000 bytes of a seed.
    pub fn put(&self, client: &Client, to: &str, seed: u8) {
        let file = self.solo.path().join("local");
        fs::write(&file, bytes_of(seed, 100_000)).unwrap();
        client.put(&[Put::path(file, at(to))], &Silent).unwrap();
    }

    /// Shares the patient's path with the doctor.
    pub fn share(&self, path: &str, options: &ShareOptions) {
        let patient = self.ann.connect();
        let person = patient.look_up(&self.lee.handle()).unwrap();
        patient.share(&at(path), &person, options).unwrap();
    }

    /// What somebody reads at a path, by a new opening where it is shared.
    pub fn read(&self, person: &Person, path: &str) -> Option<Vec<u8>> {
        read_as(&person.connect(), path)
    }

    /// The patient's label and path as the doctor writes it.
    pub fn shared(&self, path: &str) -> String {
        format!("//{}/{path}", self.ann.handle())
    }
}

/// The bytes at a path, if they can be had.
pub fn read_as(client: &Client, path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    client.cat(&at(path), 0, u64::MAX, &mut bytes).ok()?;
    Some(bytes)
}

/// A location from text.
pub fn at(text: &str) -> Location {
    Location::parse(text.as_bytes()).expect("a location")
}

/// Treatment, for reading, until it is revoked.
pub fn for_treatment() -> ShareOptions {
    ShareOptions {
        not_before: None,
        until: None,
        purpose: GrantPurpose::Treatment,
        write: false,
        snapshot: false,
        from_now: false,
        label: None,
    }
}

/// The same bytes in every run, unlike those of another seed.
pub fn bytes_of(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let key = [seed; 32];
    let mut state =
        u64::from_le_bytes(key[..8].try_into().expect("8 of 32")).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in &mut bytes {
        // xorshift64*: speed matters, quality does not.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        *byte = (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8;
    }
    bytes
}
