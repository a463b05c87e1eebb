#![allow(dead_code, reason = "each test uses a part of it")]
//! A coordinator that does as it is told, over real TLS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use agent::actions::IsolationMode;
use agent::facts::Facts;
use agent::guard::Policy;
use agent::journal::{Journal, MemoryJournal};
use agent::renew::Renewal;
use agent::runner::Executor;
use agent::session::driver::Parts;
use agent::session::last::LastCoordinator;
use agent::session::machine::Settings;
use certs::tls::{ClientTls, ServerTls};
use certs::{Identity, IssuingCa, Role, SpiffeId, Validity};
use futures::StreamExt;
use futures::stream::BoxStream;
use proto::v1;
use proto::v1::agent_message::Body as Said;
use proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use proto::v1::coordinator_message::Body;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub const TRUST_DOMAIN: &str = "cordon.test";
/// Generous: a test waits for a state, and this only ends one that hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Two CAs, as a cluster has them.
pub struct Authorities {
    pub agents: IssuingCa,
    pub coordinators: IssuingCa,
}

impl Authorities {
    pub fn new() -> Authorities {
        let day = Duration::from_secs(86_400);
        Authorities {
            agents: IssuingCa::create(Role::Agent, TRUST_DOMAIN, Validity::lasting(day)).unwrap(),
            coordinators: IssuingCa::create(Role::Coordinator, TRUST_DOMAIN, Validity::lasting(day)).unwrap(),
        }
    }

    pub fn identity(&self, role: Role, id: &str, validity: Validity) -> Identity {
        let (key, csr) = certs::new_key_and_csr().unwrap();
        let ca = if role == Role::Agent {
            &self.agents
        } else {
            &self.coordinators
        };
        let name = SpiffeId::new(TRUST_DOMAIN, role, id).unwrap();
        Identity::new(key, ca.issue_from_csr(&csr, &name, validity).unwrap()).unwrap()
    }

    pub fn agent(&self) -> Identity {
        self.identity(
            Role::Agent,
            "web-1",
            Validity::lasting(Duration::from_secs(3_600)),
        )
    }

    pub fn client_tls(&self, identity: &Identity) -> ClientTls {
        let roots = self.coordinators.roots().unwrap();
        ClientTls::new(Some(identity.clone()), &roots, TRUST_DOMAIN).unwrap()
    }
}

/// What a session's agent said, or that a session began.
#[derive(Debug)]
pub enum Heard {
    Opened {
        key_sha256: [u8; 32],
        say: mpsc::Sender<v1::CoordinatorMessage>,
    },
    Said(Said),
}

/// One coordinator: it lives until it is dropped or killed.
pub struct Node {
    pub addr: SocketAddr,
    pub heard: mpsc::UnboundedReceiver<Heard>,
    stop: CancellationToken,
}

/// Evidence, shared by the nodes as a cluster shares it.
#[derive(Clone, Default)]
pub struct Store {
    partial: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// The next upload is broken off after this many chunks.
    pub break_after: Arc<Mutex<Option<u32>>>,
    pub offsets: Arc<Mutex<Vec<u64>>>,
}

struct Service {
    heard: mpsc::UnboundedSender<Heard>,
    store: Store,
    stop: CancellationToken,
}

impl Node {
    pub async fn start(authorities: &Authorities, store: &Store) -> Node {
        let listener = certs::tls::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let identity = authorities.identity(
            Role::Coordinator,
            "c1",
            Validity::lasting(Duration::from_secs(3_600)),
        );
        let roots = authorities.agents.roots().unwrap();
        let tls = ServerTls::new(identity, Some(roots), Some(Role::Agent), TRUST_DOMAIN).unwrap();
        let (heard_in, heard) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let service = Service {
            heard: heard_in,
            store: store.clone(),
            stop: stop.clone(),
        };
        let stopped = stop.clone().cancelled_owned();
        let incoming = certs::tls::incoming(listener, tls);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(AgentServiceServer::new(service))
                .serve_with_incoming_shutdown(incoming, stopped),
        );
        Node { addr, heard, stop }
    }

    pub fn kill(&self) {
        self.stop.cancel();
    }

    pub async fn next(&mut self) -> Heard {
        tokio::time::timeout(PATIENCE, self.heard.recv())
            .await
            .expect("nothing was heard")
            .unwrap()
    }

    /// Waits for a session, greets it, and gives its Hello and how to speak to it.
    pub async fn session(&mut self) -> (v1::Hello, mpsc::Sender<v1::CoordinatorMessage>, [u8; 32]) {
        loop {
            let Heard::Opened { key_sha256, say } = self.next().await else {
                continue;
            };
            let Heard::Said(Said::Hello(hello)) = self.next().await else {
                panic!("not Hello")
            };
            let welcome = v1::Welcome {
                heartbeat_ms: 500,
                lease_ms: 60_000,
                node_id: "c1".into(),
                server_time_ms: 0,
                max_message_bytes: 1 << 20,
                max_chunk_bytes: 4 << 20,
            };
            tell(&say, Body::Welcome(welcome)).await;
            return (hello, say, key_sha256);
        }
    }

    /// The next end of an attempt.
    pub async fn ended(&mut self) -> (v1::AttemptKey, v1::Ended) {
        loop {
            let Heard::Said(Said::Reports(reports)) = self.next().await else {
                continue;
            };
            for report in reports.reports {
                if let Some(v1::report::Body::Ended(ended)) = report.body {
                    return (report.key.unwrap(), ended);
                }
            }
        }
    }
}

