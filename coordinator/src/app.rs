//! The process in one place: configuration and listeners in, a running node out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use certs::tls::ServerTls;
use engine::command::NodeInfo;
use proto::v1::agent_service_server::AgentServiceServer;
use proto::v1::enroll_service_server::EnrollServiceServer;
use proto::v1::operator_service_server::OperatorServiceServer;
use proto::v1::peer_service_server::PeerServiceServer;
use proto::v1::raft_service_server::RaftServiceServer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tower::layer::util::{Identity, Stack};

use crate::api::agents::Agents;
use crate::api::auth::AuthLayer;
use crate::api::enroll::Enroll;
use crate::api::limits::{self, Party};
use crate::api::operator::{About, Operators};
use crate::api::peers::client::PeerClients;
use crate::api::peers::service::Peers;
use crate::config::Config;
use crate::connect::{ConnectionError, Connections};
use crate::control::Control;
use crate::evidence::Evidence;
use crate::evidence::store::Store;
use crate::hub::presence::Presence;
use crate::hub::reports::Reports;
use crate::hub::{Hub, presence, reports};
use crate::identity::{Credentials, CredentialsError};
use crate::leader::Leader;
use crate::raft::{self, Halted, PeerDirectory, RaftConfig, RaftHandle};
use crate::storage::FirstStart;

/// How often the address book is compared with the replicated one.
const BOOK_LOOK: Duration = Duration::from_millis(500);
/// How long a leader that stops waits for another to take over.
const HAND_OVER: Duration = Duration::from_secs(2);
/// How long sessions get to say goodbye when a node stops.
const GOODBYE: Duration = Duration::from_millis(300);

/// The four listeners, bound before anything else, so that a port in use is told before a disk is touched.
pub struct Listeners {
    operator: TcpListener,
    agent: TcpListener,
    peer: TcpListener,
    enroll: TcpListener,
}

/// Why a node does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(
        "cannot listen for {party}s on {addr}: {source}\n  mend: stop what uses the port (`ss -ltnp` shows it), or change listen.{party} in coordinator.toml"
    )]
    Port {
        /// For whom.
        party: &'static str,
        /// Where.
        addr: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The node cannot show who it is.
    #[error(transparent)]
    Identity(#[from] CredentialsError),
    /// A connection to another system cannot be used.
    #[error("{0}\n  mend: correct [connections] in coordinator.toml, or the file that it names")]
    Connection(#[from] ConnectionError),
    /// The data folder is refused.
    #[error("{0}")]
    Data(String),
    /// Anything else.
    #[error("{0}")]
    Internal(String),
}

impl StartError {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Port { .. } => crate::cli::EXIT_PORT,
            StartError::Identity(_) => crate::cli::EXIT_IDENTITY,
            StartError::Connection(_) => crate::cli::EXIT_USAGE,
            StartError::Data(_) => crate::cli::EXIT_DATA,
            StartError::Internal(_) => crate::cli::EXIT_INTERNAL,
        }
    }
}

impl Listeners {
    /// Binds all four.
    pub async fn bind(config: &Config) -> Result<Listeners, StartError> {
        let bind =
            |party, addr| certs::tls::listen(addr).map_err(|source| StartError::Port { party, addr, source });
        Ok(Listeners {
            operator: bind("operator", config.listen.operator)?,
            agent: bind("agent", config.listen.agent)?,
            peer: bind("peer", config.listen.peer)?,
            enroll: bind("enroll", config.listen.enroll)?,
        })
    }

    fn addresses(&self) -> std::io::Result<[SocketAddr; 4]> {
        Ok([
            self.operator.local_addr()?,
            self.agent.local_addr()?,
            self.peer.local_addr()?,
            self.enroll.local_addr()?,
        ])
    }
}

/// A node that runs.
pub struct App {
    addresses: [SocketAddr; 4],
    hub: Hub,
    raft: RaftHandle,
    /// None of them ever ends by itself; one that does ends the node.
    tasks: JoinSet<&'static str>,
    /// Closes the listeners.
    closing: CancellationToken,
}

