//! A run waits for people on one of its hosts while the leader is killed; they answer through other nodes, and what
//! they let go happens once.

mod support;

use std::time::Duration;

use cordon::demo::world::{OperatorClient, WorldError, level, request_id};
use proto::v1;
use serde_json::json;
use support::{Deployment, RUN_MAX, in_world};

/// How long a level that comes by itself may take on a busy machine.
const LEVEL_MAX: Duration = Duration::from_secs(60);

/// Only what is labelled critical waits.
const PLAYBOOK: &str = "playbook: careful
version: 1
targets:
  all: {select: \"agent.id != ''\", max: 1000}
steps:
  look:
    targets: all
    do: host.info
    gate:
      when: target.labels.criticality == \"critical\"
      approve: {roles: [commander], quorum: 2, expires: 30m, not: requester}
";

async fn grant(by: &OperatorClient, operator: &str) -> Result<(), WorldError> {
    let request = v1::GrantRoleRequest {
        operator_id: operator.to_owned(),
        role: "commander".to_owned(),
        request_id: request_id(),
    };
    by.call("GrantRole", async |mut api| api.grant_role(request.clone()).await)
        .await
        .map(|_| ())
}

async fn waiting(operator: &OperatorClient, run_id: &str) -> Result<v1::Approval, WorldError> {
    level("an approval that waits", LEVEL_MAX, async || {
        let waits = operator.run(run_id).await?.waits;
        let Some(first) = waits.first() else {
            return Ok(Err("nothing waits".to_owned()));
        };
        let request = v1::GetApprovalRequest { id: first.id };
        operator
            .call("GetApproval", async |mut api| api.get_approval(request).await)
            .await
            .map(Ok)
    })
    .await
}

async fn approve(by: &OperatorClient, seen: &v1::Approval) -> Result<v1::Approval, WorldError> {
    let request = v1::AnswerApprovalRequest {
        id: seen.id,
        binding: seen.binding.clone(),
        verdict: "approve".to_owned(),
        reason: "seen".to_owned(),
        output_json: String::new(),
        request_id: request_id(),
    };
    by.call("AnswerApproval", async |mut api| {
        api.answer_approval(request.clone()).await
    })
    .await
}

/// Why an answer is not taken.
async fn refused(by: &OperatorClient, seen: &v1::Approval) -> String {
    match approve(by, seen).await {
        Ok(taken) => panic!("it was taken: {taken:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_waits_for_people_outlives_the_leader_and_happens_once() {
    in_world(async |world| {
        let deployment = Deployment::start(world, 3, 3).await?;
        let (cluster, operator) = (&deployment.cluster, &deployment.operator);
        let label = v1::SetAgentLabelsRequest {
            id: "host-2".to_owned(),
            labels: [("criticality".to_owned(), "critical".to_owned())].into(),
            request_id: request_id(),
        };
        operator
            .call("SetAgentLabels", async |mut api| {
                api.set_agent_labels(label.clone()).await
            })
            .await?;
        for name in ["bob", "carol"] {
            grant(operator, name).await?;
        }
        let me = operator.status().await?.operator_id;
        assert!(grant(operator, &me).await.is_err(), "nobody gives himself a role");

        let run_id = operator.start_run(PLAYBOOK, &json!({})).await?.run_id;
        level("the other hosts are not held up", LEVEL_MAX, async || {
            let run = operator.run(&run_id).await?;
            let counts = run.steps[0].tasks.unwrap_or_default();
            Ok(match (counts.succeeded, counts.gated) {
                (2, 1) => Ok(()),
                _ => Err(format!("{counts:?}")),
            })
        })
        .await?;
        let asked = waiting(operator, &run_id).await?;
        assert_eq!((asked.quorum, asked.missing, asked.tasks_total), (2, 2, 1));
        assert_eq!(asked.tasks[0].agent_id, "host-2");

        let leader = cluster.leader(None).await?;
        leader.kill().await?;
        cluster.leader(Some(leader.name())).await?;
        let others: Vec<_> = cluster
            .nodes
            .iter()
            .filter(|node| node.name() != leader.name())
            .collect();
        let bob = cluster.another_operator("bob", others[0])?;
        let carol = cluster.another_operator("carol", others[1])?;
        let dave = cluster.another_operator("dave", others[1])?;

        let after = waiting(&bob, &run_id).await?;
        assert_eq!(
            (after.id, &after.binding),
            (asked.id, &asked.binding),
            "it is the same request"
        );
        let why = refused(operator, &asked).await;
        assert!(why.contains("holds none of these roles"), "{why}");
        grant(&bob, &me).await?;
        let why = refused(operator, &asked).await;
        assert!(why.contains("asked for the run"), "{why}");
        let why = refused(&dave, &asked).await;
        assert!(why.contains("holds none of these roles"), "{why}");
        assert_eq!(approve(&bob, &asked).await?.missing, 1);
        let why = refused(&bob, &asked).await;
        assert!(why.contains("counts once"), "{why}");
        let other = v1::Approval {
            binding: "0".repeat(64),
            ..asked.clone()
        };
        let why = refused(&carol, &other).await;
        assert!(why.contains("has changed"), "{why}");
        leader.start().await?;
        assert_eq!(approve(&carol, &asked).await?.status, "approved");

        let run = operator.ended(&run_id, RUN_MAX).await?;
        assert_eq!(run.status, "succeeded", "{}", run.reason);
        let why = refused(&carol, &asked).await;
        assert!(why.contains("is over"), "{why}");
        let tasks = operator.tasks(&run).await?;
        assert_eq!(tasks.len(), 3);
        assert!(
            tasks
                .iter()
                .all(|task| task.status == "succeeded" && task.attempts == 1),
            "{tasks:?}"
        );
        for agent in &deployment.agents {
            let journal = agent.journal().await?;
            let intents = journal
                .iter()
                .filter(|line| line.run_id == run_id && line.record == "intent")
                .count();
            assert_eq!(intents, 1, "each host did it once");
        }
        let audit = operator.audit(&run_id, 0).await?;
        let verbs: Vec<&str> = audit.iter().map(|record| record.verb.as_str()).collect();
        for (verb, times) in [
            ("approval.ask", 1),
            ("approval.approve", 2),
            ("approval.end", 1),
            ("task.release", 1),
            ("refused", 6),
        ] {
            let found = verbs.iter().filter(|other| **other == verb).count();
            assert_eq!(found, times, "{verb} in {verbs:?}");
        }
        leader.ready().await?;
        support::same_state_everywhere(cluster).await?;
        deployment.end().await
    });
}
