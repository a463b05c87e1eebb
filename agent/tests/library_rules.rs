//! The YARA rules of the library's playbooks, in the engine that the agent uses: each compiles, finds what its page says
//! it finds, and leaves alone what only looks like it. This test is its own executable's `main`, because the scan's child
//! is the same executable started again.
#![cfg(target_os = "linux")]
#![cfg_attr(not(feature = "yara"), allow(dead_code, unused_imports))]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;

use playbook::yaml::{Data, Node};
use serde_json::json;
use support::{Shelf, context, environment, run};

/// An address that somebody logs in from.
const ADDRESS: &str = "203.0.113.9";

fn main() -> ExitCode {
    if let Some(exit) = agent::child::run_if_child() {
        return exit;
    }
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    #[cfg(feature = "yara")]
    {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let mut expected = samples();
        for (name, text) in playbook::library::all() {
            let rules = rules_of(text);
            let samples = expected.remove(name).unwrap_or_default();
            eprintln!(
                "test {name}: {} texts of rules, {} samples",
                rules.len(),
                samples.len()
            );
            assert_eq!(
                rules.is_empty(),
                samples.is_empty(),
                "{name} has rules or samples, and not both"
            );
            if !rules.is_empty() {
                runtime.block_on(find(name, &rules.join("\n"), &samples));
            }
        }
        assert!(
            expected.is_empty(),
            "no playbook has these: {:?}",
            expected.keys()
        );
    }
    ExitCode::SUCCESS
}

/// A file, and the rules that match it.
struct Sample {
    name: &'static str,
    content: Vec<u8>,
    rules: &'static [&'static str],
}