impl App {
    /// Starts everything. When it returns, the node serves.
    pub async fn start(config: Config, listeners: Listeners) -> Result<App, StartError> {
        let config = Arc::new(config);
        let addresses = listeners
            .addresses()
            .map_err(|error| StartError::Internal(error.to_string()))?;
        let credentials = Credentials::load(&config)?;
        let directory = PeerDirectory::new(credentials.client.clone(), raft_members(&config.members));
        let connections = Connections::load(&config.home, &config.connections)?;
        let raft_config = raft_config(&config);
        let first_start = FirstStart::check(&config.home, &raft_config.data_dir)
            .map_err(|error| StartError::Data(error.to_string()))?;
        let (raft, raft_service) = raft::start(raft_config, directory.clone())
            .await
            .map_err(|error| StartError::Data(error.to_string()))?;
        first_start
            .spend()
            .map_err(|error| StartError::Data(error.to_string()))?;
        let peers = PeerClients::new(
            config.node,
            config.cluster,
            credentials.client.clone(),
            &config.members,
        );
        let control = Control::new(config.node, raft.clone(), peers.clone());
        let store = Store::open(&config.data.join("evidence"), config.disk)
            .map_err(|error| StartError::Data(error.to_string()))?;
        let evidence = Evidence::new(
            config.node,
            store,
            control.clone(),
            peers.clone(),
            config.evidence.size_bytes_max,
        );
        let (presence, presence_queue) = Presence::new();
        let (reports, report_queue) = Reports::new();
        let hub = Hub::new(
            control.clone(),
            presence,
            reports,
            credentials.agent_issuer.clone(),
            config.name.clone(),
            config.agents,
        );

        let closing = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let about = About {
            cluster: config.cluster,
            trust_domain: config.trust_domain.clone(),
            node_name: config.name.clone(),
            ca_sha256: credentials.coordinator_roots.pin(),
        };
        let operator = OperatorServiceServer::new(Operators::new(
            control.clone(),
            evidence.clone(),
            peers.clone(),
            about,
        ))
        .max_decoding_message_size(limits::PLAYBOOK_MESSAGE_BYTES_MAX);
        let agent = AgentServiceServer::new(Agents::new(hub.clone(), evidence.clone(), control.clone()))
            .max_decoding_message_size(limits::CHUNK_MESSAGE_BYTES_MAX);
        let peer = PeerServiceServer::new(Peers::new(
            config.cluster,
            control.clone(),
            evidence.clone(),
            config.evidence.size_bytes_max,
        ))
        .max_decoding_message_size(limits::PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::PEER_MESSAGE_BYTES_MAX);
        let replication = RaftServiceServer::new(raft_service)
            .max_decoding_message_size(limits::RAFT_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::RAFT_MESSAGE_BYTES_MAX);
        let enroll = EnrollServiceServer::new(Enroll::new(
            control.clone(),
            credentials.agent_issuer.clone(),
            credentials.coordinator_roots.clone(),
        ))
        .max_decoding_message_size(64 << 10);
        let mut serve = |name, router: AuthRouter, listener, tls: &ServerTls| {
            tasks.spawn(serve(name, router, listener, tls.clone(), closing.clone()));
        };
        serve(
            "the operators' server",
            limits::server(Party::Operator)
                .layer(AuthLayer)
                .add_service(operator),
            listeners.operator,
            &credentials.operator,
        );
        serve(
            "the agents' server",
            limits::server(Party::Agent).layer(AuthLayer).add_service(agent),
            listeners.agent,
            &credentials.agent,
        );
        serve(
            "the peers' server",
            limits::server(Party::Peer)
                .layer(AuthLayer)
                .add_service(peer)
                .add_service(replication),
            listeners.peer,
            &credentials.peer,
        );
        serve(
            "the enrolment server",
            limits::server(Party::Enroll).layer(AuthLayer).add_service(enroll),
            listeners.enroll,
            &credentials.enroll,
        );

        spawn(
            &mut tasks,
            "presence",
            presence::run(presence_queue, control.clone()),
        );
        spawn(&mut tasks, "reports", reports::run(report_queue, control.clone()));
        spawn(&mut tasks, "the hub", hub.clone().run());
        spawn(
            &mut tasks,
            "the leader's work",
            Leader::new(control.clone(), config.clone(), connections).run(),
        );
        spawn(&mut tasks, "evidence upkeep", evidence.keep_copies());
        spawn(&mut tasks, "certificate renewal", credentials.keep_renewed());
        spawn(
            &mut tasks,
            "the address book",
            keep_book(control, peers, directory),
        );
        Ok(App {
            addresses,
            hub,
            raft,
            tasks,
            closing,
        })
    }

    /// What is said on stdout when the node serves.
    pub fn ready_line(&self) -> String {
        let [operator, agent, peer, enroll] = self.addresses.map(|addr| addr.to_string());
        serde_json::json!({"ready": true, "operator": operator, "agent": agent, "peer": peer, "enroll": enroll}).to_string()
    }

