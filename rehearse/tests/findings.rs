//! What test files are told: their problems, what holds and what does not, and what was never taken. With `UPDATE=1` the
//! answers are written anew; review the difference.

#![allow(
    clippy::disallowed_methods,
    reason = "the test reads files; what it tests does not"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rehearse::{Coverage, Suite};

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/findings")
        .join(name)
}

/// The tests of a playbook, both of them files here.
fn suite(playbook: &str, tests: &str) -> Result<Suite, playbook::Problems> {
    let text = fs::read_to_string(at(playbook)).unwrap();
    let compiled = playbook::compile(&text).unwrap_or_else(|problems| panic!("{problems}"));
    Suite::read(&compiled.manifest, &text, &fs::read_to_string(at(tests)).unwrap())
}

fn check(name: &str, found: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(at(name), found).unwrap();
    } else {
        let expected = fs::read_to_string(at(name)).unwrap();
        assert_eq!(
            expected, found,
            "{name} differs (first what is expected, then what is)"
        );
    }
}

/// Carries every case out and writes down what came of it.
fn played(suite: &Suite, coverage: &mut Coverage) -> String {
    let mut text = String::new();
    for number in 0..suite.cases().count() {
        let report = suite.run(number, coverage).unwrap();
        let took = catalogue::format_duration(report.took_ms);
        let _ = writeln!(
            text,
            "== {}: {} after {took} {}",
            report.name, report.status, report.reason
        );
        if let Some(problems) = report.findings {
            let _ = writeln!(text, "{problems}");
        }
    }
    text
}

/// What becomes of all cases of a file, of its branches and of what it says in vain.
fn check_cases(playbook: &str, tests: &str, expected: &str) {
    let suite = suite(playbook, tests).unwrap_or_else(|problems| panic!("{problems}"));
    let mut coverage = suite.coverage();
    let mut text = played(&suite, &mut coverage);
    for branch in coverage.branches() {
        let (step, way, line) = (&branch.step, &branch.way, branch.place.line);
        let _ = writeln!(text, "{step} {way} (line {line}): {}", branch.cases);
    }
    if let Some(unused) = suite.unused(&coverage) {
        let _ = write!(text, "\nunused:\n{unused}");
    }
    check(expected, &text);
    assert_eq!(
        played(&suite, &mut suite.coverage()),
        played(&suite, &mut coverage)
    );
}

fn check_problems(playbook: &str, tests: &str, expected: &str) {
    let problems = suite(playbook, tests).expect_err("it has problems");
    check(expected, &problems.to_string());
}

#[test]
fn a_test_file_hears_of_all_its_problems_at_once() {
    check_problems("playbook.yaml", "problems.yaml", "problems.txt");
}

#[test]
fn so_it_does_of_what_people_say() {
    check_problems("gates.playbook.yaml", "gates-problems.yaml", "gates-problems.txt");
}

#[test]
fn a_case_hears_of_everything_that_does_not_hold() {
    check_cases("playbook.yaml", "findings.yaml", "findings.txt");
}

#[test]
fn people_answer_as_the_engine_lets_them() {
    check_cases("gates.playbook.yaml", "gates.yaml", "gates.txt");
}

#[test]
fn what_undoes_and_tells_has_fakes_people_and_ends() {
    check_cases("undo.playbook.yaml", "undo.yaml", "undo.txt");
}

#[test]
fn what_a_test_says_of_steps_that_never_come_and_deeds_that_nobody_can_do_is_a_problem() {
    check_problems("undo.playbook.yaml", "undo-problems.yaml", "undo-problems.txt");
}

#[test]
fn what_comes_in_starts_a_run_and_lets_it_go_on() {
    check_cases("events.playbook.yaml", "events.yaml", "events.txt");
}

#[test]
fn what_never_comes_in_is_a_problem() {
    check_problems(
        "events.playbook.yaml",
        "events-problems.yaml",
        "events-problems.txt",
    );
    check_problems(
        "undo.playbook.yaml",
        "events-problems.yaml",
        "no-events-problems.txt",
    );
}

#[test]
fn every_code_is_explained_and_every_explanation_is_of_a_code() {
    let sources = [
        include_str!("../src/compare.rs"),
        include_str!("../src/suite.rs"),
        include_str!("../src/heard.rs"),
        include_str!("../src/people.rs"),
        include_str!("../src/read/incoming.rs"),
        include_str!("../src/read/meanwhile.rs"),
        include_str!("../src/read/named.rs"),
        include_str!("../src/read/people.rs"),
        include_str!("../src/read/mod.rs"),
        include_str!("../src/read/expect.rs"),
        include_str!("../src/read/fields.rs"),
        include_str!("../src/read/given.rs"),
    ];
    for known in rehearse::codes::ALL {
        let quoted = format!("{:?}", known.code);
        assert!(
            sources.iter().any(|source| source.contains(&quoted)),
            "{quoted} is never given"
        );
    }
    for source in sources {
        for part in source.split("\"T0").skip(1) {
            let code = format!("T0{}", &part[..3]);
            assert!(
                rehearse::codes::explain(&code).is_some(),
                "{code} is not explained"
            );
        }
    }
}
