//! A run that cut hosts off is rolled back, and the leader is killed meanwhile: the next one goes on with it, also on a
//! host that was away, and each host is released exactly once. In namespaces, so that what is cut is really cut.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use cordon::demo::world::{AgentProcess, Machine, level, run_in_words};
use serde_json::{Value, json};
use support::{Deployment, RUN_MAX, in_real_world, same_state_everywhere};

const PORT: u16 = 8080;
/// How long a level that comes by itself may take on a busy machine.
const LEVEL_MAX: Duration = Duration::from_secs(60);

const PLAYBOOK: &str = "playbook: contain
version: 1
targets:
  all: {select: \"agent.id != ''\", max: 10}
steps:
  look: {targets: all, do: host.info}
  cut: {needs: [look], targets: all, do: host.isolate, with: {mode: network, ttl: 1h, confirm_within: 10s}}
";

#[test]
fn a_rollback_outlives_the_leader_and_releases_each_host_once() {
    in_real_world(async |mut world| {
        let other = world.machine("other").await?;
        other.listen(PORT).await?;
        let deployment = Deployment::start(world, 3, 3).await?;
        let (cluster, operator, agents) = (&deployment.cluster, &deployment.operator, &deployment.agents);
        let config = cluster.operator_home().join("config.toml");
        let config = config.to_str().context("a path of text")?;
        let cordon = |arguments: &[&str]| support::cordon(config, arguments);

        let id = operator.start_run(PLAYBOOK, &json!({})).await?.run_id;
        let run = operator.ended(&id, RUN_MAX).await?;
        assert_eq!(run.status, "succeeded", "{}", run_in_words(&run));
        for agent in agents {
            assert!(!reaches(agent, &other).await?, "{} is cut off", agent.id());
        }
        // One host is away when the rollback begins, so it cannot be over when the leader dies.
        let away = &agents[2];
        away.kill().await?;
        level(
            "the cluster noticing that a host is away",
            LEVEL_MAX,
            async || {
                let all = operator.agents().await?;
                let online = all.iter().any(|agent| agent.id == away.id() && agent.online);
                Ok(if online {
                    Err("it is online".to_owned())
                } else {
                    Ok(())
                })
            },
        )
        .await?;

        let unconfirmed = cordon(&["run", "rollback", &id, "--reason", "a false alarm"]);
        let why = unconfirmed.err().context("it must be confirmed")?.to_string();
        assert!(why.contains("3 tasks") && why.contains("--confirm"), "{why}");
        assert_eq!(operator.run(&id).await?.status, "succeeded", "nothing was begun");

        let leader = cluster.leader(None).await?;
        let told = cordon(&[
            "run",
            "rollback",
            &id,
            "--reason",
            "a false alarm",
            "--confirm",
            "-o",
            "json",
        ])?;
        leader.kill().await?;
        let told: Value = serde_json::from_str(&told)?;
        assert_eq!(told["status"], "rolling_back");
        assert_eq!(told["undo"][0]["step"], "cut");
        assert_eq!(told["undo"][0]["action"], "host.release");
        assert_eq!(
            told["undo"].as_array().map(Vec::len),
            Some(1),
            "looking changed nothing"
        );
        cluster.leader(Some(leader.name())).await?;

        level(
            "the other hosts released under the next leader",
            LEVEL_MAX,
            async || {
                let run = operator.run(&id).await?;
                let undo = run.steps.iter().find(|step| step.name == "undo-cut");
                let counts = undo.and_then(|step| step.tasks).unwrap_or_default();
                Ok(match (run.status.as_str(), counts.succeeded, counts.waiting) {
                    ("rolling_back", 2, 1) => Ok(()),
                    (status, ..) => Err(format!("{status}: {counts:?}")),
                })
            },
        )
        .await?;
        for agent in &agents[..2] {
            assert!(reaches(agent, &other).await?, "{} is back", agent.id());
        }
        assert!(
            !reaches(away, &other).await?,
            "the kernel keeps what is away cut off"
        );

        leader.start().await?;
        leader.ready().await?;
        away.start().await?;
        let run = operator.ended(&id, RUN_MAX).await?;
        assert_eq!(
            (run.status.as_str(), run.rollback.as_str()),
            ("succeeded", "succeeded"),
            "{}",
            run_in_words(&run)
        );
        assert!(run.not_undone.is_empty(), "{:?}", run.not_undone);
        let tasks = operator.tasks(&run).await?;
        let undone: Vec<_> = tasks.iter().filter(|task| task.step == "undo-cut").collect();
        assert_eq!(undone.len(), 3);
        for task in undone {
            assert_eq!(
                (task.status.as_str(), task.attempts),
                ("succeeded", 1),
                "{task:?}"
            );
            let output: Value = serde_json::from_str(&task.output_json)?;
            assert_eq!(output["was_isolated"], true, "it released what was cut off");
        }
        for agent in agents {
            assert!(reaches(agent, &other).await?, "{} is back", agent.id());
            let journal = agent.journal().await?;
            for record in ["intent", "outcome"] {
                let lines = journal
                    .iter()
                    .filter(|line| line.run_id == id && line.step == "undo-cut" && line.record == record);
                assert_eq!(lines.count(), 1, "{} was released once: {record}", agent.id());
            }
        }

        let shown = cordon(&["run", "show", &id])?;
        assert!(shown.contains("undo-cut (about cut)"), "{shown}");
        let again = cordon(&["run", "rollback", &id, "--reason", "again", "--confirm"]);
        let why = again.err().context("nothing is left")?.to_string();
        assert!(why.contains("nothing of run"), "{why}");
        let audit = operator.audit(&id, 0).await?;
        for (verb, times) in [("run.rollback", 1), ("run.undo", 1), ("run.end", 2)] {
            let found = audit.iter().filter(|record| record.verb == verb).count();
            assert_eq!(found, times, "{verb}");
        }
        same_state_everywhere(cluster).await?;
        deployment.end().await
    });
}

/// Whether the agent's host reaches the other one.
async fn reaches(agent: &AgentProcess, other: &Machine) -> anyhow::Result<bool> {
    let to = SocketAddr::new(other.address(), PORT);
    Ok(agent.machine.probe(to).await?.reachable)
}
