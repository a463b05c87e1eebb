//! `cordon-agent` as a process: enrolment with a lost answer, crashes at each stage, loose files.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certs::tls::ServerTls;
use certs::{Identity, Role, SpiffeId, Validity};
use common::{Authorities, Node, PATIENCE, Store, TRUST_DOMAIN, assign, key, tell};
use proto::v1;
use proto::v1::enroll_service_server::{EnrollService, EnrollServiceServer};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tonic::{Request, Response, Status};

struct Enrolling {
    authorities: Arc<Authorities>,
    agent_endpoint: String,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

#[tonic::async_trait]
impl EnrollService for Enrolling {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollReply>, Status> {
        let request = request.into_inner();
        if request.token != "good" {
            return Err(Status::permission_denied("the token is not known"));
        }
        let mut seen = self.seen.lock().unwrap();
        seen.push(request.csr_der.to_vec());
        if seen.len() == 1 {
            return Err(Status::unavailable("the answer was lost"));
        }
        let name = SpiffeId::new(TRUST_DOMAIN, Role::Agent, &request.hostname).unwrap();
        let hour = Validity::lasting(Duration::from_secs(3_600));
        let chain = self
            .authorities
            .agents
            .issue_from_csr(&request.csr_der, &name, hour)
            .unwrap();
        let roots = self.authorities.coordinators.roots().unwrap();
        Ok(Response::new(v1::EnrollReply {
            agent_id: request.hostname,
            trust_domain: TRUST_DOMAIN.into(),
            chain_der: chain.into_iter().map(Into::into).collect(),
            coordinator_roots_der: roots.der().map(|der| der.to_vec().into()).collect(),
            agent_endpoints: vec![self.agent_endpoint.clone()],
        }))
    }
}

/// An enrolment listener: its address, and the requests that it saw.
async fn enrolment(authorities: &Arc<Authorities>, node: &Node) -> (String, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = certs::tls::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    let hour = Validity::lasting(Duration::from_secs(3_600));
    let identity = authorities.identity(Role::Coordinator, "c1", hour);
    let tls = ServerTls::new(identity, None, None, TRUST_DOMAIN).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = Enrolling {
        authorities: authorities.clone(),
        agent_endpoint: node.addr.to_string(),
        seen: seen.clone(),
    };
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(EnrollServiceServer::new(service))
            .serve_with_incoming(certs::tls::incoming(listener, tls)),
    );
    (addr.to_string(), seen)
}

