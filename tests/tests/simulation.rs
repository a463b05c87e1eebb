//! The simulation finds nothing in the product, and finds what is broken on purpose.

use std::process::Command;

use tests::sim::{self, Options};

#[test]
fn fixed_seeds_are_clean() {
    for seed in 0..40 {
        if let Err(violation) = sim::run(seed, &Options::default()) {
            panic!("{violation:?}");
        }
    }
}

#[test]
fn equal_seeds_give_equal_worlds() {
    let first = sim::run(7, &Options::default());
    assert_eq!(first, sim::run(7, &Options::default()));
    assert_ne!(first, sim::run(8, &Options::default()));
}

#[test]
fn a_build_that_skips_the_fsync_is_caught() {
    let found = broken_build("fault-skip-fsync");
    assert!(
        found.contains("acknowledged") || found.contains("same_state") || found.contains("panic"),
        "{found}"
    );
}

#[test]
fn a_build_that_drops_the_fencing_is_caught() {
    let found = broken_build("fault-skip-fencing");
    assert!(found.contains("at_most_once"), "{found}");
}

/// Builds the simulation with a fault and gives what it prints of the first failing seed among 1,000.
fn broken_build(feature: &str) -> String {
    // Both faults build the same executable: one after the other.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let output = Command::new(env!("CARGO"))
        .args([
            "run",
            "--quiet",
            "--locked",
            "-p",
            "tests",
            "--bin",
            "sim",
            "--features",
            feature,
        ])
        .args(["--", "--seeds", "1000", "--fail-fast"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find(|line| line.starts_with("seed "));
    match line {
        Some(line) => line.to_owned(),
        None => panic!(
            "not caught within 1,000 seeds:\n{said}\n{}",
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}
