//! The walls of the house: who may depend on whom, and who may name what. docs/architecture.md draws them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The pure crates, and what each may use of this workspace.
const PURE: &[(&str, &[&str])] = &[
    ("catalogue", &[]),
    ("playbook", &["catalogue"]),
    ("engine", &["catalogue", "playbook"]),
    ("rehearse", &["catalogue", "engine", "playbook"]),
];

/// What a pure crate must not reach, at any depth.
const IMPURE: &[&str] = &[
    "async-std",
    "aws-lc-rs",
    "hyper",
    "mio",
    "raft",
    "rand",
    "rand_core",
    "rustls",
    "smol",
    "socket2",
    "sysinfo",
    "tempfile",
    "tokio",
    "tonic",
];

/// Crates of this workspace that a crate must not depend on directly.
const NEVER: &[(&str, &[&str])] = &[
    ("agent", &["engine", "playbook", "coordinator", "cli", "rehearse"]),
    ("coordinator", &["agent", "cli", "rehearse"]),
    (
        "certs",
        &[
            "agent",
            "catalogue",
            "cli",
            "coordinator",
            "engine",
            "playbook",
            "proto",
        ],
    ),
    (
        "proto",
        &[
            "agent",
            "catalogue",
            "certs",
            "cli",
            "coordinator",
            "engine",
            "playbook",
        ],
    ),
];

#[test]
fn pure_crates_reach_nothing_impure() {
    for (package, _) in PURE {
        let reached = tree(package);
        let impure: Vec<&str> = IMPURE
            .iter()
            .copied()
            .filter(|name| reached.contains(*name))
            .collect();
        assert!(
            impure.is_empty(),
            "{package} reaches {impure:?}; see `cargo tree -p {package} -e normal`"
        );
    }
}

#[test]
fn dependencies_point_one_way() {
    let members = members();
    for (package, allowed) in PURE {
        let own: BTreeSet<&str> = members.keys().map(String::as_str).collect();
        let used: Vec<&String> = members[*package]
            .dependencies
            .iter()
            .filter(|name| own.contains(name.as_str()) && !allowed.contains(&name.as_str()))
            .collect();
        assert!(
            used.is_empty(),
            "{package} may use {allowed:?} of this workspace, but uses {used:?}"
        );
    }
    for (package, never) in NEVER {
        let used: Vec<&&str> = never
            .iter()
            .filter(|name| members[*package].dependencies.contains(**name))
            .collect();
        assert!(used.is_empty(), "{package} must not depend on {used:?}");
    }
}