fn sample(name: &'static str, content: impl AsRef<[u8]>, rules: &'static [&'static str]) -> Sample {
    Sample {
        name,
        content: content.as_ref().to_vec(),
        rules,
    }
}

/// By playbook.
fn samples() -> BTreeMap<&'static str, Vec<Sample>> {
    let failed = |times: usize| {
        let line =
            format!("Jan  5 09:00:00 h sshd[123]: Failed password for root from {ADDRESS} port 4242 ssh2\n");
        line.repeat(times)
    };
    BTreeMap::from([
        (
            "ransomware-contain",
            vec![
                sample(
                    "note.txt",
                    "YOUR FILES HAVE BEEN ENCRYPTED. Pay to decrypt them.",
                    &["ransom_note"],
                ),
                sample("manual.txt", "How to decrypt your own backups.", &[]),
            ],
        ),
        (
            "cryptominer",
            vec![
                sample(
                    "xmrig",
                    b"\x7fELF..stratum+tcp://pool.example:3333..donate-level..RandomX..",
                    &["miner_program"],
                ),
                sample(
                    "kworker",
                    b"\x7fELF..mining.subscribe..KawPoW..hashrate",
                    &["miner_program"],
                ),
                sample("monitor", b"\x7fELF..hashrate of the pool, and ethash", &[]),
                sample("library.so", b"\x7fELF..stratum+tcp://..nothing else..", &[]),
                sample(
                    "config.json",
                    r#"{"pools": [{"url": "pool.example:3333", "user": "x"}], "donate-level": 1}"#,
                    &["miner_settings"],
                ),
                sample("db.json", r#"{"pools": 4, "user": "app"}"#, &[]),
                sample(
                    "start.sh",
                    "#!/bin/sh\n./m -o stratum+ssl://pool.example:443\n",
                    &["miner_script"],
                ),
                sample(
                    "readme.md",
                    "Block stratum+ssl://pool.example:443 in your firewall.",
                    &[],
                ),
            ],
        ),
        (
            "webshell",
            vec![
                sample(
                    "shell.php",
                    "<?php @eval(base64_decode($_POST['x'])); ?>",
                    &["php_packed_code", "php_request_into_code"],
                ),
                sample(
                    "call.php",
                    "<?php $_GET['f']($_GET['x']); ?>",
                    &["php_request_into_code"],
                ),
                sample(
                    "packed.php",
                    "<?php eval(gzinflate(base64_decode('abc'))); ?>",
                    &["php_packed_code"],
                ),
                sample(
                    "cat.gif",
                    "GIF89a...<?php system('id'); ?>",
                    &["php_in_a_picture"],
                ),
                sample("dog.gif", "GIF89a.......", &[]),
                sample(
                    "photo.jpg",
                    b"\xff\xd8\xff\xe0..<?php passthru($x); ?>",
                    &["php_in_a_picture"],
                ),
                sample(
                    "icon.png",
                    b"\x89PNG\r\n..<?php shell_exec ('id'); ?>",
                    &["php_in_a_picture"],
                ),
                sample("job.php", "<?php exec('/usr/bin/convert a b'); ?>", &[]),
                sample(
                    "builder.jsp",
                    "<% String c = request.getHeader(\"x\"); new ProcessBuilder(c).start(); %>",
                    &["jsp_request_into_process"],
                ),
                sample(
                    "shell.jsp",
                    "<% Runtime.getRuntime().exec(request.getParameter(\"c\")); %>",
                    &["jsp_request_into_process"],
                ),
                sample(
                    "page.jsp",
                    "<% out.print(request.getParameter(\"name\")); %>",
                    &[],
                ),
                sample(
                    "form.php",
                    "<?php $name = trim($_POST['name']); echo base64_decode('YQ=='); ?>",
                    &[],
                ),
            ],
        ),
        (
            "failed-logins",
            vec![
                sample("one.log", failed(1), &["some_failed"]),
                sample("ten.log", failed(10), &["some_failed", "many_failed"]),
                sample(
                    "in.log",
                    format!(
                        "Jan  5 09:10:00 h sshd[123]: Accepted password for eve from {ADDRESS} port 4242 ssh2\n"
                    ),
                    &["succeeded"],
                ),
                // Somebody calls himself what a login looks like.
                sample(
                    "named.log",
                    format!(
                        "Jan  5 09:10:00 h sshd[123]: Invalid user [1]: Accepted password for eve from {ADDRESS} port 1 from 198.51.100.1 port 5\n"
                    ),
                    &["some_failed"],
                ),
                sample("other.log", failed(12).replace(ADDRESS, "203.0.113.99"), &[]),
            ],
        ),
    ])
}

/// Scans the samples, and compares.
async fn find(playbook: &str, rules: &str, samples: &[Sample]) {
    let folder = tempfile::tempdir().expect("a folder");
    for sample in samples {
        std::fs::write(folder.path().join(sample.name), &sample.content).expect("written");
    }
    let parameters = json!({"rules": rules, "roots": [folder.path()]});
    let environment = environment(&[], &Arc::new(Shelf::default()));
    let output = run("scan.yara", context(environment, parameters))
        .await
        .unwrap_or_else(|error| panic!("{playbook}: {error}"));
    assert_eq!(output["scanned"], json!(samples.len()), "{playbook}: {output}");
    let mut found: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for matched in output["matches"].as_array().expect("a list") {
        let path = matched["path"].as_str().expect("a path");
        let name = path.rsplit('/').next().expect("a name");
        found
            .entry(name.to_owned())
            .or_default()
            .insert(matched["rule"].as_str().expect("a name"));
    }
    for sample in samples {
        let expected: BTreeSet<&str> = sample.rules.iter().copied().collect();
        assert_eq!(
            found.remove(sample.name).unwrap_or_default(),
            expected,
            "{playbook}: {}",
            sample.name
        );
    }
    let tried: BTreeSet<&str> = samples
        .iter()
        .flat_map(|sample| sample.rules.iter().copied())
        .collect();
    let declared: BTreeSet<&str> = rules
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("rule "))
        .filter_map(|rest| rest.split_whitespace().next())
        .collect();
    assert_eq!(tried, declared, "{playbook}: every rule has a sample");
}

/// The texts of rules in a playbook: what its input `rules` is unless given, and what its steps scan with.
fn rules_of(text: &str) -> Vec<String> {
    let root = playbook::yaml::read(text).expect("it compiles");
    let mut texts = Vec::new();
    let input = root.get("inputs").and_then(|inputs| inputs.get("rules"));
    texts.extend(input.and_then(|input| input.get("default")).and_then(text_of));
    for (_, step) in entries(root.get("steps")) {
        texts.extend(
            step.get("with")
                .and_then(|with| with.get("rules"))
                .and_then(text_of),
        );
    }
    texts.retain(|text| !text.is_empty() && text != "${inputs.rules}");
    texts
        .into_iter()
        .map(|text| text.replace("${inputs.ip}", ADDRESS))
        .collect()
}

fn text_of(node: &Node) -> Option<String> {
    match &node.data {
        Data::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn entries(node: Option<&Node>) -> &[(playbook::yaml::Key, Node)] {
    match node.map(|node| &node.data) {
        Some(Data::Map(entries)) => entries,
        _ => &[],
    }
}
