//! What the targets begin with: `corpus/TARGET/`, from the playbooks and the engine's golden scripts, and
//! `playbook.dict`, the words that stand in them.

#[path = "../../engine/tests/world/mod.rs"]
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use world::World;

/// Before a snapshot's body.
const HEADER_BYTES: usize = 44;

/// Events of the kinds that the target's triggers wait for.
const EVENTS: [&str; 4] = [
    r#"{"class_uid":2004,"category_uid":2,"activity_id":1,"type_uid":200401,"severity_id":5,"device":{"uid":"a"},"finding_info":{"attacks":[{"technique":{"uid":"T1486"}}]}}"#,
    r#"{"class_uid":3002,"status_id":2,"time":1700000000000,"user":{"name":"eve"},"src_endpoint":{"ip":"10.0.0.1"},"metadata":{"version":"1.3.0"}}"#,
    r#"{"class_uid":4009,"email":{"message_uid":"<a@b>","from":"x@y"},"raw":"r"}"#,
    r#"{"ticket":7,"who":["a",{"b":null}],"n":1.5e3}"#,
];

fn main() -> std::io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = |target: &str| -> std::io::Result<PathBuf> {
        let folder = here.join("corpus").join(target);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    let (yaml, expression, snapshot) = (
        corpus("playbook_yaml")?,
        corpus("expression")?,
        corpus("snapshot")?,
    );
    let event = corpus("event")?;
    for (number, text) in EVENTS.iter().enumerate() {
        fs::write(event.join(number.to_string()), text)?;
    }
    let mut words = BTreeSet::new();
    let cacao = corpus("cacao")?;
    let mut terms = BTreeSet::new();
    for path in files(&here.join("../playbook/tests/cacao/valid"), "json")? {
        let text = fs::read_to_string(&path)?;
        fs::write(cacao.join(name(&path)), &text)?;
        // What stands in quotes: the names of fields, and values.
        terms.extend(text.split('"').filter(|term| is_term(term)).map(str::to_owned));
    }
    fs::write(here.join("cacao.dict"), dictionary(&terms))?;
    for folder in ["playbook/library", "playbook/examples", "playbook/tests/problems"] {
        for path in files(&here.join("..").join(folder), "yaml")? {
            let text = fs::read_to_string(&path)?;
            fs::write(yaml.join(name(&path)), &text)?;
            words.extend(
                text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.')
                    .filter(|word| (2..=32).contains(&word.len()))
                    .map(str::to_owned),
            );
            for (number, source) in expressions(&text).into_iter().enumerate() {
                fs::write(expression.join(format!("{}-{number}", name(&path))), source)?;
            }
        }
    }
    fs::write(here.join("playbook.dict"), dictionary(&words))?;
    for path in files(&here.join("../engine/tests/scripts"), "txt")? {
        let mut world = World::new();
        for line in fs::read_to_string(&path)?.lines() {
            if let Some(input) = line.strip_prefix("> ") {
                world.line(input);
            }
        }
        fs::write(snapshot.join(name(&path)), &world.state.encode()[HEADER_BYTES..])?;
    }
    Ok(())
}

fn is_term(term: &str) -> bool {
    (2..=64).contains(&term.len()) && term.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
}

/// In libFuzzer's format.
fn dictionary(words: &BTreeSet<String>) -> String {
    words.iter().map(|word| format!("\"{word}\"\n")).collect()
}

/// What stands in `${...}`, in quotes or behind a field that is a condition; some of it is none, which does no harm.
fn expressions(text: &str) -> Vec<String> {
    let mut found: Vec<String> = text
        .split("${")
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(source, _)| source.to_owned())
        .collect();
    for field in ["when: ", "expect: ", "fail_when: ", "in: "] {
        found.extend(text.split(field).skip(1).filter_map(|rest| {
            let line = rest.lines().next()?;
            Some(line.trim_matches(['\'', '"', '}', ' ']).to_owned())
        }));
    }
    found
}

fn files(folder: &Path, extension: &str) -> std::io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    found.retain(|path| path.extension().is_some_and(|e| e == extension));
    found.sort();
    Ok(found)
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
