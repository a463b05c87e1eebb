//! What this node shows and whom it believes: its certificate, the roots of each role, the issuing CAs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certs::tls::{ClientTls, ServerTls};
use certs::{Identity, IssuingCa, Role, Roots, SpiffeId};

use crate::config::Config;

/// How often a node looks whether its own certificate should be renewed.
const RENEWAL_LOOK: Duration = Duration::from_secs(600);

/// Identities and trust of a node. The servers' and the client's TLS share what is replaced on renewal.
pub struct Credentials {
    folder: PathBuf,
    identity: Identity,
    /// Agents' CA: names agents at enrolment and renewal.
    pub agent_issuer: Arc<IssuingCa>,
    coordinator_issuer: IssuingCa,
    /// What agents and operators trust.
    pub coordinator_roots: Roots,
    /// The operators' listener.
    pub operator: ServerTls,
    /// The agents' listener.
    pub agent: ServerTls,
    /// The peers' listener.
    pub peer: ServerTls,
    /// The enrolment listener.
    pub enroll: ServerTls,
    /// Towards peers.
    pub client: ClientTls,
}

/// Why a node cannot show who it is.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file is missing, looser than it may be, or not what it should be.
    #[error("{}: {problem}\n  mend: {mend}", path.display())]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        mend: &'static str,
    },
    /// The certificate is somebody else's.
    #[error(
        "the certificate in {} is of {found}, but this node is {expected} by its configuration\n  \
         mend: use the folder that `cordon init` made for this node, or correct [node] name and [cluster] trust_domain",
        folder.display()
    )]
    Other {
        /// Where it is.
        folder: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// The certificate is over.
    #[error("the certificate in {} has expired\n  mend: issue a new one with the coordinators' CA; a node that runs renews its own", .0.display())]
    Expired(PathBuf),
    /// TLS cannot be configured with them.
    #[error("TLS cannot be configured: {0}")]
    Tls(String),
}

const REMAKE: &str =
    "`cordon init` makes it; keys are 0600 in a folder that is 0700 and owned by the user that runs this";

impl Credentials {
    /// Loads and checks everything below the configuration's folder. Loose permissions are refused (R15).
    pub fn load(config: &Config) -> Result<Credentials, CredentialsError> {
        let folder = config.home.join("identity");
        let identity = Identity::load(&folder).map_err(|error| file(&folder, &error))?;
        let expected = SpiffeId::new(&config.trust_domain, Role::Coordinator, &config.name)
            .map_err(|error| CredentialsError::Tls(error.to_string()))?;
        if *identity.spiffe() != expected {
            return Err(CredentialsError::Other {
                folder,
                found: identity.spiffe().to_string(),
                expected: expected.to_string(),
            });
        }
        if identity.not_after() <= SystemTime::now() {
            return Err(CredentialsError::Expired(folder));
        }
        let issuers = config.home.join("issuers");
        let issuer = |role| IssuingCa::load(&issuers, role).map_err(|error| file(&issuers, &error));
        let roots = |name: &str| {
            let path = config.home.join("roots").join(format!("{name}.pem"));
            Roots::load(&path).map_err(|error| file(&path, &error))
        };
        let coordinator_roots = roots("coordinator")?;
        let server = |roots: Option<Roots>, role: Option<Role>| {
            ServerTls::new(identity.clone(), roots, role, &config.trust_domain)
                .map_err(|error| CredentialsError::Tls(error.to_string()))
        };
        Ok(Credentials {
            operator: server(Some(roots("operator")?), Some(Role::Operator))?,
            agent: server(Some(roots("agent")?), Some(Role::Agent))?,
            peer: server(Some(coordinator_roots.clone()), Some(Role::Coordinator))?,
            enroll: server(None, None)?,
            client: ClientTls::new(Some(identity.clone()), &coordinator_roots, &config.trust_domain)
                .map_err(|error| CredentialsError::Tls(error.to_string()))?,
            agent_issuer: Arc::new(issuer(Role::Agent)?),
            coordinator_issuer: issuer(Role::Coordinator)?,
            coordinator_roots,
            identity,
            folder,
        })
    }

    /// Renews this node's own certificate, for ever, when half of its time is over: a new key, shown from
    /// the next handshake on; connections that stand are not touched (R12).
    pub async fn keep_renewed(mut self) {
        loop {
            tokio::time::sleep(RENEWAL_LOOK).await;
            let (from, until) = (self.identity.not_before(), self.identity.not_after());
            let half = until.duration_since(from).unwrap_or_default() / 2;
            if SystemTime::now() < from + half {
                continue;
            }
            match self.renew() {
                Ok(()) => tracing::info!("renewed this node's certificate"),
                Err(problem) => tracing::warn!(problem, "cannot renew this node's certificate"),
            }
        }
    }

    fn renew(&mut self) -> Result<(), String> {
        let (key, csr) = certs::new_key_and_csr().map_err(|error| error.to_string())?;
        let chain =
            self.coordinator_issuer
                .issue_from_csr(&csr, self.identity.spiffe(), certs::COORDINATOR_VALIDITY);
        let identity = Identity::new(key, chain.map_err(|error| error.to_string())?)
            .map_err(|error| error.to_string())?;
        identity.save(&self.folder).map_err(|error| error.to_string())?;
        for server in [&self.operator, &self.agent, &self.peer, &self.enroll] {
            server.replace(&identity);
        }
        self.client.replace(&identity);
        self.identity = identity;
        Ok(())
    }
}

fn file(path: &Path, error: &dyn std::error::Error) -> CredentialsError {
    CredentialsError::File {
        path: path.to_owned(),
        problem: error.to_string(),
        mend: REMAKE,
    }
}
