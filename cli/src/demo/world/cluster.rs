//! Coordinators on machines of a world.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::{Launch, Machine, OperatorClient, World, WorldError};

/// The hidden argument under which this executable is a coordinator.
pub const COORDINATOR_ARGUMENT: &str = "__coordinator";
/// How long a coordinator may take to serve.
const READY_MAX: Duration = Duration::from_secs(30);
/// How long a cluster may take to elect.
const ELECTION_MAX: Duration = Duration::from_secs(30);
/// The first operator's name.
const OPERATOR: &str = "demo";

/// A cluster of coordinators with fresh identities.
pub struct Cluster {
    birth: PathBuf,
    info: certs::init::Cluster,
    pub nodes: Vec<Node>,
}

/// One coordinator.
pub struct Node {
    pub member: certs::init::Member,
    pub machine: Machine,
    config: PathBuf,
}

impl Cluster {
    /// Gives birth to a cluster of this size and starts it.
    pub async fn start(world: &mut World, size: usize) -> Result<Cluster, WorldError> {
        let cluster = Cluster::prepare(world, size).await?;
        cluster.launch().await?;
        Ok(cluster)
    }

    /// Starts what was prepared, and waits for its leader.
    pub async fn launch(&self) -> Result<(), WorldError> {
        for node in &self.nodes {
            node.start().await?;
        }
        for node in &self.nodes {
            node.ready().await?;
        }
        self.leader(None).await?;
        Ok(())
    }

    /// Makes machines, keys and folders, and starts nothing.
    pub async fn prepare(world: &mut World, size: usize) -> Result<Cluster, WorldError> {
        let birth = world.folder().join("cluster");
        let mut machines = Vec::new();
        for number in 1..=size {
            machines.push(world.machine(&format!("c{number}")).await?);
        }
        let members = machines.iter().map(member).collect();
        let trust_domain = certs::init::TRUST_DOMAIN_DEFAULT;
        let info = certs::init::create(&birth, trust_domain, members, OPERATOR)
            .map_err(|error| WorldError::Certificates(error.to_string()))?;
        let nodes = info
            .members
            .iter()
            .zip(machines)
            .map(|(member, machine)| Node {
                config: birth
                    .join("coordinators")
                    .join(&member.name)
                    .join("coordinator.toml"),
                member: member.clone(),
                machine,
            })
            .collect::<Vec<_>>();
        for node in &nodes {
            allow_full_disk(&node.config)?;
        }
        Ok(Cluster { birth, info, nodes })
    }

    /// Prepares one more member, which joins as a learner once it is started and added.
    pub async fn prepare_joiner(&mut self, world: &mut World, name: &str) -> Result<Node, WorldError> {
        let machine = world.machine(name).await?;
        let (home, member) = certs::init::add_coordinator(&self.birth, &mut self.info, member(&machine))
            .map_err(|error| WorldError::Certificates(error.to_string()))?;
        let config = home.join("coordinator.toml");
        allow_full_disk(&config)?;
        Ok(Node {
            member,
            machine,
            config,
        })
    }

    /// The folder that `cordon init` made.
    pub fn birth(&self) -> &Path {
        &self.birth
    }

    /// The cluster's id, trust domain and members.
    pub fn info(&self) -> &certs::init::Cluster {
        &self.info
    }

    /// Where the first operator's identity is.
    pub fn operator_home(&self) -> PathBuf {
        self.birth.join("operators").join(OPERATOR)
    }

    /// An operator who asks any node.
    pub fn operator(&self) -> Result<OperatorClient, WorldError> {
        let endpoints = self.nodes.iter().map(Node::operator_endpoint).collect();
        OperatorClient::new(&self.operator_home(), &self.info.trust_domain, endpoints)
    }

    /// Another person, with a certificate of the operators' CA, who asks this node only.
    pub fn another_operator(&self, name: &str, node: &Node) -> Result<OperatorClient, WorldError> {
        let issued = certs::init::load(&self.birth)
            .and_then(|cluster| certs::init::issue_operator(&self.birth, &cluster, name));
        let (home, _) = issued.map_err(|error| WorldError::Certificates(error.to_string()))?;
        OperatorClient::new(&home, &self.info.trust_domain, vec![node.operator_endpoint()])
    }

