//! The one choke point: (RPC, role) -> allow. Nothing said means deny (R20).
//!
//! A layer around every server looks the request's path up in [`TABLE`], takes the caller from the
//! certificate that the TLS acceptor verified, and puts it into the request for the handlers. A test walks
//! the protocol's descriptors, so that an RPC without an entry fails the build. What depends on the object
//! (an agent's own tasks, its recorded key) is asked by the handlers, with the caller from here.

use std::net::SocketAddr;
use std::task::{Context, Poll};

use certs::tls::Peer;
use engine::id::{AgentId, Digest};
use futures::future::{Either, Ready, ready};
use tonic::body::Body;
use tower::{Layer, Service};

use super::error::ApiError;

/// As what somebody calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sees everything, changes nothing.
    Viewer,
    /// Starts and stops runs, reads evidence.
    Responder,
    /// Approves.
    Approver,
    /// Members, agents, tokens, labels. No approver by that.
    Admin,
    /// An endpoint.
    Agent,
    /// Another coordinator.
    Peer,
    /// Shows no certificate: enrolment.
    Anyone,
}

use Role::{Admin, Agent, Anyone, Approver, Peer as PeerRole, Responder, Viewer};

const EVERY_OPERATOR: &[Role] = &[Viewer, Responder, Approver, Admin];

/// Who may call what. The only place that says so.
pub const TABLE: &[(&str, &[Role])] = &[
    ("/cordon.v1.OperatorService/Status", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/ClusterStatus", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/AddMember", &[Admin]),
    ("/cordon.v1.OperatorService/RemoveMember", &[Admin]),
    ("/cordon.v1.OperatorService/TransferLeader", &[Admin]),
    ("/cordon.v1.OperatorService/ListAgents", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/GetAgent", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/SetAgentLabels", &[Admin]),
    ("/cordon.v1.OperatorService/RevokeAgent", &[Admin]),
    ("/cordon.v1.OperatorService/CreateEnrollToken", &[Admin]),
    ("/cordon.v1.OperatorService/ListEnrollTokens", &[Admin]),
    ("/cordon.v1.OperatorService/RevokeEnrollToken", &[Admin]),
    ("/cordon.v1.OperatorService/PlanRun", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/StartRun", &[Responder]),
    ("/cordon.v1.OperatorService/ListRuns", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/GetRun", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/ListTasks", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/WatchRun", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/CancelRun", &[Responder]),
    ("/cordon.v1.OperatorService/PauseRun", &[Responder]),
    ("/cordon.v1.OperatorService/ResumeRun", &[Responder]),
    ("/cordon.v1.OperatorService/RetryRun", &[Responder]),
    ("/cordon.v1.OperatorService/PlanRollback", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/RollbackRun", &[Responder]),
    ("/cordon.v1.OperatorService/SettleTask", &[Responder]),
    ("/cordon.v1.OperatorService/ExplainRun", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/ReplayRun", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/PublishPlaybook", &[Responder]),
    ("/cordon.v1.OperatorService/ListPlaybooks", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/GetPlaybook", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/SendEvents", &[Responder]),
    ("/cordon.v1.OperatorService/Submit", &[Responder]),
    ("/cordon.v1.OperatorService/ListTriggers", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/SetTrigger", &[Responder]),
    ("/cordon.v1.OperatorService/ListEvidence", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/GetEvidence", &[Responder]),
    ("/cordon.v1.OperatorService/VerifyEvidence", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/ListAudit", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/ListApprovals", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/GetApproval", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/WatchApprovals", EVERY_OPERATOR),
    // Which approvals, the state says: by the roles that it records, in the apply of the answer.
    ("/cordon.v1.OperatorService/AnswerApproval", &[Approver]),
    ("/cordon.v1.OperatorService/ListRoles", EVERY_OPERATOR),
    ("/cordon.v1.OperatorService/GrantRole", &[Admin]),
    ("/cordon.v1.OperatorService/RevokeRole", &[Admin]),
    ("/cordon.v1.AgentService/Session", &[Agent]),
    ("/cordon.v1.AgentService/EvidenceOffset", &[Agent]),
    ("/cordon.v1.AgentService/PutEvidence", &[Agent]),
    ("/cordon.v1.EnrollService/Enroll", &[Anyone]),
    ("/cordon.v1.RaftService/Messages", &[PeerRole]),
    ("/cordon.v1.RaftService/Snapshot", &[PeerRole]),
    ("/cordon.v1.PeerService/Forward", &[PeerRole]),
    ("/cordon.v1.PeerService/Reshape", &[PeerRole]),
    ("/cordon.v1.PeerService/StatBlob", &[PeerRole]),
    ("/cordon.v1.PeerService/GetBlob", &[PeerRole]),
    ("/cordon.v1.PeerService/PutBlob", &[PeerRole]),
];

/// Who calls: what the verified certificate says, and nothing that the request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A person.
    Operator {
        /// The id in the certificate.
        id: String,
    },
    /// An endpoint.
    Agent {
        /// The id in the certificate.
        id: AgentId,
        /// SHA-256 of the certificate's key.
        key: Digest,
    },
    /// A coordinator.
    Coordinator {
        /// The node's name in the certificate.
        name: String,
    },
    /// No certificate.
    Nobody {
        /// From where.
        addr: SocketAddr,
    },
}

impl Caller {
    /// The roles that this caller has. Operators' certificates carry only an id; until the state
    /// records roles, every operator has all of them.
    fn roles(&self) -> &'static [Role] {
        match self {
            Caller::Operator { .. } => EVERY_OPERATOR,
            Caller::Agent { .. } => &[Agent],
            Caller::Coordinator { .. } => &[PeerRole],
            Caller::Nobody { .. } => &[Anyone],
        }
    }

    fn of(peer: &Peer) -> Option<Caller> {
        let Some(spiffe) = &peer.spiffe else {
            return Some(Caller::Nobody { addr: peer.addr });
        };
        let id = spiffe.id().to_owned();
        Some(match spiffe.role() {
            certs::Role::Operator => Caller::Operator { id },
            certs::Role::Coordinator => Caller::Coordinator { name: id },
            certs::Role::Agent => Caller::Agent {
                id: id.parse().ok()?,
                key: Digest(peer.key_sha256?),
            },
        })
    }
}

/// Whether a caller may call an RPC, by its path.
pub fn allows(path: &str, caller: &Caller) -> bool {
    let entry = TABLE.iter().find(|(rpc, _)| *rpc == path);
    entry.is_some_and(|(_, roles)| caller.roles().iter().any(|role| roles.contains(role)))
}

/// The caller of a request that passed the choke point. Without one the request did not, and is denied.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, ApiError> {
    request
        .extensions()
        .get::<Caller>()
        .cloned()
        .ok_or(ApiError::NotAllowed)
}

/// The operator of a request.
pub fn operator<T>(request: &tonic::Request<T>) -> Result<String, ApiError> {
    match caller(request)? {
        Caller::Operator { id } => Ok(id),
        _ => Err(ApiError::NotAllowed),
    }
}

/// The agent of a request, with the key that its certificate holds.
pub fn agent<T>(request: &tonic::Request<T>) -> Result<(AgentId, Digest), ApiError> {
    match caller(request)? {
        Caller::Agent { id, key } => Ok((id, key)),
        _ => Err(ApiError::NotAllowed),
    }
}

/// Puts the choke point around a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuthLayer;

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth { inner }
    }
}

