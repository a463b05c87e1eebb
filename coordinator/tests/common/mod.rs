//! A cluster of real processes with real TLS, and raw clients as its agents and operators.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use certs::init::Member;
use certs::tls::{ClientTls, ConnectOptions};
use certs::{Identity, Role, Roots};
use proto::v1;
use proto::v1::agent_message::Body as Said;
use proto::v1::agent_service_client::AgentServiceClient;
use proto::v1::coordinator_message::Body as Told;
use proto::v1::enroll_service_client::EnrollServiceClient;
use proto::v1::operator_service_client::OperatorServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub const TRUST_DOMAIN: &str = "cordon.test";
/// Generous: a machine under load is slow, not wrong.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cluster {
    folder: tempfile::TempDir,
    pub members: Vec<Member>,
    nodes: Vec<Option<Child>>,
}

impl Cluster {
    /// Makes certificates and configurations for this many nodes, and starts them.
    pub fn start(count: u64) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let address = own_address();
        let members: Vec<Member> = (1..=count)
            .map(|id| {
                // A port that is free now may be taken a moment later, by a connection of anybody's.
                let base = 7_400 + 10 * id as u16;
                Member {
                    raft_id: id,
                    name: format!("c{id}"),
                    host: address.to_string(),
                    operator_port: base,
                    agent_port: base + 1,
                    peer_port: base + 2,
                    enroll_port: base + 3,
                    listen: Some(address.into()),
                }
            })
            .collect();
        certs::init::create(&folder.path().join("pki"), TRUST_DOMAIN, members.clone(), "ada").unwrap();
        let nodes = members.iter().map(|_| None).collect();
        let mut cluster = Cluster {
            folder,
            members,
            nodes,
        };
        for at in 0..cluster.members.len() {
            // The tests' machine may be short of room.
            cluster.configure(
                at,
                "[disk]\nevidence_free_percent_min = 0\nruns_free_percent_min = 0\n",
            );
            cluster.launch(at);
        }
        cluster
    }

    /// Puts a node's configuration of the default values and these.
    pub fn configure(&self, at: usize, sections: &str) {
        let file = self.home(at).join("coordinator.toml");
        let kept = std::fs::read_to_string(&file).unwrap();
        let kept = kept.split("[disk]").next().unwrap();
        std::fs::write(&file, format!("{}\n\n{sections}", kept.trim_end())).unwrap();
    }

    pub fn home(&self, at: usize) -> PathBuf {
        self.folder
            .path()
            .join("pki/coordinators")
            .join(&self.members[at].name)
    }

    pub fn command(&self, at: usize) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cordon-coordinator"));
        command
            .arg("--config")
            .arg(self.home(at).join("coordinator.toml"));
        command
    }

    /// Starts a node and waits until it serves.
    pub fn launch(&mut self, at: usize) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.home(at).join("log"))
            .unwrap();
        let mut child = self
            .command(at)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut ready)
            .unwrap();
        assert!(
            ready.contains("\"ready\":true"),
            "node {at} said {ready:?}; its log:\n{}",
            self.log(at)
        );
        self.nodes[at] = Some(child);
    }

    pub fn log(&self, at: usize) -> String {
        std::fs::read_to_string(self.home(at).join("log")).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(&mut self, at: usize) {
        let mut child = self.nodes[at].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub fn stop(&mut self, at: usize) -> Option<i32> {
        let mut child = self.nodes[at].take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap().code()
    }

    pub fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|at| self.nodes[*at].is_some())
            .collect()
    }

    pub async fn operator(&self, at: usize) -> OperatorServiceClient<Channel> {
        let home = self.folder.path().join("pki/operators/ada");
        let identity = Identity::load(&home.join("identity")).unwrap();
        let endpoint = self.members[at].endpoint(self.members[at].operator_port);
        OperatorServiceClient::new(connect(&endpoint, Some(identity), &self.roots()).await)
    }

    pub fn roots(&self) -> Roots {
        Roots::load(&self.home(0).join("roots/coordinator.pem")).unwrap()
    }

    /// Which node leads, as soon as one does.
    pub async fn leader(&self) -> usize {
        for at in self.alive().into_iter().cycle() {
            let status = self.operator(at).await.status(v1::StatusRequest {}).await;
            if let Ok(status) = status {
                let leader = status.into_inner().leader_id;
                if let Some(at) = self
                    .alive()
                    .into_iter()
                    .find(|at| self.members[*at].name == leader)
                {
                    return at;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        unreachable!("some node is alive")
    }

    /// Enrols an agent with this id through a node.
    pub async fn enroll(&self, at: usize, id: &str) -> Enrolled {
        let mut operator = self.operator(at).await;
        let request = v1::CreateEnrollTokenRequest {
            agent_id: id.into(),
            ..Default::default()
        };
        let token = retry(async || operator.clone().create_enroll_token(request.clone()).await).await;
        drop(operator.status(v1::StatusRequest {}).await);
        let (key, csr) = certs::new_key_and_csr().unwrap();
        let request = v1::EnrollRequest {
            token: token.token,
            csr_der: csr.into(),
            hostname: id.into(),
        };
        let reply = self.enroll_raw(at, request).await.unwrap();
        assert_eq!(reply.agent_id, id);
        let chain = reply.chain_der.iter().map(|der| der.to_vec()).collect();
        Enrolled {
            id: id.into(),
            identity: Identity::new(key, chain).unwrap(),
            roots: self.roots(),
        }
    }

    pub async fn enroll_raw(&self, at: usize, request: v1::EnrollRequest) -> Result<v1::EnrollReply, Status> {
        let tls = ClientTls::pinned(self.roots().pin()).unwrap();
        let endpoint = self.members[at].endpoint(self.members[at].enroll_port);
        let channel = certs::tls::connect(&endpoint, &tls, Role::Coordinator, ConnectOptions::default())
            .await
            .unwrap();
        Ok(EnrollServiceClient::new(channel)
            .enroll(request)
            .await?
            .into_inner())
    }

    pub fn agent_endpoint(&self, at: usize) -> String {
        self.members[at].endpoint(self.members[at].agent_port)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            for at in 0..self.members.len() {
                eprintln!("--- log of {}\n{}", self.members[at].name, self.log(at));
            }
        }
    }
}

/// An agent's identity.
#[derive(Clone)]
pub struct Enrolled {
    pub id: String,
    pub identity: Identity,
    pub roots: Roots,
}

impl Enrolled {
    pub async fn client(&self, endpoint: &str) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(connect(endpoint, Some(self.identity.clone()), &self.roots).await)
    }

    pub fn hello(&self) -> v1::Hello {
        v1::Hello {
            agent_id: self.id.clone(),
            trust_domain: TRUST_DOMAIN.into(),
            agent_version: "0.1.0".into(),
            boot_id: "b".into(),
            facts_json: "{\"os\":\"linux\"}".into(),
            running: Vec::new(),
            protocol: 1,
        }
    }

    /// Attaches, and waits for Welcome.
    pub async fn attach(&self, endpoint: &str) -> Session {
        let mut session = self.open(endpoint, self.hello()).await.unwrap();
        let first = session.next().await.unwrap();
        assert!(matches!(first, Told::Welcome(_)), "{first:?}");
        session
    }

    pub async fn open(&self, endpoint: &str, hello: v1::Hello) -> Result<Session, Status> {
        let (say, said) = mpsc::channel(16);
        say.try_send(message(Said::Hello(hello))).unwrap();
        let told = self
            .client(endpoint)
            .await
            .session(ReceiverStream::new(said))
            .await?
            .into_inner();
        Ok(Session { say, told })
    }
}

