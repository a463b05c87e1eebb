//! Wrong, expired, foreign and cross-role certificates at each port of a real coordinator.

mod support;

use std::path::Path;
use std::time::{Duration, SystemTime};

use certs::tls::{ClientTls, ConnectOptions, connect};
use certs::{Identity, IssuingCa, Role, Roots, SpiffeId, Validity, new_key_and_csr};
use cordon::demo::world::{Cluster, Node};
use proto::v1;
use tonic::transport::Channel;

/// What became of a call.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// The server spoke to us: with an answer, or with a refusal of its own above TLS.
    Answered,
    /// The connection was refused.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Operator,
    Agent,
    Peer,
}

const PORTS: [(Port, Role); 3] = [
    (Port::Operator, Role::Operator),
    (Port::Agent, Role::Agent),
    (Port::Peer, Role::Coordinator),
];

#[test]
fn each_port_takes_its_own_role_only() {
    support::in_world(async |mut world| {
        let cluster = Cluster::start(&mut world, 1).await?;
        let node = &cluster.nodes[0];
        let roots = Roots::load(&cluster.operator_home().join("roots/coordinator.pem"))?;
        let domain = &cluster.info().trust_domain;
        let authorities = cluster.birth().join("ca");

        for role in [Role::Operator, Role::Agent, Role::Coordinator] {
            let hour = Validity::lasting(Duration::from_secs(3_600));
            let name = if role == Role::Coordinator {
                "c1"
            } else {
                "somebody"
            };
            let good = issue(&authorities, role, domain, name, hour)?;
            for (port, its_role) in PORTS {
                let seen = call(node, port, Some(good.clone()), &roots, domain).await;
                let expected = if role == its_role {
                    Seen::Answered
                } else {
                    Seen::Refused
                };
                assert_eq!(seen, expected, "a certificate of role {role} at {port:?}");
            }
        }
        for (port, role) in PORTS {
            let now = SystemTime::now();
            let hour = Duration::from_secs(3_600);
            let expired = Validity {
                not_before: now - 2 * hour,
                not_after: now - hour,
            };
            let future = Validity {
                not_before: now + hour,
                not_after: now + 2 * hour,
            };
            for (what, validity) in [("expired", expired), ("not yet valid", future)] {
                let identity = issue(&authorities, role, domain, "somebody", validity)?;
                let seen = call(node, port, Some(identity), &roots, domain).await;
                assert_eq!(seen, Seen::Refused, "an {what} certificate at {port:?}");
            }
            // The same names from an authority of somebody else's.
            let foreign = IssuingCa::create(role, domain, Validity::lasting(hour))?;
            let identity = issue_by(&foreign, role, domain, "somebody", Validity::lasting(hour))?;
            let seen = call(node, port, Some(identity), &roots, domain).await;
            assert_eq!(seen, Seen::Refused, "a foreign certificate at {port:?}");
            let seen = call(node, port, None, &roots, domain).await;
            assert_eq!(seen, Seen::Refused, "no certificate at {port:?}");
        }
        // And the node still serves those whom it should.
        cluster.operator()?.create_token("").await?;
        cluster.shut_down().await?;
        Ok(())
    });
}

fn issue(folder: &Path, role: Role, domain: &str, id: &str, validity: Validity) -> anyhow::Result<Identity> {
    issue_by(&IssuingCa::load(folder, role)?, role, domain, id, validity)
}

fn issue_by(
    ca: &IssuingCa,
    role: Role,
    domain: &str,
    id: &str,
    validity: Validity,
) -> anyhow::Result<Identity> {
    let (key, request) = new_key_and_csr()?;
    let name = SpiffeId::new(domain, role, id)?;
    Ok(Identity::new(key, ca.issue_from_csr(&request, &name, validity)?)?)
}

async fn call(node: &Node, port: Port, identity: Option<Identity>, roots: &Roots, domain: &str) -> Seen {
    let member = &node.member;
    let endpoint = member.endpoint(match port {
        Port::Operator => member.operator_port,
        Port::Agent => member.agent_port,
        Port::Peer => member.peer_port,
    });
    let tls = ClientTls::new(identity, roots, domain).expect("a client's configuration holds");
    let Ok(channel) = connect(&endpoint, &tls, Role::Coordinator, ConnectOptions::default()).await else {
        return Seen::Refused;
    };
    match ask(port, channel).await {
        Ok(()) => Seen::Answered,
        // In TLS 1.3 a client learns of the refusal of its certificate with the first answer.
        Err(status) if std::error::Error::source(&status).is_some() => Seen::Refused,
        Err(_) => Seen::Answered,
    }
}

async fn ask(port: Port, channel: Channel) -> Result<(), tonic::Status> {
    match port {
        Port::Operator => {
            let mut client = v1::operator_service_client::OperatorServiceClient::new(channel);
            client.status(v1::StatusRequest {}).await.map(drop)
        }
        Port::Agent => {
            let mut client = v1::agent_service_client::AgentServiceClient::new(channel);
            client
                .evidence_offset(v1::EvidenceOffsetRequest::default())
                .await
                .map(drop)
        }
        Port::Peer => {
            let mut client = v1::peer_service_client::PeerServiceClient::new(channel);
            client.stat_blob(v1::StatBlobRequest::default()).await.map(drop)
        }
    }
}
