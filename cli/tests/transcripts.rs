//! Transcripts: what the command prints offline, its exit codes and the texts of its errors.
//!
//! Each file of `transcripts/` holds blocks of `$ command`, what it prints, and `? code` where that is not 0. Run
//! with `UPDATE=1` to write the files anew, and review the difference.

use std::{fs, path::Path, process::Command};

#[test]
fn transcripts_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let script = fs::read_to_string(&file).unwrap();
        let found = play(&script);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, found).unwrap();
        } else {
            assert_eq!(
                script,
                found,
                "{} differs (first what is expected, then what is)",
                file.display()
            );
        }
    }
}

/// Plays a transcript's commands in a folder of its own and returns the transcript as it would be.
fn play(script: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut found = String::new();
    for line in script.lines() {
        if line.starts_with('#') {
            found.push_str(&format!("{line}\n"));
        }
        let Some(command) = line.strip_prefix("$ ") else {
            continue;
        };
        found.push_str(&format!("$ {command}\n"));
        found.push_str(&run(command, folder.path()));
        found.push('\n');
    }
    found
}

fn run(command: &str, folder: &Path) -> String {
    // `... | head -N` shows the first lines of what is long.
    let (command, lines) = match command.split_once(" | head -") {
        Some((command, lines)) => (command, lines.parse().unwrap()),
        None => (command, usize::MAX),
    };
    let mut words = command.split(' ');
    let output = match words.next() {
        // `write FILE TEXT` plants a file; `\n` in the text breaks the line.
        Some("write") => {
            let name = words.next().unwrap();
            fs::write(
                folder.join(name),
                words.collect::<Vec<_>>().join(" ").replace("\\n", "\n"),
            )
            .unwrap();
            return String::new();
        }
        Some("cordon") => Command::new(env!("CARGO_BIN_EXE_cordon"))
            .args(words)
            .current_dir(folder)
            .env_clear()
            .env("HOME", folder)
            .output()
            .unwrap(),
        other => panic!("{other:?} is not a command of transcripts"),
    };
    let mut text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    text = text.replace(&*folder.to_string_lossy(), "HERE");
    assert!(!text.contains('\x1b'), "there is ANSI in {command}");
    let code = output.status.code().unwrap();
    if code != 0 {
        text.push_str(&format!("? {code}\n"));
    }
    let shown: String = text.split_inclusive('\n').take(lines).collect();
    mask(&shown)
}

/// Ids, moments and how long something took differ each time.
fn mask(text: &str) -> String {
    let mut masked = String::new();
    for line in text.split_inclusive('\n') {
        for word in line.split_inclusive([' ', '\n']) {
            let bare = word.trim_matches(|character: char| !character.is_ascii_alphanumeric());
            let uuid = bare.len() == 36 && bare.matches('-').count() == 4;
            let moment = bare.len() == 20 && bare.ends_with('Z') && bare.contains('T');
            let took = bare.strip_suffix("ms").is_some_and(|number| {
                number.contains('.') && number.bytes().all(|b| b == b'.' || b.is_ascii_digit())
            });
            let kind = match (uuid, moment) {
                (true, _) => "UUID",
                (_, true) => "MOMENT",
                _ => "TOOK",
            };
            masked.push_str(&if uuid || moment || took {
                word.replace(bare, kind)
            } else {
                word.to_owned()
            });
        }
    }
    masked
}
