//! The command against coordinators that answer as they are told: failures, moves, hostile text, exit codes.

#[path = "online/events.rs"]
mod events;
#[path = "online/explain.rs"]
mod explain;
#[path = "online/plans.rs"]
mod plans;
#[path = "online/rollback.rs"]
mod rollback;
#[path = "online/timeline.rs"]
mod timeline;

use std::{
    pin::Pin,
    process::Output,
    sync::{Arc, Mutex},
};

use certs::{
    Identity, Role, Roots,
    init::{self, Member},
    tls::{ServerTls, incoming, listen},
};
use proto::v1::{
    operator_service_server::{OperatorService, OperatorServiceServer},
    *,
};
use sha2::{Digest, Sha256};
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What one coordinator does.
#[derive(Clone, Default)]
struct Script {
    agents: Vec<Agent>,
    /// Refuses everything with this.
    refusal: Option<Status>,
    /// Sends these and then breaks off, unless the last one ends the run.
    runs: Vec<Run>,
    evidence: Vec<u8>,
    /// Sends this much of the evidence, then breaks off.
    evidence_until: Option<usize>,
    /// The one approval that there is.
    approval: Approval,
    /// What a rollback would do.
    undo: PlanRollbackReply,
    /// What every run would do.
    plan: Plan,
    /// Why every run is as it is.
    why: ExplainRunReply,
    replay: ReplayRunReply,
    /// The audit, all of it of the one run.
    audit: Vec<AuditRecord>,
    tasks: Vec<Task>,
}

/// What a coordinator was asked.
#[derive(Default)]
struct Asked {
    request_ids: Vec<String>,
    watches: Vec<u64>,
    offsets: Vec<u64>,
    answers: Vec<AnswerApprovalRequest>,
    rollbacks: Vec<RollbackRunRequest>,
    cancels: Vec<CancelRunRequest>,
    plans: Vec<PlanRunRequest>,
    starts: Vec<StartRunRequest>,
    explains: Vec<ExplainRunRequest>,
    events: Vec<SendEventsRequest>,
    submissions: Vec<SubmitHeader>,
}

#[derive(Clone)]
struct Fake {
    script: Script,
    asked: Arc<Mutex<Asked>>,
}

impl Fake {
    fn refuse(&self) -> Result<(), Status> {
        self.script.refusal.clone().map_or(Ok(()), Err)
    }
}

