//! Issuing. One CA per role; from a request only the key is taken, everything else is composed here.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

use crate::{
    csr::{self, CsrError},
    files::{self, FileError},
    identity::private_key_from_pem,
    leaf::parse_x509,
    roots::{Roots, RootsError, certificates_from_pem, to_pem},
    spiffe::{self, Role, SpiffeError, SpiffeId},
};

/// How long an agent's certificate holds. It is renewed over its stream at 50 to 66 % of that.
pub const AGENT_VALIDITY: Duration = Duration::from_secs(24 * 3600);
/// How long an operator's certificate holds: a working day, and never longer.
pub const OPERATOR_VALIDITY: Duration = Duration::from_secs(12 * 3600);
/// How long a coordinator's certificate holds.
pub const COORDINATOR_VALIDITY: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a CA holds: 10 years of 365.25 days.
pub const CA_VALIDITY: Duration = Duration::from_secs(3652 * 24 * 3600 + 12 * 3600);
/// How far a start date is moved back, for holders whose clock is slow.
pub const BACK_DATED: Duration = Duration::from_secs(5 * 60);

impl Role {
    /// How long a certificate of this role holds, unless its issuer says less.
    pub fn validity(self) -> Duration {
        match self {
            Role::Operator => OPERATOR_VALIDITY,
            Role::Agent => AGENT_VALIDITY,
            Role::Coordinator => COORDINATOR_VALIDITY,
        }
    }
}

/// From when until when a certificate holds. Tests give dates of their own; everyone else says how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

impl Validity {
    /// From now, back-dated by [`BACK_DATED`], for this long.
    pub fn lasting(duration: Duration) -> Validity {
        let now = SystemTime::now();
        Validity {
            not_before: now - BACK_DATED,
            not_after: now + duration,
        }
    }
}

impl From<Duration> for Validity {
    fn from(duration: Duration) -> Validity {
        Validity::lasting(duration)
    }
}

