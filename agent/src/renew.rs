//! Renews the agent's certificate over its live session, with a new key, at 50 to 66 % of its validity.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use certs::{CsrError, Identity, IdentityError, PrivateKey};
use proto::v1;

use crate::session::jitter::Jitter;

/// A request that was not answered is made again after this, with a third of it at random.
const RETRY: Duration = Duration::from_secs(60);
/// A request that was refused is made again after this.
const RETRY_REFUSED: Duration = Duration::from_secs(600);

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The key could not be made.
    #[error("cannot make a new key: {0}")]
    Key(#[from] CsrError),
    /// The cluster said no.
    #[error("the cluster refuses to renew the certificate: {0}")]
    Refused(String),
    /// An answer to no request.
    #[error("the coordinator sent a certificate that was not asked for")]
    Unasked,
    /// The chain is not for the key that was made.
    #[error("the coordinator sent a certificate that cannot be used: {0}")]
    Chain(#[from] IdentityError),
    /// The chain names someone else.
    #[error("the coordinator sent a certificate of {found}, and this is {own}")]
    Name {
        /// In the chain.
        found: String,
        /// Ours.
        own: String,
    },
    /// It cannot be kept.
    #[error("cannot keep the new certificate: {0}")]
    Save(#[from] certs::FileError),
}

/// An agent's identity over time.
pub struct Renewal {
    identity: Identity,
    /// None: kept in memory only (a swarm).
    folder: Option<PathBuf>,
    /// Kept until it is answered, so that a lost answer costs no second key.
    pending: Option<(PrivateKey, Vec<u8>)>,
    due: SystemTime,
    jitter: Jitter,
}

impl Renewal {
    /// Of this identity, kept in this folder.
    pub fn new(identity: Identity, folder: Option<PathBuf>, seed: u64) -> Renewal {
        let mut jitter = Jitter::new(seed);
        let due = due(&identity, &mut jitter);
        Renewal {
            identity,
            folder,
            pending: None,
            due,
            jitter,
        }
    }

    /// When to ask.
    pub fn due(&self) -> SystemTime {
        self.due
    }

    /// The identity that new sessions show.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What to send now; if no answer comes it is due again.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn request(&mut self, now: SystemTime) -> Result<v1::RenewRequest, RenewError> {
        self.due = now + RETRY + Duration::from_millis(self.jitter.between(0, RETRY.as_millis() as u64 / 3));
        if self.pending.is_none() {
            self.pending = Some(certs::new_key_and_csr()?);
        }
        let csr_der = self
            .pending
            .as_ref()
            .map(|(_, csr)| csr.clone())
            .unwrap_or_default();
        Ok(v1::RenewRequest {
            csr_der: csr_der.into(),
        })
    }

    /// Takes the answer: checks it, keeps it in place of the old one, and gives it back for new sessions.
    ///
    /// # Errors
    /// When it is a refusal, or no certificate for the key that was sent. The old one stays.
    pub fn accept(&mut self, reply: v1::RenewReply, now: SystemTime) -> Result<Identity, RenewError> {
        if reply.chain_der.is_empty() {
            // The key stays: the cluster may have recorded it already, and would refuse another.
            self.due = now + RETRY_REFUSED;
            return Err(RenewError::Refused(reply.refused));
        }
        let (key, csr) = self.pending.take().ok_or(RenewError::Unasked)?;
        let chain = reply.chain_der.iter().map(|der| der.to_vec()).collect();
        let identity = Identity::new(key.clone(), chain)?;
        if identity.spiffe() != self.identity.spiffe() {
            let (found, own) = (identity.spiffe().to_string(), self.identity.spiffe().to_string());
            return Err(RenewError::Name { found, own });
        }
        if let Some(folder) = &self.folder
            && let Err(error) = identity.save(folder)
        {
            // The cluster knows the new key already: it is asked for again, not another one.
            self.pending = Some((key, csr));
            return Err(error.into());
        }
        self.identity = identity.clone();
        self.due = due(&identity, &mut self.jitter);
        Ok(identity)
    }
}

fn due(identity: &Identity, jitter: &mut Jitter) -> SystemTime {
    let validity = identity
        .not_after()
        .duration_since(identity.not_before())
        .unwrap_or_default();
    let share = jitter.between(500, 660) as u32;
    identity.not_before() + validity * share / 1000
}
