//! Every dependency's licence is one that `deny.toml` allows, and none of the banned crates is reached.

use std::collections::BTreeSet;
use std::process::Command;

fn deny() -> toml::Table {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deny.toml");
    std::fs::read_to_string(path)
        .expect("deny.toml is read")
        .parse()
        .expect("deny.toml is TOML")
}

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

/// The licences of an SPDX expression hold if every `AND` part has an allowed `OR` alternative.
fn holds(expression: &str, allowed: &BTreeSet<String>) -> bool {
    // Old manifests write `A/B` for `A OR B`.
    let expression =
        spdx::Expression::parse_mode(expression, spdx::ParseMode::LAX).expect("an SPDX expression");
    expression.evaluate(|requirement| allowed.contains(&requirement.to_string()))
}

#[test]
fn every_licence_is_allowed() {
    let deny = deny();
    let allowed: BTreeSet<String> = deny["licenses"]["allow"]
        .as_array()
        .expect("licenses.allow is a list")
        .iter()
        .map(|licence| licence.as_str().expect("a licence is text").to_owned())
        .collect();
    let mut refused = Vec::new();
    let mut seen = 0;
    for package in metadata()["packages"].as_array().expect("packages") {
        seen += 1;
        let name = package["name"].as_str().expect("a name");
        match package["license"].as_str() {
            Some(licence) if holds(licence, &allowed) => {}
            Some(licence) => refused.push(format!("{name}: {licence}")),
            None => refused.push(format!("{name}: no licence in its manifest")),
        }
    }
    assert!(seen > 100, "cargo metadata listed only {seen} packages");
    assert!(
        refused.is_empty(),
        "not allowed by deny.toml:\n{}",
        refused.join("\n")
    );
}

#[test]
fn no_banned_crate_is_reached() {
    let deny = deny();
    let banned: BTreeSet<&str> = deny["bans"]["deny"]
        .as_array()
        .expect("bans.deny is a list")
        .iter()
        .map(|ban| ban["crate"].as_str().expect("a crate's name"))
        .collect();
    let metadata = metadata();
    let reached: Vec<&str> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .filter_map(|package| package["name"].as_str())
        .filter(|name| banned.contains(name))
        .collect();
    assert!(reached.is_empty(), "banned by deny.toml: {reached:?}");
}

#[test]
fn the_check_can_fail() {
    let allowed = BTreeSet::from(["MIT".to_owned()]);
    assert!(holds("MIT OR Apache-2.0", &allowed));
    assert!(holds("MIT/Apache-2.0", &allowed));
    assert!(!holds("GPL-3.0-only", &allowed));
    assert!(!holds("MIT AND GPL-3.0-only", &allowed));
}
