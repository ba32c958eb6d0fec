//! Who may link whom: the arrows between our crates, and the one place of each outside library.
//!
//! Read from the manifests, so that it holds without any further tool.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each crate of the house may name of the others. Nothing points back.
const ARROWS: &[(&str, &[&str])] = &[
    ("ihfs-core", &[]),
    ("ihfs-proto", &["ihfs-core"]),
    ("ihfs-net", &["ihfs-core", "ihfs-proto"]),
    ("ihfs-client", &["ihfs-core", "ihfs-proto", "ihfs-net"]),
    ("ihfs-node", &["ihfs-core", "ihfs-proto", "ihfs-net"]),
    ("ihfs-cli", &["ihfs-core", "ihfs-proto", "ihfs-net", "ihfs-client"]),
    ("ihfs-tests", &["ihfs-core", "ihfs-proto", "ihfs-net", "ihfs-client", "ihfs-node", "ihfs-cli"]),
    ("ihfs-benches", &["ihfs-core", "ihfs-proto", "ihfs-net", "ihfs-client", "ihfs-node", "ihfs-cli"]),
];

/// Libraries that only these crates may name.
const HOMES: &[(&str, &[&str])] = &[
    ("libp2p", &["ihfs-net"]),
    ("rustls", &["ihfs-net"]),
    ("yamux", &["ihfs-net"]),
    ("redb", &["ihfs-node", "ihfs-client"]),
    ("fuser", &["ihfs-fuse"]),
    ("aes-gcm", &["ihfs-core"]),
    ("argon2", &["ihfs-core"]),
    ("bip39", &["ihfs-core"]),
    ("blahaj", &["ihfs-core"]),
    ("ed25519-dalek", &["ihfs-core"]),
    ("hpke", &["ihfs-core"]),
    ("x25519-dalek", &["ihfs-core"]),
    ("prost-build", &["ihfs-proto"]),
    ("arc-malachitebft-core-consensus", &["ihfs-node"]),
    ("arc-malachitebft-core-types", &["ihfs-node"]),
    ("tokio", &["ihfs-net", "ihfs-client", "ihfs-node", "ihfs-cli", "ihfs-tests", "ihfs-benches"]),
    ("anyhow", &["ihfs-core", "ihfs-node", "ihfs-gateway"]),
    ("clap", &["ihfs-cli", "ihfs-node"]),
];

fn house() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What `cargo metadata` says of each crate of the workspace: the names that its manifest lists, of every kind.
fn manifests() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = std::process::Command::new(cargo)
        .args(["metadata", "--offline", "--no-deps", "--format-version=1"])
        .current_dir(house())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            (name(package), package["dependencies"].as_array().unwrap().iter().map(name).collect())
        })
        .collect()
}

/// All crates of the house that `from` links, also through others.
fn reachable<'a>(manifests: &'a BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(next) = open.pop() {
        for name in manifests.get(next).into_iter().flatten() {
            if manifests.contains_key(name) && reached.insert(name.as_str()) {
                open.push(name);
            }
        }
    }
    reached
}

#[test]
fn every_crate_names_only_those_below_it() {
    let manifests = manifests();
    for (name, dependencies) in &manifests {
        let arrows = ARROWS.iter().find(|(of, _)| of == name);
        let (_, allowed) = arrows.unwrap_or_else(|| panic!("{name} stands in no layer"));
        for dependency in dependencies.iter().filter(|dependency| manifests.contains_key(*dependency)) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not name {dependency}");
        }
    }
    assert_eq!(manifests.len(), ARROWS.len(), "a layer without a crate");
}

/// The compiler's proof that a storage node cannot decrypt.
#[test]
fn a_node_links_nothing_that_sees_plaintext() {
    let manifests = manifests();
    let linked = reachable(&manifests, "ihfs-node");
    assert_eq!(linked, BTreeSet::from(["ihfs-core", "ihfs-net", "ihfs-proto"]));
}

#[test]
fn each_outside_library_is_named_at_home_only() {
    for (name, dependencies) in manifests() {
        for (library, homes) in HOMES {
            // Benches stand a part beside the library under it.
            let at_home = name == "ihfs-benches" || homes.contains(&name.as_str());
            assert!(at_home || !dependencies.contains(*library), "{name} must not name {library}");
        }
    }
}

/// No clock, no files, no runtime: what the core links cannot bring them in through its own manifest.
#[test]
fn the_core_names_no_runtime_and_no_random_numbers_of_its_own() {
    let manifest = std::fs::read_to_string(house().join("ihfs-core/Cargo.toml")).unwrap();
    let linked = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    for banned in ["tokio", "futures", "rand", "getrandom", "tempfile", "rustix", "tracing"] {
        let named = linked.lines().any(|line| line.split(['.', ' ', '=']).next() == Some(banned));
        assert!(!named, "ihfs-core must not name {banned}");
    }
    assert!(house().join("ihfs-core/clippy.toml").is_file());
}

/// Versions stand once, in the root manifest.
#[test]
fn every_dependency_takes_its_version_from_the_root() {
    for entry in std::fs::read_dir(house()).unwrap() {
        let path = entry.unwrap().path().join("Cargo.toml");
        let is_member = path.is_file() && !path.parent().unwrap().ends_with("fuzz");
        if is_member {
            check_versions(&path);
        }
    }
}

fn check_versions(path: &Path) {
    let manifest = std::fs::read_to_string(path).unwrap();
    let mut in_dependencies = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        } else if in_dependencies && line.contains('=') && !line.starts_with('#') {
            let says = line.contains(".workspace = true") || line.contains("workspace = true");
            assert!(says, "{}: {line}", path.display());
        }
    }
}
