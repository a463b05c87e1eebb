//! The two verifiers: webpki for the chain, then our own rules for the leaf.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible,
    RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{provider, server::DenialHook};
use crate::{
    leaf::{Leaf, LeafError, Purpose},
    roots::{Roots, spki_sha256_of},
    spiffe::Role,
};

/// Most certificates that a peer may send besides its own: its CA, and one more during a rotation.
const INTERMEDIATES_MAX: usize = 2;

/// Every key of ours is ECDSA P-256.
const SCHEMES: [SignatureScheme; 1] = [SignatureScheme::ECDSA_NISTP256_SHA256];

/// Which rule of ours a verified chain breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedPeer {
    #[error(transparent)]
    Leaf(#[from] LeafError),
    #[error("the certificate is for the role `{found}`, and this connection is for `{expected}`")]
    Role { expected: Role, found: Role },
    #[error("the certificate is of the trust domain `{found}`, not of `{expected}`")]
    TrustDomain { expected: String, found: String },
    #[error("the peer sent {0} certificates besides its own; at most {INTERMEDIATES_MAX} are looked at")]
    ChainLength(usize),
    #[error(
        "none of the certificates that the server sent has the pinned CA key: this is another cluster, or someone between"
    )]
    Pin,
}

/// Verifies an operator's, an agent's or a peer's certificate on the listener of that role.
pub(super) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    role: Role,
    trust_domain: String,
    provider: Arc<CryptoProvider>,
    denies: Option<DenialHook>,
}

impl ClientVerifier {
    pub(super) fn new(
        roots: &Roots,
        role: Role,
        trust_domain: String,
        denies: Option<DenialHook>,
    ) -> Result<ClientVerifier, rustls::server::VerifierBuilderError> {
        let provider = provider();
        let chain =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots.store()), provider.clone()).build()?;
        Ok(ClientVerifier {
            chain,
            role,
            trust_domain,
            provider,
            denies,
        })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A client of ours has one identity; a hint would only make every handshake longer.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_length(intermediates)?;
        self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let leaf = check_leaf(end_entity, Purpose::Client, self.role, Some(&self.trust_domain))?;
        if self.denies.as_ref().is_some_and(|denies| denies(&leaf)) {
            return Err(CertificateError::Revoked.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientVerifier({}, {})", self.role, self.trust_domain)
    }
}

/// Whom a client believes.
pub(super) enum Trust {
    /// These CAs, for servers of this trust domain.
    Roots {
        store: RootCertStore,
        trust_domain: String,
    },
    /// The one CA among the certificates that the server sends whose key has this SHA-256 (R2). The trust
    /// domain is not known yet: the enrolment's answer tells.
    Pin([u8; 32]),
}

/// Verifies a server. The DNS name or address that was dialled means nothing; the role does.
pub(super) struct ServerVerifier {
    pub(super) trust: Trust,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // `dial` gives the role that it expects in place of a DNS name; it never goes over the wire.
        let role: Role = server_name
            .to_str()
            .parse()
            .map_err(|_| Error::General("a server must be expected by its role".into()))?;
        check_length(intermediates)?;
        let pinned;
        let (store, trust_domain) = match &self.trust {
            Trust::Roots { store, trust_domain } => (store, Some(trust_domain.as_str())),
            Trust::Pin(pin) => {
                pinned = pinned_store(intermediates, pin)?;
                (&pinned, None)
            }
        };
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            store,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        check_leaf(end_entity, Purpose::Server, role, trust_domain)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trust {
            Trust::Roots { trust_domain, .. } => write!(f, "ServerVerifier({trust_domain})"),
            Trust::Pin(pin) => write!(f, "ServerVerifier(pinned to {})", hex::encode(pin)),
        }
    }
}

fn pinned_store(sent: &[CertificateDer<'_>], pin: &[u8; 32]) -> Result<RootCertStore, Error> {
    let authority = sent
        .iter()
        .find(|der| spki_sha256_of(der).as_ref() == Some(pin))
        .ok_or_else(|| refused(RefusedPeer::Pin))?;
    let mut store = RootCertStore::empty();
    store.add(authority.clone().into_owned())?;
    Ok(store)
}

fn check_length(intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
    if intermediates.len() > INTERMEDIATES_MAX {
        return Err(refused(RefusedPeer::ChainLength(intermediates.len())));
    }
    Ok(())
}

fn check_leaf(
    der: &CertificateDer<'_>,
    purpose: Purpose,
    role: Role,
    trust_domain: Option<&str>,
) -> Result<Leaf, Error> {
    let leaf = Leaf::parse(der).map_err(|error| refused(error.into()))?;
    leaf.check_purpose(purpose)
        .map_err(|error| refused(error.into()))?;
    if leaf.spiffe.role() != role {
        return Err(refused(RefusedPeer::Role {
            expected: role,
            found: leaf.spiffe.role(),
        }));
    }
    match trust_domain {
        Some(expected) if leaf.spiffe.trust_domain() != expected => Err(refused(RefusedPeer::TrustDomain {
            expected: expected.to_owned(),
            found: leaf.spiffe.trust_domain().to_owned(),
        })),
        _ => Ok(leaf),
    }
}

fn refused(why: RefusedPeer) -> Error {
    CertificateError::Other(OtherError(Arc::new(why))).into()
}
