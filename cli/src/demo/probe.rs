//! Connections from the hosts, to a coordinator and to some other server, at three moments.

use std::net::SocketAddr;

use futures::future::try_join_all;

use super::document::Probe;
use super::plant::{Part, PlantedHost};
use super::world::{AgentProcess, Cluster, Machine, WorldError};

/// The port of the other server.
pub const OTHER_PORT: u16 = 8080;

/// What can be probed. Each target has the addresses of both families, where the world has both.
pub struct Targets {
    coordinators: Vec<SocketAddr>,
    others: Vec<SocketAddr>,
}

impl Targets {
    /// The coordinators that are given by name in `alive`, and the other server.
    pub fn new(cluster: &Cluster, other: &Machine) -> Targets {
        let coordinators = cluster
            .nodes
            .iter()
            .map(|node| SocketAddr::new(node.machine.address(), node.member.agent_port))
            .collect();
        let others = other
            .addresses()
            .iter()
            .map(|address| SocketAddr::new(*address, OTHER_PORT))
            .collect();
        Targets { coordinators, others }
    }
}

/// Probes from every host at once. A host reaches the coordinators when it reaches any of them (one may be
/// dead), and the other server when it reaches it over any family (one way out is a way out).
pub async fn all(
    agents: &[AgentProcess],
    targets: &Targets,
    when: &'static str,
) -> Result<Vec<Probe>, WorldError> {
    let of_one = async |agent: &AgentProcess| {
        let (coordinator, other) =
            tokio::try_join!(any(agent, &targets.coordinators), any(agent, &targets.others))?;
        let probe = |target, reachable| Probe {
            host: agent.id().to_owned(),
            when,
            target,
            reachable,
        };
        Ok::<_, WorldError>([probe("coordinator", coordinator), probe("other", other)])
    };
    Ok(try_join_all(agents.iter().map(of_one))
        .await?
        .into_iter()
        .flatten()
        .collect())
}

async fn any(agent: &AgentProcess, targets: &[SocketAddr]) -> Result<bool, WorldError> {
    let probes = try_join_all(targets.iter().map(|target| agent.machine.probe(*target))).await?;
    Ok(probes.iter().any(|probe| probe.reachable))
}

/// What is wrong with the probes, if anything: everything reaches everything, except that during the
/// isolation the infected hosts reach the coordinators only.
pub fn judge(probes: &[Probe], hosts: &[PlantedHost], when: &str) -> Result<(), String> {
    let wrong: Vec<String> = probes
        .iter()
        .filter(|probe| probe.when == when)
        .filter_map(|probe| {
            let infected = hosts
                .iter()
                .any(|host| host.id == probe.host && host.part == Part::Infected);
            let expected = !(when == "during" && infected && probe.target == "other");
            (probe.reachable != expected).then(|| {
                let verb = if probe.reachable {
                    "reaches"
                } else {
                    "does not reach"
                };
                format!("{} {verb} {}", probe.host, probe.target)
            })
        })
        .collect();
    match probes.iter().filter(|probe| probe.when == when).count() {
        0 => Err("no probe was made".to_owned()),
        _ if wrong.is_empty() => Ok(()),
        _ => Err(wrong.join("; ")),
    }
}
