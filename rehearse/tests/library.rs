//! Every playbook that comes with Cordon passes its tests, and they take all its branches.

#![allow(
    clippy::disallowed_methods,
    reason = "the test reads files; what it tests does not"
)]

use std::path::Path;

use rehearse::Suite;

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../playbook")
        .join(name)
}

#[test]
fn every_case_passes_and_every_branch_is_taken() {
    let (suites, wrong) = all_tried("library");
    assert_eq!(suites, playbook::library::all().len());
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn so_it_is_with_the_examples() {
    let (suites, wrong) = all_tried("examples");
    assert!(suites > 0);
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// How many playbooks a folder has, and what is wrong with them and their tests; empty: nothing.
fn all_tried(name: &str) -> (usize, String) {
    let mut paths: Vec<_> = std::fs::read_dir(folder(name))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let file = path.file_name().and_then(|name| name.to_str()).expect("a name");
            file.ends_with(".yaml") && !file.ends_with(".test.yaml")
        })
        .collect();
    paths.sort();
    let wrong = paths.iter().map(|path| tried(path)).collect();
    (paths.len(), wrong)
}

/// What is wrong with a playbook and its tests; empty: nothing.
fn tried(path: &Path) -> String {
    let read =
        |path: &Path| std::fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    let name = path.display();
    let text = read(path);
    let manifest = match playbook::compile(&text) {
        Ok(compiled) => compiled.manifest,
        Err(problems) => return format!("{name}:\n{problems}\n"),
    };
    let suite = match Suite::read(&manifest, &text, &read(&path.with_extension("test.yaml"))) {
        Ok(suite) => suite,
        Err(problems) => return format!("tests of {name}:\n{problems}\n"),
    };
    let mut coverage = suite.coverage();
    let mut wrong = String::new();
    for number in 0..suite.cases().count() {
        let report = suite.run(number, &mut coverage).expect("a case");
        if let Some(problems) = report.findings {
            wrong += &format!("{name}: {}:\n{problems}\n", report.name);
        }
    }
    if let Some(unused) = suite.unused(&coverage) {
        wrong += &format!("{name}:\n{unused}\n");
    }
    for branch in coverage.missed() {
        let line = branch.place.line;
        wrong += &format!("{name}:{line}: {}: {} is never taken\n", branch.step, branch.way);
    }
    wrong
}
