//! What a listener shows, and whom it believes.

use std::sync::Arc;

use rustls::{ServerConfig, server::NoServerSessionStorage, version::TLS13};

use super::{ALPN_H2, CertificateCell, provider, verify::ClientVerifier};
use crate::{identity::Identity, leaf::Leaf, roots::Roots, spiffe::Role};

/// Consulted in each handshake once the client's chain has been verified: true refuses the client with
/// the alert `certificate_revoked`. It runs on the accept path, so it must answer at once.
pub type DenialHook = Arc<dyn Fn(&Leaf) -> bool + Send + Sync>;

/// The TLS side of one listener. Clones share everything, the identity's cell included.
#[derive(Clone)]
pub struct ServerTls {
    pub(super) config: Arc<ServerConfig>,
    certificate: Arc<CertificateCell>,
}

impl ServerTls {
    /// With `client_roots` and `role`: only clients whose certificate chains to one of those CAs and names
    /// that role in `trust_domain`. With neither: clients show nothing, which is for enrolment only.
    ///
    /// # Errors
    /// When only one of the two is given, or the configuration does not hold.
    pub fn new(
        identity: Identity,
        client_roots: Option<Roots>,
        role: Option<Role>,
        trust_domain: &str,
    ) -> Result<ServerTls, ServerTlsError> {
        ServerTls::with_denial(identity, client_roots, role, trust_domain, None)
    }

    /// As [`ServerTls::new`], with a hook that refuses revoked clients.
    ///
    /// # Errors
    /// As for [`ServerTls::new`].
    pub fn with_denial(
        identity: Identity,
        client_roots: Option<Roots>,
        role: Option<Role>,
        trust_domain: &str,
        denies: Option<DenialHook>,
    ) -> Result<ServerTls, ServerTlsError> {
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13])?;
        let builder =
            match (client_roots, role) {
                (Some(roots), Some(role)) => builder.with_client_cert_verifier(Arc::new(
                    ClientVerifier::new(&roots, role, trust_domain.to_owned(), denies)?,
                )),
                (None, None) => builder.with_no_client_auth(),
                _ => return Err(ServerTlsError::HalfTrust),
            };
        let certificate = CertificateCell::new(Some(identity.certified().clone()));
        let mut config = builder.with_cert_resolver(certificate.clone());
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        // A resumed session would skip the verifier, and with it revocation.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(ServerTls {
            config: Arc::new(config),
            certificate,
        })
    }

    /// Shows another identity from the next handshake on. Connections that stand keep the one they saw.
    pub fn replace(&self, identity: &Identity) {
        self.certificate.replace(identity.certified().clone());
    }
}

/// Why a listener's configuration does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    #[error("client roots and a role go together: one without the other would trust too much")]
    HalfTrust,
    #[error("the client verifier could not be made: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("the TLS configuration does not hold: {0}")]
    Config(#[from] rustls::Error),
}
