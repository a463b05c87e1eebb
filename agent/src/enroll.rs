//! Enrolment: a token and a pin become an identity.
//!
//! The key is made here and never leaves. It is kept until the identity is complete, so that a repeat after
//! a lost answer shows the same key, which the cluster answers with the same agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use certs::tls::{ClientTls, ConnectError, ConnectOptions};
use certs::{CsrError, FileError, Identity, IdentityError, PrivateKey, Role, Roots, RootsError, files};
use proto::v1;
use proto::v1::enroll_service_client::EnrollServiceClient;

use crate::config::Config;

const CALL_WITHIN: Duration = Duration::from_secs(30);

/// What enrolment needs besides the configuration.
pub struct Enrolment {
    /// The secret half of `cordon enroll-token create`.
    pub token: String,
    /// SHA-256 of the coordinators' CA key.
    pub ca_sha256: [u8; 32],
    /// host:port of an enrolment listener.
    pub endpoint: String,
    /// A wish for the agent's id.
    pub hostname: String,
}

/// Why this host is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// There is an identity.
    #[error("this host is enrolled already, as {id}: remove {} to enroll it anew", folder.display())]
    Already {
        /// Its name.
        id: String,
        /// Where it is.
        folder: PathBuf,
    },
    /// No connection, or not to the right one.
    #[error(
        "{0}. Is the endpoint the enrolment listener (port 7403 by default), and the pin the one that was given with the token?"
    )]
    Connect(#[from] ConnectError),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The cluster said no.
    #[error("the cluster refuses: {0}. Make a new token with `cordon enroll-token create`")]
    Refused(String),
    /// No answer.
    #[error(
        "the endpoint did not answer an enrolment ({0}). Is it the enrolment listener (port 7403 by default)? \
         The token may have been used: run the same command again, it is safe"
    )]
    NoAnswer(String),
    /// The answer is no identity.
    #[error("the cluster's answer cannot be used: {0}")]
    Answer(String),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key.
    #[error("cannot make a key: {0}")]
    Key(#[from] CsrError),
}

impl From<IdentityError> for EnrollError {
    fn from(error: IdentityError) -> EnrollError {
        EnrollError::Answer(error.to_string())
    }
}

impl From<RootsError> for EnrollError {
    fn from(error: RootsError) -> EnrollError {
        EnrollError::Answer(error.to_string())
    }
}

/// Enrolls this host and writes its identity, the coordinators' roots and their endpoints.
///
/// # Errors
/// What went wrong, and what to do about it. A repeat is safe.
pub async fn enroll(config: &Config, enrolment: &Enrolment) -> Result<Identity, EnrollError> {
    let folder = config.identity_dir();
    if folder.join("chain.pem").exists() {
        let id =
            Identity::load(&folder).map_or_else(|error| error.to_string(), |own| own.spiffe().to_string());
        return Err(EnrollError::Already { id, folder });
    }
    files::make_private_folder(&config.state_dir)?;
    let pending = config.state_dir.join("enrolling");
    let (key, csr_der) = pending_key(&pending)?;
    let tls = ClientTls::pinned(enrolment.ca_sha256).map_err(|error| EnrollError::Tls(error.to_string()))?;
    let channel = certs::tls::connect(
        &enrolment.endpoint,
        &tls,
        Role::Coordinator,
        ConnectOptions::default(),
    )
    .await?;
    let request = v1::EnrollRequest {
        token: enrolment.token.clone(),
        csr_der: csr_der.into(),
        hostname: enrolment.hostname.clone(),
    };
    let mut client = EnrollServiceClient::new(channel);
    let reply = match tokio::time::timeout(CALL_WITHIN, client.enroll(request)).await {
        Err(_) => return Err(EnrollError::NoAnswer("30 s passed".to_owned())),
        Ok(Err(status)) => return Err(refused(&status)),
        Ok(Ok(reply)) => reply.into_inner(),
    };
    let chain = reply.chain_der.iter().map(|der| der.to_vec()).collect();
    let identity = Identity::new(key, chain)?;
    let spiffe = identity.spiffe();
    if spiffe.role() != Role::Agent
        || spiffe.id() != reply.agent_id
        || spiffe.trust_domain() != reply.trust_domain
    {
        let message = format!("the certificate is {spiffe}, the answer says {}", reply.agent_id);
        return Err(EnrollError::Answer(message));
    }
    let roots = Roots::from_der(
        reply
            .coordinator_roots_der
            .iter()
            .map(|der| der.to_vec())
            .collect(),
    )?;
    if !roots.contains_key(&enrolment.ca_sha256) {
        return Err(EnrollError::Answer(
            "its roots do not hold the pinned key".to_owned(),
        ));
    }
    let roots_file = config.roots_file();
    files::make_private_folder(roots_file.parent().unwrap_or(&config.state_dir))?;
    roots.save(&roots_file)?;
    let endpoints: Vec<&str> = reply
        .agent_endpoints
        .iter()
        .map(String::as_str)
        .filter(|endpoint| crate::config::check_endpoint(endpoint).is_ok())
        .collect();
    files::replace(
        &config.coordinators_file(),
        endpoints.join("\n").as_bytes(),
        files::PUBLIC_MODE,
    )?;
    // Last: from here on the host is enrolled.
    identity.save(&folder)?;
    if let Err(error) = std::fs::remove_dir_all(&pending) {
        tracing::warn!(%error, folder = %pending.display(), "the enrolment's key could not be removed");
    }
    Ok(identity)
}

/// The key of the enrolment under way, or a new one.
fn pending_key(folder: &Path) -> Result<(PrivateKey, Vec<u8>), EnrollError> {
    let (key_file, csr_file) = (folder.join("key.der"), folder.join("request.der"));
    files::make_private_folder(folder)?;
    // The request is written last: without it the key was never shown to anyone.
    if csr_file.exists() {
        let key = PrivateKey::from_der(files::read_secret(&key_file)?.to_vec());
        return Ok((key, files::read_public(&csr_file)?));
    }
    let (key, csr) = certs::new_key_and_csr()?;
    files::replace(&key_file, key.secret_der(), files::SECRET_MODE)?;
    files::replace(&csr_file, &csr, files::PUBLIC_MODE)?;
    Ok((key, csr))
}

fn refused(status: &tonic::Status) -> EnrollError {
    use tonic::Code::{
        Aborted, Cancelled, DeadlineExceeded, Internal, ResourceExhausted, Unavailable, Unknown,
    };
    match status.code() {
        Aborted | Cancelled | DeadlineExceeded | Internal | ResourceExhausted | Unavailable | Unknown => {
            EnrollError::NoAnswer(status.message().to_owned())
        }
        _ => EnrollError::Refused(status.message().to_owned()),
    }
}