fn agent(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cordon-agent"));
    command
        .arg("run")
        .arg("--config")
        .arg(config)
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cordon-agent"))
        .args(arguments)
        .output()
        .await
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn write_config(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("agent.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    path
}

async fn journal(config: &str) -> Vec<Value> {
    let (code, out, err) = output(&["journal", "--config", config, "--json"]).await;
    assert_eq!(code, Some(0), "{err}");
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn count(records: &[Value], kind: &str, item: u32) -> usize {
    records
        .iter()
        .filter(|record| record["record"] == kind && record["item"] == item)
        .count()
}

async fn wait(child: &mut Child) -> std::process::ExitStatus {
    tokio::time::timeout(PATIENCE, child.wait())
        .await
        .expect("the process ends")
        .unwrap()
}

#[tokio::test]
async fn an_agent_enrolls_crashes_and_repeats_nothing() {
    let (authorities, store) = (Arc::new(Authorities::new()), Store::default());
    let mut node = Node::start(&authorities, &store).await;
    let (endpoint, seen) = enrolment(&authorities, &node).await;
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(
        folder.path(),
        "state_dir = \"state\"\n[isolation]\nmode = \"check\"\n",
    );
    let path = config.to_str().unwrap();
    let pin = hex::encode(authorities.coordinators.roots().unwrap().pin());
    let enroll = |token: &'static str, pin: String| {
        let (path, endpoint) = (path.to_owned(), endpoint.clone());
        async move {
            output(&[
                "enroll",
                "--config",
                &path,
                "--token",
                token,
                "--ca-sha256",
                &pin,
                "--endpoint",
                &endpoint,
                "--hostname",
                "web-7",
            ])
            .await
        }
    };

    // Not enrolled; a wrong pin; a wrong token; a lost answer; and then.
    assert_eq!(output(&["run", "--config", path]).await.0, Some(4));
    let (code, _, err) = enroll("good", "00".repeat(32)).await;
    assert_eq!(code, Some(7), "{err}");
    let (code, _, err) = enroll("bad", pin.clone()).await;
    assert!(code == Some(6) && err.contains("token"), "{err}");
    let (code, _, err) = enroll("good", pin.clone()).await;
    assert!(code == Some(7) && err.contains("again"), "{err}");
    let (code, out, err) = enroll("good", pin.clone()).await;
    // Compared as values: the order of a map's keys is not the same in every build.
    let told: serde_json::Value = serde_json::from_str(&out).expect("one JSON document");
    assert_eq!(
        (code, told),
        (
            Some(0),
            serde_json::json!({"agent_id": "web-7", "enrolled": true})
        ),
        "{err}"
    );
    {
        let seen = seen.lock().unwrap();
        assert_eq!(seen[0], seen[1], "the repeat shows the same key");
    }
    assert_eq!(enroll("good", pin).await.0, Some(4));
    assert!(!folder.path().join("state/enrolling").exists());
    assert_eq!(output(&["check", "--config", path]).await.0, Some(0));

    // It dies between the intent and the act.
    let kill = r#"{"processes":[{"pid":4194303,"start_ticks":1}],"signal":"TERM"}"#;
    let mut child = agent(&config)
        .env("CORDON_KILL_AT", "after-intent:process.kill")
        .spawn()
        .unwrap();
    let (_, say, _) = node.session().await;
    tell(&say, assign(0, "process.kill", kill, "destroy")).await;
    assert_eq!(wait(&mut child).await.code(), None);
    // It dies between the outcome and the report.
    let mut child = agent(&config)
        .env("CORDON_KILL_AT", "after-outcome:host.info")
        .spawn()
        .unwrap();
    let (hello, say, _) = node.session().await;
    assert_eq!(hello.running, [key(0)]);
    let (ended_key, ended) = node.ended().await;
    assert_eq!(
        (ended_key, ended.status.as_str(), ended.error_code.as_str()),
        (key(0), "unknown", "interrupted")
    );
    tell(&say, assign(1, "host.info", "{}", "observe")).await;
    assert_eq!(wait(&mut child).await.code(), None);

    // It lives: both are answered, neither is done again.
    let mut child = agent(&config).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready: serde_json::Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!(ready, serde_json::json!({"ready": true, "agent": "web-7"}));
    let (_, say, _) = node.session().await;
    tell(&say, assign(0, "process.kill", kill, "destroy")).await;
    tell(&say, assign(1, "host.info", "{}", "observe")).await;
    let mut statuses = std::collections::BTreeMap::new();
    while statuses.len() < 2 {
        let (key, ended) = node.ended().await;
        statuses.insert(key.item, ended.status);
    }
    assert_eq!(
        (statuses[&0].as_str(), statuses[&1].as_str()),
        ("unknown", "succeeded")
    );
    let records = journal(path).await;
    for item in [0, 1] {
        assert_eq!(
            (count(&records, "intent", item), count(&records, "outcome", item)),
            (1, 1),
            "{records:?}"
        );
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().unwrap())).unwrap();
    eprintln!(
        "{}",
        status
            .lines()
            .filter(|line| line.starts_with("VmRSS") || line.starts_with("RssAnon"))
            .collect::<Vec<_>>()
            .join(" ")
    );

    // A second one on the same folder; and SIGTERM.
    assert_eq!(output(&["run", "--config", path]).await.0, Some(5));
    let committed = v1::ReportsCommitted {
        ended: vec![key(0), key(1)],
        ..v1::ReportsCommitted::default()
    };
    tell(&say, v1::coordinator_message::Body::Committed(committed)).await;
    let pid = rustix::process::Pid::from_raw(child.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(wait(&mut child).await.code(), Some(0));
}

#[tokio::test]
async fn loose_files_are_refused_with_the_command_that_mends_them() {
    let folder = tempfile::tempdir().unwrap();
    let authorities = Authorities::new();
    let config = write_config(
        folder.path(),
        "state_dir = \"state\"\ncoordinators = [\"127.0.0.1:1\"]\n",
    );
    let path = config.to_str().unwrap();
    let state = folder.path().join("state");
    certs::files::make_private_folder(&state.join("roots")).unwrap();
    authorities
        .coordinators
        .roots()
        .unwrap()
        .save(&state.join("roots/coordinator.pem"))
        .unwrap();
    let identity: Identity = authorities.agent();
    identity.save(&state.join("identity")).unwrap();
    assert_eq!(output(&["check", "--config", path]).await.0, Some(0));
    let chmod = |path: PathBuf, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod(state.join("identity/key.pem"), 0o640);
    let (code, _, err) = output(&["run", "--config", path]).await;
    assert!(
        code == Some(4) && err.contains("key.pem") && err.contains("chmod"),
        "{err}"
    );
    chmod(state.join("identity/key.pem"), 0o600);
    chmod(state.clone(), 0o755);
    let (code, _, err) = output(&["run", "--config", path]).await;
    assert!(code == Some(4) && err.contains("chmod"), "{err}");
    chmod(state, 0o700);
    chmod(config.clone(), 0o666);
    let (code, _, err) = output(&["run", "--config", path]).await;
    assert!(code == Some(3) && err.contains("chmod go-w"), "{err}");
}
