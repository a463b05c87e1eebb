//! Sets of CA certificates: whom a listener or a client believes.

use std::{path::Path, sync::Arc};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::{
    files::{self, FileError},
    leaf::parse_x509,
};

/// Most certificates in one set. A rotation needs two.
pub const ROOTS_MAX: usize = 16;

/// CA certificates, at least one, each known to be a CA's.
#[derive(Clone)]
pub struct Roots {
    certificates: Arc<[CertificateDer<'static>]>,
}

impl Roots {
    /// Reads a PEM file of one or more CA certificates.
    ///
    /// # Errors
    /// When it cannot be read, or holds anything else.
    pub fn load(path: &Path) -> Result<Roots, FileError> {
        let certificates = certificates_from_pem(&files::read_public(path)?, path)?;
        Roots::from_certificates(certificates).map_err(|error| FileError::content(path, error.to_string()))
    }

    /// Takes DER certificates, as an enrolment's answer carries them.
    ///
    /// # Errors
    /// When there is none, too many, or one is not a CA's.
    pub fn from_der(der: Vec<Vec<u8>>) -> Result<Roots, RootsError> {
        Roots::from_certificates(der.into_iter().map(CertificateDer::from).collect())
    }

    fn from_certificates(certificates: Vec<CertificateDer<'static>>) -> Result<Roots, RootsError> {
        if !(1..=ROOTS_MAX).contains(&certificates.len()) {
            return Err(RootsError::Count(certificates.len()));
        }
        for der in &certificates {
            let certificate = parse_x509(der).map_err(|_| RootsError::Malformed)?;
            let basic = certificate
                .basic_constraints()
                .map_err(|_| RootsError::Malformed)?;
            if !basic.is_some_and(|basic| basic.value.ca) {
                return Err(RootsError::NotAuthority);
            }
        }
        Ok(Roots {
            certificates: certificates.into(),
        })
    }

    /// Writes the set as PEM in one step, replacing what is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        files::replace(path, to_pem(&self.certificates).as_bytes(), files::PUBLIC_MODE)
    }

    /// The certificates as DER.
    pub fn der(&self) -> impl Iterator<Item = &[u8]> {
        self.certificates.iter().map(AsRef::as_ref)
    }

    /// Whether one of them has this key (SHA-256 of its DER SubjectPublicKeyInfo): what a pin asks.
    pub fn contains_key(&self, spki_sha256: &[u8; 32]) -> bool {
        self.certificates
            .iter()
            .any(|der| spki_sha256_of(der).as_ref() == Some(spki_sha256))
    }

    /// The SHA-256 of the first certificate's key, which is what `--ca-sha256` takes.
    pub fn pin(&self) -> [u8; 32] {
        spki_sha256_of(&self.certificates[0]).unwrap_or_default()
    }

    pub(crate) fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        // Each was parsed when the set was made, so a failure here is a difference between two parsers, and
        // leaving such a certificate out only trusts less.
        store.add_parsable_certificates(self.certificates.iter().cloned());
        store
    }
}

/// The SHA-256 of a certificate's DER SubjectPublicKeyInfo.
pub(crate) fn spki_sha256_of(der: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let certificate = parse_x509(der).ok()?;
    Some(Sha256::digest(certificate.public_key().raw).into())
}

pub(crate) fn certificates_from_pem(
    text: &[u8],
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let blocks =
        pem::parse_many(text).map_err(|error| FileError::content(path, format!("is not PEM: {error}")))?;
    if blocks.is_empty() {
        return Err(FileError::content(path, "holds no certificate"));
    }
    blocks
        .into_iter()
        .map(|block| {
            if block.tag() == "CERTIFICATE" {
                Ok(CertificateDer::from(block.into_contents()))
            } else {
                let problem = format!(
                    "holds a `{}` among the certificates",
                    block.tag().escape_default()
                );
                Err(FileError::content(path, problem))
            }
        })
        .collect()
}

pub(crate) fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates
        .iter()
        .map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.as_ref())))
        .collect()
}

/// Why a set of certificates is not a set of roots.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    #[error("{0} CA certificates were given; 1 to {ROOTS_MAX} are allowed")]
    Count(usize),
    #[error("a CA certificate is not well-formed X.509")]
    Malformed,
    #[error("a certificate among the roots is not a CA's")]
    NotAuthority,
}
