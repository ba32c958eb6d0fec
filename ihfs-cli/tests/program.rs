//! The program as a script meets it, before anything is set up.

use std::process::{Command, Output, Stdio};

fn ihfs(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ihfs")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn the_version_is_told() {
    let told = ihfs(&["--version"]);
    assert!(told.status.success());
    assert!(String::from_utf8_lossy(&told.stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_unknown_verb_is_a_usage_error() {
    assert_eq!(ihfs(&["frobnicate"]).status.code(), Some(2));
}

#[test]
fn a_home_without_an_identity_is_not_found_and_says_what_to_do() {
    let ls = ihfs(&["ls", "/", "--home", "/nonexistent/ihfs", "--passphrase-file", "/dev/null"]);
    assert_eq!(ls.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ls.stderr).contains("ihfs init"));
}