pub struct Session {
    pub say: mpsc::Sender<v1::AgentMessage>,
    pub told: Streaming<v1::CoordinatorMessage>,
}

impl Session {
    /// The next message that says something.
    pub async fn next(&mut self) -> Result<Told, Status> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.told.message())
                .await
                .expect("a message in time")?;
            match message.expect("the session goes on").body {
                Some(Told::Committed(committed)) if committed == v1::ReportsCommitted::default() => {}
                Some(body) => return Ok(body),
                None => {}
            }
        }
    }

    pub async fn assignment(&mut self) -> v1::Assign {
        match self.next().await.unwrap() {
            Told::Assign(assign) => assign,
            other => panic!("not an assignment: {other:?}"),
        }
    }

    pub async fn committed(&mut self) -> v1::ReportsCommitted {
        match self.next().await.unwrap() {
            Told::Committed(committed) => committed,
            other => panic!("no answer to a report: {other:?}"),
        }
    }

    pub async fn report(&self, report: v1::Report) {
        let reports = v1::Reports {
            reports: vec![report],
        };
        self.say.send(message(Said::Reports(reports))).await.unwrap();
    }

    /// Says that an attempt began and ended well, and waits until both are committed.
    pub async fn succeed(&mut self, key: &v1::AttemptKey, output_json: &str) {
        self.report(started(key)).await;
        self.report(ended(key, "succeeded", output_json)).await;
        let (mut began, mut over) = (false, false);
        while !(began && over) {
            let committed = self.committed().await;
            assert!(committed.refused.is_empty(), "{committed:?}");
            began |= committed.started.contains(key);
            over |= committed.ended.contains(key);
        }
    }
}

