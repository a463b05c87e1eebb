//! What a client shows, and which servers it believes.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::{ClientConfig, client::Resumption, version::TLS13};

use super::{
    ALPN_H2, CertificateCell, provider,
    verify::{ServerVerifier, Trust},
};
use crate::{identity::Identity, roots::Roots};

/// The TLS side of a dialler. Clones share everything, so thousands of connections cost one configuration
/// per identity. No Debug: it holds a key.
#[derive(Clone)]
pub struct ClientTls {
    pub(super) config: Arc<ClientConfig>,
    certificate: Arc<CertificateCell>,
    pub(super) refusal: Arc<Mutex<Option<String>>>,
}

impl ClientTls {
    /// Believes servers whose certificate chains to one of `server_roots` and names the trust domain.
    ///
    /// # Errors
    /// When the configuration does not hold.
    pub fn new(
        identity: Option<Identity>,
        server_roots: &Roots,
        trust_domain: &str,
    ) -> Result<ClientTls, rustls::Error> {
        let trust = Trust::Roots {
            store: server_roots.store(),
            trust_domain: trust_domain.to_owned(),
        };
        ClientTls::with_trust(identity, trust)
    }

    /// For enrolment: believes only a server whose chain ends in the CA with this key (SHA-256 of its DER
    /// SubjectPublicKeyInfo). There is no way to connect without knowing it.
    ///
    /// # Errors
    /// When the configuration does not hold.
    pub fn pinned(ca_spki_sha256: [u8; 32]) -> Result<ClientTls, rustls::Error> {
        ClientTls::with_trust(None, Trust::Pin(ca_spki_sha256))
    }

    fn with_trust(identity: Option<Identity>, trust: Trust) -> Result<ClientTls, rustls::Error> {
        let provider = provider();
        let certificate = CertificateCell::new(identity.map(|identity| identity.certified().clone()));
        let mut config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier { trust, provider }))
            .with_client_cert_resolver(certificate.clone());
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        config.resumption = Resumption::disabled();
        // What stands in place of a DNS name is the expected role, which is nobody's business on the wire.
        config.enable_sni = false;
        Ok(ClientTls {
            config: Arc::new(config),
            certificate,
            refusal: Arc::default(),
        })
    }

    /// Shows another identity from the next handshake on.
    pub fn replace(&self, identity: &Identity) {
        self.certificate.replace(identity.certified().clone());
    }

    /// Why the server broke the latest connection off, where TLS says so; None once a new one is dialled.
    ///
    /// In TLS 1.3 a server judges the client's certificate after the client is done, and its alert reaches the
    /// connection's own task: the call that fails may only learn that the connection is closed. With
    /// several connections under way at once this speaks of any of them.
    pub fn refusal(&self) -> Option<String> {
        self.refusal.lock().clone()
    }
}
