//! What an end-entity certificate says, once every rule for one of ours has been checked.
//!
//! webpki verifies the chain, the dates and the signatures. What it does not ask is asked here: exactly one
//! subject alternative name, a URI that is a name of ours; no CA; an extended key usage that is there
//! and fits. The common name is never read.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::spiffe::{SpiffeError, SpiffeId};

/// Longest serial number of a certificate, in bytes (RFC 5280, 4.1.2.2).
pub const SERIAL_LENGTH_MAX: usize = 20;

/// A serial number: big endian, as in the certificate, shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial {
    length: u8,
    bytes: [u8; SERIAL_LENGTH_MAX],
}

impl Serial {
    /// Takes the content bytes of the INTEGER; leading zeros are dropped.
    ///
    /// # Errors
    /// None when it is longer than RFC 5280 allows.
    pub fn from_bytes(content: &[u8]) -> Option<Serial> {
        let first = content
            .iter()
            .position(|byte| *byte != 0)
            .unwrap_or(content.len());
        let significant = &content[first..];
        let mut bytes = [0; SERIAL_LENGTH_MAX];
        bytes.get_mut(..significant.len())?.copy_from_slice(significant);
        Some(Serial {
            length: significant.len() as u8,
            bytes,
        })
    }

    /// The significant bytes, big endian.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// Which side of a handshake a certificate is shown on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Client,
    Server,
}

/// The facts of a certificate of ours. Its dates and its issuer are for the chain verification to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub spiffe: SpiffeId,
    /// SHA-256 of the DER SubjectPublicKeyInfo, 32 bytes.
    pub key_sha256: [u8; 32],
    pub serial: Serial,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    for_client: bool,
    for_server: bool,
}

impl Leaf {
    /// Reads a certificate and applies every rule of ours that does not depend on its issuer.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Leaf, LeafError> {
        let certificate = parse_x509(der)?;
        let spiffe = only_name(&certificate)?;
        if certificate
            .basic_constraints()
            .map_err(|_| LeafError::Malformed)?
            .is_some_and(|basic| basic.value.ca)
        {
            return Err(LeafError::Authority);
        }
        let usage = certificate.key_usage().map_err(|_| LeafError::Malformed)?;
        if usage.is_some_and(|usage| usage.value.key_cert_sign() || !usage.value.digital_signature()) {
            return Err(LeafError::KeyUsage);
        }
        let extended = certificate
            .extended_key_usage()
            .map_err(|_| LeafError::Malformed)?
            .ok_or(LeafError::NoExtendedKeyUsage)?;
        Ok(Leaf {
            spiffe,
            key_sha256: Sha256::digest(certificate.public_key().raw).into(),
            serial: Serial::from_bytes(certificate.raw_serial()).ok_or(LeafError::Malformed)?,
            not_before: from_unix(certificate.validity().not_before.timestamp()),
            not_after: from_unix(certificate.validity().not_after.timestamp()),
            for_client: extended.value.client_auth,
            for_server: extended.value.server_auth,
        })
    }

    /// Whether the extended key usage allows this side. `anyExtendedKeyUsage` allows nothing here.
    ///
    /// # Errors
    /// [`LeafError::Purpose`] when it does not.
    pub fn check_purpose(&self, purpose: Purpose) -> Result<(), LeafError> {
        let fits = match purpose {
            Purpose::Client => self.for_client,
            Purpose::Server => self.for_server,
        };
        if fits { Ok(()) } else { Err(LeafError::Purpose) }
    }
}

/// Which rule of ours a certificate breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    #[error("the certificate is not well-formed X.509")]
    Malformed,
    #[error("the certificate has no subject alternative name; the common name is never used")]
    NoName,
    #[error("the certificate has {0} subject alternative names; exactly one is allowed")]
    Names(usize),
    #[error("the certificate's subject alternative name is not a URI")]
    NotUri,
    #[error("the certificate's name is refused: {0}")]
    Name(#[from] SpiffeError),
    #[error("the certificate is a CA's; a CA never speaks for itself")]
    Authority,
    #[error("the certificate's key usage is not `digital signature` alone")]
    KeyUsage,
    #[error("the certificate has no extended key usage")]
    NoExtendedKeyUsage,
    #[error("the certificate's extended key usage does not allow this side of a connection")]
    Purpose,
}

/// Parses a certificate, trailing bytes refused.
pub(crate) fn parse_x509<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, LeafError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(LeafError::Malformed),
    }
}

fn only_name(certificate: &X509Certificate<'_>) -> Result<SpiffeId, LeafError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| LeafError::Malformed)?
        .ok_or(LeafError::NoName)?;
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => Ok(uri.parse()?),
        [_] => Err(LeafError::NotUri),
        many => Err(LeafError::Names(many.len())),
    }
}

fn from_unix(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(0).unsigned_abs())
}
