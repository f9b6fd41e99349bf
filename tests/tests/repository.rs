//! What the project says about itself is true: paths in README.md exist, the arrows between crates
//! hold, files stay readable.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A person reads a file in one sitting.
const LINES_PER_FILE: usize = 600;

/// Crate folder, and those of ours that it may use. A crate that is not listed fails the test.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("broker/wire", &[]),
    ("broker/coordinator", &[]),
    ("broker/log", &["ottla-proto"]),
    (
        "broker/raft",
        &["ottla-proto", "ottla-log", "ottla-simulation"],
    ),
    ("broker/peer", &["ottla-proto", "ottla-raft", "ottla-log"]),
    // Of tests only: raft's own, and the broker's simulation.
    ("broker/simulation", &["ottla-proto", "ottla-log"]),
    ("controller", &["ottla-proto"]),
    ("broker/connect", &["ottla-proto"]),
    ("broker/connect/worker", &["ottla-connect", "ottla-proto"]),
    (
        "broker",
        &[
            "ottla-proto",
            "ottla-log",
            "ottla-raft",
            "ottla-peer",
            "ottla-controller",
            "ottla-coordinator",
            "ottla-wire",
            "ottla-connect-worker",
            "ottla-simulation",
            "ottla-tests",
        ],
    ),
    ("loadtest", &[]),
    ("tests", &[]),
];

/// What a crate must never know.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "broker/coordinator",
        &["tokio", "rocksdb", "tonic", "kafka-protocol", "openraft"],
    ),
    ("broker/wire", &["tokio", "rocksdb", "tonic", "openraft"]),
    (
        "broker/log",
        &["tokio", "tonic", "kafka-protocol", "openraft"],
    ),
    ("broker/raft", &["rocksdb", "tonic", "kafka-protocol"]),
    ("broker/peer", &["rocksdb", "openraft", "kafka-protocol"]),
    (
        "broker/connect",
        &["tokio", "rocksdb", "tonic", "kafka-protocol", "openraft"],
    ),
    (
        "controller",
        &["rocksdb", "tonic", "kafka-protocol", "openraft"],
    ),
    ("proto", &["tokio", "rocksdb", "kafka-protocol", "openraft"]),
];

fn root() -> PathBuf {
    // As cargo says when it runs the test: one target directory may serve several checkouts.
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("run by cargo");
    Path::new(&package)
        .parent()
        .expect("tests/ lies in the repository")
        .to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Files below a folder, without what is built or installed.
fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a folder can be listed").path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules", "ottla-data"].contains(&name) {
                files(&path, extension, found);
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

/// Names in the dependency tables of a manifest: `name.workspace = true`, `name = ...`.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table.ends_with("dependencies");
            // [dependencies.name]
            if let Some((_, name)) = table.split_once("dependencies.") {
                names.insert(name.to_owned());
            }
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            names.insert(
                line.split(['.', '=', ' '])
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            );
        }
    }
    names
}

#[test]
fn dependencies_are_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\nb = \"1\"\n# c = \"1\"\n\n\
                    [dev-dependencies]\nd = { path = \"d\" }\n[dependencies.e]\nversion = \"1\"\n[[bench]]\nname = \"f\"\n";
    let names: Vec<String> = dependencies(manifest).into_iter().collect();
    assert_eq!(names, ["a", "b", "d", "e"]);
}

#[test]
fn crates_use_only_what_they_may() {
    let root = root();
    let mut wrong = Vec::new();
    for (folder, allowed) in ARROWS {
        for name in dependencies(&read(&root.join(folder).join("Cargo.toml"))) {
            if name.starts_with("ottla") && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{folder} depends on {name}"));
            }
        }
    }
    for (folder, forbidden) in FORBIDDEN {
        let names = dependencies(&read(&root.join(folder).join("Cargo.toml")));
        wrong.extend(
            forbidden
                .iter()
                .filter(|n| names.contains(**n))
                .map(|n| format!("{folder} depends on {n}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_crate_has_its_arrows() {
    let manifest = read(&root().join("Cargo.toml"));
    let members = manifest
        .split_once("members = [")
        .and_then(|(_, rest)| rest.split_once(']'));
    let members = members.expect("the workspace lists its members").0;
    let members: BTreeSet<&str> = members
        .split(',')
        .map(|m| m.trim().trim_matches('"'))
        .filter(|m| !m.is_empty())
        .collect();
    let listed: BTreeSet<&str> = ARROWS.iter().map(|(folder, _)| *folder).collect();
    assert_eq!(members, listed);
}

#[test]
fn files_stay_readable() {
    let mut sources = Vec::new();
    files(&root(), "rs", &mut sources);
    assert!(
        sources.len() > 50,
        "only {} sources were found",
        sources.len()
    );
    let long: Vec<String> = sources
        .iter()
        .map(|path| (path, read(path).lines().count()))
        .filter(|(_, lines)| *lines > LINES_PER_FILE)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(
        long.is_empty(),
        "longer than {LINES_PER_FILE} lines:\n{}",
        long.join("\n")
    );
}

/// A word in backticks that is meant as a path of the repository.
fn is_path(word: &str) -> bool {
    let shaped = word
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let first = word.split('/').next().unwrap_or_default();
    shaped && word.contains('/') && root().join(first).exists() && !first.is_empty() && first != "."
}

#[test]
fn paths_in_the_readme_exist() {
    let root = root();
    let readme = read(&root.join("README.md"));
    let prose: String = readme.split("```").step_by(2).collect();
    let quoted: Vec<&str> = prose.split('`').skip(1).step_by(2).collect();
    let paths: Vec<&str> = quoted.into_iter().filter(|word| is_path(word)).collect();
    assert!(
        paths.len() > 10,
        "README.md shows the way through the code: {paths:?}"
    );
    let missing: Vec<&str> = paths
        .into_iter()
        .filter(|path| !root.join(path).exists())
        .collect();
    assert!(missing.is_empty(), "README.md names {missing:?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = Vec::new();
    files(&root(), "md", &mut documents);
    let mut broken = Vec::new();
    for document in &documents {
        let folder = document.parent().expect("a file lies in a folder");
        for target in read(document)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next().map(str::to_owned))
        {
            let path = target.split('#').next().unwrap_or_default();
            let is_file =
                !path.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
            if is_file && !folder.join(path).exists() {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