    /// Where it listens: operators, agents, peers, enrolment.
    pub fn addresses(&self) -> [SocketAddr; 4] {
        self.addresses
    }

    /// This node's raft, for tests and tools in the same process.
    pub fn raft(&self) -> &RaftHandle {
        &self.raft
    }

    /// Runs until `stop` is done, or something ends that must not.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let halted = self.raft.clone();
        let outcome = tokio::select! {
            () = stop => Ok(()),
            why = halted.halted() => Err(halt(why)),
            ended = self.tasks.join_next() => Err(StartError::Internal(match ended {
                Some(Ok(name)) => format!("{name} ended by itself"),
                Some(Err(error)) => format!("a task failed: {error}"),
                None => "no task is left".into(),
            })),
        };
        tracing::info!("stopping");
        if outcome.is_ok() {
            hand_over(&self.raft).await;
        }
        self.hub.close_all("this node stops");
        self.closing.cancel();
        if outcome.is_ok() {
            tokio::time::sleep(GOODBYE).await;
        }
        self.tasks.shutdown().await;
        self.raft.shutdown().await;
        outcome
    }
}

fn halt(why: Halted) -> StartError {
    let message = format!("this node has halted: {}", why.reason);
    match why.of_data {
        true => StartError::Data(message),
        false => StartError::Internal(message),
    }
}

/// A leader that stops as asked lets another lead first, so that nobody waits for an election.
async fn hand_over(raft: &RaftHandle) {
    let status = raft.status();
    if status.leader != Some(status.id) {
        return;
    }
    let Some(heir) = status.heir() else {
        return;
    };
    match tokio::time::timeout(HAND_OVER, raft.transfer_leader(heir)).await {
        Ok(Ok(())) => tracing::info!(to = heir, "handed the leadership over"),
        Ok(Err(error)) => tracing::info!(%error, "could not hand the leadership over"),
        Err(_) => tracing::info!(to = heir, "the leadership was not taken over in time"),
    }
}

/// A runtime that suits a node: one worker per core, and not fewer than two, so that one long closure never
/// stops a heartbeat.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 16))
        .thread_name("cordon")
        .enable_all()
        .build()
}

/// Done at the first SIGTERM or SIGINT.
pub fn stop_signal() -> Result<impl Future<Output = ()>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| format!("cannot watch for SIGTERM: {error}"))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| format!("cannot watch for SIGINT: {error}"))?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

type AuthRouter = Router<Stack<AuthLayer, Identity>>;

async fn serve(
    name: &'static str,
    router: AuthRouter,
    listener: TcpListener,
    tls: ServerTls,
    closing: CancellationToken,
) -> &'static str {
    let incoming = certs::tls::incoming(listener, tls);
    if let Err(error) = router
        .serve_with_incoming_shutdown(incoming, closing.cancelled_owned())
        .await
    {
        tracing::error!(server = name, %error, "a server failed");
    }
    name
}

fn spawn(
    tasks: &mut JoinSet<&'static str>,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(async move {
        work.await;
        name
    });
}

/// Keeps the ways to the other nodes as the replicated address book has them.
async fn keep_book(control: Control, peers: PeerClients, directory: PeerDirectory) {
    let mut known: Vec<NodeInfo> = Vec::new();
    let mut every = tokio::time::interval(BOOK_LOOK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let book: Vec<NodeInfo> = control.local(|state| state.nodes().cloned().collect());
        // An empty book is one that is not replicated yet: the configuration's counts.
        if !book.is_empty() && book != known {
            peers.replace_book(book.iter().cloned());
            directory.set(raft_members(&book));
            known = book;
        }
    }
}

fn raft_members(members: &[NodeInfo]) -> Vec<(u64, String, String)> {
    members
        .iter()
        .map(|member| (member.node.0, member.name.clone(), member.peer_endpoint.clone()))
        .collect()
}

fn raft_config(config: &Config) -> RaftConfig {
    let voters = config.members.iter().map(|member| member.node.0).collect();
    RaftConfig {
        tick_ms: config.raft.tick_ms,
        election_ticks: config.raft.election_ticks,
        heartbeat_ticks: config.raft.heartbeat_ticks,
        disk: config.disk,
        ..RaftConfig::new(
            config.node.0,
            config.cluster,
            config.data.join("raft"),
            (!config.join).then_some(voters),
        )
    }
}
