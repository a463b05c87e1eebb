//! `scan.yara` with its real child. This test is its own executable's `main`, because the child is the
//! same executable started again.
#![cfg(target_os = "linux")]
#![cfg_attr(not(feature = "yara"), allow(dead_code, unused_imports))]

mod support;

use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use agent::actions::ActionError;
use agent::child::sandbox::{Limits, enter};
use serde_json::{Value, json};
use support::{Shelf, context, environment, run};

const MARKER_RULE: &str = r#"
rule cordon_marker : marker test {
  strings:
    $marker = "CORDON-TEST-MARKER"
  condition:
    $marker
}"#;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("__try-sandbox") {
        return try_sandbox();
    }
    if let Some(exit) = agent::child::run_if_child() {
        return exit;
    }
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    #[cfg(feature = "yara")]
    for (name, test) in TESTS {
        eprintln!("test {name} ...");
        tokio::runtime::Runtime::new()
            .expect("a runtime")
            .block_on(async { test() });
        eprintln!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

const TESTS: &[(&str, fn())] = &[
    (
        "matches_are_told_with_their_place",
        matches_are_told_with_their_place,
    ),
    (
        "wrong_rules_are_told_with_their_place",
        wrong_rules_are_told_with_their_place,
    ),
    (
        "files_that_do_not_fit_are_listed",
        files_that_do_not_fit_are_listed,
    ),
    ("a_limit_that_is_hit_is_named", a_limit_that_is_hit_is_named),
    (
        "a_cancelled_scan_ends_with_its_child",
        a_cancelled_scan_ends_with_its_child,
    ),
    ("the_sandbox_holds", the_sandbox_holds),
];

fn scan_with(roots: &[&Path], parameters: Value) -> Result<Value, ActionError> {
    let context = context(environment(roots, &Arc::new(Shelf::default())), parameters);
    futures::executor::block_on(async {
        let handle = tokio::runtime::Handle::current();
        std::thread::spawn(move || handle.block_on(run("scan.yara", context)))
            .join()
            .expect("did not panic")
    })
}

fn matches_are_told_with_their_place() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("infected"), b"....CORDON-TEST-MARKER....").expect("written");
    std::fs::write(folder.path().join("clean"), b"nothing").expect("written");
    std::fs::write(folder.path().join("empty"), b"").expect("written");
    let output = scan_with(&[], json!({"rules": MARKER_RULE, "roots": [folder.path()]})).expect("scans");
    assert_eq!(
        (&output["scanned"], &output["skipped"], &output["truncated"]),
        (&json!(3), &json!([]), &json!(false))
    );
    assert_eq!(output["matches"].as_array().map(Vec::len), Some(1));
    let found = &output["matches"][0];
    assert_eq!(found["path"], json!(folder.path().join("infected")));
    assert_eq!(
        (&found["rule"], &found["tags"]),
        (&json!("cordon_marker"), &json!(["marker", "test"]))
    );
    assert_eq!(
        found["strings"],
        json!([{"identifier": "$marker", "offset": 4, "length": 18}])
    );
    assert_eq!(found["sha256"].as_str().map(str::len), Some(64));
}

fn wrong_rules_are_told_with_their_place() {
    let rules = "rule a { condition: true }\nrule b { condition: unknown_thing }";
    let error = scan_with(&[], json!({"rules": rules, "roots": ["/tmp"]})).expect_err("do not compile");
    assert_eq!(error.code, "invalid_rules");
    assert!(
        error.message.contains("line 2, column 21") && error.message.contains("unknown_thing"),
        "{error}"
    );
    // Includes would read files of the host.
    let error = scan_with(
        &[],
        json!({"rules": "include \"/etc/passwd\"\n", "roots": ["/tmp"]}),
    )
    .expect_err("refused");
    assert_eq!(error.code, "invalid_rules");
}

fn files_that_do_not_fit_are_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("large"), vec![0u8; 5000]).expect("written");
    let sparse = std::fs::File::create(folder.path().join("sparse")).expect("made");
    sparse.set_len(1 << 40).expect("set");
    std::os::unix::fs::symlink("large", folder.path().join("link")).expect("linked");
    let parameters = json!({"rules": MARKER_RULE, "roots": [folder.path()], "max_file_bytes": "1KiB"});
    let output = scan_with(&[], parameters).expect("scans");
    let codes: Vec<&str> = output["skipped"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|skipped| skipped["code"].as_str())
        .collect();
    assert_eq!(
        (codes, &output["scanned"]),
        (vec!["too_large", "too_large"], &json!(0))
    );
}

