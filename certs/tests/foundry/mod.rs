//! A CA that signs anything, a client that shows anything and a server that is anyone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use certs::{Identity, PrivateKey, Role, Roots};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SignatureAlgorithm,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, ServerConfig, SignatureScheme,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
        Tls13ClientSessionValue,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// What a certificate should say.
pub struct Recipe {
    pub names: Vec<SanType>,
    pub is_ca: bool,
    pub purposes: Vec<ExtendedKeyUsagePurpose>,
    pub algorithm: &'static SignatureAlgorithm,
    /// Seconds from now.
    pub from_s: i64,
    pub until_s: i64,
}

impl Recipe {
    /// A right one.
    pub fn of(role: Role, id: &str) -> Recipe {
        Recipe {
            names: vec![uri(&format!("spiffe://cordon.test/{role}/{id}"))],
            is_ca: false,
            purposes: match role {
                Role::Coordinator => vec![
                    ExtendedKeyUsagePurpose::ServerAuth,
                    ExtendedKeyUsagePurpose::ClientAuth,
                ],
                _ => vec![ExtendedKeyUsagePurpose::ClientAuth],
            },
            algorithm: &PKCS_ECDSA_P256_SHA256,
            from_s: -300,
            until_s: 3600,
        }
    }

    pub fn named(self, names: Vec<SanType>) -> Recipe {
        Recipe { names, ..self }
    }

    pub fn for_purposes(self, purposes: Vec<ExtendedKeyUsagePurpose>) -> Recipe {
        Recipe { purposes, ..self }
    }

    pub fn lasting(self, from_s: i64, until_s: i64) -> Recipe {
        Recipe {
            from_s,
            until_s,
            ..self
        }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // A common name that would do, if anyone read it.
        params
            .distinguished_name
            .push(DnType::CommonName, "spiffe://cordon.test/agent/it-1");
        params.subject_alt_names = self.names.clone();
        params.is_ca = if self.is_ca {
            IsCa::Ca(BasicConstraints::Unconstrained)
        } else {
            IsCa::ExplicitNoCa
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = self.purposes.clone();
        params.not_before = seconds_from_now(self.from_s).into();
        params.not_after = seconds_from_now(self.until_s).into();
        params
    }
}

fn seconds_from_now(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        SystemTime::now() - distance
    } else {
        SystemTime::now() + distance
    }
}

/// A key and the chain to show with it.
pub struct Shown {
    pub key: Vec<u8>,
    pub chain: Vec<CertificateDer<'static>>,
}

/// A CA without scruples.
pub struct Foundry {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Foundry {
    pub fn new() -> Foundry {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // Every one has the same name, so that only keys tell them apart.
        params.distinguished_name.push(DnType::CommonName, "Cordon CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Foundry {
            certificate: certificate.into(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate of this CA that acts as a CA itself.
    pub fn as_signed_foundry(&self, recipe: &Recipe) -> Foundry {
        let key = KeyPair::generate().unwrap();
        let params = recipe.params();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut issuing = params;
        issuing.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Foundry {
            certificate: certificate.into(),
            issuer: Issuer::new(issuing, key),
        }
    }

    pub fn sign(&self, recipe: &Recipe) -> Shown {
        let key = KeyPair::generate_for(recipe.algorithm).unwrap();
        let certificate = recipe.params().signed_by(&key, &self.issuer).unwrap();
        Shown {
            key: key.serialize_der(),
            chain: vec![certificate.into()],
        }
    }

    pub fn identity(&self, recipe: &Recipe) -> Identity {
        let shown = self.sign(recipe);
        Identity::new(
            PrivateKey::from_der(shown.key),
            shown.chain.iter().map(|der| der.to_vec()).collect(),
        )
        .unwrap()
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    pub fn roots(&self) -> Roots {
        Roots::from_der(vec![self.certificate.to_vec()]).unwrap()
    }
}

pub fn self_signed(recipe: &Recipe) -> Shown {
    let key = KeyPair::generate().unwrap();
    let certificate = recipe.params().self_signed(&key).unwrap();
    Shown {
        key: key.serialize_der(),
        chain: vec![certificate.into()],
    }
}

fn private(der: Vec<u8>) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der))
}

/// A server that shows this and speaks HTTP/2 as far as ALPN goes. Returns its endpoint.
pub async fn rude_server(shown: Shown) -> String {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(shown.chain, private(shown.key))
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.read(&mut [0; 1]).await;
                }
            });
        }
    });
    endpoint
}

/// A client that believes every server and shows whatever it is given.
pub struct RudeClient {
    config: ClientConfig,
    tickets: Arc<AtomicUsize>,
}

impl RudeClient {
    pub fn anonymous() -> RudeClient {
        RudeClient::build(None)
    }

    pub fn with(shown: Shown) -> RudeClient {
        RudeClient::build(Some((shown.chain, private(shown.key))))
    }

    pub fn showing(identity: &Identity) -> RudeClient {
        let chain = identity
            .chain_der()
            .map(|der| CertificateDer::from(der.to_vec()))
            .collect();
        RudeClient::build(Some((chain, private(identity.secret_key_der().to_vec()))))
    }

    fn build(shown: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>) -> RudeClient {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(BelievesAll));
        let mut config = match shown {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        RudeClient {
            config,
            tickets: Arc::default(),
        }
    }

    pub fn speaking(mut self, protocols: Vec<Vec<u8>>) -> RudeClient {
        self.config.alpn_protocols = protocols;
        self
    }

    /// Keeps every ticket and tries to resume with it.
    pub fn resuming(mut self) -> RudeClient {
        let store = CountingStore {
            tickets: self.tickets.clone(),
            inner: ClientSessionMemoryCache::new(8),
        };
        self.config.resumption = Resumption::store(Arc::new(store));
        self
    }

    pub async fn is_admitted(&self, endpoint: &str) -> bool {
        let Ok(mut stream) = self.connect(endpoint).await else {
            return false;
        };
        let mut byte = [0; 1];
        matches!(stream.read(&mut byte).await, Ok(1)) && byte == *b"!"
    }

    /// How the handshake went, and how many tickets have come in so far.
    pub async fn handshake_kind_and_tickets(&self, endpoint: &str) -> (Option<HandshakeKind>, usize) {
        let mut stream = self.connect(endpoint).await.unwrap();
        // Tickets would come before the first byte of data.
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 1);
        (
            stream.get_ref().1.handshake_kind(),
            self.tickets.load(Ordering::Relaxed),
        )
    }

    async fn connect(&self, endpoint: &str) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(endpoint).await?;
        let name = ServerName::try_from("coordinator").unwrap();
        TlsConnector::from(Arc::new(self.config.clone()))
            .connect(name, tcp)
            .await
    }
}

#[derive(Debug)]
struct CountingStore {
    tickets: Arc<AtomicUsize>,
    inner: ClientSessionMemoryCache,
}

impl ClientSessionStore for CountingStore {
    fn set_kx_hint(&self, name: ServerName<'static>, group: rustls::NamedGroup) {
        self.inner.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.inner.kx_hint(name)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.inner.set_tls12_session(name, value);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.inner.tls12_session(name)
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.inner.remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tickets.fetch_add(1, Ordering::Relaxed);
        self.inner.insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.inner.take_tls13_ticket(name)
    }
}

#[derive(Debug)]
struct BelievesAll;

impl ServerCertVerifier for BelievesAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
