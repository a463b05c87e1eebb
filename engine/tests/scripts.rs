//! Golden scripts: every file in `scripts/` is lines of input, each followed by what it gave. Run with
//! UPDATE=1 to write the outputs anew, and review the diff.

#![allow(
    clippy::disallowed_methods,
    reason = "the test reads its scripts; what it tests does not"
)]

mod world;

use std::path::Path;

use world::World;

#[test]
fn every_script_gives_what_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let update = std::env::var_os("UPDATE").is_some();
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of scripts")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    names.sort();
    assert!(!names.is_empty());
    let mut wrong = Vec::new();
    for path in names {
        let text = std::fs::read_to_string(&path).expect("a script");
        let mut world = World::new();
        for line in text.lines() {
            if line.starts_with('#') || line.trim().is_empty() {
                world.out.push_str(line);
                world.out.push('\n');
            } else if let Some(input) = line.strip_prefix("> ") {
                world.line(input);
            }
        }
        if world.out != text {
            if update {
                std::fs::write(&path, &world.out).expect("the script can be written");
            } else {
                wrong.push(format!("{}:\n{}", path.display(), difference(&text, &world.out)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn difference(expected: &str, got: &str) -> String {
    let at = expected
        .lines()
        .zip(got.lines())
        .take_while(|(a, b)| a == b)
        .count();
    let from = |text: &str| text.lines().skip(at).take(6).collect::<Vec<_>>().join("\n    ");
    format!(
        "  line {}: expected\n    {}\n  got\n    {}",
        at + 1,
        from(expected),
        from(got)
    )
}
