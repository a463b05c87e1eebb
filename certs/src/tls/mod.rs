//! TLS 1.3 with one verified SPIFFE name on each side that has a certificate.
//!
//! What holds on every connection: TLS 1.3 only; ALPN `h2` spoken by both sides; ECDSA P-256 signatures; no
//! tickets, no session store, no early data, so that every connection shows its certificate to the verifier
//! again; no server name on the wire. A server trusts exactly one role's CA on one listener.
//!
//! | file | noun |
//! |---|---|
//! | `server` | [`ServerTls`]: whom a listener believes and what it shows |
//! | `incoming` | the accept loop and its limits |
//! | `client` | [`ClientTls`]: the same for the dialling side |
//! | `connect` | one HTTP/2 connection as a tonic channel |
//! | `stream` | the dialling side's stream, which remembers why it broke |
//! | `verify` | the two certificate verifiers |
//! | `explain` | a failed handshake in words |

mod client;
mod connect;
mod explain;
mod incoming;
mod server;
mod stream;
mod verify;

use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

pub use self::{
    client::ClientTls,
    connect::{ConnectError, ConnectOptions, connect, dial},
    explain::explain,
    incoming::{Incoming, Limits, Peer, TlsStream, incoming, incoming_with, listen},
    server::{DenialHook, ServerTls},
    stream::ClientStream,
};

/// The only protocol that is spoken.
pub const ALPN_H2: &[u8] = b"h2";

/// TLS 1.3 suites and two curves of aws-lc-rs: nothing else is compiled into a configuration.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
                aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
                aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1],
            ..aws_lc_rs::default_provider()
        })
    });
    PROVIDER.clone()
}

/// What to show in the next handshake. Replacing it touches no connection that stands.
#[derive(Debug)]
struct CertificateCell(RwLock<Option<Arc<CertifiedKey>>>);

impl CertificateCell {
    fn new(certified: Option<Arc<CertifiedKey>>) -> Arc<CertificateCell> {
        Arc::new(CertificateCell(RwLock::new(certified)))
    }

    fn replace(&self, certified: Arc<CertifiedKey>) {
        *self.0.write() = Some(certified);
    }

    fn get(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().clone()
    }
}

impl ResolvesServerCert for CertificateCell {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.get()
    }
}

impl ResolvesClientCert for CertificateCell {
    fn resolve(&self, _roots: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.get()
            .filter(|certified| certified.key.choose_scheme(schemes).is_some())
    }

    fn has_certs(&self) -> bool {
        self.0.read().is_some()
    }
}