macro_rules! unasked {
    ($($name:ident($request:ty) -> $reply:ty;)*) => {
        #[tonic::async_trait]
        impl OperatorService for Fake {
            type WatchRunStream = Answers<RunEvent>;
            type WatchApprovalsStream = Answers<Approval>;
            type GetEvidenceStream = Answers<EvidenceData>;

            async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
                self.refuse()?;
                Ok(Response::new(StatusReply { node_id: "c1".into(), ..StatusReply::default() }))
            }

            async fn list_agents(&self, _: Request<ListAgentsRequest>) -> Result<Response<ListAgentsReply>, Status> {
                self.refuse()?;
                Ok(Response::new(ListAgentsReply { agents: self.script.agents.clone(), next_after_id: String::new() }))
            }

            async fn get_run(&self, _: Request<GetRunRequest>) -> Result<Response<Run>, Status> {
                self.refuse()?;
                self.script.runs.last().cloned().map(Response::new).ok_or_else(|| Status::not_found("no run"))
            }

            async fn cancel_run(&self, request: Request<CancelRunRequest>) -> Result<Response<CancelRunReply>, Status> {
                let request = request.into_inner();
                let mut asked = self.asked.lock().unwrap();
                asked.request_ids.push(request.request_id.clone());
                asked.cancels.push(request);
                self.refuse()?;
                Ok(Response::new(CancelRunReply { status: "cancelling".into() }))
            }

            async fn plan_rollback(&self, _: Request<PlanRollbackRequest>) -> Result<Response<PlanRollbackReply>, Status> {
                self.refuse()?;
                Ok(Response::new(self.script.undo.clone()))
            }

            async fn rollback_run(&self, request: Request<RollbackRunRequest>) -> Result<Response<ControlRunReply>, Status> {
                self.asked.lock().unwrap().rollbacks.push(request.into_inner());
                Ok(Response::new(ControlRunReply { status: "rolling_back".into() }))
            }

            async fn watch_run(&self, request: Request<WatchRunRequest>) -> Result<Response<Answers<RunEvent>>, Status> {
                self.asked.lock().unwrap().watches.push(request.into_inner().after_revision);
                self.refuse()?;
                let over = self.script.runs.last().is_some_and(|run| run.ended_at_ms > 0);
                let events = self.script.runs.clone().into_iter().map(|run| Ok(RunEvent { run: Some(run) }));
                let end = (!over).then(|| Err(Status::unavailable("stopping")));
                Ok(Response::new(Box::pin(tokio_stream::iter(events.chain(end)))))
            }

            async fn get_evidence(&self, request: Request<GetEvidenceRequest>) -> Result<Response<Answers<EvidenceData>>, Status> {
                let offset = request.into_inner().offset_bytes;
                self.asked.lock().unwrap().offsets.push(offset);
                let all = &self.script.evidence;
                let until = self.script.evidence_until.unwrap_or(all.len());
                let data = all[offset as usize..until].to_vec().into();
                let part = Ok(EvidenceData { data, size_bytes: all.len() as u64 });
                let end = (until < all.len()).then(|| Err(Status::unavailable("stopping")));
                Ok(Response::new(Box::pin(tokio_stream::iter([part].into_iter().chain(end)))))
            }

            async fn plan_run(&self, request: Request<PlanRunRequest>) -> Result<Response<Plan>, Status> {
                self.refuse()?;
                self.asked.lock().unwrap().plans.push(request.into_inner());
                Ok(Response::new(self.script.plan.clone()))
            }

            async fn start_run(&self, request: Request<StartRunRequest>) -> Result<Response<StartRunReply>, Status> {
                self.refuse()?;
                let asked = request.into_inner();
                let plan_sha256 = asked.plan_sha256.clone();
                self.asked.lock().unwrap().starts.push(asked);
                let warnings = self.script.plan.warnings.clone();
                Ok(Response::new(StartRunReply { run_id: "r1".into(), plan_sha256, warnings, ..StartRunReply::default() }))
            }

            async fn list_audit(&self, request: Request<ListAuditRequest>) -> Result<Response<ListAuditReply>, Status> {
                let asked = request.into_inner();
                let mut behind = self.script.audit.iter().filter(|record| record.sequence > asked.after_sequence).cloned();
                let records: Vec<_> = behind.by_ref().take(asked.limit as usize).collect();
                let next_after = behind.next().and(records.last()).map_or(0, |last| last.sequence);
                Ok(Response::new(ListAuditReply { records, next_after, ..ListAuditReply::default() }))
            }

            async fn list_tasks(&self, _: Request<ListTasksRequest>) -> Result<Response<ListTasksReply>, Status> {
                Ok(Response::new(ListTasksReply { tasks: self.script.tasks.clone(), next_after: 0 }))
            }

            async fn explain_run(&self, request: Request<ExplainRunRequest>) -> Result<Response<ExplainRunReply>, Status> {
                self.refuse()?;
                self.asked.lock().unwrap().explains.push(request.into_inner());
                Ok(Response::new(self.script.why.clone()))
            }

            /// There is no room at first; then events are taken that are for a trigger, but for those that say `bad`.
            async fn send_events(&self, request: Request<SendEventsRequest>) -> Result<Response<SendEventsReply>, Status> {
                let mut asked = self.asked.lock().unwrap();
                let request = request.into_inner();
                asked.events.push(request.clone());
                if asked.events.len() == 1 {
                    let mut full = Status::resource_exhausted("10000 firings wait");
                    full.metadata_mut().insert("cordon-code", "full".parse().unwrap());
                    return Err(full);
                }
                let events: Vec<_> = request
                    .events
                    .iter()
                    .map(|text| EventTaken {
                        problem: text.contains("bad").then(|| "it is \x1b[2J".to_owned()).unwrap_or_default(),
                        triggers: 1,
                        ..EventTaken::default()
                    })
                    .collect();
                Ok(Response::new(SendEventsReply { fired: 1, deduplicated: 2, heard: 3, events }))
            }

            /// A file is taken whose bytes are those that were announced.
            async fn submit(&self, request: Request<Streaming<SubmitChunk>>) -> Result<Response<SubmitReply>, Status> {
                self.refuse()?;
                let (mut chunks, mut header, mut size_bytes) = (request.into_inner(), None, 0);
                while let Some(chunk) = chunks.message().await? {
                    header = header.or(chunk.header);
                    size_bytes += chunk.data.len() as u64;
                }
                self.asked.lock().unwrap().submissions.push(header.expect("the first chunk has it"));
                let event = SendEventsReply { fired: 1, ..SendEventsReply::default() };
                Ok(Response::new(SubmitReply { sha256: "ab".into(), size_bytes, copies: 2, event: Some(event) }))
            }

            async fn replay_run(&self, _: Request<ReplayRunRequest>) -> Result<Response<ReplayRunReply>, Status> {
                Ok(Response::new(self.script.replay.clone()))
            }

            async fn get_approval(&self, _: Request<GetApprovalRequest>) -> Result<Response<Approval>, Status> {
                Ok(Response::new(self.script.approval.clone()))
            }

            async fn list_approvals(&self, _: Request<ListApprovalsRequest>) -> Result<Response<ListApprovalsReply>, Status> {
                self.refuse()?;
                let approvals = vec![self.script.approval.clone()];
                Ok(Response::new(ListApprovalsReply { approvals, next_before_id: 0 }))
            }

            async fn answer_approval(&self, request: Request<AnswerApprovalRequest>) -> Result<Response<Approval>, Status> {
                self.asked.lock().unwrap().answers.push(request.into_inner());
                self.refuse()?;
                Ok(Response::new(self.script.approval.clone()))
            }

            async fn watch_approvals(&self, _: Request<WatchApprovalsRequest>) -> Result<Response<Answers<Approval>>, Status> {
                self.refuse()?;
                let end = Status::permission_denied("enough");
                Ok(Response::new(Box::pin(tokio_stream::iter([Ok(self.script.approval.clone()), Err(end)]))))
            }

            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$reply>, Status> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

unasked! {
    cluster_status(ClusterStatusRequest) -> ClusterStatusReply;
    publish_playbook(PublishPlaybookRequest) -> PublishedPlaybook;
    list_playbooks(ListPlaybooksRequest) -> ListPlaybooksReply;
    get_playbook(GetPlaybookRequest) -> PublishedPlaybook;
    add_member(AddMemberRequest) -> AddMemberReply;
    remove_member(RemoveMemberRequest) -> RemoveMemberReply;
    transfer_leader(TransferLeaderRequest) -> TransferLeaderReply;
    get_agent(GetAgentRequest) -> Agent;
    set_agent_labels(SetAgentLabelsRequest) -> Agent;
    revoke_agent(RevokeAgentRequest) -> RevokeAgentReply;
    create_enroll_token(CreateEnrollTokenRequest) -> CreateEnrollTokenReply;
    list_enroll_tokens(ListEnrollTokensRequest) -> ListEnrollTokensReply;
    revoke_enroll_token(RevokeEnrollTokenRequest) -> RevokeEnrollTokenReply;
    pause_run(PauseRunRequest) -> ControlRunReply;
    resume_run(ResumeRunRequest) -> ControlRunReply;
    retry_run(RetryRunRequest) -> ControlRunReply;
    settle_task(SettleTaskRequest) -> ControlRunReply;
    list_runs(ListRunsRequest) -> ListRunsReply;
    list_evidence(ListEvidenceRequest) -> ListEvidenceReply;
    verify_evidence(VerifyEvidenceRequest) -> VerifyEvidenceReply;
    list_triggers(ListTriggersRequest) -> ListTriggersReply;
    set_trigger(SetTriggerRequest) -> Trigger;
    list_roles(ListRolesRequest) -> ListRolesReply;
    grant_role(GrantRoleRequest) -> GrantRoleReply;
    revoke_role(RevokeRoleRequest) -> RevokeRoleReply;
}

/// A cluster of scripted coordinators with the files of `cordon init`.
struct Cluster {
    folder: tempfile::TempDir,
    asked: Vec<Arc<Mutex<Asked>>>,
}

impl Cluster {
    async fn start(scripts: Vec<Script>) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("fleet");
        let listeners: Vec<_> = scripts
            .iter()
            .map(|_| listen("127.0.0.1:0".parse().unwrap()).unwrap())
            .collect();
        let members: Vec<Member> = listeners
            .iter()
            .zip(1u16..)
            .map(|(listener, n)| {
                // Only the operators' port is used; the others merely differ.
                let port = listener.local_addr().unwrap().port();
                let text = format!(
                    "c{n}=127.0.0.1,operator={port},agent={},peer={},enroll={}",
                    n * 3,
                    n * 3 + 1,
                    n * 3 + 2
                );
                text.parse().unwrap()
            })
            .collect();
        init::create(&home, "cordon.test", members, "ada").unwrap();
        let mut asked = Vec::new();
        for ((script, listener), n) in scripts.into_iter().zip(listeners).zip(1..) {
            let identity = Identity::load(&home.join(format!("coordinators/c{n}/identity"))).unwrap();
            let roots = Roots::load(&home.join("ca/operator.crt")).unwrap();
            let tls = ServerTls::new(identity, Some(roots), Some(Role::Operator), "cordon.test").unwrap();
            let fake = Fake {
                script,
                asked: Arc::default(),
            };
            asked.push(fake.asked.clone());
            let server = tonic::transport::Server::builder().add_service(OperatorServiceServer::new(fake));
            tokio::spawn(server.serve_with_incoming(incoming(listener, tls)));
        }
        Cluster { folder, asked }
    }

    async fn cordon(&self, command: &str) -> Output {
        tokio::process::Command::new(env!("CARGO_BIN_EXE_cordon"))
            .args(command.split(' '))
            .arg("--config")
            .arg(self.folder.path().join("fleet/operators/ada/config.toml"))
            .current_dir(self.folder.path())
            .env_clear()
            .output()
            .await
            .unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn at(revision: u64, status: &str, step: &str) -> Run {
    Run {
        id: "r1".into(),
        status: status.into(),
        revision,
        ended_at_ms: if status == "running" { 0 } else { 1_700_000_000_000 },
        steps: vec![Step {
            name: "find".into(),
            status: step.into(),
            ..Step::default()
        }],
        ..Run::default()
    }
}

#[tokio::test]
async fn what_an_endpoint_says_never_drives_the_terminal() {
    let hostile = Agent {
        id: "web-1".into(),
        alarm: "\x1b[2J\u{202e}gone\r\n".into(),
        ..Agent::default()
    };
    let cluster = Cluster::start(vec![Script {
        agents: vec![hostile],
        ..Script::default()
    }])
    .await;
    for format in ["table", "json", "jsonl"] {
        let output = cluster.cordon(&format!("agent list -o {format}")).await;
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        let text = out(&output);
        assert!(
            text.contains("gone") && !text.contains(['\x1b', '\u{202e}', '\r']),
            "{text:?}"
        );
    }
}

#[tokio::test]
async fn a_refusal_shows_its_code_and_hint() {
    let mut metadata = MetadataMap::new();
    metadata.insert("cordon-code", "role.needed".parse().unwrap());
    metadata.insert("cordon-hint", "ask an admin".parse().unwrap());
    for (code, exit) in [
        (Code::PermissionDenied, 5),
        (Code::NotFound, 3),
        (Code::FailedPrecondition, 6),
        (Code::InvalidArgument, 7),
        (Code::Internal, 70),
    ] {
        let refusal = Status::with_metadata(code, "viewers may not do that", metadata.clone());
        let cluster = Cluster::start(vec![Script {
            refusal: Some(refusal),
            ..Script::default()
        }])
        .await;
        let output = cluster.cordon("status").await;
        assert_eq!(output.status.code(), Some(exit));
        assert_eq!(
            err(&output),
            "error: viewers may not do that\n  code: role.needed\n  help: ask an admin\n"
        );
    }
}

#[tokio::test]
async fn what_a_coordinator_says_is_told_before_that_another_is_gone() {
    let mut metadata = MetadataMap::new();
    metadata.insert("cordon-code", "no_leader".parse().unwrap());
    let refusal = Status::with_metadata(Code::Unavailable, "there is no leader", metadata);
    let cluster = Cluster::start(vec![Script {
        refusal: Some(refusal),
        ..Script::default()
    }])
    .await;
    let config = cluster.path("fleet/operators/ada/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    // Nobody listens on port 1, whose turn is after the coordinator that answers.
    let text = text
        .replace("endpoints = [", "endpoints = [\"127.0.0.1:1\", ")
        .replace("\"]", "\", \"127.0.0.1:1\"]");
    std::fs::write(&config, text).unwrap();
    let output = cluster.cordon("run cancel r1 --reason test").await;
    assert_eq!(output.status.code(), Some(4));
    assert!(err(&output).contains("there is no leader"), "{}", err(&output));
    assert!(err(&output).contains("code: no_leader"), "{}", err(&output));
}

#[tokio::test]
async fn a_request_moves_on_with_the_same_id() {
    let gone = Script {
        refusal: Some(Status::unavailable("no leader")),
        ..Script::default()
    };
    let cluster = Cluster::start(vec![gone, Script::default()]).await;
    let output = cluster.cordon("run cancel r1 --reason test -o json").await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value, serde_json::json!({ "id": "r1", "status": "cancelling" }));
    let ids: Vec<_> = cluster
        .asked
        .iter()
        .map(|asked| asked.lock().unwrap().request_ids.clone())
        .collect();
    assert_eq!((ids[0].len(), &ids[0]), (1, &ids[1]));
}

#[tokio::test]
async fn a_watch_goes_on_at_the_next_coordinator() {
    for (end, exit) in [("succeeded", 0), ("failed", 1), ("cancelled", 1)] {
        let first = Script {
            runs: vec![at(1, "running", "running"), at(4, "running", "running")],
            ..Script::default()
        };
        let second = Script {
            runs: vec![at(9, end, "succeeded")],
            ..Script::default()
        };
        let cluster = Cluster::start(vec![first, second]).await;
        let output = cluster.cordon("run watch r1").await;
        assert_eq!(output.status.code(), Some(exit), "{}", err(&output));
        assert!(
            out(&output).ends_with(&format!("run r1 {end}\n")),
            "{}",
            out(&output)
        );
        // Each change is a line, once.
        assert_eq!(out(&output).matches("find").count(), 2, "{}", out(&output));
        assert_eq!(cluster.asked[0].lock().unwrap().watches, [0]);
        assert_eq!(cluster.asked[1].lock().unwrap().watches, [4]);
    }
}

#[tokio::test]
async fn evidence_is_resumed_elsewhere_and_verified() {
    let bytes = vec![7; 300_000];
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let first = Script {
        evidence: bytes.clone(),
        evidence_until: Some(100_000),
        ..Script::default()
    };
    let second = Script {
        evidence: bytes.clone(),
        ..Script::default()
    };
    let cluster = Cluster::start(vec![first, second]).await;
    let output = cluster.cordon(&format!("evidence get {sha256} --to note")).await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(std::fs::read(cluster.path("note")).unwrap(), bytes);
    assert_eq!(cluster.asked[1].lock().unwrap().offsets, [100_000]);

    let again = cluster.cordon(&format!("evidence get {sha256} --to note")).await;
    assert_eq!(again.status.code(), Some(6), "it was overwritten");

    let lie = "0".repeat(64);
    let output = cluster.cordon(&format!("evidence get {lie} --to lie")).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("nothing was kept"));
    assert!(!cluster.path("lie").exists() && !cluster.path("lie.part").exists());
}

#[tokio::test]
async fn a_strangers_certificate_is_explained() {
    let cluster = Cluster::start(vec![Script::default()]).await;
    let other = cluster.path("other");
    init::create(&other, "cordon.test", vec!["c1=h".parse().unwrap()], "ada").unwrap();
    let mine = cluster.path("fleet/operators/ada/identity");
    std::fs::remove_dir_all(&mine).unwrap();
    std::fs::rename(other.join("operators/ada/identity"), mine).unwrap();
    let output = cluster.cordon("status").await;
    assert_eq!(output.status.code(), Some(5), "{}", err(&output));
    assert!(err(&output).contains("does not trust the CA"), "{}", err(&output));

    // And a server that is not ours is not believed.
    std::fs::copy(
        other.join("ca/coordinator.crt"),
        cluster.path("fleet/operators/ada/roots/coordinator.pem"),
    )
    .unwrap();
    let output = cluster.cordon("status").await;
    assert_eq!(output.status.code(), Some(4), "{}", err(&output));
    assert!(err(&output).contains("not trusted here"), "{}", err(&output));
}

const ISOLATE: &str = "playbook: x\nversion: 1\ninputs:\n  hosts: {type: list<host>}\ntargets:\n  all: {hosts: \"${inputs.hosts}\"}\nsteps:\n  cut:\n    do: host.isolate\n    targets: all\n    with: {mode: network, ttl: 1h}\n";

#[tokio::test]
async fn a_run_colours_the_picture_of_what_it_ran_and_of_nothing_else() {
    let text = "playbook: p\nversion: 1\ntargets: {all: {select: \"true\"}}\nsteps:\n  find: {do: host.info, targets: all}\n";
    let mut run = at(3, "failed", "failed");
    run.manifest_sha256 = playbook::compile(text).unwrap().manifest.sha256();
    let cluster = Cluster::start(vec![Script {
        runs: vec![run],
        ..Script::default()
    }])
    .await;
    std::fs::write(cluster.path("p.yaml"), text).unwrap();
    let output = cluster.cordon("playbook graph p.yaml --run r1").await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(
        out(&output).ends_with("  class s_find failed\n"),
        "{}",
        out(&output)
    );

    std::fs::write(cluster.path("p.yaml"), text.replace("version: 1", "version: 2")).unwrap();
    let output = cluster.cordon("playbook graph p.yaml --run r1").await;
    assert_eq!(output.status.code(), Some(6));
    assert!(
        err(&output).contains("compiles to something else"),
        "{}",
        err(&output)
    );
}

#[tokio::test]
async fn an_answer_names_what_was_seen_and_goes_on_with_the_same_id() {
    let approval = Approval {
        id: 3,
        kind: "question".into(),
        status: "waiting".into(),
        binding: "beef".into(),
        missing: 1,
        quorum: 1,
        text: "\x1b[2Jwhich?".into(),
        form: vec![FormField {
            name: "n".into(),
            r#type: "int".into(),
            ..FormField::default()
        }],
        ..Approval::default()
    };
    let gone = Script {
        approval: approval.clone(),
        refusal: Some(Status::unavailable("no leader")),
        ..Script::default()
    };
    let there = Script {
        approval,
        ..Script::default()
    };
    let cluster = Cluster::start(vec![gone, there]).await;
    let output = cluster
        .cordon("approval answer 3 --reason seen --set n=5 -o json")
        .await;
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let answers: Vec<_> = cluster
        .asked
        .iter()
        .map(|asked| asked.lock().unwrap().answers.clone())
        .collect();
    assert_eq!((answers[0].len(), &answers[0]), (1, &answers[1]));
    let answer = &answers[0][0];
    assert_eq!(
        (answer.binding.as_str(), answer.verdict.as_str()),
        ("beef", "answer")
    );
    assert_eq!(answer.output_json, r#"{"n":5}"#);

    // What was seen before can be named, so that nothing else is let go.
    cluster
        .cordon("approval approve 3 --reason seen --binding dead")
        .await;
    let last = cluster.asked[1].lock().unwrap().answers.last().cloned();
    assert_eq!(
        last.map(|answer| (answer.verdict, answer.binding)),
        Some(("approve".into(), "dead".into()))
    );

    let output = cluster.cordon("approval approve 3").await;
    assert_eq!(output.status.code(), Some(2), "a reason is required");
    for command in ["approval show 3", "approval list", "approval watch"] {
        for format in ["table", "json", "jsonl"] {
            let output = cluster.cordon(&format!("{command} -o {format}")).await;
            let text = out(&output);
            assert!(
                text.contains("which?") && !text.contains('\x1b'),
                "{command}: {text:?} {}",
                err(&output)
            );
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_not_taken_says_why() {
    let mut metadata = MetadataMap::new();
    metadata.insert("cordon-code", "approval_late".parse().unwrap());
    for (code, exit) in [
        (Code::FailedPrecondition, 6),
        (Code::AlreadyExists, 6),
        (Code::PermissionDenied, 5),
    ] {
        let cluster = Cluster::start(vec![Script {
            refusal: Some(Status::with_metadata(
                code,
                "approval 3 is over: expired",
                metadata.clone(),
            )),
            ..Script::default()
        }])
        .await;
        let output = cluster.cordon("approval deny 3 --reason no").await;
        assert_eq!(output.status.code(), Some(exit));
        assert_eq!(
            err(&output),
            "error: approval 3 is over: expired\n  code: approval_late\n"
        );
    }
}
