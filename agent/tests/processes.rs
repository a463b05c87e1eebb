//! `process.*` on processes that the tests start.
#![cfg(target_os = "linux")]

mod support;

use std::path::Path;
use std::process::{Child, Command};

use serde_json::{Value, json};
use support::run_in;

/// A process that is ended with the test.
struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().expect("ends");
        self.0.wait().expect("is reaped");
    }
}

/// Starts a copy of `sleep`, so that its path is the test's own.
fn start(folder: &Path) -> Sleeper {
    let program = folder.join("cordon-sleeper");
    if !program.exists() {
        std::fs::copy("/bin/sleep", &program).expect("copied");
    }
    // Another test's thread may be between fork and exec with our copy still open for writing.
    loop {
        match Command::new(&program).arg("600").spawn() {
            Ok(child) => return Sleeper(child),
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            Err(error) => panic!("{} does not start: {error}", program.display()),
        }
    }
}

async fn listed(folder: &Path, pid: u32) -> Value {
    let exe = folder.join("cordon-sleeper");
    // Until the child has become its program, it still runs this test.
    loop {
        let output = run_in("process.list", &[], json!({"exe": exe, "with_hash": true})).await;
        let found = output["processes"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|process| process["pid"] == pid);
        if let Some(found) = found {
            return found.clone();
        }
        tokio::task::yield_now().await;
    }
}

fn kill_parameters(processes: &[Value]) -> Value {
    json!({"processes": processes, "signal": "KILL"})
}

#[tokio::test]
async fn a_process_is_listed_and_killed_by_its_identity() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sleeper = start(folder.path());
    let process = listed(folder.path(), sleeper.0.id()).await;
    assert_eq!(process["cmdline"][1], "600");
    let target = json!({
        "pid": process["pid"], "start_ticks": process["start_ticks"],
        "exe": process["exe"], "exe_sha256": process["exe_sha256"],
    });
    let output = run_in(
        "process.kill",
        &[],
        kill_parameters(std::slice::from_ref(&target)),
    )
    .await;
    assert_eq!(output["killed"][0]["name"], "cordon-sleeper");
    assert!(sleeper.0.try_wait().expect("asks").is_some());
    let again = run_in("process.kill", &[], kill_parameters(&[target])).await;
    assert_eq!(again["gone"], json!([{"pid": process["pid"]}]));
}

#[tokio::test]
async fn a_process_that_is_not_the_one_meant_lives_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sleeper = start(folder.path());
    let process = listed(folder.path(), sleeper.0.id()).await;
    let (pid, ticks) = (
        &process["pid"],
        process["start_ticks"].as_u64().expect("a number"),
    );
    let output = run_in(
        "process.kill",
        &[],
        kill_parameters(&[
            json!({"pid": pid, "start_ticks": ticks + 1}),
            json!({"pid": pid, "start_ticks": ticks, "exe": "/usr/bin/other"}),
            json!({"pid": pid, "start_ticks": ticks, "exe_sha256": "0".repeat(64)}),
        ]),
    )
    .await;
    assert_eq!(output["killed"], json!([]));
    assert_eq!(output["gone"], json!([{"pid": pid}]));
    let refused = output["refused"].as_array().expect("a list");
    assert!(
        refused.len() == 2 && refused.iter().all(|one| one["code"] == "other_program"),
        "{output:#}"
    );
    assert!(sleeper.0.try_wait().expect("asks").is_none());
}

#[tokio::test]
async fn init_the_agent_and_its_parents_are_never_killed() {
    let me = std::process::id();
    let parent = std::os::unix::process::parent_id();
    let targets: Vec<Value> = [1, me, parent]
        .iter()
        .map(|pid| json!({"pid": pid, "start_ticks": 1}))
        .collect();
    let output = run_in("process.kill", &[], kill_parameters(&targets)).await;
    let refused = output["refused"].as_array().expect("a list");
    assert_eq!(refused.len(), 3);
    assert!(refused.iter().all(|one| one["code"] == "protected"), "{output:#}");
}

#[tokio::test]
async fn a_deleted_program_keeps_its_path_and_hash() {
    let folder = tempfile::tempdir().expect("a folder");
    let sleeper = start(folder.path());
    let before = listed(folder.path(), sleeper.0.id()).await;
    std::fs::remove_file(folder.path().join("cordon-sleeper")).expect("deleted");
    let after = listed(folder.path(), sleeper.0.id()).await;
    assert_eq!(before, after);
}