    /// An operator who asks this node only.
    pub fn operator_at(&self, node: &Node) -> Result<OperatorClient, WorldError> {
        let endpoints = vec![node.operator_endpoint()];
        OperatorClient::new(&self.operator_home(), &self.info.trust_domain, endpoints)
    }

    /// `host:port` of every agents' listener.
    pub fn agent_endpoints(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| node.member.endpoint(node.member.agent_port))
            .collect()
    }

    /// The node that leads, once there is one other than `not`.
    pub async fn leader(&self, not: Option<&str>) -> Result<&Node, WorldError> {
        let operator = self.operator()?;
        super::level("a leader", ELECTION_MAX, async || {
            let status = operator.status().await?;
            let leader = self
                .nodes
                .iter()
                .find(|node| node.member.name == status.leader_id && Some(status.leader_id.as_str()) != not);
            Ok(leader.ok_or_else(|| format!("leader {:?} in term {}", status.leader_id, status.term)))
        })
        .await
    }

    /// Ends everything and waits until it is gone.
    pub async fn shut_down(self) -> Result<(), WorldError> {
        for node in self.nodes {
            node.machine.shut_down().await?;
        }
        Ok(())
    }
}

impl Node {
    /// Starts its process; [`Node::ready`] waits until it serves.
    pub async fn start(&self) -> Result<(), WorldError> {
        self.start_with(|launch| launch).await
    }

    /// Starts its process with something changed about it.
    pub async fn start_with(&self, change: impl FnOnce(Launch) -> Launch) -> Result<(), WorldError> {
        let launch = Launch::own([COORDINATOR_ARGUMENT, "--config", &self.config.to_string_lossy()]);
        self.machine.spawn(self.name(), change(launch)).await.map(drop)
    }

    /// Waits until it serves, and returns what it said.
    pub async fn ready(&self) -> Result<serde_json::Value, WorldError> {
        self.machine.ready(self.name(), READY_MAX).await
    }

    /// SIGKILL.
    pub async fn kill(&self) -> Result<(), WorldError> {
        self.machine.kill(self.name()).await
    }

    /// SIGTERM, and waits for its end.
    pub async fn stop(&self) -> Result<super::Exit, WorldError> {
        self.machine.signal(self.name(), Signal::TERM).await?;
        self.machine.wait(self.name(), READY_MAX).await
    }

    /// The id of its process, by the machine's own count.
    pub fn pid(&self) -> Option<u32> {
        self.machine.pid(self.name())
    }

    /// The member's name.
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// Its folder, with configuration, identity and data.
    pub fn home(&self) -> &Path {
        self.config.parent().unwrap_or(&self.config)
    }

    /// `host:port` of its operators' listener.
    pub fn operator_endpoint(&self) -> String {
        self.member.endpoint(self.member.operator_port)
    }

    /// `host:port` of its enrolment listener.
    pub fn enroll_endpoint(&self) -> String {
        self.member.endpoint(self.member.enroll_port)
    }
}

fn member(machine: &Machine) -> certs::init::Member {
    certs::init::Member {
        raft_id: 0,
        name: machine.name().to_owned(),
        host: machine.address().to_string(),
        operator_port: 7400,
        agent_port: 7401,
        peer_port: 7402,
        enroll_port: 7403,
        listen: Some(machine.address()),
    }
}

/// Lets a coordinator work on an almost full disk too: a computer on which somebody tries Cordon out often
/// has less free than a coordinator ought to have.
fn allow_full_disk(config: &Path) -> Result<(), WorldError> {
    std::fs::OpenOptions::new()
        .append(true)
        .open(config)
        .and_then(|mut file| {
            file.write_all(b"\n[disk]\nevidence_free_percent_min = 0\nruns_free_percent_min = 0\n")
        })
        .map_err(|source| WorldError::File {
            path: config.to_owned(),
            source,
        })
}
