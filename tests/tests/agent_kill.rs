//! An agent is killed with SIGKILL at each stage of a task: before its intent is durable, after it, while it
//! acts, and after its outcome is durable but before anyone knows of it.

mod support;

use std::time::Duration;

use cordon::demo::world::{JournalLine, Launch, level};
use proto::v1;
use serde_json::json;
use support::{Deployment, RUN_MAX, in_world, one_step};

/// How long an agent may take to reach the point at which it dies.
const DEATH_MAX: Duration = Duration::from_secs(60);

/// What the cluster and the agent say in the end.
struct End {
    run: v1::Run,
    task: v1::Task,
    journal: Vec<JournalLine>,
}

impl End {
    fn count(&self, record: &str) -> usize {
        self.journal
            .iter()
            .filter(|line| line.run_id == self.run.id && line.record == record)
            .count()
    }
}

/// Starts the agent so that it dies at `point`, lets a task get there, starts it again and waits for the end.
async fn killed_at(deployment: &Deployment, point: &str, playbook: &str) -> anyhow::Result<End> {
    let agent = &deployment.agents[0];
    agent.kill().await?;
    agent
        .start_with(|launch: Launch| launch.with_env("CORDON_KILL_AT", point))
        .await?;
    cordon::demo::world::all_online(&deployment.operator, &deployment.agents).await?;
    let run = deployment.operator.start_run(playbook, &json!({})).await?;
    let exit = agent.exited(DEATH_MAX).await?;
    assert_eq!(exit.signal, Some(9), "it was to die at {point}");
    agent.start().await?;
    end(deployment, &run.run_id).await
}

async fn end(deployment: &Deployment, run_id: &str) -> anyhow::Result<End> {
    let run = deployment.operator.ended(run_id, RUN_MAX).await?;
    let task = deployment.operator.tasks(&run).await?.remove(0);
    let journal = deployment.agents[0].journal().await?;
    Ok(End { run, task, journal })
}

fn needs_kill_points() -> bool {
    if !cfg!(debug_assertions) {
        eprintln!("SKIPPED: kill points exist in debug builds only");
    }
    cfg!(debug_assertions)
}

#[test]
fn before_the_intent_the_task_is_simply_done_later() {
    if !needs_kill_points() {
        return;
    }
    in_world(async |world| {
        let deployment = Deployment::start(world, 1, 1).await?;
        let end = killed_at(
            &deployment,
            "before-intent",
            &one_step("info", "host.info", json!({})),
        )
        .await?;
        assert_eq!(end.task.status, "succeeded", "{:?}", end.task);
        assert_eq!((end.count("intent"), end.count("outcome")), (1, 1));
        deployment.end().await
    });
}

#[test]
fn after_the_intent_of_what_cannot_be_repeated_the_task_is_unknown() {
    if !needs_kill_points() {
        return;
    }
    in_world(async |world| {
        let deployment = Deployment::start(world, 1, 1).await?;
        let kill = json!({"processes": [{"pid": 999_999, "start_ticks": 1}], "signal": "KILL"});
        let end = killed_at(
            &deployment,
            "after-intent",
            &one_step("kill", "process.kill", kill),
        )
        .await?;
        assert_eq!(end.task.status, "unknown", "{:?}", end.task);
        assert_eq!(end.count("intent"), 1, "it was not tried again");
        deployment.end().await
    });
}

#[test]
fn after_the_outcome_it_is_reported_and_not_done_again() {
    if !needs_kill_points() {
        return;
    }
    in_world(async |world| {
        let deployment = Deployment::start(world, 1, 1).await?;
        let end = killed_at(
            &deployment,
            "after-outcome",
            &one_step("info", "host.info", json!({})),
        )
        .await?;
        assert_eq!(end.task.status, "succeeded", "{:?}", end.task);
        assert_eq!((end.count("intent"), end.count("outcome")), (1, 1));
        deployment.end().await
    });
}

#[test]
fn in_the_middle_the_task_comes_to_a_named_end() {
    in_world(async |world| {
        let deployment = Deployment::start(world, 1, 1).await?;
        let agent = &deployment.agents[0];
        // Large enough that hashing it takes a while, and a hole, so that it takes no disk.
        let large = std::fs::File::create(agent.disk_outside.join("large"))?;
        large.set_len(64 << 30)?;
        let path = agent.disk.join("large");
        let playbook = one_step("hash", "file.hash", json!({"paths": [path]}));
        let run = deployment.operator.start_run(&playbook, &json!({})).await?.run_id;
        level("the hashing being under way", DEATH_MAX, async || {
            let begun = agent
                .journal()
                .await?
                .iter()
                .any(|line| line.run_id == run && line.record == "intent");
            Ok(if begun {
                Ok(())
            } else {
                Err("no intent yet".to_owned())
            })
        })
        .await?;
        agent.kill().await?;
        large.set_len(1 << 10)?;
        agent.start().await?;
        let end = end(&deployment, &run).await?;
        // Reading can be repeated, but nobody asked for a retry: either end is honest, a silence is not.
        assert!(
            ["succeeded", "failed", "unknown"].contains(&end.task.status.as_str()),
            "{:?}",
            end.task
        );
        deployment.end().await
    });
}
