//! Three real nodes in one process: real disks, real TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use certs::tls::{ClientTls, ConnectOptions, ServerTls};
use certs::{Identity, IssuingCa, Role, SpiffeId};
use coordinator::raft::{Change, PROPOSALS_MAX, PeerDirectory, ProposeError, RaftConfig, RaftHandle, start};
use engine::{Actor, Command, Envelope};
use proto::v1::raft_service_client::RaftServiceClient;
use proto::v1::raft_service_server::RaftServiceServer;
use proto::v1::{RaftMessages, SnapshotRequest};
use tokio::sync::oneshot;

const DOMAIN: &str = "cordon.test";
/// How long a state may take to come about.
const DEADLINE: Duration = Duration::from_secs(60);

struct Cluster {
    address: std::net::Ipv4Addr,
    folder: tempfile::TempDir,
    ca: IssuingCa,
    id: uuid::Uuid,
    members: Vec<(u64, String, String)>,
    nodes: Vec<Option<Node>>,
    founders: Vec<u64>,
}

struct Node {
    raft: RaftHandle,
    directory: PeerDirectory,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<()>,
}

impl Cluster {
    async fn new(voters: u64) -> Cluster {
        let address = own_address();
        let mut cluster = Cluster {
            address,
            folder: tempfile::tempdir().unwrap(),
            ca: IssuingCa::create(Role::Coordinator, DOMAIN, certs::CA_VALIDITY).unwrap(),
            id: uuid::Uuid::new_v4(),
            members: (1..=voters).map(|id| member(address, id)).collect(),
            nodes: Vec::new(),
            founders: (1..=voters).collect(),
        };
        for id in 1..=voters {
            cluster.nodes.push(None);
            cluster.start(id).await;
        }
        cluster
    }

    fn identity(&self, role: Role, name: &str) -> Identity {
        let (key, csr) = certs::new_key_and_csr().unwrap();
        let name = SpiffeId::new(DOMAIN, role, name).unwrap();
        let chain = self.ca.issue_from_csr(&csr, &name, role.validity()).unwrap();
        Identity::new(key, chain).unwrap()
    }

    fn client_tls(&self, name: &str) -> ClientTls {
        let identity = self.identity(Role::Coordinator, name);
        ClientTls::new(Some(identity), &self.ca.roots().unwrap(), DOMAIN).unwrap()
    }

    fn config(&self, id: u64) -> RaftConfig {
        let founders = self.founders.contains(&id).then(|| self.founders.clone());
        RaftConfig {
            segment_bytes: 256 << 10,
            checkpoint_entries: 200,
            retained_entries: 20,
            hash_entries: 16,
            ..RaftConfig::new(id, self.id, self.data(id), founders)
        }
    }

    fn data(&self, id: u64) -> std::path::PathBuf {
        self.folder.path().join(id.to_string())
    }

    async fn start(&mut self, id: u64) {
        self.start_knowing(id, self.members.clone()).await;
    }

    /// Starts a node that those who run now have in their address books, and that is no member yet.
    async fn start_a_fourth(&mut self) {
        self.members.push(member(self.address, 4));
        for (_, node) in self.running() {
            node.directory.set(self.members.clone());
        }
        self.nodes.push(None);
        self.start(4).await;
    }

