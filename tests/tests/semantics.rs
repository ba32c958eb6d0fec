//! docs/SEMANTICS.md names a test for each paragraph; each of them must exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every name in backticks on a line that begins with `test:`.
fn named(page: &str) -> BTreeSet<&str> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("test:"));
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Names of all functions in Rust files below a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap_or_default();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                functions(&path, found);
            }
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_test_that_the_semantics_name_exists() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(top.join("docs/SEMANTICS.md")).unwrap();
    let mut functions_found = BTreeSet::new();
    functions(top, &mut functions_found);
    let named = named(&page);
    assert!(named.len() > 50, "the page names its tests");
    let missing: Vec<_> = named.iter().filter(|name| !functions_found.contains(**name)).collect();
    assert!(missing.is_empty(), "no such test: {missing:?}");
}