pub async fn tell(say: &mpsc::Sender<v1::CoordinatorMessage>, body: Body) {
    say.send(v1::CoordinatorMessage { body: Some(body) })
        .await
        .unwrap();
}

pub fn key(item: u32) -> v1::AttemptKey {
    v1::AttemptKey {
        run_id: "r".into(),
        step: "s".into(),
        item,
        attempt: 1,
        token: 7,
    }
}

pub fn assign(item: u32, action: &str, parameters: &str, impact: &str) -> Body {
    Body::Assign(v1::Assign {
        key: Some(key(item)),
        action: action.into(),
        parameters_json: parameters.into(),
        impact: impact.into(),
        attempt_timeout_ms: 60_000,
        ..v1::Assign::default()
    })
}

/// An agent in memory, with an executor of the test's.
pub fn parts(
    authorities: &Authorities,
    identity: &Identity,
    nodes: &[&Node],
    executor: Arc<dyn Executor>,
) -> Parts {
    let folder = std::env::temp_dir();
    Parts {
        agent_id: identity.spiffe().id().into(),
        trust_domain: TRUST_DOMAIN.into(),
        endpoints: nodes.iter().map(|node| node.addr.to_string()).collect(),
        tls: authorities.client_tls(identity),
        renewal: Some(Renewal::new(identity.clone(), None, 1)),
        policy: Policy::default(),
        isolation: IsolationMode::Check,
        state_dir: folder,
        last: LastCoordinator::default(),
        settings: Settings::new(nodes.len()),
        journal: Journal::Memory(MemoryJournal::default()),
        executor,
        facts: Facts::Fixed(r#"{"hostname":"web-1"}"#.into()),
        seed: 1,
    }
}

pub fn in_the_past(hours_ago: u64, hours_left: u64) -> Validity {
    let hour = Duration::from_secs(3_600);
    let now = SystemTime::now();
    Validity {
        not_before: now - hour * hours_ago as u32,
        not_after: now + hour * hours_left as u32,
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    type SessionStream = BoxStream<'static, Result<v1::CoordinatorMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = request.extensions().get::<certs::tls::Peer>().unwrap();
        let (say, messages) = mpsc::channel(16);
        let key_sha256 = peer.key_sha256.unwrap();
        let _ = self.heard.send(Heard::Opened { key_sha256, say });
        let heard = self.heard.clone();
        let mut inbound = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                let Some(body) = message.body else { continue };
                let _ = heard.send(Heard::Said(body));
            }
        });
        // A graceful end of the server waits for its streams: this one ends when the node is killed.
        let messages = ReceiverStream::new(messages).map(Ok);
        Ok(Response::new(
            messages.take_until(self.stop.clone().cancelled_owned()).boxed(),
        ))
    }

    async fn evidence_offset(
        &self,
        request: Request<v1::EvidenceOffsetRequest>,
    ) -> Result<Response<v1::EvidenceOffsetReply>, Status> {
        let request = request.into_inner();
        if request.key.is_none() {
            return Err(Status::invalid_argument("no key"));
        }
        let partial = self.store.partial.lock().unwrap();
        let offset_bytes = partial
            .get(&request.upload_id)
            .map_or(0, |held| held.len() as u64);
        Ok(Response::new(v1::EvidenceOffsetReply { offset_bytes }))
    }

    async fn put_evidence(
        &self,
        request: Request<Streaming<v1::EvidenceChunk>>,
    ) -> Result<Response<v1::EvidenceReceipt>, Status> {
        let mut chunks = request.into_inner();
        let header = chunks.message().await?.unwrap().header.unwrap();
        self.store.offsets.lock().unwrap().push(header.offset_bytes);
        let mut left = self.store.break_after.lock().unwrap().take();
        while let Some(chunk) = chunks.message().await? {
            if let Some(left) = &mut left {
                if *left == 0 {
                    return Err(Status::unavailable("this node dies"));
                }
                *left -= 1;
            }
            let mut partial = self.store.partial.lock().unwrap();
            let held = partial.entry(header.upload_id.clone()).or_default();
            held.extend_from_slice(&chunk.data);
            if let Some(trailer) = chunk.trailer {
                use sha2::Digest;
                assert_eq!(hex::encode(sha2::Sha256::digest(&*held)), trailer.sha256);
                let size_bytes = held.len() as u64;
                return Ok(Response::new(v1::EvidenceReceipt {
                    sha256: trailer.sha256,
                    size_bytes,
                    copies: 2,
                }));
            }
        }
        Err(Status::aborted("no trailer"))
    }
}