    /// Starts a node whose address book has these members only.
    async fn start_knowing(&mut self, id: u64, members: Vec<(u64, String, String)>) {
        let (_, name, endpoint) = self.members[id as usize - 1].clone();
        let directory = PeerDirectory::new(self.client_tls(&name), members);
        let (raft, service) = start(self.config(id), directory.clone()).await.unwrap();
        let identity = self.identity(Role::Coordinator, &name);
        let tls = ServerTls::new(
            identity,
            Some(self.ca.roots().unwrap()),
            Some(Role::Coordinator),
            DOMAIN,
        )
        .unwrap();
        let listener = certs::tls::listen(endpoint.parse::<SocketAddr>().unwrap()).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let serve = tonic::transport::Server::builder()
                .add_service(RaftServiceServer::new(service))
                .serve_with_incoming(certs::tls::incoming(listener, tls));
            tokio::select! {
                served = serve => served.unwrap(),
                _ = stopped => {}
            }
        });
        self.nodes[id as usize - 1] = Some(Node {
            raft,
            directory,
            stop,
            server,
        });
    }

    async fn stop(&mut self, id: u64) {
        let node = self.nodes[id as usize - 1].take().unwrap();
        node.raft.shutdown().await;
        let _ = node.stop.send(());
        node.server.await.unwrap();
    }

    fn raft(&self, id: u64) -> &RaftHandle {
        &self.nodes[id as usize - 1].as_ref().unwrap().raft
    }

    fn running(&self) -> impl Iterator<Item = (u64, &Node)> {
        self.nodes
            .iter()
            .zip(1..)
            .filter_map(|(node, id)| node.as_ref().map(|node| (id, node)))
    }

    async fn leader(&self) -> u64 {
        until("a leader that is ready", || {
            self.running()
                .find(|(_, node)| node.raft.role().borrow().ready)
                .map(|(id, _)| id)
        })
        .await
    }

    /// Commits `count` commands, through whatever changes of leadership.
    async fn commit(&self, count: usize) -> u64 {
        let mut last = 0;
        for _ in 0..count {
            last = tokio::time::timeout(DEADLINE, async {
                loop {
                    let leader = self.leader().await;
                    match self.raft(leader).propose(tick()).await {
                        Ok((index, _)) => return index,
                        Err(ProposeError::Halted | ProposeError::TooLarge { .. }) => {
                            panic!("node {leader} halted")
                        }
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
            })
            .await
            .expect("commits in time");
        }
        last
    }

    async fn await_applied(&self, index: u64) {
        for (_, node) in self.running() {
            let mut applied = node.raft.applied();
            let reached = applied.wait_for(|applied| *applied >= index);
            tokio::time::timeout(DEADLINE, reached)
                .await
                .expect("applied in time")
                .unwrap();
        }
    }
}

fn member(address: std::net::Ipv4Addr, id: u64) -> (u64, String, String) {
    // A port that is free now may be taken a moment later, by a connection of anybody's.
    (id, format!("c{id}"), format!("{address}:{}", 7_400 + id))
}

/// An address of the loopback that no other cluster of these tests has.
fn own_address() -> std::net::Ipv4Addr {
    static CLUSTERS: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let count = CLUSTERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::net::Ipv4Addr::new(127, 192 | (count & 31), high, low.max(1))
}

fn tick() -> Envelope {
    Envelope {
        request: None,
        actor: Actor::Leader,
        command: Command::Tick,
    }
}

/// Waits for a level.
async fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let polled = async {
        loop {
            if let Some(value) = holds() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polled)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_agree_over_tls_and_outlive_their_leader() {
    let mut cluster = Cluster::new(3).await;
    let index = cluster.commit(50).await;
    cluster.await_applied(index).await;
    let leader = cluster.leader().await;
    let follower = leader % 3 + 1;
    let refused = cluster.raft(follower).propose(tick()).await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(leader) }));
    assert!(cluster.raft(follower).read_index().await.unwrap() >= index);
    assert!(cluster.raft(follower).has_lease() && cluster.raft(leader).has_lease());

    cluster.stop(leader).await;
    let index = cluster.commit(50).await;
    assert_ne!(cluster.leader().await, leader);
    cluster.start(leader).await;
    let index = index.max(cluster.commit(5).await);
    cluster.await_applied(index).await;
    let hashes: Vec<_> = cluster
        .running()
        .map(|(_, n)| n.raft.with_state(|s| (s.applied_index(), s.hash())))
        .collect();
    assert!(
        hashes
            .windows(2)
            .all(|pair| pair[0].0 != pair[1].0 || pair[0].1 == pair[1].1),
        "{hashes:?}"
    );
    for id in 1..=3 {
        cluster.stop(id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_node_takes_is_refused_as_busy_and_nothing_taken_is_lost() {
    let cluster = Cluster::new(3).await;
    cluster.commit(1).await;
    let leader = cluster.raft(cluster.leader().await);
    // All of them are asked before the first can be answered.
    let asked = (0..3 * PROPOSALS_MAX).map(|_| leader.propose(tick()));
    let answers = futures::future::join_all(asked).await;
    let mut taken = std::collections::BTreeSet::new();
    let mut busy = 0;
    for answer in answers {
        match answer {
            Ok((index, _)) => assert!(taken.insert(index), "entry {index} answers two proposals"),
            Err(ProposeError::Busy) => busy += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(busy >= PROPOSALS_MAX, "{busy} were refused");
    assert!(taken.len() >= PROPOSALS_MAX / 2, "{} were taken", taken.len());
    // It is over when the load is.
    let index = cluster.commit(1).await;
    assert!(taken.last().is_some_and(|last| *last < index));
    cluster.await_applied(index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_acknowledged_is_there_after_all_restart() {
    let mut cluster = Cluster::new(3).await;
    let index = cluster.commit(300).await;
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    for id in 1..=3 {
        cluster.start(id).await;
    }
    let later = cluster.commit(1).await;
    assert!(later > index);
    cluster.await_applied(later).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_comes_by_snapshot_and_gets_its_vote() {
    let mut cluster = Cluster::new(3).await;
    cluster.commit(500).await;
    cluster.start_a_fourth().await;
    let leader = cluster.leader().await;
    cluster
        .raft(leader)
        .change_membership(Change::AddLearner(4))
        .await
        .unwrap();
    let index = cluster.commit(10).await;
    cluster.await_applied(index).await;
    until("it did not come entry by entry", || {
        (cluster.raft(4).status().first_index > 2).then_some(())
    })
    .await;
    cluster
        .raft(leader)
        .change_membership(Change::Promote(4))
        .await
        .unwrap();
    cluster.raft(leader).transfer_leader(4).await.unwrap();
    cluster.commit(10).await;
    cluster
        .raft(4)
        .change_membership(Change::Remove(leader))
        .await
        .unwrap();
    let refused = cluster
        .raft(4)
        .change_membership(Change::Remove(4))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("transfer leadership"), "{refused}");
    cluster.stop(leader).await;
    cluster.commit(10).await;
}

/// Its address book is brought forward by the log, and the log by the leader that is not in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_follows_a_leader_that_was_added_meanwhile() {
    let mut cluster = Cluster::new(3).await;
    cluster.commit(10).await;
    cluster.stop(3).await;
    let before = cluster.members.clone();
    cluster.start_a_fourth().await;
    let leader = cluster.leader().await;
    for change in [Change::AddLearner(4), Change::Promote(4)] {
        let index = cluster.commit(1).await;
        if matches!(change, Change::Promote(4)) {
            until("the new member did not catch up", || {
                (cluster.raft(4).status().applied >= index).then_some(())
            })
            .await;
        }
        cluster.raft(leader).change_membership(change).await.unwrap();
    }
    cluster.raft(leader).transfer_leader(4).await.unwrap();
    cluster.commit(10).await;
    cluster.start_knowing(3, before).await;
    // The third of them has to help now: without it there is no majority.
    cluster.stop(if leader == 1 { 2 } else { 1 }).await;
    let index = cluster.commit(300).await;
    cluster.await_applied(index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_speak_and_only_for_themselves() {
    let cluster = Cluster::new(1).await;
    let endpoint = &cluster.members[0].2;
    let frame = |from, cluster_id: String, from_endpoint: &str| RaftMessages {
        cluster_id,
        from,
        to: 1,
        from_endpoint: from_endpoint.to_owned(),
        ..RaftMessages::default()
    };
    let (here, denied) = (cluster.id.to_string(), tonic::Code::PermissionDenied);
    let elsewhere = uuid::Uuid::new_v4().to_string();
    for (name, from, id, at, code) in [
        ("stranger", 9, here.clone(), "", denied),
        // In the name of a member that is known by another one.
        ("stranger", 1, here.clone(), "127.0.0.1:9", denied),
        ("c1", 2, here, "", denied),
        ("c1", 1, elsewhere, "", tonic::Code::FailedPrecondition),
    ] {
        let tls = cluster.client_tls(name);
        let options = ConnectOptions::default();
        let channel = certs::tls::connect(endpoint, &tls, Role::Coordinator, options)
            .await
            .unwrap();
        let mut client = RaftServiceClient::new(channel);
        let sent = client
            .messages(tokio_stream::iter([frame(from, id.clone(), at)]))
            .await;
        assert_eq!(sent.unwrap_err().code(), code, "{name} as {from}");
        if name == "stranger" {
            let asked = client
                .snapshot(SnapshotRequest {
                    cluster_id: id,
                    index: 1,
                    offset_bytes: 0,
                })
                .await;
            assert_eq!(asked.unwrap_err().code(), code);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_keeps_the_node_from_starting() {
    let mut cluster = Cluster::new(3).await;
    cluster.commit(100).await;
    cluster.stop(3).await;
    damage(&cluster.data(3));
    let directory = PeerDirectory::new(cluster.client_tls("c3"), cluster.members.clone());
    let error = start(cluster.config(3), directory)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("damaged") && error.contains("replace this member by a new one"),
        "{error}"
    );
}

fn damage(folder: &Path) {
    let first = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
    let first = first
        .filter(|p| p.extension().is_some_and(|e| e == "wal"))
        .min()
        .unwrap();
    let mut bytes = std::fs::read(&first).unwrap();
    bytes[700] ^= 4;
    std::fs::write(first, bytes).unwrap();
}

/// Not a benchmark (the build is not optimised): it shows that load makes batches, and that nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_at_once() {
    const CLIENTS: usize = 64;
    const EACH: usize = 100;
    let cluster = Cluster::new(3).await;
    let leader = cluster.raft(cluster.leader().await).clone();
    let begun = std::time::Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let leader = leader.clone();
            tokio::spawn(async move {
                let mut indices = Vec::new();
                for _ in 0..EACH {
                    // A loaded machine may change leaders: the outcome is then unknown, which is an answer too.
                    if let Ok((index, _)) = leader.propose(tick()).await {
                        indices.push(index);
                    }
                }
                indices
            })
        })
        .collect();
    let mut indices = Vec::new();
    for client in clients {
        indices.extend(client.await.unwrap());
    }
    eprintln!("{} commits in {:?}", indices.len(), begun.elapsed());
    let count = indices.len();
    indices.sort_unstable();
    indices.dedup();
    assert_eq!(indices.len(), count, "every proposal has an index of its own");
    let index = indices.last().copied().unwrap_or(0);
    cluster.await_applied(index).await;
}
