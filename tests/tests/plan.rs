//! What a person saw in a plan is what runs: whatever changes in between, the run does not start.

mod support;

use std::process::Output;

use cordon::demo::world::{AgentProcess, level, request_id};
use proto::v1;
use serde_json::Value;
use support::{Deployment, RUN_MAX, executable, in_world};

/// More than observing, on what administrators have labelled.
const PLAYBOOK: &str = "playbook: careful
version: 1
inputs:
  roots: {type: list<path>, default: [/etc]}
targets:
  west: {select: \"has(agent.labels.site) && agent.labels.site == 'west'\"}
steps:
  take:
    targets: west
    do: file.collect
    with: {roots: \"${inputs.roots}\", globs: [\"**/no-such-file-anywhere\"], max_bytes: 1MiB, max_files: 1}
    on_failure: continue
";

#[test]
fn a_run_that_would_differ_from_its_plan_does_not_start() {
    in_world(async |world| {
        let mut deployment = Deployment::start(world, 3, 2).await?;
        let home = deployment.cluster.operator_home();
        let config = home.join("config.toml").display().to_string();
        let file = home.join("careful.yaml").display().to_string();
        std::fs::write(&file, PLAYBOOK)?;
        let run = |arguments: &[&str]| -> anyhow::Result<Output> {
            let mut command = std::process::Command::new(executable());
            Ok(command.args(["--config", &config]).args(arguments).output()?)
        };
        let plan = || -> anyhow::Result<String> {
            let shown = support::cordon(&config, &["playbook", "plan", &file, "-o", "json"])?;
            let shown: Value = serde_json::from_str(&shown)?;
            Ok(shown["plan_sha256"].as_str().unwrap_or_default().to_owned())
        };
        let start = |hash: &str, more: &[&str]| {
            let mut arguments = vec!["run", "start", &file, "--confirm", "--plan", hash, "-o", "json"];
            arguments.extend(more);
            run(&arguments)
        };
        let refused = |output: &Output| {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(6), "{stderr}");
            assert!(stderr.contains("the plan has changed"), "{stderr}");
        };
        let label = |host: &str, label: &str| support::cordon(&config, &["agent", "label", host, label]);

        label("host-1", "site=west")?;
        label("host-2", "site=west")?;
        let first = plan()?;
        assert_eq!(first, plan()?, "nothing changed");

        // Nobody can be asked here, and nobody has confirmed it.
        let output = run(&["run", "start", &file, "--plan", &first])?;
        assert_eq!(output.status.code(), Some(6));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains("give --confirm"), "{stderr}");

        refused(&start(&first, &["-i", "roots=/srv"])?);
        label("host-2", "criticality=critical")?;
        refused(&start(&first, &[])?);
        // Who asks the cluster itself is refused by the state machine, where nothing can come between.
        let direct = v1::StartRunRequest {
            playbook_yaml: PLAYBOOK.to_owned(),
            inputs_json: "{}".to_owned(),
            request_id: request_id(),
            plan_sha256: first.clone(),
        };
        let refusal = deployment
            .operator
            .call("StartRun", async |mut api| api.start_run(direct.clone()).await)
            .await;
        let refusal = refusal.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refusal.contains("the plan has changed"), "{refusal}");

        label("host-2", "criticality-")?;
        assert_eq!(plan()?, first, "it is again what it was");
        let agent = AgentProcess::prepare(&mut deployment.world, &deployment.cluster, "host-3", "").await?;
        agent.enroll(&deployment.cluster, &deployment.operator).await?;
        label("host-3", "site=west")?;
        refused(&start(&first, &[])?);

        // A host that is not there changes nothing of what is planned.
        let with_third = plan()?;
        assert_ne!(with_third, first);
        agent.start().await?;
        level("the third host is online", RUN_MAX, async || {
            let online = deployment.operator.status().await?.agents_online;
            Ok(if online == 3 {
                Ok(())
            } else {
                Err(format!("{online} online"))
            })
        })
        .await?;
        let output = start(&with_third, &[])?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        let started: Value = serde_json::from_slice(&output.stdout)?;
        let id = started["run_id"].as_str().unwrap_or_default();
        let ended = deployment.operator.ended(id, RUN_MAX).await?;
        assert_eq!(ended.plan_sha256, with_third);
        assert_eq!(ended.targets[0].agent_ids, ["host-1", "host-2", "host-3"]);
        let runs = support::cordon(&config, &["run", "list", "-o", "json"])?;
        let runs: Value = serde_json::from_str(&runs)?;
        assert_eq!(runs.as_array().map(Vec::len), Some(1), "nothing else was started");
        support::same_state_everywhere(&deployment.cluster).await?;
        agent.shut_down().await?;
        deployment.end().await
    });
}
