//! The YARA rules that the library's playbooks carry, in the scanner's real child with the limits of an agent: all of
//! them compile, each finds what its page says, in a sample that is made here, and nothing in what only looks like it.
//! This test is its own executable's `main`, because the child is the same executable started again.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent::actions::{
    ActionError, AttemptKey, Context, CoordinatorProbe, Environment, EvidenceSink, IsolationMode, Receipt,
};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// A file, and the rules that must match in it.
struct Sample {
    name: &'static str,
    content: Vec<u8>,
    rules: &'static [&'static str],
}

/// A playbook and what its rules are shown: file name, content, the rules that match.
type Samples = Vec<Sample>;

fn sample(name: &'static str, content: impl Into<Vec<u8>>, rules: &'static [&'static str]) -> Sample {
    let content = content.into();
    Sample { name, content, rules }
}

/// What each playbook with rules of its own is shown. Nothing here does any harm: it only has the words.
fn samples() -> BTreeMap<&'static str, Samples> {
    let elf = |words: &str| [b"\x7fELF\x02\x01\x01\0\0\0\0\0".as_slice(), words.as_bytes()].concat();
    let picture = |magic: &[u8], code: &str| [magic, &[0; 64], code.as_bytes()].concat();
    let pool = "stratum+tcp://pool.example.net:3333";
    BTreeMap::from([
        (
            "ransomware-contain",
            vec![
                sample(
                    "note.txt",
                    "YOUR FILES HAVE BEEN ENCRYPTED! Pay, and we Decrypt them.",
                    &["ransom_note"],
                ),
                sample(
                    "policy.txt",
                    "Laptops must have been encrypted. The helpdesk can decrypt them.",
                    &[],
                ),
            ],
        ),
        (
            "cryptominer",
            vec![
                sample(
                    "miner",
                    elf("...stratum+tcp://...donate-level...RandomX..."),
                    &["miner_program"],
                ),
                sample(
                    "kworker",
                    elf("mining.subscribe\0KawPoW\0hashrate"),
                    &["miner_program"],
                ),
                sample(
                    "config.json",
                    r#"{"donate-level": 1, "pools": [{"url": "pool.example.net:3333", "user": "x"}]}"#,
                    &["miner_settings"],
                ),
                sample(
                    "start.sh",
                    format!("#!/bin/sh\n./x -o {pool}\n"),
                    &["miner_script"],
                ),
                // One word about mining in a program, and a pool's address in a text, are nothing.
                sample("monitor", elf("hashrate of the pool, and ethash"), &[]),
                sample("notes.txt", format!("our pool was {pool}"), &[]),
                sample("app.json", r#"{"pools": [{"size": 3, "user": "db"}]}"#, &[]),
            ],
        ),
        (
            "webshell",
            vec![
                sample(
                    "a.php",
                    "<?php @eval($_POST['x']); ?>",
                    &["php_request_into_code"],
                ),
                sample(
                    "b.php",
                    "<?php system(base64_decode($_REQUEST[\"c\"]));",
                    &["php_request_into_code"],
                ),
                sample(
                    "c.php",
                    "<?php $_GET['f']($_GET['a']);",
                    &["php_request_into_code"],
                ),
                sample(
                    "packed.php",
                    "<?php eval(gzinflate(base64_decode('7b0HYB'))); ?>",
                    &["php_packed_code"],
                ),
                sample(
                    "logo.gif",
                    picture(b"GIF89a", "<?php system('id'); ?>"),
                    &["php_in_a_picture"],
                ),
                sample(
                    "photo.jpg",
                    picture(b"\xff\xd8\xff\xe0", "<?php passthru($x); ?>"),
                    &["php_in_a_picture"],
                ),
                sample(
                    "icon.png",
                    picture(b"\x89PNG\r\n", "<?php shell_exec ('id'); ?>"),
                    &["php_in_a_picture"],
                ),
                sample(
                    "cmd.jsp",
                    "<% Runtime.getRuntime().exec(request.getParameter(\"cmd\")); %>",
                    &["jsp_request_into_process"],
                ),
                sample(
                    "pb.jsp",
                    "<% String c = request.getHeader(\"x\"); new ProcessBuilder(c).start(); %>",
                    &["jsp_request_into_process"],
                ),
                // What honest applications are full of.
                sample("form.php", "<?php echo htmlspecialchars($_POST['name']); ?>", &[]),
                sample("job.php", "<?php exec('/usr/bin/convert a b'); ?>", &[]),
                sample("decode.php", "<?php $x = json_decode(base64_decode($y)); ?>", &[]),
                sample(
                    "list.jsp",
                    "<% out.print(request.getParameter(\"page\")); %>",
                    &[],
                ),
                sample("plain.png", picture(b"\x89PNG\r\n", "no code"), &[]),
            ],
        ),
    ])
}

fn main() -> ExitCode {
    if let Some(exit) = agent::child::run_if_child() {
        return exit;
    }
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let samples = samples();
    let mut checked = Vec::new();
    for (name, text) in playbook::library::all() {
        let Some(rules) = rules_of(name, text) else {
            continue;
        };
        let shown = samples
            .get(name)
            .unwrap_or_else(|| panic!("{name} has rules, and no samples here"));
        eprintln!("the rules of {name} ...");
        check(name, &rules, shown);
        checked.push(*name);
    }
    assert_eq!(
        checked,
        samples.keys().copied().collect::<Vec<_>>(),
        "each playbook with samples has rules"
    );
    ExitCode::SUCCESS
}

/// The default of the playbook's input `rules`; None where it has none, or leaves it to the responder.
fn rules_of(name: &str, text: &str) -> Option<String> {
    let manifest = match playbook::compile(text) {
        Ok(compiled) => compiled.manifest,
        Err(problems) => panic!("{name}: {problems}"),
    };
    assert!(
        !text.contains("ruleset://"),
        "{name} names rules that the library does not carry"
    );
    let input = manifest.inputs.get("rules")?;
    let rules = input.default.as_ref()?.as_str()?;
    (!rules.is_empty()).then(|| rules.to_owned())
}

fn check(playbook: &str, rules: &str, samples: &Samples) {
    let folder = tempfile::tempdir().expect("a folder");
    for sample in samples {
        std::fs::write(folder.path().join(sample.name), &sample.content).expect("written");
    }
    let output = scan(rules, folder.path()).unwrap_or_else(|error| panic!("{playbook}: {error}"));
    assert_eq!(
        (&output["scanned"], &output["skipped"], &output["truncated"]),
        (&json!(samples.len()), &json!([]), &json!(false)),
        "{playbook}"
    );
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in output["matches"].as_array().expect("a list") {
        let path = Path::new(one["path"].as_str().expect("a path"));
        let file = path.file_name().expect("a file's").to_string_lossy().into_owned();
        found
            .entry(file)
            .or_default()
            .push(one["rule"].as_str().expect("a name").to_owned());
    }
    for sample in samples {
        let rules = found.remove(sample.name).unwrap_or_default();
        assert_eq!(rules, sample.rules, "{playbook}: {}", sample.name);
    }
    let mut never: Vec<&str> = names(rules);
    never.retain(|name| !samples.iter().any(|sample| sample.rules.contains(name)));
    assert!(never.is_empty(), "{playbook}: no sample for {never:?}");
}

/// The names of the rules in a text.
fn names(rules: &str) -> Vec<&str> {
    rules
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("rule "))
        .filter_map(|rest| rest.split_whitespace().next())
        .collect()
}

