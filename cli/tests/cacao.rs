//! Signed CACAO documents, with keys that the test makes: what is taken, what is refused, and what is said.

use std::{fs, path::Path, process::Command};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

const DOCUMENT: &str = include_str!("../../playbook/tests/cacao/valid/linear.json");

type Sign = dyn Fn(&[u8]) -> Vec<u8>;

/// Someone who signs.
struct Signer {
    algorithm: &'static str,
    public: Vec<u8>,
    sign: Box<Sign>,
}

fn rsa() -> Signer {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public: PublicKeyX509Der<'static> = pair.public_key().as_der().unwrap();
    Signer {
        algorithm: "RS256",
        public: public.as_ref().to_vec(),
        sign: Box::new(move |message| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                .unwrap();
            signature
        }),
    }
}

fn ec() -> Signer {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let public: PublicKeyX509Der<'static> = pair.public_key().as_der().unwrap();
    Signer {
        algorithm: "ES256",
        public: public.as_ref().to_vec(),
        sign: Box::new(move |message| {
            pair.sign(&SystemRandom::new(), message)
                .unwrap()
                .as_ref()
                .to_vec()
        }),
    }
}

/// The document, signed: over the canonical form with the signature in it, or without any.
fn signed(by: &Signer, hash: &str, form: &str) -> Value {
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let signature = json!({
        "type": "jss", "id": "jss--00000000-0000-4000-8000-0000000000f0", "signee": "A signer",
        "created": "2024-05-02T12:00:00.000Z", "modified": "2024-05-02T12:00:00.000Z",
        "related_to": document["id"], "related_version": document["modified"],
        "hash_algorithm": hash, "algorithm": by.algorithm, "public_key": BASE64.encode(&by.public),
    });
    if form != "bare" {
        document["signatures"] = json!([signature]);
    }
    let canonical = serde_json_canonicalizer::to_vec(&document).unwrap();
    let digest = match hash {
        "sha-256" => Sha256::digest(&canonical).to_vec(),
        _ => Sha512::digest(&canonical).to_vec(),
    };
    let message = match form {
        "hex" => hex::encode(digest).into_bytes(),
        "digest" => digest,
        _ => canonical,
    };
    document["signatures"] = json!([signature]);
    document["signatures"][0]["value"] = json!(BASE64URL_NOPAD.encode(&(by.sign)(&message)));
    document
}

/// Exit code, standard output and standard error of an import.
fn import(folder: &Path, document: &str, more: &[&str]) -> (i32, String, String) {
    fs::write(folder.join("in.json"), document).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cordon"))
        .args(["playbook", "import", "--cacao", "in.json"])
        .args(more)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn pem(folder: &Path, name: &str, signer: &Signer) {
    let text = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64.encode(&signer.public)
    );
    fs::write(folder.join(name), text).unwrap();
}

#[test]
fn signatures_of_every_form_hold_for_their_document_only() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for signer in [rsa(), ec()] {
        for (hash, form) in [
            ("sha-256", "hex"),
            ("sha-512", "hex"),
            ("sha-256", "digest"),
            ("sha-256", "canonical"),
            ("sha-256", "bare"),
        ] {
            let document = signed(&signer, hash, form);
            // However it is written.
            for text in [
                document.to_string(),
                serde_json::to_string_pretty(&document).unwrap(),
            ] {
                let (code, text, said) = import(folder, &text, &[]);
                assert_eq!(code, 0, "{hash} {form}: {said}");
                assert!(said.contains("signature of A signer: valid"), "{said}");
                assert!(text.contains("playbook: tell-the-team"), "{text}");
            }
            for (pointer, value) in [
                ("/description", json!("For nobody.")),
                (
                    "/workflow/action--00000000-0000-4000-8000-000000000011/commands/0/command",
                    json!("Call nobody."),
                ),
            ] {
                let mut changed = document.clone();
                *changed.pointer_mut(pointer).unwrap() = value;
                let (code, _, said) = import(folder, &changed.to_string(), &[]);
                assert_eq!(code, 7, "{said}");
                assert!(said.contains("does not hold"), "{said}");
            }
            // What a signature says of itself is signed by the forms of the standard.
            let mut renamed = document.clone();
            renamed["signatures"][0]["signee"] = json!("Another");
            let (code, _, said) = import(folder, &renamed.to_string(), &[]);
            assert_eq!(code, if form == "bare" { 0 } else { 7 }, "{said}");
            assert_eq!(
                said.contains("not what it says of itself"),
                form == "bare",
                "{said}"
            );
        }
    }
}

#[test]
fn only_the_signer_that_was_asked_for_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (signer, other) = (ec(), ec());
    pem(folder, "signer.pem", &signer);
    pem(folder, "other.pem", &other);
    let document = signed(&signer, "sha-256", "hex");
    assert_eq!(
        import(folder, &document.to_string(), &["--signer", "signer.pem"]).0,
        0
    );
    let (code, text, said) = import(folder, &document.to_string(), &["--signer", "other.pem"]);
    assert_eq!((code, text.as_str()), (6, ""), "{said}");
    assert_eq!(
        import(folder, DOCUMENT, &["--signer", "signer.pem"]).0,
        6,
        "an unsigned document"
    );
    assert_eq!(
        import(folder, &document.to_string(), &["--signer", "in.json"]).0,
        7
    );

    // A signature that its signer took back, that is over, or that cannot be checked is none by that signer.
    for (name, value, status) in [
        ("revoked", json!(true), "revoked"),
        ("valid_until", json!("2024-06-01T00:00:00.000Z"), "expired"),
        ("algorithm", json!("PS256"), "unchecked"),
    ] {
        let mut document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut signature = signed(&signer, "sha-256", "hex")["signatures"][0].clone();
        signature[name] = value;
        signature.as_object_mut().unwrap().remove("value");
        document["signatures"] = json!([signature]);
        let canonical = serde_json_canonicalizer::to_vec(&document).unwrap();
        let value = (signer.sign)(hex::encode(Sha256::digest(&canonical)).as_bytes());
        document["signatures"][0]["value"] = json!(BASE64URL_NOPAD.encode(&value));
        let (code, _, said) = import(folder, &document.to_string(), &[]);
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains(&format!("signature of A signer: {status}")),
            "{said}"
        );
        assert_eq!(
            import(folder, &document.to_string(), &["--signer", "signer.pem"]).0,
            6,
            "{name}"
        );
    }
}

#[test]
fn the_document_is_kept_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let document = serde_json::to_string_pretty(&signed(&rsa(), "sha-256", "hex")).unwrap() + "\n \n";
    let (code, said, _) = import(folder, &document, &["--to", "out.yaml"]);
    assert_eq!(code, 0);
    assert_eq!(said, "Wrote out.yaml\nWrote out.cacao.json\n");
    assert_eq!(
        fs::read_to_string(folder.join("out.cacao.json")).unwrap(),
        document
    );
    assert!(
        fs::read_to_string(folder.join("out.yaml"))
            .unwrap()
            .contains("playbook: tell-the-team")
    );
    // Nothing is overwritten.
    assert_eq!(import(folder, &document, &["--to", "out.yaml"]).0, 6);
}
