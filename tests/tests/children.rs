//! A playbook that runs another one for each of many items: the leader is killed while they run, and each is started
//! once all the same. And what is cancelled is cancelled with all that it began.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use cordon::demo::world::{level, run_in_words};
use serde_json::{Value, json};
use support::{Deployment, RUN_MAX, in_real_world, in_world, same_state_everywhere};

/// One after another they would take longer than the leader lives.
const ITEMS: usize = 18;
const HOSTS: usize = 3;

const CHILD: &str = "playbook: look-at-one
version: 1
inputs:
  host: {type: host}
  number: {type: int}
targets:
  one: {hosts: [\"${inputs.host}\"]}
steps:
  wait: {delay: 700ms, decide: [{else: {go: true}}]}
  look: {needs: [wait], targets: one, do: host.info}
outputs:
  number: \"${inputs.number}\"
  seen: \"${size(steps.look.ok)}\"
";

const PARENT: &str = "playbook: look-at-many
version: 1
inputs:
  items: {type: list<json>}
steps:
  each:
    foreach: {in: inputs.items, as: it, max_parallel: 4}
    playbook: {name: look-at-one, version: 1}
    with: {host: \"${it.host}\", number: \"${it.number}\"}
  sum: {needs: [each], decide: [{else: {all: \"${steps.each.ok.map(i, i.output.number)}\"}}]}
outputs:
  numbers: \"${steps.sum.output.all}\"
";

const LONG: &str = "playbook: take-long
version: 1
targets:
  all: {select: \"agent.id != ''\", max: 10}
steps:
  wait: {delay: 1h, decide: [{else: {go: true}}]}
  look: {needs: [wait], targets: all, do: host.info}
";

const STARTER: &str = "playbook: start-long
version: 1
steps:
  go: {playbook: {name: take-long, wait: false}}
  stay: {playbook: {name: take-long}}
";

#[test]
fn each_child_is_started_once_though_the_leader_dies() {
    in_world(async |world| {
        let deployment = Deployment::start(world, 3, HOSTS).await?;
        let (cluster, operator) = (&deployment.cluster, &deployment.operator);
        let home = cluster.operator_home();
        let config = home.join("config.toml").display().to_string();
        let cordon = |arguments: &[&str]| support::cordon(&config, arguments);
        let file = |name: &str, text: &str| -> anyhow::Result<String> {
            let path = home.join(name);
            std::fs::write(&path, text)?;
            Ok(path.display().to_string())
        };
        cordon(&["playbook", "publish", &file("look-at-one.yaml", CHILD)?])?;
        let plan = cordon(&[
            "playbook",
            "plan",
            &file("look-at-many.yaml", PARENT)?,
            "-i",
            "items=[]",
            "-o",
            "json",
        ])?;
        let plan: Value = serde_json::from_str(&plan)?;
        let starts = json!({"playbook": "look-at-one", "version": 1, "found": 1, "wait": true});
        assert_eq!(plan["steps"][0]["starts"], starts);
        assert_eq!(plan["steps"][0]["impact"], "observe");

        let items: Vec<Value> = (0..ITEMS)
            .map(|number| json!({"host": format!("host-{}", 1 + number % HOSTS), "number": number}))
            .collect();
        let id = operator.start_run(PARENT, &json!({"items": items})).await?.run_id;
        for death in 1..=2 {
            level("children that run", RUN_MAX, async || {
                let run = operator.run(&id).await?;
                let going = run
                    .children
                    .iter()
                    .filter(|child| child.status == "running")
                    .count();
                let begun = run.children.len();
                Ok(match going > 0 && begun >= 3 * death {
                    true => Ok(()),
                    false => Err(format!("{going} of {begun} go on")),
                })
            })
            .await?;
            let run = operator.run(&id).await?;
            assert_eq!(run.status, "running", "the leader dies while it goes on");
            let leader = cluster.leader(None).await?;
            leader.kill().await?;
            cluster.leader(Some(leader.name())).await?;
            leader.start().await?;
            leader.ready().await?;
        }
        let run = operator.ended(&id, RUN_MAX).await?;
        assert_eq!(run.status, "succeeded", "{}", run_in_words(&run));
        let outputs: Value = serde_json::from_str(&run.outputs_json)?;
        assert_eq!(outputs["numbers"], json!((0..ITEMS).collect::<Vec<_>>()));
        let items: BTreeSet<u32> = run.children.iter().map(|child| child.item).collect();
        assert_eq!(
            (run.children.len(), items.len()),
            (ITEMS, ITEMS),
            "one for each item"
        );
        for task in operator.tasks(&run).await? {
            assert_eq!((task.attempts, task.run_ids.len()), (1, 1), "item {}", task.item);
        }

        // Nothing else was started, and each of them did its one task once.
        let runs: Value = serde_json::from_str(&cordon(&["run", "list", "--limit", "100", "-o", "json"])?)?;
        let runs = runs.as_array().context("a list")?;
        assert_eq!(runs.len(), ITEMS + 1);
        for child in runs.iter().filter(|run| run["playbook"] == "look-at-one") {
            assert_eq!(
                (&child["parent"]["run_id"], &child["parent"]["step"]),
                (&json!(id), &json!("each"))
            );
            assert_eq!(child["requester"], json!(run.requester));
            let child = operator.run(child["id"].as_str().context("an id")?).await?;
            assert_eq!(child.status, "succeeded", "{}", run_in_words(&child));
            for task in operator.tasks(&child).await? {
                assert_eq!((task.status.as_str(), task.attempts), ("succeeded", 1));
            }
        }
        let shown = cordon(&["run", "show", &id])?;
        assert!(shown.contains(&run.children[0].run_id), "{shown}");
        let told = cordon(&["run", "timeline", &id])?;
        assert!(
            told.contains(&format!("began run {}", run.children[0].run_id)),
            "{told}"
        );
        same_state_everywhere(cluster).await?;
        deployment.end().await
    });
}

const CUT: &str = "playbook: cut-one
version: 1
inputs:
  host: {type: host}
targets:
  one: {hosts: [\"${inputs.host}\"]}
steps:
  cut: {targets: one, do: host.isolate, with: {mode: network, ttl: 1h, confirm_within: 10s}}
";

const CUT_MANY: &str = "playbook: cut-many
version: 1
steps:
  each:
    foreach: {in: '[\"host-1\", \"host-2\"]', as: host}
    playbook: {name: cut-one, version: 1}
    with: {host: \"${host}\"}
";

#[test]
fn what_children_did_is_undone_by_the_rollback_of_the_run_above() {
    in_real_world(async |world| {
        let deployment = Deployment::start(world, 3, 2).await?;
        let (cluster, operator) = (&deployment.cluster, &deployment.operator);
        let home = cluster.operator_home();
        let config = home.join("config.toml").display().to_string();
        let cordon = |arguments: &[&str]| support::cordon(&config, arguments);
        let file = home.join("cut-one.yaml").display().to_string();
        std::fs::write(&file, CUT)?;
        cordon(&["playbook", "publish", &file])?;
        let id = operator.start_run(CUT_MANY, &json!({})).await?.run_id;
        let run = operator.ended(&id, RUN_MAX).await?;
        assert_eq!(run.status, "succeeded", "{}", run_in_words(&run));
        let said = cordon(&[
            "run",
            "rollback",
            &id,
            "--reason",
            "mistaken",
            "--confirm",
            "-o",
            "json",
        ])?;
        for child in &run.children {
            assert!(
                said.contains(&child.run_id),
                "what is undone is shown before: {said}"
            );
        }
        let leader = cluster.leader(None).await?;
        leader.kill().await?;
        cluster.leader(Some(leader.name())).await?;
        leader.start().await?;
        leader.ready().await?;
        level("the rollback", RUN_MAX, async || {
            let run = operator.run(&id).await?;
            Ok(match (run.rollback.as_str(), run.status.as_str()) {
                ("succeeded", "succeeded") => Ok(()),
                other => Err(format!("{other:?}")),
            })
        })
        .await?;
        assert_eq!(run.children.len(), 2);
        for child in &run.children {
            let child = operator.run(&child.run_id).await?;
            assert_eq!(child.rollback, "succeeded", "{}", run_in_words(&child));
            let tasks = operator.tasks(&child).await?;
            let undone: Vec<_> = tasks.iter().filter(|task| task.step == "undo-cut").collect();
            assert_eq!(undone.len(), 1, "each host is released once");
            assert_eq!(
                (undone[0].action.as_str(), undone[0].status.as_str()),
                ("host.release", "succeeded")
            );
            assert_eq!(undone[0].attempts, 1);
        }
        same_state_everywhere(cluster).await?;
        deployment.end().await
    });
}

#[test]
fn what_is_cancelled_is_cancelled_with_all_that_it_began() {
    in_world(async |world| {
        let deployment = Deployment::start(world, 1, 1).await?;
        let (cluster, operator) = (&deployment.cluster, &deployment.operator);
        let home = cluster.operator_home();
        let config = home.join("config.toml").display().to_string();
        let cordon = |arguments: &[&str]| support::cordon(&config, arguments);
        let file = home.join("take-long.yaml").display().to_string();
        std::fs::write(&file, LONG)?;
        cordon(&["playbook", "publish", &file])?;
        let id = operator.start_run(STARTER, &json!({})).await?.run_id;
        let all_are = async |word: &str| {
            level(
                &format!("two children that are {word}"),
                Duration::from_secs(60),
                async || {
                    let run = operator.run(&id).await?;
                    let words: Vec<&str> = run.children.iter().map(|child| child.status.as_str()).collect();
                    Ok(match words.as_slice() {
                        [one, other] if *one == word && *other == word => Ok(()),
                        _ => Err(format!("{words:?}")),
                    })
                },
            )
            .await
        };
        all_are("running").await?;
        cordon(&["run", "pause", &id, "--reason", "wait"])?;
        all_are("paused").await?;
        cordon(&["run", "resume", &id])?;
        all_are("running").await?;
        let why = cordon(&["run", "explain", &id])?;
        assert!(why.contains("waits for run"), "{why}");
        cordon(&["run", "cancel", &id, "--reason", "a false alarm"])?;
        all_are("cancelled").await?;
        let run = operator.ended(&id, RUN_MAX).await?;
        assert_eq!(
            (run.status.as_str(), run.reason.as_str()),
            ("cancelled", "a false alarm")
        );
        for child in &run.children {
            let child = operator.run(&child.run_id).await?;
            assert!(child.reason.contains("a false alarm"), "{}", child.reason);
        }
        same_state_everywhere(cluster).await?;
        deployment.end().await
    });
}
