//! Enrolment: a join token and a proved key for an identity. The only port without client certificates.

use std::net::SocketAddr;
use std::sync::Arc;

use certs::{IssuingCa, Roots};
use engine::id::Digest;
use engine::{Actor, Command, Envelope, Reply};
use proto::v1;
use proto::v1::enroll_service_server::EnrollService;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};

use super::auth::{self, Caller};
use super::bucket::Refusals;
use super::error::ApiError;
use crate::clock;
use crate::control::Control;

/// A host name is at most this long.
const HOSTNAME_BYTES_MAX: usize = 253;
/// A token is far shorter.
const TOKEN_BYTES_MAX: usize = 256;

/// The enrolment service.
pub struct Enroll {
    control: Control,
    issuer: Arc<IssuingCa>,
    /// What agents trust from now on.
    coordinator_roots: Roots,
    refusals: Refusals,
}

impl Enroll {
    /// With the CA that names agents, and the roots that they will trust.
    pub fn new(control: Control, issuer: Arc<IssuingCa>, coordinator_roots: Roots) -> Enroll {
        Enroll {
            control,
            issuer,
            coordinator_roots,
            refusals: Refusals::default(),
        }
    }

    async fn enroll(&self, asked: v1::EnrollRequest) -> Result<v1::EnrollReply, ApiError> {
        if asked.token.len() > TOKEN_BYTES_MAX || asked.hostname.len() > HOSTNAME_BYTES_MAX {
            return Err(ApiError::Invalid {
                field: "token, hostname",
                problem: format!("at most {TOKEN_BYTES_MAX} and {HOSTNAME_BYTES_MAX} bytes"),
            });
        }
        let key = certs::key_sha256_of_csr(&asked.csr_der).map_err(|error| ApiError::Invalid {
            field: "csr_der",
            problem: error.to_string(),
        })?;
        let token = token_hash(&asked.token);
        // A guess is refused without an entry in the log.
        if !self
            .control
            .query(|state| state.tokens().any(|known| known.hash == token))
            .await?
        {
            return Err(engine::Refusal::Token("it is not known".into()).into());
        }
        let envelope = Envelope {
            request: None,
            actor: Actor::Node(self.control.node()),
            command: Command::Enroll {
                token,
                key: Digest(key),
                hostname: asked.hostname,
            },
        };
        let agent = match self.control.submit(envelope).await?.1 {
            Reply::Enrolled { agent, .. } => agent,
            Reply::Refused(refusal) => return Err(refusal.into()),
            other => {
                return Err(ApiError::Internal(format!(
                    "enrolment was answered with {other:?}"
                )));
            }
        };
        let trust_domain = self.issuer.trust_domain().to_owned();
        let name = certs::SpiffeId::new(&trust_domain, certs::Role::Agent, agent.as_str())
            .map_err(|error| ApiError::Issue(error.to_string()))?;
        let chain = self
            .issuer
            .issue_from_csr(&asked.csr_der, &name, certs::AGENT_VALIDITY);
        let chain = chain.map_err(|error| ApiError::Issue(error.to_string()))?;
        let agent_endpoints = self
            .control
            .local(|state| state.nodes().map(|node| node.agent_endpoint.clone()).collect());
        tracing::info!(%agent, "enrolled an agent");
        Ok(v1::EnrollReply {
            agent_id: agent.to_string(),
            trust_domain,
            chain_der: chain.into_iter().map(Into::into).collect(),
            coordinator_roots_der: self
                .coordinator_roots
                .der()
                .map(|der| der.to_vec().into())
                .collect(),
            agent_endpoints,
        })
    }
}

#[tonic::async_trait]
impl EnrollService for Enroll {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollReply>, Status> {
        let addr = source(&request)?.ip();
        if !self.refusals.is_heard(addr, clock::now()) {
            return Err(ApiError::TooMany.into());
        }
        let enrolled = Enroll::enroll(self, request.into_inner()).await;
        if let Err(ApiError::Refused(engine::Refusal::Token(_)) | ApiError::Invalid { .. }) = &enrolled {
            tracing::info!(%addr, "refused an enrolment");
            self.refusals.charge(addr, clock::now());
        }
        Ok(Response::new(enrolled?))
    }
}

/// What the state knows of a token: the hash of its secret half.
pub fn token_hash(secret: &str) -> Digest {
    Digest(Sha256::digest(secret.as_bytes()).into())
}

fn source<T>(request: &Request<T>) -> Result<SocketAddr, ApiError> {
    match auth::caller(request)? {
        Caller::Nobody { addr } => Ok(addr),
        _ => Err(ApiError::NotAllowed),
    }
}
