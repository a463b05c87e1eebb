//! Certificate requests. A request proves that the asker holds a key; whatever else it asks for is ignored.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{CertificateParams, DistinguishedName, PKCS_ECDSA_P256_SHA256, SubjectPublicKeyInfo};
use sha2::{Digest, Sha256};
use x509_parser::{
    certification_request::X509CertificationRequest,
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256},
    prelude::FromDer,
};
use zeroize::Zeroizing;

/// Longest request that is looked at, in bytes. One of ours has about 250.
pub const CSR_LENGTH_MAX: usize = 4096;

/// A private key as PKCS#8 DER. It is wiped when dropped, and has no Debug.
pub struct PrivateKey(Zeroizing<Vec<u8>>);

impl PrivateKey {
    pub fn from_der(der: Vec<u8>) -> PrivateKey {
        PrivateKey(Zeroizing::new(der))
    }

    /// The PKCS#8 DER. Handle it as what it is.
    pub fn secret_der(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem::encode(&pem::Pem::new("PRIVATE KEY", self.0.to_vec())))
    }
}

impl Clone for PrivateKey {
    fn clone(&self) -> PrivateKey {
        PrivateKey(self.0.clone())
    }
}

/// Draws an ECDSA P-256 key and makes a request that proves its possession and asks for nothing.
///
/// # Errors
/// When the system's random source or the library fails.
pub fn new_key_and_csr() -> Result<(PrivateKey, Vec<u8>), CsrError> {
    let key = rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CsrError::Make)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key).map_err(CsrError::Make)?;
    Ok((PrivateKey::from_der(key.serialize_der()), csr.der().to_vec()))
}

/// The SHA-256 of the key (its DER SubjectPublicKeyInfo) that a request proves to hold.
///
/// # Errors
/// When the request is malformed, of another algorithm than ECDSA P-256, or its signature does not verify.
pub fn key_sha256_of_csr(csr_der: &[u8]) -> Result<[u8; 32], CsrError> {
    Ok(Sha256::digest(proven_key_der(csr_der)?).into())
}

/// Takes the public key out of a request whose proof of possession holds, and nothing else.
pub(crate) fn proven_key(csr_der: &[u8]) -> Result<SubjectPublicKeyInfo, CsrError> {
    SubjectPublicKeyInfo::from_der(&proven_key_der(csr_der)?).map_err(|_| CsrError::Malformed)
}

fn proven_key_der(csr_der: &[u8]) -> Result<Vec<u8>, CsrError> {
    if csr_der.len() > CSR_LENGTH_MAX {
        return Err(CsrError::TooLong(csr_der.len()));
    }
    let Ok(([], request)) = X509CertificationRequest::from_der(csr_der) else {
        return Err(CsrError::Malformed);
    };
    let key = &request.certification_request_info.subject_pki;
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok());
    if key.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY
        || curve != Some(OID_EC_P256)
        || request.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256
    {
        return Err(CsrError::Algorithm);
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.subject_public_key.data)
        .verify(
            request.certification_request_info.raw,
            &request.signature_value.data,
        )
        .map_err(|_| CsrError::Signature)?;
    Ok(key.raw.to_vec())
}

/// Why a request is not taken.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    #[error("the certificate request has {0} bytes; at most {CSR_LENGTH_MAX} are read")]
    TooLong(usize),
    #[error("the certificate request is not well-formed PKCS#10")]
    Malformed,
    #[error("the certificate request's key is not ECDSA P-256 with SHA-256; no other is issued for")]
    Algorithm,
    #[error("the certificate request's signature does not verify: its sender does not hold the key")]
    Signature,
    #[error("a key and its request could not be made")]
    Make(#[source] rcgen::Error),
}
