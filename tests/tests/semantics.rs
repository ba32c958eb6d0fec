//! docs/SEMANTICS.md names a test for each paragraph; each of them must exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every name in backticks on a line that begins with `test:`.
fn named(page: &str) -> BTreeSet<&str> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("test:"));
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Names of all tests in Rust files below a folder.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap_or_default();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                tests_below(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.extend(tests_in(&fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Names of functions with the attribute of a test: another function of that name shows nothing.
fn tests_in(text: &str) -> Vec<String> {
    let mut is_test = false;
    let mut names = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
            names.extend(rest.split(['(', '<']).next().map(str::to_owned));
            is_test = false;
        }
    }
    names
}

#[test]
fn every_test_that_the_semantics_name_exists() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(top.join("docs/SEMANTICS.md")).unwrap();
    let mut found = BTreeSet::new();
    tests_below(top, &mut found);
    let named = named(&page);
    assert!(named.len() > 50, "the page names its tests");
    let missing: Vec<_> = named.iter().filter(|name| !found.contains(**name)).collect();
    assert!(missing.is_empty(), "no such test: {missing:?}");
}

#[test]
fn a_function_that_is_no_test_is_none() {
    let text = "fn helper() {}\n#[test]\n#[ignore]\nfn shown() {\n    fn inner() {}\n}\n#[tokio::test(flavor = \"x\")]\nasync fn flow() {}";
    assert_eq!(tests_in(text), ["shown", "flow"]);
}
