//! Bad playbooks and what is said of them: `problems/*.yaml`, each beside its expected text. Set `UPDATE=1` to
//! write the texts anew, and read the difference.

#![expect(clippy::disallowed_methods, reason = "a test reads its cases from files")]

use std::path::Path;

#[test]
fn every_problem_is_told_with_its_place() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/problems");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder is read")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 6);
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("the playbook is read");
        let said = playbook::compile(&text).expect_err("a bad playbook").to_string();
        let expected = file.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&expected, &said).expect("the text is written");
        }
        let told = std::fs::read_to_string(&expected).unwrap_or_default();
        if told != said {
            wrong.push(format!("{}:\n{said}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "not as expected:\n{}", wrong.join("\n"));
}

#[test]
fn hostile_texts_are_refused_without_harm() {
    let bomb = format!(
        "playbook: b\nversion: 1\na: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
         d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [{}]\n",
        "*e,".repeat(64)
    );
    let deep = format!("playbook: d\nversion: 1\nsteps: {}", "[".repeat(1 << 18));
    let nested = format!(
        "playbook: d\nversion: 1\nsteps: {}{}",
        "{a: ".repeat(100_000),
        "}".repeat(100_000)
    );
    let long = format!(
        "playbook: l\nversion: 1\n# {}",
        "x".repeat(playbook::TEXT_BYTES_MAX)
    );
    for text in [
        &bomb,
        &deep,
        &nested,
        &long,
        "",
        "- a",
        "\u{0}",
        "playbook: [",
        "!!binary x",
    ] {
        assert!(playbook::compile(text).is_err());
    }
}
