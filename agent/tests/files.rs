//! `file.*` and `host.info` on real folders.
#![cfg(target_os = "linux")]

mod support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use support::{Shelf, context, environment, run, run_in};

const ABC_SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn write(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
    std::fs::write(path, content).expect("written");
}

/// The last parts of the paths of a listing, sorted.
fn names(listing: &Value) -> Vec<String> {
    let mut names: Vec<String> = listing
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| {
            item["path"]
                .as_str()
                .expect("text")
                .rsplit('/')
                .next()
                .expect("a name")
                .to_owned()
        })
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn host_info_fits_its_schema() {
    let output = run_in("host.info", &[], json!({})).await;
    assert!(
        output["memory_bytes"].as_u64() > Some(0) && output["boot_id"].as_str().map(str::len) == Some(36)
    );
}

#[tokio::test]
async fn find_by_glob_size_age_and_hash() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    write(root, "docs/a.locked", "abc");
    write(root, "docs/deep/b.locked", "bigger than abc");
    write(root, "docs/readme", "abc");
    write(root, "skip/c.locked", "abc");
    let old = std::fs::File::options()
        .write(true)
        .open(root.join("docs/readme"))
        .expect("opens");
    old.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("set");

    let find = |mut parameters: Value| {
        parameters["roots"] = json!([root]);
        async move { run_in("file.find", &[root], parameters).await }
    };
    let output = find(json!({"globs": ["*.locked"], "exclude": ["skip"]})).await;
    assert_eq!(names(&output["matches"]), ["a.locked", "b.locked"]);
    assert_eq!(
        names(&find(json!({"globs": ["docs/*"]})).await["matches"]),
        ["a.locked", "readme"]
    );
    assert_eq!(
        names(&find(json!({"size_min": "4B"})).await["matches"]),
        ["b.locked"]
    );
    assert_eq!(
        names(&find(json!({"older_than": "1d"})).await["matches"]),
        ["readme"]
    );
    assert_eq!(
        names(&find(json!({"newer_than": "1d", "size_max": 3})).await["matches"]),
        ["a.locked", "c.locked"]
    );
    let hashed = find(json!({"sha256": [ABC_SHA256]})).await;
    assert_eq!(names(&hashed["matches"]), ["a.locked", "c.locked", "readme"]);
    assert_eq!(hashed["matches"][0]["sha256"], ABC_SHA256);
    let cut = find(json!({"max_matches": 1})).await;
    assert_eq!(
        (cut["matches"].as_array().map(Vec::len), &cut["truncated"]),
        (Some(1), &json!(true))
    );
}

#[tokio::test]
async fn many_matches_stay_within_an_output() {
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..2000 {
        write(
            folder.path(),
            &format!("a-rather-long-name-of-a-file-{number:05}"),
            "",
        );
    }
    let output = run_in("file.find", &[], json!({"roots": [folder.path()]})).await;
    assert_eq!(output["truncated"], true);
}

#[tokio::test]
async fn names_that_are_no_text_are_found_exactly() {
    let folder = tempfile::tempdir().expect("a folder");
    let name = OsStr::from_bytes(b"odd-\xff");
    std::fs::write(folder.path().join(name), b"abc").expect("written");
    let output = run_in("file.find", &[], json!({"roots": [folder.path()], "hash": true})).await;
    let found = &output["matches"][0];
    assert!(found["path"].as_str().expect("text").ends_with("odd-\\xff"));
    let exact = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        found["path_base64"].as_str().expect("there"),
    );
    assert_eq!(
        exact.expect("base64"),
        folder.path().join(name).as_os_str().as_bytes()
    );
    assert_eq!(found["sha256"], ABC_SHA256);
}

#[tokio::test]
async fn the_policy_is_never_left() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "mine/a", "abc");
    write(folder.path(), "theirs/b", "abc");
    let mine = folder.path().join("mine");
    symlink("../theirs/b", mine.join("link")).expect("linked");
    let theirs = folder.path().join("theirs");

    // Wider than the policy: narrowed. Beside it: told.
    let output = run_in("file.find", &[&mine], json!({"roots": [folder.path(), theirs]})).await;
    assert_eq!(names(&output["matches"]), ["a"]);
    assert_eq!(
        output["errors"],
        json!([{"path": theirs, "code": "outside_policy"}])
    );

    let paths = json!([
        mine.join("a"),
        mine.join("link"),
        theirs.join("b"),
        mine.join("../theirs/b")
    ]);
    let output = run_in("file.hash", &[&mine], json!({"paths": paths})).await;
    assert_eq!(names(&output["files"]), ["a"]);
    let codes: Vec<&str> = output["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|error| error["code"].as_str())
        .collect();
    assert_eq!(codes, ["symlink", "outside_policy", "invalid_path"]);
}

#[tokio::test]
async fn collect_takes_what_fits_and_names_what_it_leaves() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    write(root, "a.txt", "abc");
    write(root, "b.txt", "a longer text that does not fit");
    write(root, "c.txt", "cd");
    symlink("a.txt", root.join("link")).expect("linked");
    let shelf = Arc::new(Shelf::default());
    let parameters = json!({
        "paths": [root.join("a.txt"), root.join("b.txt"), root.join("link"), root.join("absent")],
        "roots": [root], "globs": ["*.txt"], "max_bytes": "10B",
    });
    let output = run("file.collect", context(environment(&[root], &shelf), parameters))
        .await
        .expect("succeeds");
    assert_eq!(names(&output["files"]), ["a.txt", "c.txt"]);
    assert_eq!(output["files"][0]["sha256"], ABC_SHA256);
    assert_eq!(
        (&output["total_bytes"], &output["truncated"]),
        (&json!(5), &json!(true))
    );
    let skipped: Vec<(String, &str)> = output["skipped"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| {
            (
                names(&json!([item]))[0].clone(),
                item["code"].as_str().expect("text"),
            )
        })
        .collect();
    let told = |name: &str, code| skipped.contains(&(name.to_owned(), code));
    assert!(
        told("b.txt", "over_limit") && told("link", "symlink") && told("absent", "not_found"),
        "{skipped:?}"
    );
    assert_eq!(shelf.taken.lock().expect("not poisoned").len(), 2);
}

#[tokio::test]
async fn an_action_that_is_not_there_is_refused_by_name() {
    let surroundings = environment(&[], &Arc::new(Shelf::default()));
    let error = agent::actions::run("host.dance", context(surroundings, json!({})))
        .await
        .expect_err("no such action");
    assert_eq!(error.code, "not_implemented");
    assert!(
        error.message.contains("host.dance") && error.message.contains("file.find"),
        "{error}"
    );
}