/// The agent's own action, with everything that it defaults to.
fn scan(rules: &str, root: &Path) -> Result<Value, ActionError> {
    let parameters = json!({"rules": rules, "roots": [root]});
    let described = catalogue::find("scan.yara").expect("in the catalogue");
    assert_eq!(described.check_parameters(&parameters), Vec::<String>::new());
    let environment = Environment {
        state_dir: PathBuf::from("/nonexistent"),
        coordinators: Vec::new(),
        evidence: Arc::new(Nothing),
        probe: Arc::new(Nothing),
        isolation: IsolationMode::Enforce,
        roots: Vec::new(),
    };
    let context = Context {
        key: AttemptKey {
            run_id: "run".to_owned(),
            step: "scan".to_owned(),
            item: 0,
            attempt: 1,
            token: 1,
        },
        parameters,
        cancel: CancellationToken::new(),
        timeout: Duration::from_secs(120),
        environment: Arc::new(environment),
    };
    tokio::runtime::Runtime::new()
        .expect("a runtime")
        .block_on(agent::actions::run("scan.yara", context))
}

/// A scan keeps nothing and asks nobody.
struct Nothing;

impl EvidenceSink for Nothing {
    fn put(
        &self,
        _key: AttemptKey,
        _file: File,
        _path: Vec<u8>,
        _size_bytes_max: u64,
        _cancel: CancellationToken,
    ) -> BoxFuture<'_, Result<Receipt, ActionError>> {
        async { panic!("a scan keeps nothing") }.boxed()
    }
}

impl CoordinatorProbe for Nothing {
    fn probe(&self, _within: Duration) -> BoxFuture<'_, Result<(), String>> {
        async { panic!("a scan asks no coordinator") }.boxed()
    }
}
