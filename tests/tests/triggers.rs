//! Detections come in as a stream, and the leader is killed between an event and its run: each host that was found is
//! dealt with by one run, once, whatever is sent again.

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use cordon::demo::world::{WorldError, level};
use serde_json::Value;
use support::{Deployment, RUN_MAX, executable, in_world, same_state_everywhere};

/// How long a level that comes by itself may take on a busy machine.
const LEVEL_MAX: Duration = Duration::from_secs(60);

const PLAYBOOK: &str = "playbook: look-closer
version: 1
triggers:
  - event: detection_finding
    when: event.severity_id >= 4
    dedupe: {key: \"${event.device.uid}\", window: 1h}
  - {schedule: \"0 0 1 1 *\", time_zone: Europe/Zurich}
inputs:
  hosts: {type: list<host>, from: \"${has(event.device) ? [event.device.uid] : []}\", min: 1}
targets:
  found: {hosts: \"${inputs.hosts}\"}
steps:
  look: {targets: found, do: host.info}
  news: {needs: [look], wait_event: {event: incident_finding, when: \"event.device.uid == inputs.hosts[0]\", expires: 10m}}
outputs: {verdict: \"${steps.news.output.verdict}\"}
";

fn finding(host: &str, severity: u8) -> String {
    format!("{{\"class_uid\":2004,\"severity_id\":{severity},\"device\":{{\"uid\":\"{host}\"}}}}\n")
}

/// Sends a stream on standard input; what is said of it, and the exit code.
fn send(config: &str, events: &str) -> anyhow::Result<(Value, Option<i32>)> {
    let mut child = Command::new(executable())
        .args(["--config", config, "event", "send", "-", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("a pipe")?
        .write_all(events.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((said, output.status.code()))
}

/// What the operator's command could not do, as a level tells it.
fn told(error: anyhow::Error) -> WorldError {
    WorldError::Machine {
        machine: "the operator's".to_owned(),
        what: error.to_string(),
    }
}

#[test]
fn what_was_found_is_looked_at_once_though_the_leader_dies() {
    in_world(async |world| {
        let deployment = Deployment::start(world, 3, 2).await?;
        let (cluster, operator) = (&deployment.cluster, &deployment.operator);
        let config = cluster.operator_home().join("config.toml").display().to_string();
        let file = cluster
            .operator_home()
            .join("look-closer.yaml")
            .display()
            .to_string();
        std::fs::write(&file, PLAYBOOK)?;
        let cordon = |arguments: &[&str]| support::cordon(&config, arguments);
        let trigger = |id: &str| -> anyhow::Result<Value> {
            Ok(serde_json::from_str(&cordon(&[
                "trigger", "show", id, "-o", "json",
            ])?)?)
        };

        let (said, code) = send(&config, &finding("host-1", 5))?;
        assert_eq!(
            (&said["taken"], &said["matched"], code),
            (&1.into(), &0.into(), Some(0)),
            "{said}"
        );
        cordon(&["playbook", "publish", &file])?;
        level("the calendar's next time", LEVEL_MAX, async || {
            let shown = trigger("look-closer/2").map_err(told)?;
            Ok(match shown["next_at_ms"].as_u64() {
                Some(_) => Ok(()),
                None => Err(shown.to_string()),
            })
        })
        .await?;

        // Before the run can have begun, whoever was to begin it is gone.
        let leader = cluster.leader(None).await?;
        let stream = [
            finding("host-1", 5),
            finding("host-1", 4),
            finding("host-2", 3),
            "{\"class_uid\": \"2004\"}\n".to_owned(),
            "no event\n".to_owned(),
        ];
        let (said, code) = send(&config, &stream.concat())?;
        leader.kill().await?;
        assert_eq!(code, Some(7), "{said}");
        assert_eq!(
            (&said["taken"], &said["refused"], &said["matched"], &said["fired"]),
            (&3.into(), &2.into(), &2.into(), &1.into()),
            "{said}"
        );
        assert_eq!(said["problems"][0]["line"], 4, "{said}");
        cluster.leader(Some(leader.name())).await?;
        let (said, _) = send(
            &config,
            &format!("{}{}", finding("host-1", 5), finding("host-2", 5)),
        )?;
        assert_eq!(
            (&said["fired"], &said["deduplicated"]),
            (&1.into(), &1.into()),
            "{said}"
        );
        leader.start().await?;
        leader.ready().await?;

        let runs = || -> anyhow::Result<Vec<Value>> {
            let runs: Value = serde_json::from_str(&cordon(&["run", "list", "-o", "json"])?)?;
            Ok(runs.as_array().cloned().unwrap_or_default())
        };
        level("a run for each host", LEVEL_MAX, async || {
            let runs = runs().map_err(told)?;
            let waits = runs.iter().filter(|run| {
                let steps = run["steps"].as_array().into_iter().flatten();
                steps
                    .filter(|step| step["name"] == "news" && step["status"] == "running")
                    .count()
                    == 1
            });
            Ok(match (runs.len(), waits.count()) {
                (2, 2) => Ok(()),
                counts => Err(format!("{counts:?}: {runs:?}")),
            })
        })
        .await?;

        // Each goes on with what is said of its own host.
        for host in ["host-2", "host-1"] {
            let news =
                format!("{{\"class_uid\":2005,\"device\":{{\"uid\":\"{host}\"}},\"verdict\":\"of {host}\"}}");
            let (said, _) = send(&config, &news)?;
            assert_eq!(said["heard"], 1, "{said}");
        }
        for run in runs()? {
            let id = run["id"].as_str().context("an id")?;
            let run = operator.ended(id, RUN_MAX).await?;
            assert_eq!(run.status, "succeeded", "{}", run.reason);
            assert_eq!(
                run.requester,
                operator.status().await?.operator_id,
                "who published it"
            );
            let set_off = run.trigger.context("what set it off")?;
            assert_eq!(set_off.trigger_id, "look-closer/1");
            let event: Value = serde_json::from_str(&run.event_json)?;
            let host = event["device"]["uid"].as_str().context("its host")?.to_owned();
            assert_eq!(run.outputs_json, format!("{{\"verdict\":\"of {host}\"}}"));
            assert_eq!(
                serde_json::from_str::<Value>(&set_off.text)?,
                event,
                "the text is kept as it came"
            );
        }
        let shown = trigger("look-closer/1")?;
        assert_eq!(
            (&shown["matched"], &shown["fired"], &shown["waiting"]),
            (&4.into(), &2.into(), &0.into()),
            "{shown}"
        );
        for agent in &deployment.agents {
            let journal = agent.journal().await?;
            let intents = journal.iter().filter(|line| line.record == "intent").count();
            assert_eq!(intents, 1, "{} did it once", agent.id());
        }

        cordon(&["trigger", "disable", "look-closer/1", "--reason", "tests"])?;
        let (said, _) = send(&config, &finding("host-9", 5))?;
        assert_eq!(said["matched"], 0, "it is held back: {said}");
        cordon(&["trigger", "enable", "look-closer/1"])?;
        let (said, _) = send(&config, &finding("host-9", 5))?;
        assert_eq!(said["fired"], 1, "{said}");
        level("the reason why there is no run", LEVEL_MAX, async || {
            let shown = trigger("look-closer/1").map_err(told)?;
            let problem = shown["problem"].as_str().unwrap_or_default();
            Ok(match problem.contains("host-9") {
                true => Ok(()),
                false => Err(shown.to_string()),
            })
        })
        .await?;
        same_state_everywhere(cluster).await?;
        deployment.end().await
    });
}
