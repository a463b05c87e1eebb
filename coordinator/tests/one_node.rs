//! One node, one agent: enrolment, the session, a run, and what is refused.

mod common;

use common::{Cluster, PATIENCE, code, ended, message, retry, run_to_end, start_run, started};
use proto::v1;
use proto::v1::agent_message::Body as Said;
use proto::v1::coordinator_message::Body as Told;
use tonic::Code;

const LOOK: &str = "
playbook: look
version: 1
inputs:
  hosts: {type: list<host>, min: 1}
targets:
  all: {hosts: '${inputs.hosts}'}
steps:
  look:
    targets: all
    do: process.list
    with: {}
";
const NO_PROCESSES: &str = "{\"processes\":[],\"truncated\":false}";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_through_a_real_session() {
    let mut cluster = Cluster::start(1);
    let agent = cluster.enroll(0, "web-1").await;
    let mut session = agent.attach(&cluster.agent_endpoint(0)).await;
    let mut operator = cluster.operator(0).await;
    let run = start_run(&mut operator, LOOK, &["web-1"]).await;

    let assign = session.assignment().await;
    assert_eq!(
        (assign.action.as_str(), assign.impact.as_str()),
        ("process.list", "observe")
    );
    let key = assign.key.unwrap();
    session.succeed(&key, NO_PROCESSES).await;
    let ended_run = run_to_end(&mut operator, &run).await;
    assert_eq!(ended_run.status, "succeeded");
    assert_eq!(ended_run.steps[0].tasks.as_ref().unwrap().succeeded, 1);

    // A repeat is acknowledged again.
    session.report(ended(&key, "succeeded", NO_PROCESSES)).await;
    assert_eq!(session.committed().await.ended, std::slice::from_ref(&key));

    // A report of an attempt that never was is refused, by name, and harms nothing.
    let mut never = key.clone();
    never.run_id = uuid::Uuid::now_v7().to_string();
    session.report(started(&never)).await;
    assert_eq!(session.committed().await.refused[0].key, Some(never));

    // An output that the action does not allow fails the task.
    let run = start_run(&mut operator, LOOK, &["web-1"]).await;
    let key = session.assignment().await.key.unwrap();
    session.report(started(&key)).await;
    let oversized = format!(
        "{{\"processes\":[],\"truncated\":false,\"x\":\"{}\"}}",
        "a".repeat(100_000)
    );
    session.report(ended(&key, "succeeded", &oversized)).await;
    let ended_run = run_to_end(&mut operator, &run).await;
    assert_eq!(ended_run.status, "failed");
    let tasks = operator
        .list_tasks(v1::ListTasksRequest {
            run_id: run,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .tasks;
    assert_eq!(tasks[0].error_code, "bad_output");

    // Why it failed is said of the run and of the task, by its host or its number.
    let ask = |step: &str, task: &str| v1::ExplainRunRequest {
        run_id: ended_run.id.clone(),
        step: step.to_owned(),
        task: task.to_owned(),
    };
    let step = ended_run.steps[0].name.clone();
    for (asked, item) in [
        (ask("", ""), None),
        (ask(&step, "web-1"), Some(0)),
        (ask(&step, "0"), Some(0)),
    ] {
        let said = operator.explain_run(asked).await.unwrap().into_inner();
        assert_eq!((said.status.as_str(), said.item), ("failed", item));
        assert!(said.sentence.contains("web-1 failed"), "{}", said.sentence);
        assert!(said.sentence.contains("bad_output"), "{}", said.sentence);
    }
    for (asked, code) in [
        (ask("no_such_step", ""), tonic::Code::NotFound),
        (ask(&step, "web-9"), tonic::Code::InvalidArgument),
        (ask("", "web-1"), tonic::Code::InvalidArgument),
    ] {
        let refused = operator.explain_run(asked).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
    }

    assert_eq!(cluster.stop(0), Some(0), "SIGTERM stops it cleanly");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_or_is_too_large_is_refused() {
    let cluster = Cluster::start(1);
    let agent = cluster.enroll(0, "web-1").await;
    let endpoint = cluster.agent_endpoint(0);

    let mut hello = agent.hello();
    hello.agent_id = "web-2".into();
    let mut session = agent.open(&endpoint, hello).await.unwrap();
    let refused = session.next().await.unwrap_err();
    assert_eq!(
        (refused.code(), code(&refused)),
        (Code::InvalidArgument, "invalid")
    );
    assert!(refused.message().contains("names another"), "{refused:?}");

    let mut session = agent.attach(&endpoint).await;
    let huge = v1::Heartbeat {
        sequence: 1,
        facts_json: format!("{{\"x\":\"{}\"}}", "a".repeat(20 << 10)),
    };
    session.say.send(message(Said::Heartbeat(huge))).await.unwrap();
    let refused = session.next().await.unwrap_err();
    assert!(refused.message().contains("facts_json"), "{refused:?}");

    // It harmed nobody, itself included.
    agent.attach(&endpoint).await;

    // A revoked agent's stream is cut, and it does not come back.
    let mut session = agent.attach(&endpoint).await;
    let revoke = v1::RevokeAgentRequest {
        id: "web-1".into(),
        reason: "test".into(),
        request_id: String::new(),
    };
    cluster.operator(0).await.revoke_agent(revoke).await.unwrap();
    let last = session.next().await.unwrap();
    assert!(matches!(last, Told::Goodbye(_)), "{last:?}");
    let mut again = agent.open(&endpoint, agent.hello()).await.unwrap();
    assert_eq!(code(&again.next().await.unwrap_err()), "not_enrolled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_once_and_guesses_are_bounded() {
    let cluster = Cluster::start(1);
    cluster.enroll(0, "web-1").await;
    let (_, csr) = certs::new_key_and_csr().unwrap();
    let guess = |n: u32| v1::EnrollRequest {
        token: format!("{n:032x}"),
        csr_der: csr.clone().into(),
        hostname: "x".into(),
    };
    let mut codes = Vec::new();
    for n in 0..12 {
        codes.push(code(&cluster.enroll_raw(0, guess(n)).await.unwrap_err()).to_owned());
    }
    assert_eq!(codes[0], "token");
    assert_eq!(codes.last().unwrap(), "too_many");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_renews_over_its_session() {
    let cluster = Cluster::start(1);
    let agent = cluster.enroll(0, "web-1").await;
    let mut session = agent.attach(&cluster.agent_endpoint(0)).await;
    let (key, csr) = certs::new_key_and_csr().unwrap();
    session
        .say
        .send(message(Said::Renew(v1::RenewRequest { csr_der: csr.into() })))
        .await
        .unwrap();
    let Told::Renewed(renewed) = session.next().await.unwrap() else {
        panic!("a renewal")
    };
    assert_eq!(renewed.refused, "");
    let chain = renewed.chain_der.iter().map(|der| der.to_vec()).collect();
    let renewed = common::Enrolled {
        identity: certs::Identity::new(key, chain).unwrap(),
        ..agent
    };
    renewed.attach(&cluster.agent_endpoint(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_told_with_its_exit_code() {
    let cluster = Cluster::start(1);
    let output = tokio::time::timeout(
        PATIENCE,
        tokio::task::spawn_blocking({
            let mut second = cluster.command(0);
            move || second.output().unwrap()
        }),
    );
    let output = output.await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("cannot listen for operators on 127.") && told.contains("mend:"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_of_another_cluster_is_refused_with_its_exit_code() {
    let mut cluster = Cluster::start(1);
    assert_eq!(cluster.stop(0), Some(0));
    let file = cluster.home(0).join("coordinator.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let at = text.find("id = \"").expect("the cluster's id") + "id = \"".len();
    let other = format!("{}{}{}", &text[..at], uuid::Uuid::now_v7(), &text[at + 36..]);
    std::fs::write(&file, other).unwrap();
    let mut again = cluster.command(0);
    let output = tokio::task::spawn_blocking(move || again.output().unwrap())
        .await
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_larger_than_allowed_is_refused_in_words() {
    let cluster = Cluster::start(1);
    let agent = cluster.enroll(0, "web-1").await;
    let mut session = agent.attach(&cluster.agent_endpoint(0)).await;
    let huge = v1::Heartbeat {
        sequence: 1,
        facts_json: "a".repeat(2 << 20),
    };
    session.say.send(message(Said::Heartbeat(huge))).await.unwrap();
    let refused = session.next().await.unwrap_err();
    assert!(
        refused.message().contains("larger than the 1048576 bytes"),
        "{refused:?}"
    );
    agent.attach(&cluster.agent_endpoint(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_playbook_stays_as_it_is() {
    let mut cluster = Cluster::start(1);
    let operator = cluster.operator(0).await;
    let publish = |yaml: String| {
        let mut operator = operator.clone();
        async move {
            let asked = v1::PublishPlaybookRequest {
                playbook_yaml: yaml,
                note: "test".into(),
                request_id: uuid::Uuid::now_v7().to_string(),
            };
            operator
                .publish_playbook(asked)
                .await
                .map(tonic::Response::into_inner)
        }
    };
    let first = retry(async || publish(LOOK.to_owned()).await.map(tonic::Response::new)).await;
    assert_eq!((first.name.as_str(), first.version), ("look", 1));
    // A lost answer is asked for again.
    assert_eq!(publish(LOOK.to_owned()).await.unwrap(), first);
    let other = publish(format!("{LOOK}\n# changed\n")).await.unwrap_err();
    assert!(other.message().contains("with another text"), "{other:?}");
    let wrong = publish("playbook: look\nversion: 2\nsteps: {}\n".to_owned())
        .await
        .unwrap_err();
    assert!(wrong.message().contains("E0105"), "{wrong:?}");
    let second = publish(LOOK.replace("version: 1", "version: 2")).await.unwrap();
    assert_ne!(second.manifest_sha256, first.manifest_sha256);

    cluster.kill(0);
    cluster.launch(0);
    let mut operator = cluster.operator(0).await;
    let get = v1::GetPlaybookRequest {
        name: "look".into(),
        version: 0,
    };
    let newest = retry(async || operator.get_playbook(get.clone()).await).await;
    assert_eq!(
        (newest.version, newest.playbook_yaml),
        (2, LOOK.replace("version: 1", "version: 2"))
    );
    let list = v1::ListPlaybooksRequest { name: "look".into() };
    let all = operator
        .list_playbooks(list)
        .await
        .unwrap()
        .into_inner()
        .playbooks;
    assert_eq!(all.iter().map(|one| one.version).collect::<Vec<_>>(), [2, 1]);
    assert!(all.iter().all(|one| one.playbook_yaml.is_empty()));
    let none = operator
        .get_playbook(v1::GetPlaybookRequest {
            name: "look".into(),
            version: 7,
        })
        .await
        .unwrap_err();
    assert_eq!(none.code(), Code::NotFound);
}

/// What other runs have locked is left out.
const LOCKED: &str = "
playbook: locked
version: 1
inputs:
  hosts: {type: list<host>, min: 1}
limits: {lock: {each: '${inputs.hosts}', on_conflict: drop_item}}
targets:
  all: {hosts: '${inputs.hosts}'}
steps:
  look:
    targets: all
    do: process.list
    with: {}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_not_in_the_way_of_its_own_repeat() {
    let cluster = Cluster::start(1);
    for host in ["web-1", "web-2"] {
        cluster.enroll(0, host).await;
    }
    let mut operator = cluster.operator(0).await;
    let start = |hosts: &[&str]| v1::StartRunRequest {
        playbook_yaml: LOCKED.into(),
        inputs_json: serde_json::json!({"hosts": hosts}).to_string(),
        request_id: uuid::Uuid::now_v7().to_string(),
        plan_sha256: String::new(),
    };
    let one = start(&["web-1"]);
    let first = operator.start_run(one.clone()).await.unwrap().into_inner();
    // Of these two one is left out; asked again, when the other is locked too, it is the same request still.
    let both = start(&["web-1", "web-2"]);
    let second = operator.start_run(both.clone()).await.unwrap().into_inner();
    assert_eq!(second.targets[0].agent_ids, ["web-2"]);
    for (asked, run) in [(&one, &first), (&both, &second)] {
        let again = operator.start_run(asked.clone()).await.unwrap().into_inner();
        assert_eq!(again.run_id, run.run_id);
        assert_eq!(again.plan_sha256, run.plan_sha256);
    }
    // Also when what was in its way is over.
    let cancel = v1::CancelRunRequest {
        run_id: first.run_id,
        reason: "test".into(),
        request_id: uuid::Uuid::now_v7().to_string(),
        rollback: false,
    };
    operator.cancel_run(cancel.clone()).await.unwrap();
    run_to_end(&mut operator, &cancel.run_id).await;
    let again = operator.start_run(both).await.unwrap().into_inner();
    assert_eq!(again.run_id, second.run_id);
    let other = operator.start_run(start(&["web-2"])).await.unwrap_err();
    assert!(other.message().contains("locked by other runs"), "{other:?}");
}

/// What it does is undone by its `compensate`.
const UNDONE: &str = "
playbook: undone
version: 1
inputs:
  hosts: {type: list<host>, min: 1}
targets:
  all: {hosts: '${inputs.hosts}'}
steps:
  look:
    targets: all
    do: process.list
    with: {}
    compensate: {do: host.release, with: {reason: 'undo of ${run.id}'}}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_does_what_was_shown_or_nothing() {
    let cluster = Cluster::start(1);
    let agent = cluster.enroll(0, "web-1").await;
    let mut session = agent.attach(&cluster.agent_endpoint(0)).await;
    let mut operator = cluster.operator(0).await;
    let run_id = start_run(&mut operator, UNDONE, &["web-1"]).await;
    let roll_back = |plan_sha256: &str, revision: u64| v1::RollbackRunRequest {
        run_id: run_id.clone(),
        reason: "test".into(),
        plan_sha256: plan_sha256.into(),
        revision,
        request_id: uuid::Uuid::now_v7().to_string(),
    };
    let plan = v1::PlanRollbackRequest {
        run_id: run_id.clone(),
    };
    let key = session.assignment().await.key.unwrap();
    let early = operator.rollback_run(roll_back("", 0)).await.unwrap_err();
    assert!(early.message().contains("only what is over"), "{early:?}");
    let before = operator.plan_rollback(plan.clone()).await.unwrap().into_inner();
    assert!(before.undo.is_empty(), "nothing was done yet");
    session.succeed(&key, NO_PROCESSES).await;
    run_to_end(&mut operator, &run_id).await;

    let shown = operator.plan_rollback(plan.clone()).await.unwrap().into_inner();
    assert_eq!((shown.undo.len(), shown.undo[0].tasks_total), (1, 1));
    assert_eq!(shown.undo[0].action, "host.release");
    let task = &shown.undo[0].tasks[0];
    assert_eq!(task.agent_id, "web-1");
    assert_eq!(
        task.parameters_json,
        format!("{{\"reason\":\"undo of {run_id}\"}}")
    );
    let now = (shown.plan_sha256.as_str(), shown.revision);
    for (plan, revision) in [
        ("", now.1),
        (&before.plan_sha256, now.1),
        (now.0, before.revision),
    ] {
        let refused = operator
            .rollback_run(roll_back(plan, revision))
            .await
            .unwrap_err();
        assert!(refused.message().contains("look again"), "{refused:?}");
    }

    let asked = roll_back(now.0, now.1);
    let told = operator.rollback_run(asked.clone()).await.unwrap().into_inner();
    assert_eq!(told.status, "rolling_back");
    // A lost answer is asked for again, though another plan would be shown by now.
    operator.rollback_run(asked).await.unwrap();
    let assign = session.assignment().await;
    let key = assign.key.unwrap();
    assert_eq!(
        (key.step.as_str(), assign.action.as_str()),
        ("undo-look", "host.release")
    );
    let released = "{\"released\":true,\"was_isolated\":true,\"foreign_edits\":[]}";
    session.succeed(&key, released).await;
    let run = run_to_end(&mut operator, &run_id).await;
    assert_eq!(
        (run.status.as_str(), run.rollback.as_str()),
        ("succeeded", "succeeded")
    );
    assert_eq!(run.steps[1].about, "look");
    let nothing = operator.rollback_run(roll_back(now.0, now.1)).await.unwrap_err();
    assert!(nothing.message().contains("nothing of run"), "{nothing:?}");
}
