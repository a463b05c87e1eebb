//! Signatures of documents that come from elsewhere, by keys that are none of ours.
//!
//! A signature that verifies says that the holder of the key has signed these bytes, and nothing about who that is:
//! whether the key is trusted is for the caller to know.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

/// An algorithm of JWA (RFC 7518) that is verified here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, keys of 2048 to 8192 bits.
    Rs256,
    /// ECDSA over P-256 with SHA-256, the signature as r and s of 32 bytes each.
    Es256,
}

impl Algorithm {
    /// By its name in JWA.
    pub fn parse(name: &str) -> Option<Algorithm> {
        match name {
            "RS256" => Some(Algorithm::Rs256),
            "ES256" => Some(Algorithm::Es256),
            _ => None,
        }
    }
}

/// A public key, as a SubjectPublicKeyInfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    der: Vec<u8>,
}

/// What cannot be used as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Of one format or the other.
    #[error("it is no public key in DER or PEM")]
    Key,
    /// Of X.509.
    #[error("it is no X.509 certificate")]
    Certificate,
}

impl PublicKey {
    /// A SubjectPublicKeyInfo in DER, with nothing behind it.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_der(der: &[u8]) -> Result<PublicKey, KeyError> {
        match SubjectPublicKeyInfo::from_der(der) {
            Ok(([], _)) => Ok(PublicKey { der: der.to_vec() }),
            _ => Err(KeyError::Key),
        }
    }

    /// The key in a certificate. Who issued the certificate is not looked at.
    ///
    /// # Errors
    /// When it is no certificate.
    pub fn from_certificate(der: &[u8]) -> Result<PublicKey, KeyError> {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => PublicKey::from_der(certificate.public_key().raw),
            _ => Err(KeyError::Certificate),
        }
    }

    /// A file that somebody trusts: the key itself, or a certificate with it, in PEM.
    ///
    /// # Errors
    /// When it is neither.
    pub fn from_pem(text: &str) -> Result<PublicKey, KeyError> {
        let pem = pem::parse(text).map_err(|_| KeyError::Key)?;
        match pem.tag() {
            "PUBLIC KEY" => PublicKey::from_der(pem.contents()),
            "CERTIFICATE" => PublicKey::from_certificate(pem.contents()),
            _ => Err(KeyError::Key),
        }
    }

    /// The SHA-256 of the SubjectPublicKeyInfo, in lower-case hex.
    pub fn sha256(&self) -> String {
        hex::encode(Sha256::digest(&self.der))
    }

    /// Whether the holder of this key has signed these bytes.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match algorithm {
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        };
        UnparsedPublicKey::new(algorithm, &self.der)
            .verify(message, signature)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        RSA_PKCS1_SHA256,
    };

    use super::*;

    fn spki(key: &impl AsDer<PublicKeyX509Der<'static>>) -> PublicKey {
        PublicKey::from_der(key.as_der().unwrap().as_ref()).unwrap()
    }

    #[test]
    fn signatures_verify_with_their_key_algorithm_and_message_only() {
        let random = SystemRandom::new();
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let rsa_key = spki(rsa.public_key());
        let mut by_rsa = vec![0; rsa.public_modulus_len()];
        rsa.sign(&RSA_PKCS1_SHA256, &random, b"message", &mut by_rsa)
            .unwrap();
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let ec_key = spki(ec.public_key());
        let by_ec = ec.sign(&random, b"message").unwrap();

        assert!(rsa_key.verifies(Algorithm::Rs256, b"message", &by_rsa));
        assert!(ec_key.verifies(Algorithm::Es256, b"message", by_ec.as_ref()));
        for (key, algorithm, message, signature) in [
            (&rsa_key, Algorithm::Rs256, &b"massage"[..], by_rsa.as_slice()),
            (&rsa_key, Algorithm::Es256, b"message", &by_rsa),
            (&rsa_key, Algorithm::Rs256, b"message", by_ec.as_ref()),
            (&rsa_key, Algorithm::Rs256, b"message", &by_rsa[..255]),
            (&rsa_key, Algorithm::Rs256, b"message", b""),
            (&ec_key, Algorithm::Rs256, b"message", &by_rsa),
            (&ec_key, Algorithm::Es256, b"massage", by_ec.as_ref()),
        ] {
            assert!(!key.verifies(algorithm, message, signature));
        }
        // JWA's form of an ECDSA signature is r and s, not ASN.1.
        let pkcs8 = ec.to_pkcs8v1().unwrap();
        let asn1 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref()).unwrap();
        assert!(!ec_key.verifies(
            Algorithm::Es256,
            b"message",
            asn1.sign(&random, b"message").unwrap().as_ref()
        ));
    }

    #[test]
    fn keys_come_in_der_in_pem_and_in_certificates() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["signer.example".to_owned()])
            .unwrap()
            .self_signed(&pair)
            .unwrap();
        let key = PublicKey::from_pem(&pair.public_key_pem()).unwrap();
        assert_eq!(PublicKey::from_certificate(certificate.der()), Ok(key.clone()));
        assert_eq!(PublicKey::from_pem(&certificate.pem()), Ok(key.clone()));
        assert_eq!(key.sha256().len(), 64);
        assert_eq!(PublicKey::from_der(b"no key"), Err(KeyError::Key));
        assert_eq!(PublicKey::from_certificate(b"none"), Err(KeyError::Certificate));
        assert_eq!(PublicKey::from_pem("none"), Err(KeyError::Key));
        assert_eq!(PublicKey::from_pem(&pair.serialize_pem()), Err(KeyError::Key));
        let mut longer = certificate.der().to_vec();
        longer.push(0);
        assert_eq!(PublicKey::from_certificate(&longer), Err(KeyError::Certificate));
    }
}