/// A CA that issues for one role in one trust domain. Its certificate says both, as
/// `spiffe://<trust-domain>/ca/<role>`, so that a file put in another's place is noticed. No Debug: it holds a key.
pub struct IssuingCa {
    role: Role,
    trust_domain: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl IssuingCa {
    /// Makes a new CA with a new key, self-signed, path length 0.
    ///
    /// # Errors
    /// When the trust domain breaks the grammar, or making the certificate fails.
    pub fn create(
        role: Role,
        trust_domain: &str,
        validity: impl Into<Validity>,
    ) -> Result<IssuingCa, IssueError> {
        spiffe::check_trust_domain(trust_domain)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IssueError::Make)?;
        let mut params = params_for(validity.into())?;
        params
            .distinguished_name
            .push(DnType::OrganizationName, trust_domain);
        // With its key in its name, an old and a new CA of one role are told apart, and so are two clusters.
        let key_sha256 = Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key));
        let common_name = format!("Cordon {role} CA {}", hex::encode(&key_sha256[..4]));
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = vec![uri(&ca_name(role, trust_domain))?];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(IssueError::Make)?;
        IssuingCa::assemble(role, trust_domain.to_owned(), certificate.into(), key)
    }

    /// Reads `<role>.key` (0600, in a 0700 folder) and `<role>.crt`.
    ///
    /// # Errors
    /// When a file is missing, loose or malformed, is another role's, or the two do not belong together.
    pub fn load(folder: &Path, role: Role) -> Result<IssuingCa, IssueError> {
        let key_path = folder.join(format!("{role}.key"));
        let certificate_path = folder.join(format!("{role}.crt"));
        let key = private_key_from_pem(&files::read_secret(&key_path)?, &key_path)?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(key.secret_der()),
            &PKCS_ECDSA_P256_SHA256,
        )
        .map_err(|error| FileError::content(&key_path, format!("holds no ECDSA P-256 key: {error}")))?;

        let mut certificates =
            certificates_from_pem(&files::read_public(&certificate_path)?, &certificate_path)?;
        let (Some(certificate), true) = (certificates.pop(), certificates.is_empty()) else {
            return Err(FileError::content(&certificate_path, "must hold exactly one certificate").into());
        };
        let (trust_domain, spki) = read_ca(&certificate, role, &certificate_path)?;
        if spki != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(FileError::content(
                &certificate_path,
                format!("is not the certificate of {}", key_path.display()),
            )
            .into());
        }
        IssuingCa::assemble(role, trust_domain, certificate, key)
    }

    fn assemble(
        role: Role,
        trust_domain: String,
        certificate: CertificateDer<'static>,
        key: KeyPair,
    ) -> Result<IssuingCa, IssueError> {
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(IssueError::Make)?;
        Ok(IssuingCa {
            role,
            trust_domain,
            certificate,
            issuer,
        })
    }

    /// Writes `<role>.key` and `<role>.crt` into a folder where neither is yet.
    ///
    /// # Errors
    /// When a file is there already, the folder is loose, or writing fails.
    pub fn save_new(&self, folder: &Path) -> Result<(), FileError> {
        files::make_private_folder(folder)?;
        let der = Zeroizing::new(self.issuer.key().serialize_der());
        let key = Zeroizing::new(pem::encode(&pem::Pem::new("PRIVATE KEY", der.to_vec())));
        files::create_new(
            &folder.join(format!("{}.key", self.role)),
            key.as_bytes(),
            files::SECRET_MODE,
        )?;
        let certificate = to_pem(std::slice::from_ref(&self.certificate));
        files::create_new(
            &folder.join(format!("{}.crt", self.role)),
            certificate.as_bytes(),
            files::PUBLIC_MODE,
        )
    }

    /// Issues for the key that a request proves to hold. Of the request nothing else is looked at: the
    /// name, the usages, `CA:FALSE`, the serial and both dates come from here.
    ///
    /// Returns DER certificates, leaf first. A coordinator's chain also carries the CA, because an
    /// enrolling agent knows only the hash of its key; the others' chains are the leaf alone.
    ///
    /// # Errors
    /// When the request does not prove its key, or the name is not this CA's to give.
    pub fn issue_from_csr(
        &self,
        csr_der: &[u8],
        name: &SpiffeId,
        validity: impl Into<Validity>,
    ) -> Result<Vec<Vec<u8>>, IssueError> {
        if name.role() != self.role || name.trust_domain() != self.trust_domain {
            return Err(IssueError::ForeignName {
                name: name.clone(),
                ca: ca_name(self.role, &self.trust_domain),
            });
        }
        let key = csr::proven_key(csr_der)?;
        let mut params = params_for(validity.into())?;
        // For people who read certificates; nothing of ours does.
        params.distinguished_name.push(DnType::CommonName, name.id());
        params.subject_alt_names = vec![uri(&name.to_string())?];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match self.role {
            Role::Operator | Role::Agent => vec![ExtendedKeyUsagePurpose::ClientAuth],
            // A member serves, and is its peers' client.
            Role::Coordinator => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        };
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.issuer).map_err(IssueError::Make)?;
        let mut chain = vec![leaf.der().to_vec()];
        if self.role == Role::Coordinator {
            chain.push(self.certificate.to_vec());
        }
        Ok(chain)
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The CA's own certificate as a set of roots, which is what the other side trusts.
    ///
    /// # Errors
    /// Never for a CA that was made or loaded here.
    pub fn roots(&self) -> Result<Roots, RootsError> {
        Roots::from_der(vec![self.certificate.to_vec()])
    }
}

fn params_for(validity: Validity) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = validity.not_before.into();
    params.not_after = validity.not_after.into();
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| IssueError::Random)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn uri(text: &str) -> Result<SanType, IssueError> {
    Ok(SanType::URI(text.try_into().map_err(IssueError::Make)?))
}

fn ca_name(role: Role, trust_domain: &str) -> String {
    format!("spiffe://{trust_domain}/ca/{role}")
}

/// The trust domain that a CA certificate names, and its DER SubjectPublicKeyInfo, once its role is right.
fn read_ca(der: &CertificateDer<'_>, role: Role, path: &Path) -> Result<(String, Vec<u8>), FileError> {
    let certificate = parse_x509(der).map_err(|error| FileError::content(path, error.to_string()))?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let Some([GeneralName::URI(name)]) = names.map(|names| names.value.general_names.as_slice()) else {
        return Err(FileError::content(
            path,
            "is not a CA certificate that `cordon init` made",
        ));
    };
    let trust_domain = name
        .strip_prefix("spiffe://")
        .and_then(|rest| rest.strip_suffix(&format!("/ca/{role}")))
        .filter(|domain| spiffe::check_trust_domain(domain).is_ok())
        .ok_or_else(|| {
            FileError::content(
                path,
                format!(
                    "is not the {role} CA: it names itself `{}`",
                    name.escape_default()
                ),
            )
        })?;
    Ok((trust_domain.to_owned(), certificate.public_key().raw.to_vec()))
}

/// Why a certificate was not issued, or a CA not made or loaded.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error(transparent)]
    Csr(#[from] CsrError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Name(#[from] SpiffeError),
    #[error("`{name}` is not for `{ca}` to issue: role and trust domain must be its own")]
    ForeignName { name: SpiffeId, ca: String },
    #[error("the certificate could not be made")]
    Make(#[source] rcgen::Error),
    #[error("the system's random source failed")]
    Random,
}