/// The choke point.
#[derive(Clone, Debug)]
pub struct Auth<S> {
    inner: S,
}

impl<S> Service<http::Request<Body>> for Auth<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let caller = request.extensions().get::<Peer>().and_then(Caller::of);
        match caller {
            Some(caller) if allows(request.uri().path(), &caller) => {
                request.extensions_mut().insert(caller);
                Either::Left(self.inner.call(request))
            }
            _ => Either::Right(ready(Ok(tonic::Status::from(ApiError::NotAllowed).into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn every_rpc() -> Vec<String> {
        let set = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let mut rpcs = Vec::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    rpcs.push(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        rpcs
    }

    fn callers() -> [Caller; 4] {
        [
            Caller::Operator { id: "ada".into() },
            Caller::Agent {
                id: "web-1".parse().unwrap(),
                key: Digest([1; 32]),
            },
            Caller::Coordinator { name: "c1".into() },
            Caller::Nobody {
                addr: "10.0.0.9:5000".parse().unwrap(),
            },
        ]
    }

    #[test]
    fn every_rpc_has_an_entry_and_every_entry_an_rpc() {
        let rpcs = every_rpc();
        assert!(rpcs.len() > 30, "the descriptors are there");
        for rpc in &rpcs {
            assert!(
                TABLE.iter().any(|(path, _)| path == rpc),
                "{rpc} has no entry in the table: say who may call it"
            );
        }
        for (n, (path, roles)) in TABLE.iter().enumerate() {
            assert!(rpcs.iter().any(|rpc| rpc == path), "{path} is no RPC");
            assert!(!roles.is_empty(), "{path} allows nobody");
            assert!(
                TABLE[..n].iter().all(|(other, _)| other != path),
                "{path} stands twice"
            );
        }
    }

    #[test]
    fn each_party_calls_its_own_service_only() {
        for rpc in every_rpc() {
            for caller in callers() {
                let own = match caller {
                    Caller::Operator { .. } => rpc.contains(".OperatorService/"),
                    Caller::Agent { .. } => rpc.contains(".AgentService/"),
                    Caller::Coordinator { .. } => {
                        rpc.contains(".PeerService/") || rpc.contains(".RaftService/")
                    }
                    Caller::Nobody { .. } => rpc.contains(".EnrollService/"),
                };
                assert_eq!(allows(&rpc, &caller), own, "{rpc} by {caller:?}");
            }
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_denied() {
        for path in [
            "",
            "/",
            "/cordon.v1.OperatorService/",
            "/cordon.v1.OperatorService/StartRun/",
            "/cordon.v1.OperatorService/startrun",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(
                callers().iter().all(|caller| !allows(path, caller)),
                "{path:?} must be denied"
            );
        }
    }
}
