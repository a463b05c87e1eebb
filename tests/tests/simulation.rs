//! The simulation finds nothing in the product, and finds what is broken on purpose.

use std::process::Command;

use tests::sim::{self, Happened, Options, Totals};

/// Enough worlds that what happens in a hundredth of them happens.
const SEEDS: u64 = 400;

#[test]
fn fixed_seeds_are_clean_and_every_fault_happens_in_them() {
    let mut totals = Totals::default();
    for seed in 0..SEEDS {
        match sim::run(seed, &Options::default()) {
            Ok(summary) => totals.add(&summary.tally),
            Err(violation) => panic!("{violation:?}"),
        }
    }
    for what in Happened::ALL {
        // What needs several things to meet: a snapshot under way, or a node cut off while it has work to hand out.
        let least = match what {
            Happened::CrashInInstall | Happened::HeldBack => 1.0,
            // A cancel that comes when something was done, by one client of two.
            Happened::RolledBack => 5.0,
            // What people do at a time that suits it, and leaders that are two about one thing.
            Happened::ChildRefused => 1.0,
            Happened::Paused | Happened::TriedAgain => 5.0,
            Happened::AgentLostWrites | Happened::SnapshotInstalled => 10.0,
            _ => 20.0,
        };
        let percent = totals.percent(what);
        assert!(
            percent >= least,
            "{what:?} happens in {percent} % of the worlds only"
        );
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
    let caught = [
        ": acknowledged at",
        ": same_state at",
        ": same_answer at",
        ": halted at",
        ": panic at",
    ];
    assert!(caught.iter().any(|how| found.contains(how)), "{found}");
}

#[test]
fn a_build_that_drops_the_fencing_is_caught() {
    let found = broken_build("fault-skip-fencing");
    assert!(found.contains(": at_most_once at"), "{found}");
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