#[test]
fn only_the_agent_and_the_demo_carry_yara() {
    let with_yara: Vec<String> = members()
        .into_iter()
        .filter(|(_, member)| member.dependencies.contains("yara-x"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(with_yara, ["agent"], "yara-x costs minutes to build");
}

#[test]
fn pure_crates_forbid_clocks_and_files_in_their_own_clippy_toml() {
    for (package, _) in PURE {
        let path = root().join(package).join("clippy.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for banned in [
            "std::time::SystemTime::now",
            "std::collections::HashMap",
            "std::fs::",
            "std::env::",
        ] {
            assert!(text.contains(banned), "{} does not ban {banned}", path.display());
        }
    }
}

#[test]
fn pure_sources_name_no_clock_file_network_or_hash_map() {
    for (package, _) in PURE {
        let banned = [
            "std::fs",
            "std::net::Tcp",
            "std::net::Udp",
            "ToSocketAddrs",
            "std::env",
            "SystemTime::now",
            "Instant::now",
            "HashMap",
            "HashSet",
        ];
        for (file, line, text) in code_lines(&root().join(package).join("src")) {
            for name in banned {
                assert!(!text.contains(name), "{}:{line} names {name}", file.display());
            }
        }
    }
}

#[test]
fn only_raft_names_rafts_types() {
    inside_coordinator_only(
        &["raft"],
        &["eraftpb", "raft::prelude", "RawNode<", "use ::raft", "use raft::"],
    );
}

#[test]
fn only_the_edges_name_the_wires_types() {
    // `app.rs` only joins the services to their listeners; the three of `raft/` are its transport.
    let edges = [
        "api",
        "hub",
        "raft/transport.rs",
        "raft/message.rs",
        "raft/peers.rs",
        "app.rs",
    ];
    inside_coordinator_only(&edges, &["proto::v1", "use proto"]);
}

#[test]
fn only_storage_and_evidence_write_files() {
    // The configuration is read, never written; identities are written by `certs`.
    let writes = [
        "File::create",
        "fs::write",
        "fs::rename",
        "fs::remove_",
        "create_dir",
        "OpenOptions",
        "set_len(",
    ];
    inside_coordinator_only(&["storage", "evidence"], &writes);
}

#[test]
fn the_commands_reach_coordinator_and_agent_for_the_demo_only() {
    let source = root().join("cli/src");
    for (file, line, text) in code_lines(&source) {
        let inside = file.strip_prefix(&source).unwrap_or(&file);
        // The two hidden programs are dispatched in one place each.
        if inside.starts_with("demo")
            || ["lib.rs", "processes.rs", "main.rs"]
                .iter()
                .any(|name| inside == Path::new(name))
        {
            continue;
        }
        for name in [
            "use agent::",
            "use coordinator::",
            " ::agent::",
            " ::coordinator::",
            " coordinator::",
        ] {
            assert!(
                !text.contains(name),
                "{}:{line} reaches into another program: {text}",
                file.display()
            );
        }
    }
}

/// Nothing in coordinator/src outside `allowed` has one of these texts in its code.
fn inside_coordinator_only(allowed: &[&str], texts: &[&str]) {
    let source = root().join("coordinator/src");
    for (file, line, text) in code_lines(&source) {
        let inside = file.strip_prefix(&source).unwrap_or(&file);
        if allowed.iter().any(|place| inside.starts_with(place)) {
            continue;
        }
        for name in texts {
            assert!(
                !text.contains(name),
                "{}:{line} has {name:?}, which belongs to {allowed:?} only",
                file.display()
            );
        }
    }
}

/// Lines of code (no comments, no test modules) of all Rust files below the folder.
fn code_lines(folder: &Path) -> Vec<(PathBuf, usize, String)> {
    let mut files = Vec::new();
    collect(folder, &mut files);
    assert!(!files.is_empty(), "no source in {}", folder.display());
    let mut lines = Vec::new();
    for file in files {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a source file can be read");
        for (number, line) in text.lines().enumerate() {
            // Tests come last in a file.
            if line.trim() == "#[cfg(test)]" {
                break;
            }
            let code = line.split("//").next().unwrap_or_default();
            if !code.trim().is_empty() {
                lines.push((file.clone(), number + 1, code.to_owned()));
            }
        }
    }
    lines
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

struct Member {
    dependencies: BTreeSet<String>,
}

/// The workspace's members with their normal dependencies.
fn members() -> BTreeMap<String, Member> {
    let text = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: serde_json::Value = serde_json::from_str(&text).expect("cargo's metadata is JSON");
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let name_of = |value: &serde_json::Value| value["name"].as_str().unwrap_or_default().to_owned();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().cloned().unwrap_or_default();
            let normal = dependencies
                .iter()
                .filter(|dependency| dependency["kind"].is_null());
            (
                name_of(package),
                Member {
                    dependencies: normal.map(name_of).collect(),
                },
            )
        })
        .collect()
}

/// Every crate that the package reaches with its default features, on this platform.
fn tree(package: &str) -> BTreeSet<String> {
    let text = cargo(&[
        "tree", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}",
    ]);
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn cargo(args: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(args)
        .args(["--offline"])
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(
        output.status.success(),
        "cargo {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are in the workspace")
        .to_owned()
}
