//! Issuing takes the key of a request and nothing else; files keep what was written.

use std::time::{Duration, SystemTime};

use certs::{
    AGENT_VALIDITY, CsrError, Identity, IssueError, IssuingCa, Leaf, Role, SpiffeId, key_sha256_of_csr,
    new_key_and_csr,
};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

fn ca(role: Role) -> IssuingCa {
    IssuingCa::create(role, "cordon.test", certs::CA_VALIDITY).unwrap()
}

fn name(role: Role) -> SpiffeId {
    SpiffeId::new("cordon.test", role, "it-1").unwrap()
}

#[test]
fn a_request_gets_nothing_that_it_asks_for() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI(
        "spiffe://cordon.test/operator/root".try_into().unwrap(),
    ));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any, ExtendedKeyUsagePurpose::CodeSigning];
    let csr = params.serialize_request(&key).unwrap();

    let chain = ca(Role::Agent)
        .issue_from_csr(csr.der(), &name(Role::Agent), AGENT_VALIDITY)
        .unwrap();
    assert_eq!(chain.len(), 1);
    let der = CertificateDer::from(chain[0].clone());
    let leaf = Leaf::parse(&der).unwrap();
    assert_eq!(leaf.spiffe, name(Role::Agent));
    assert_eq!(leaf.key_sha256, key_sha256_of_csr(csr.der()).unwrap());

    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    assert!(!certificate.basic_constraints().unwrap().unwrap().value.ca);
    assert_eq!(
        certificate
            .subject_alternative_name()
            .unwrap()
            .unwrap()
            .value
            .general_names
            .len(),
        1
    );
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.any && !usage.code_signing && !usage.server_auth);
    assert!(!certificate.subject().to_string().contains("evil"));
    let serial = leaf.serial.as_bytes().len();
    assert!(
        (12..=16).contains(&serial),
        "a serial of {serial} bytes is not 128 random bits"
    );

    let now = SystemTime::now();
    assert!(
        leaf.not_before < now - Duration::from_secs(240),
        "it is not back-dated"
    );
    assert!(leaf.not_after < now + AGENT_VALIDITY + Duration::from_secs(1));
}

#[test]
fn serials_and_keys_are_new_each_time() {
    let ca = ca(Role::Agent);
    let (_, csr) = new_key_and_csr().unwrap();
    let issue = || {
        let chain = ca
            .issue_from_csr(&csr, &name(Role::Agent), AGENT_VALIDITY)
            .unwrap();
        Leaf::parse(&CertificateDer::from(chain[0].clone())).unwrap()
    };
    let (first, second) = (issue(), issue());
    assert_ne!(first.serial, second.serial);
    assert_eq!(first.key_sha256, second.key_sha256);
    assert_ne!(
        first.key_sha256,
        key_sha256_of_csr(&new_key_and_csr().unwrap().1).unwrap()
    );
}

#[test]
fn a_request_that_proves_nothing_is_refused() {
    let (_, good) = new_key_and_csr().unwrap();
    key_sha256_of_csr(&good).unwrap();

    // The signature is the last thing in it.
    let mut bent = good.clone();
    *bent.last_mut().unwrap() ^= 1;
    assert!(matches!(
        key_sha256_of_csr(&bent),
        Err(CsrError::Signature | CsrError::Malformed)
    ));

    // Someone else's key under one's own signature: swap the 65 bytes of the public point.
    let (_, other) = new_key_and_csr().unwrap();
    let at = |csr: &[u8]| csr.windows(4).position(|window| window == [3, 66, 0, 4]).unwrap();
    let mut stolen = good.clone();
    let (to, from) = (at(&good), at(&other));
    stolen[to..to + 68].copy_from_slice(&other[from..from + 68]);
    assert!(matches!(key_sha256_of_csr(&stolen), Err(CsrError::Signature)));

    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        assert!(matches!(key_sha256_of_csr(csr.der()), Err(CsrError::Algorithm)));
    }

    let mut trailing = good.clone();
    trailing.push(0);
    for junk in [&[][..], &[0x30], b"hello", &trailing, &good[..good.len() - 1]] {
        assert!(
            matches!(key_sha256_of_csr(junk), Err(CsrError::Malformed)),
            "{junk:?}"
        );
    }
    assert!(matches!(
        key_sha256_of_csr(&[0x30; 5000]),
        Err(CsrError::TooLong(5000))
    ));
}

#[test]
fn a_ca_names_only_its_own() {
    let ca = ca(Role::Agent);
    let (_, csr) = new_key_and_csr().unwrap();
    for foreign in [
        name(Role::Operator),
        name(Role::Coordinator),
        SpiffeId::new("elsewhere", Role::Agent, "it-1").unwrap(),
    ] {
        let refusal = ca.issue_from_csr(&csr, &foreign, AGENT_VALIDITY);
        assert!(
            matches!(refusal, Err(IssueError::ForeignName { .. })),
            "{foreign}"
        );
    }
}

#[test]
fn a_ca_in_anothers_place_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("issuers");
    ca(Role::Agent).save_new(&folder).unwrap();
    assert!(
        ca(Role::Agent).save_new(&folder).is_err(),
        "a key was overwritten"
    );
    IssuingCa::load(&folder, Role::Agent).unwrap();
    for ending in ["key", "crt"] {
        std::fs::copy(
            folder.join(format!("agent.{ending}")),
            folder.join(format!("operator.{ending}")),
        )
        .unwrap();
    }
    let refusal = IssuingCa::load(&folder, Role::Operator)
        .err()
        .unwrap()
        .to_string();
    assert!(refusal.contains("is not the operator CA"), "{refusal}");

    ca(Role::Agent).save_new(&folder.join("other")).unwrap();
    std::fs::copy(folder.join("other/agent.crt"), folder.join("agent.crt")).unwrap();
    let refusal = IssuingCa::load(&folder, Role::Agent).err().unwrap().to_string();
    assert!(refusal.contains("is not the certificate of"), "{refusal}");
}

#[test]
fn a_renewal_that_was_cut_short_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("identity");
    let ca = ca(Role::Agent);
    let issue = || {
        let (key, csr) = new_key_and_csr().unwrap();
        Identity::new(
            key,
            ca.issue_from_csr(&csr, &name(Role::Agent), AGENT_VALIDITY)
                .unwrap(),
        )
        .unwrap()
    };
    let (old, new) = (issue(), issue());
    old.save(&folder).unwrap();
    assert_eq!(Identity::load(&folder).unwrap().key_sha256(), old.key_sha256());
    let old_key = std::fs::read(folder.join("key.pem")).unwrap();
    new.save(&folder).unwrap();
    assert_eq!(Identity::load(&folder).unwrap().key_sha256(), new.key_sha256());

    // As a crash between the two renames leaves it: the new chain, the old key, the new key waiting.
    std::fs::rename(folder.join("key.pem"), folder.join("key.pem.new")).unwrap();
    assert_eq!(Identity::load(&folder).unwrap().key_sha256(), new.key_sha256());
    std::fs::rename(folder.join("key.pem"), folder.join("key.pem.new")).unwrap();
    certs::files::create_new(&folder.join("key.pem"), &old_key, 0o600).unwrap();
    assert_eq!(Identity::load(&folder).unwrap().key_sha256(), new.key_sha256());
    assert!(!folder.join("key.pem.new").exists());

    // Without the waiting key the pair does not match, and is not used.
    certs::files::replace(&folder.join("key.pem"), &old_key, 0o600).unwrap();
    let refusal = Identity::load(&folder).err().unwrap().to_string();
    assert!(
        refusal.contains("cannot be used with its certificate"),
        "{refusal}"
    );
}