pub fn message(body: Said) -> v1::AgentMessage {
    v1::AgentMessage { body: Some(body) }
}

pub fn started(key: &v1::AttemptKey) -> v1::Report {
    v1::Report {
        key: Some(key.clone()),
        body: Some(v1::report::Body::Started(v1::Started { at_ms: 1 })),
    }
}

pub fn ended(key: &v1::AttemptKey, status: &str, output_json: &str) -> v1::Report {
    v1::Report {
        key: Some(key.clone()),
        body: Some(v1::report::Body::Ended(v1::Ended {
            status: status.into(),
            output_json: output_json.into(),
            started_at_ms: 1,
            ended_at_ms: 2,
            ..Default::default()
        })),
    }
}

/// Asks until it is answered: a cluster that has just started, or lost its leader, needs a moment.
pub async fn retry<T>(mut ask: impl AsyncFnMut() -> Result<tonic::Response<T>, Status>) -> T {
    let begun = std::time::Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer.into_inner(),
            Err(status) if begun.elapsed() < PATIENCE && status.code() != tonic::Code::InvalidArgument => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(status) => panic!("not answered: {status:?}"),
        }
    }
}

/// Starts a run of a playbook on these hosts.
pub async fn start_run(
    operator: &mut OperatorServiceClient<Channel>,
    playbook_yaml: &str,
    hosts: &[&str],
) -> String {
    let request = v1::StartRunRequest {
        playbook_yaml: playbook_yaml.into(),
        inputs_json: serde_json::json!({"hosts": hosts}).to_string(),
        request_id: uuid::Uuid::now_v7().to_string(),
        plan_sha256: String::new(),
    };
    let reply = retry(async || operator.clone().start_run(request.clone()).await).await;
    assert_eq!(reply.targets[0].agent_ids, hosts);
    reply.run_id
}

/// Watches a run to its end.
pub async fn run_to_end(operator: &mut OperatorServiceClient<Channel>, run_id: &str) -> v1::Run {
    let request = v1::WatchRunRequest {
        run_id: run_id.into(),
        after_revision: 0,
    };
    let mut events = operator.watch_run(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(event) = tokio::time::timeout(PATIENCE, events.message())
        .await
        .expect("an event in time")
        .unwrap()
    {
        last = event.run;
    }
    last.expect("a run")
}

async fn connect(endpoint: &str, identity: Option<Identity>, roots: &Roots) -> Channel {
    let tls = ClientTls::new(identity, roots, TRUST_DOMAIN).unwrap();
    certs::tls::connect(endpoint, &tls, Role::Coordinator, ConnectOptions::default())
        .await
        .unwrap()
}

/// The stable code of a refusal.
pub fn code(status: &tonic::Status) -> &str {
    status
        .metadata()
        .get("cordon-code")
        .map_or("", |code| code.to_str().unwrap())
}

/// An address of the loopback that no other cluster of these tests has.
fn own_address() -> std::net::Ipv4Addr {
    static CLUSTERS: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let count = CLUSTERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::net::Ipv4Addr::new(127, 128 | (count & 63), high, low.max(1))
}
