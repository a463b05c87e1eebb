//! Three nodes in one process: real disks, real mutual TLS over loopback.

use std::time::Duration;

use anyhow::{Context, bail};
use certs::tls::{ClientTls, ServerTls};
use certs::{Identity, IssuingCa, Role, SpiffeId};
use coordinator::raft::{PeerDirectory, RaftConfig, RaftHandle, start};
use proto::v1::raft_service_server::RaftServiceServer;

const DOMAIN: &str = "bench.cordon";
const NODES: u64 = 3;

/// A running cluster; its folder goes with it.
pub struct Cluster {
    nodes: Vec<RaftHandle>,
    _folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts the nodes on free ports of loopback.
    pub async fn start() -> anyhow::Result<Cluster> {
        let folder = tempfile::tempdir()?;
        let ca = IssuingCa::create(Role::Coordinator, DOMAIN, certs::CA_VALIDITY)?;
        let id = uuid::Uuid::new_v4();
        let mut listeners = Vec::new();
        let mut members = Vec::new();
        for node in 1..=NODES {
            let listener = certs::tls::listen("127.0.0.1:0".parse()?)?;
            members.push((node, format!("c{node}"), listener.local_addr()?.to_string()));
            listeners.push(listener);
        }
        let mut nodes = Vec::new();
        for ((node, listener), (_, name, _)) in (1..=NODES).zip(listeners).zip(members.clone()) {
            let identity = |ca: &IssuingCa| -> anyhow::Result<Identity> {
                let (key, csr) = certs::new_key_and_csr()?;
                let spiffe = SpiffeId::new(DOMAIN, Role::Coordinator, &name)?;
                let chain = ca.issue_from_csr(&csr, &spiffe, Role::Coordinator.validity())?;
                Ok(Identity::new(key, chain)?)
            };
            let client = ClientTls::new(Some(identity(&ca)?), &ca.roots()?, DOMAIN)?;
            let server = ServerTls::new(identity(&ca)?, Some(ca.roots()?), Some(Role::Coordinator), DOMAIN)?;
            let directory = PeerDirectory::new(client, members.clone());
            let data = folder.path().join(node.to_string());
            let config = RaftConfig::new(node, id, data, Some((1..=NODES).collect()));
            let (raft, service) = start(config, directory).await.context("a node starts")?;
            tokio::spawn(
                tonic::transport::Server::builder()
                    .initial_stream_window_size(4 << 20)
                    .initial_connection_window_size(8 << 20)
                    .add_service(RaftServiceServer::new(service))
                    .serve_with_incoming(certs::tls::incoming(listener, server)),
            );
            nodes.push(raft);
        }
        Ok(Cluster {
            nodes,
            _folder: folder,
        })
    }

    /// The node that leads and may propose.
    pub async fn leader(&self) -> anyhow::Result<RaftHandle> {
        for _ in 0..600 {
            if let Some(node) = self.nodes.iter().find(|node| node.role().borrow().ready) {
                return Ok(node.clone());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("no leader within 30 s")
    }

    /// Stops every node.
    pub async fn stop(self) {
        for node in self.nodes {
            node.shutdown().await;
        }
    }
}
