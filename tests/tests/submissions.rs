//! A mail is handed in: it is evidence on two nodes, and starts one run, however often it comes.

mod support;

use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use cordon::demo::world::{WorldError, level};
use serde_json::Value;
use support::{Deployment, RUN_MAX, executable, in_world, same_state_everywhere};

/// How long a level that comes by itself may take on a busy machine.
const LEVEL_MAX: Duration = Duration::from_secs(60);

const PLAYBOOK: &str = "playbook: read-report
version: 1
triggers:
  - submission: report
    dedupe: {key: \"${event.email.message_uid}\", window: 1h}
  - submission: page
inputs:
  message: {type: artifact, media: message/rfc822, from: \"${event.raw}\", max_bytes: 1KiB}
  reporter: {type: email, from: \"${event.reporter}\"}
steps:
  sort:
    decide:
      - {when: 'event.email.subject.contains(\"invoice\")', set: {verdict: suspicious}}
      - {else: {verdict: benign}}
outputs: {verdict: \"${steps.sort.output.verdict}\", message: \"${inputs.message}\"}
";

const MAIL: &str = "From: Mallory <mallory@example.org>\r\nTo: anna@example.org\r\nSubject: Your invoice\r\n\
    Message-ID: <1@example.org>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0100\r\n\r\nPay now.\r\n";

#[test]
fn a_mail_is_kept_on_two_nodes_and_read_once() {
    in_world(async |world| {
        let deployment = Deployment::start(world, 3, 1).await?;
        let (cluster, operator) = (&deployment.cluster, &deployment.operator);
        let home = cluster.operator_home();
        let config = home.join("config.toml").display().to_string();
        let written = |name: &str, text: &str| -> anyhow::Result<String> {
            let path = home.join(name);
            std::fs::write(&path, text)?;
            Ok(path.display().to_string())
        };
        let cordon = |arguments: &[&str]| support::cordon(&config, arguments);
        let who = written("who.json", "{\"reporter\": \"anna@example.org\"}")?;
        let mail = written("a.eml", MAIL)?;
        let hand_in = |name: &str, file: &str| -> anyhow::Result<Value> {
            let arguments = [
                "event",
                "send",
                "--submission",
                name,
                "--file",
                file,
                "--json",
                &who,
                "-o",
                "json",
            ];
            Ok(serde_json::from_str(&cordon(&arguments)?)?)
        };
        cordon(&["playbook", "publish", &written("read-report.yaml", PLAYBOOK)?])?;

        let said = hand_in("report", &mail)?;
        assert_eq!(
            (&said["copies"], &said["fired"]),
            (&2.into(), &1.into()),
            "{said}"
        );
        let sha256 = said["sha256"].as_str().context("its name")?.to_owned();
        let said = hand_in("report", &mail)?;
        assert_eq!(
            (&said["fired"], &said["deduplicated"]),
            (&0.into(), &1.into()),
            "{said}"
        );

        let listed: Value = serde_json::from_str(&cordon(&["evidence", "list", "-o", "json"])?)?;
        let listed = listed.as_array().context("a list")?;
        assert_eq!(listed.len(), 1, "it is there once: {listed:?}");
        assert_eq!(
            (&listed[0]["submission"], &listed[0]["path"]),
            (&"report".into(), &"a.eml".into())
        );
        cordon(&["evidence", "verify", &sha256])?;
        let copy = home.join("copy.eml").display().to_string();
        cordon(&["evidence", "get", &sha256, "--to", &copy])?;
        assert_eq!(std::fs::read_to_string(copy)?, MAIL);

        let runs = || -> anyhow::Result<Vec<Value>> {
            let runs: Value = serde_json::from_str(&cordon(&["run", "list", "-o", "json"])?)?;
            Ok(runs.as_array().cloned().unwrap_or_default())
        };
        let told = |error: anyhow::Error| WorldError::Machine {
            machine: "the operator's".to_owned(),
            what: error.to_string(),
        };
        level("its run", LEVEL_MAX, async || {
            let count = runs().map_err(told)?.len();
            Ok(match count {
                1 => Ok(()),
                count => Err(format!("{count} runs")),
            })
        })
        .await?;
        let all = runs()?;
        let run = operator
            .ended(all[0]["id"].as_str().context("an id")?, RUN_MAX)
            .await?;
        assert_eq!(run.status, "succeeded", "{}", run.reason);
        let outputs: Value = serde_json::from_str(&run.outputs_json)?;
        assert_eq!(
            outputs,
            serde_json::json!({"verdict": "suspicious", "message": sha256})
        );

        // What the input does not allow becomes no run, and it is said why.
        let large = written("large.eml", &format!("{MAIL}{}", "x".repeat(2_000)))?;
        for (file, why) in [
            (written("page.html", "<p>")?, "application/octet-stream"),
            (large, "of at most 1024"),
        ] {
            assert_eq!(hand_in("page", &file)?["fired"], 1);
            level("why there is no run", LEVEL_MAX, async || {
                let shown = cordon(&["trigger", "show", "read-report/2", "-o", "json"]).map_err(told)?;
                Ok(match shown.contains(why) {
                    true => Ok(()),
                    false => Err(shown),
                })
            })
            .await?;
        }
        let words = written("words.eml", "just words")?;
        let refused = Command::new(executable())
            .args([
                "--config",
                &config,
                "event",
                "send",
                "--submission",
                "report",
                "--file",
                &words,
            ])
            .output()?;
        assert!(!refused.status.success());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("it is no mail"), "{said}");
        same_state_everywhere(cluster).await?;
        deployment.end().await
    });
}
