//! An identity: a private key, the certificate chain that vouches for it, and what the leaf says.

use std::{path::Path, sync::Arc, time::SystemTime};

use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{
    csr::PrivateKey,
    files::{self, FileError},
    leaf::{Leaf, LeafError, Serial},
    roots::{self, certificates_from_pem},
    spiffe::SpiffeId,
    tls::provider,
};

/// The private key's file in an identity folder.
pub const KEY_FILE: &str = "key.pem";
/// The chain's file in an identity folder, leaf first.
pub const CHAIN_FILE: &str = "chain.pem";

/// A key and its chain, known to belong together. Cloning is cheap; there is no Debug of the key.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    key: PrivateKey,
    leaf: Leaf,
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Joins a key with the chain issued for it: DER certificates, leaf first.
    ///
    /// # Errors
    /// When the chain is empty, the leaf breaks a rule of ours, or the key is not the leaf's.
    pub fn new(key: PrivateKey, chain_der: Vec<Vec<u8>>) -> Result<Identity, IdentityError> {
        let chain: Vec<CertificateDer<'static>> = chain_der.into_iter().map(CertificateDer::from).collect();
        let leaf = Leaf::parse(chain.first().ok_or(IdentityError::NoCertificate)?)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.secret_der().to_vec()));
        let provider: &CryptoProvider = &provider();
        let certified = CertifiedKey::from_der(chain, private, provider).map_err(IdentityError::Key)?;
        Ok(Identity {
            inner: Arc::new(Inner {
                key,
                leaf,
                certified: Arc::new(certified),
            }),
        })
    }

    /// Reads `key.pem` and `chain.pem` of a folder that only its owner can read, and finishes a renewal
    /// that a crash interrupted.
    ///
    /// # Errors
    /// When a file is missing, loose or malformed, or the two do not belong together.
    pub fn load(folder: &Path) -> Result<Identity, IdentityError> {
        let chain_path = folder.join(CHAIN_FILE);
        let chain = certificates_from_pem(&files::read_public(&chain_path)?, &chain_path)?;
        let chain: Vec<Vec<u8>> = chain.into_iter().map(|der| der.to_vec()).collect();

        let key_path = folder.join(KEY_FILE);
        let key = files::read_secret(&key_path).and_then(|text| private_key_from_pem(&text, &key_path));
        let refusal = match key
            .map_err(IdentityError::from)
            .and_then(|key| Identity::new(key, chain.clone()))
        {
            Ok(identity) => return Ok(identity),
            Err(refusal) => refusal,
        };
        // `save` puts the chain in its place before the key: a chain whose key still waits beside the old
        // one is a renewal that was cut short.
        let waiting_path = files::aside(&key_path);
        let Ok(text) = files::read_secret(&waiting_path) else {
            return Err(refusal);
        };
        let Ok(identity) = Identity::new(private_key_from_pem(&text, &waiting_path)?, chain) else {
            return Err(refusal);
        };
        files::move_aside_into_place(&key_path)?;
        Ok(identity)
    }

    /// Writes both files, replacing what is there, so that a crash at any point leaves the old identity or
    /// the new one: the new key waits beside the old while the chain changes, and `load` knows of it.
    ///
    /// # Errors
    /// When the folder is loose or a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), FileError> {
        files::make_private_folder(folder)?;
        let key_path = folder.join(KEY_FILE);
        files::write_aside(&key_path, self.inner.key.to_pem().as_bytes(), files::SECRET_MODE)?;
        let chain = roots::to_pem(&self.inner.certified.cert);
        files::replace(&folder.join(CHAIN_FILE), chain.as_bytes(), files::PUBLIC_MODE)?;
        files::move_aside_into_place(&key_path)
    }

    pub fn spiffe(&self) -> &SpiffeId {
        &self.inner.leaf.spiffe
    }

    /// SHA-256 of the key's DER SubjectPublicKeyInfo.
    pub fn key_sha256(&self) -> [u8; 32] {
        self.inner.leaf.key_sha256
    }

    pub fn serial(&self) -> Serial {
        self.inner.leaf.serial
    }

    pub fn not_before(&self) -> SystemTime {
        self.inner.leaf.not_before
    }

    pub fn not_after(&self) -> SystemTime {
        self.inner.leaf.not_after
    }

    /// The chain as DER, leaf first.
    pub fn chain_der(&self) -> impl Iterator<Item = &[u8]> {
        self.inner.certified.cert.iter().map(AsRef::as_ref)
    }

    /// The private key's PKCS#8 DER, for whoever signs with it outside TLS. Handle it as what it is.
    pub fn secret_key_der(&self) -> &[u8] {
        self.inner.key.secret_der()
    }

    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.inner.certified
    }
}

pub(crate) fn private_key_from_pem(text: &[u8], path: &Path) -> Result<PrivateKey, FileError> {
    let block = pem::parse(text).map_err(|error| FileError::content(path, format!("is not PEM: {error}")))?;
    if block.tag() != "PRIVATE KEY" {
        let problem = format!(
            "holds a `{}`, not a PKCS#8 `PRIVATE KEY`",
            block.tag().escape_default()
        );
        return Err(FileError::content(path, problem));
    }
    Ok(PrivateKey::from_der(block.into_contents()))
}

/// Why a key and a chain are not an identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the identity has no certificate")]
    NoCertificate,
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the identity's certificate is refused: {0}")]
    Leaf(#[from] LeafError),
    #[error("the identity's key cannot be used with its certificate: {0}; issue or enrol it again")]
    Key(#[source] rustls::Error),
}
