//! Playbooks of the library as they are, on real coordinators and agents: what was planted on one host is found there and
//! nowhere else, that host is cut off and let go, and people let it go where the playbook asks them.

mod support;

use std::time::Duration;

use cordon::demo::world::{OperatorClient, WorldError, level, request_id, run_in_words};
use proto::v1;
use serde_json::{Value, json};
use sha2::Digest as _;
use support::{Deployment, RUN_MAX, in_real_world, one_step};

/// How long a level that comes by itself may take on a busy machine.
const LEVEL_MAX: Duration = Duration::from_secs(60);
const PLANTED: &[u8] = b"All your files have been encrypted. Pay to decrypt them.";

/// A playbook of the library.
fn library(name: &str) -> &'static str {
    playbook::library::find(name).expect("it is in the library")
}

/// What a run of it gives.
async fn outputs(operator: &OperatorClient, text: &str, inputs: &Value) -> anyhow::Result<Value> {
    let id = operator.start_run(text, inputs).await?.run_id;
    ended(operator, &id).await
}

async fn ended(operator: &OperatorClient, id: &str) -> anyhow::Result<Value> {
    let run = operator.ended(id, RUN_MAX).await?;
    anyhow::ensure!(run.status == "succeeded", "{}", run_in_words(&run));
    Ok(serde_json::from_str(&run.outputs_json)?)
}

/// Those people approve whatever the run waits for.
async fn approved(people: &[&OperatorClient], id: &str) -> Result<(), WorldError> {
    let seen = level("an approval that waits", LEVEL_MAX, async || {
        let waits = people[0].run(id).await?.waits;
        let Some(first) = waits.first() else {
            return Ok(Err("nothing waits".to_owned()));
        };
        let request = v1::GetApprovalRequest { id: first.id };
        people[0]
            .call("GetApproval", async |mut api| api.get_approval(request).await)
            .await
            .map(Ok)
    })
    .await?;
    for by in people.iter().take(seen.missing as usize) {
        let request = v1::AnswerApprovalRequest {
            id: seen.id,
            binding: seen.binding.clone(),
            verdict: "approve".to_owned(),
            reason: "it is clean".to_owned(),
            output_json: String::new(),
            request_id: request_id(),
        };
        by.call("AnswerApproval", async |mut api| {
            api.answer_approval(request.clone()).await
        })
        .await?;
    }
    Ok(())
}

#[test]
fn what_is_planted_on_one_host_is_found_there_cut_off_and_let_go() {
    in_real_world(async |world| {
        let deployment = Deployment::start(world, 1, 2).await?;
        let (cluster, operator) = (&deployment.cluster, &deployment.operator);
        let roots = [deployment.world.disk()];
        let hosts = ["host-1", "host-2"];
        std::fs::write(deployment.agents[0].disk_outside.join("note.txt"), PLANTED)?;
        let sha256 = hex::encode(sha2::Sha256::digest(PLANTED));

        let inputs = json!({
            "hosts": hosts, "roots": roots, "sha256": [sha256],
            "rules": "rule note { strings: $a = \"files have been encrypted\" condition: $a }",
        });
        let found = outputs(operator, library("ioc-sweep"), &inputs).await?;
        let expected = json!({
            "verdict": "found", "found_on": ["host-1"], "by_hash": ["host-1"], "by_rule": ["host-1"],
            "cut_short": [], "not_asked": 0, "not_searched": [],
        });
        assert_eq!(found, expected);

        // With the rules that the playbook brings, and no process to end.
        let inputs = json!({"hosts": hosts, "roots": roots, "process_exe": "/nowhere/**", "release": true});
        let contained = outputs(operator, library("ransomware-contain"), &inputs).await?;
        let expected = json!({
            "verdict": "infected", "infected": ["host-1"], "not_scanned": [], "isolated": ["host-1"],
            "not_isolated": [], "killed": [], "not_killed": [], "also_present": [], "still_isolated": [],
        });
        assert_eq!(contained, expected);

        // Cut off for long, and let back by people, once what was planted is gone.
        let parameters = json!({"mode": "network", "ttl": "1h"});
        let id = operator
            .start_run(&one_step("cut", "host.isolate", parameters), &json!({}))
            .await?;
        let cut = operator.ended(&id.run_id, RUN_MAX).await?;
        assert_eq!(cut.status, "succeeded", "{}", run_in_words(&cut));
        let node = &cluster.nodes[0];
        let (bob, carol) = (
            cluster.another_operator("bob", node)?,
            cluster.another_operator("carol", node)?,
        );
        for name in ["bob", "carol"] {
            let request = v1::GrantRoleRequest {
                operator_id: name.to_owned(),
                role: "incident-commander".to_owned(),
                request_id: request_id(),
            };
            operator
                .call("GrantRole", async |mut api| api.grant_role(request.clone()).await)
                .await?;
        }
        let inputs =
            json!({"hosts": ["host-1"], "reason": "it was cleaned", "sha256": [sha256], "roots": roots});
        let kept = outputs(operator, library("un-isolate"), &inputs).await?;
        assert_eq!(
            (&kept["still_infected"], &kept["not_released"], &kept["released"]),
            (&json!(["host-1"]), &json!(["host-1"]), &json!([]))
        );
        std::fs::remove_file(deployment.agents[0].disk_outside.join("note.txt"))?;
        let id = operator.start_run(library("un-isolate"), &inputs).await?.run_id;
        approved(&[&bob, &carol], &id).await?;
        let freed = ended(operator, &id).await?;
        let expected = json!({
            "released": ["host-1"], "was_not_isolated": [], "foreign_edits": [], "still_infected": [], "not_released": [],
        });
        assert_eq!(freed, expected);
        deployment.end().await
    });
}