fn a_limit_that_is_hit_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a-marked"), b"CORDON-TEST-MARKER").expect("written");
    let huge = std::fs::File::create(folder.path().join("huge")).expect("made");
    huge.set_len(200 << 20).expect("set");
    std::fs::write(folder.path().join("z-marked"), b"CORDON-TEST-MARKER").expect("written");
    let parameters = json!({
        "rules": MARKER_RULE, "roots": [folder.path()], "max_file_bytes": "1GiB", "memory_max": "64MiB",
    });
    let output = scan_with(&[], parameters).expect("scans");
    assert_eq!(
        output["skipped"],
        json!([{"path": folder.path().join("huge"), "code": "limit_memory"}])
    );
    assert_eq!(
        output["matches"].as_array().map(Vec::len),
        Some(2),
        "the others are scanned by a new child"
    );

    // Rules that look at every byte, over and over.
    let slow = r#"rule slow { condition: for all i in (0..2000000000) : (uint8(i % filesize) == 0) }"#;
    let parameters = json!({"rules": slow, "roots": [folder.path()], "globs": ["huge"], "max_file_bytes": "1GiB", "cpu_seconds_max": 1});
    let output = scan_with(&[], parameters).expect("scans");
    assert_eq!(
        output["skipped"],
        json!([{"path": folder.path().join("huge"), "code": "limit_cpu"}])
    );
    assert_eq!(output["truncated"], true);
}

fn a_cancelled_scan_ends_with_its_child() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("zeros"), vec![0u8; 1 << 20]).expect("written");
    let slow = r#"rule slow { condition: for all i in (0..2000000000) : (uint8(i % filesize) == 0) }"#;
    let parameters = json!({"rules": slow, "roots": [folder.path()]});
    let context = context(environment(&[], &Arc::new(Shelf::default())), parameters);
    let cancel = context.cancel.clone();
    let handle = tokio::runtime::Handle::current();
    let scan = std::thread::spawn(move || handle.block_on(run("scan.yara", context)));
    // Until its child is there.
    while children().is_empty() {
        std::thread::yield_now();
    }
    cancel.cancel();
    let error = scan.join().expect("did not panic").expect_err("cancelled");
    assert_eq!(error.code, "cancelled");
    assert_eq!(children(), Vec::<String>::new());
}

/// The children of all threads of this process.
fn children() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("reads").flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn the_sandbox_holds() {
    let output = Command::new("/proc/self/exe")
        .arg("__try-sandbox")
        .output()
        .expect("starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, "confined\n", "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
}

/// Tries, confined, what a child must not be able to do.
fn try_sandbox() -> ExitCode {
    let mine = std::fs::File::open("/proc/self/exe").expect("opens before");
    enter(Limits {
        memory_bytes_max: 256 << 20,
        cpu_s_max: 60,
    })
    .expect("confined");
    let mut escapes = Vec::new();
    let mut attempt = |what: &str, escaped: bool| {
        if escaped {
            escapes.push(what.to_owned());
        }
    };
    attempt("read a file", std::fs::read("/etc/passwd").is_ok());
    attempt(
        "write a file",
        std::fs::write("/tmp/cordon-sandbox-escape", b"x").is_ok(),
    );
    attempt("list a folder", std::fs::read_dir("/").is_ok());
    attempt(
        "TCP",
        std::net::TcpStream::connect("127.0.0.1:9").is_err_and(|error| error.raw_os_error() != Some(1)),
    );
    attempt("UDP", std::net::UdpSocket::bind("127.0.0.1:0").is_ok());
    attempt("a Unix socket", std::os::unix::net::UnixStream::pair().is_ok());
    attempt("a program", Command::new("/bin/true").status().is_ok());
    let init = rustix::process::Pid::INIT;
    attempt("a signal", rustix::process::test_kill_process(init).is_ok());
    attempt(
        "a pidfd",
        rustix::process::pidfd_open(init, rustix::process::PidfdFlags::empty()).is_ok(),
    );
    let capabilities = rustix::thread::capabilities(None).expect("asks");
    attempt(
        "capabilities",
        !capabilities.effective.is_empty() || !capabilities.permitted.is_empty(),
    );
    // What it needs still works: threads, and what it was handed.
    let thread = std::thread::Builder::new()
        .spawn(|| 7)
        .map(|thread| thread.join().is_ok_and(|seven| seven == 7));
    attempt("no thread", !thread.is_ok_and(|works| works));
    attempt("no file in hand", rustix::fs::fstat(mine.as_fd()).is_err());
    if escapes.is_empty() {
        println!("confined");
        return ExitCode::SUCCESS;
    }
    println!("{escapes:?}");
    ExitCode::FAILURE
}
