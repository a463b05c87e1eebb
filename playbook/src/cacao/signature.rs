//! The signatures of a document (JSON Signature Scheme, ITU-T X.590): what each was made over.
//!
//! The standard signs the digest of the canonical form of the playbook with the signature in it, all but its value.
//! It leaves open in which form the digest is handed to the algorithm, and tools differ, so each form is given to
//! whoever verifies. Verifying needs cryptography, which is not here.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256, Sha512};

use super::jcs;
use super::json;
use super::violation::Violations;

/// One signature of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Its identifier.
    pub id: String,
    /// Who it says has signed. Only the key tells who has.
    pub signee: String,
    /// As in JWA: `RS256`, `ES256`, ...
    pub algorithm: String,
    /// Whose it is.
    pub key: Key,
    /// The signature itself; none: it is not base 64.
    pub value: Option<Vec<u8>>,
    /// Its signer no longer holds it to be valid.
    pub revoked: bool,
    /// It holds from then on.
    pub valid_from: Option<jiff::Timestamp>,
    /// It holds until then.
    pub valid_until: Option<jiff::Timestamp>,
    /// What it may have been made over, the standard's own form first.
    pub messages: Vec<Message>,
}

/// Where the key of a signature is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A SubjectPublicKeyInfo in DER.
    Public(Vec<u8>),
    /// A certificate in DER, which has the key.
    Certificate(Vec<u8>),
    /// Somewhere else: nothing is fetched.
    Elsewhere,
    /// What stands there cannot be read.
    Unreadable,
}

/// What a signature may have been made over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// In words.
    pub form: &'static str,
    /// The bytes that are handed to the algorithm.
    pub bytes: Vec<u8>,
    /// What the signature says of itself (who, when, until when) is signed too.
    pub covers_itself: bool,
}

/// The signatures of a document, as it came: nothing is repaired before.
///
/// # Errors
/// When the text is no JSON that is read.
pub fn signatures(text: &str) -> Result<Vec<Signature>, Violations> {
    let document = json::read(text).map_err(|violation| Violations::from(*violation))?;
    let Some(root) = document.as_object() else {
        return Ok(Vec::new());
    };
    let list = root
        .get("signatures")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    Ok(list
        .filter_map(Value::as_object)
        .map(|signature| read(root, signature))
        .collect())
}

fn read(root: &Map<String, Value>, signature: &Map<String, Value>) -> Signature {
    let word = |name: &str| signature.get(name).and_then(Value::as_str);
    let own = |name: &str| word(name).unwrap_or_default().to_owned();
    let moment = |name: &str| word(name)?.parse().ok();
    Signature {
        id: own("id"),
        signee: own("signee"),
        algorithm: own("algorithm"),
        key: key(signature),
        value: word("value").and_then(|value| {
            BASE64URL_NOPAD
                .decode(value.trim_end_matches('=').as_bytes())
                .ok()
        }),
        revoked: signature.get("revoked") == Some(&Value::Bool(true)),
        valid_from: moment("valid_from"),
        valid_until: moment("valid_until"),
        messages: messages(root, signature),
    }
}

fn key(signature: &Map<String, Value>) -> Key {
    let decoded = |text: &str| {
        // PEM without its header and footer; some leave them in.
        let lines = text.lines().filter(|line| !line.starts_with("-----"));
        let bare: String = lines
            .flat_map(str::chars)
            .filter(|c| !c.is_whitespace())
            .collect();
        BASE64.decode(bare.as_bytes()).ok().filter(|der| !der.is_empty())
    };
    if let Some(key) = signature.get("public_key").and_then(Value::as_str) {
        return decoded(key).map_or(Key::Unreadable, Key::Public);
    }
    match signature
        .get("public_cert_chain")
        .and_then(|chain| chain.get(0))
        .and_then(Value::as_str)
    {
        Some(certificate) => decoded(certificate).map_or(Key::Unreadable, Key::Certificate),
        None => Key::Elsewhere,
    }
}

fn messages(root: &Map<String, Value>, signature: &Map<String, Value>) -> Vec<Message> {
    let mut unsigned = signature.clone();
    unsigned.remove("value");
    // A signature of this signature was made later.
    unsigned.remove("signature");
    let mut with_itself = root.clone();
    with_itself.insert(
        "signatures".to_owned(),
        Value::Array(vec![Value::Object(unsigned)]),
    );
    let with_itself = jcs::canonical(&Value::Object(with_itself));
    let mut bare = root.clone();
    bare.remove("signatures");
    let bare = jcs::canonical(&Value::Object(bare));
    let hash = signature
        .get("hash_algorithm")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let digest = match hash.to_ascii_lowercase().as_str() {
        "sha-256" | "sha256" => Some(Sha256::digest(&with_itself).to_vec()),
        "sha-512" | "sha512" => Some(Sha512::digest(&with_itself).to_vec()),
        _ => None,
    };
    let message = |form, bytes, covers_itself| Message {
        form,
        bytes,
        covers_itself,
    };
    let digests = digest.into_iter().flat_map(|digest| {
        [
            message("the digest in hex", hex::encode(&digest).into_bytes(), true),
            message("the digest", digest, true),
        ]
    });
    digests
        .chain([
            message("the canonical form", with_itself.into_bytes(), true),
            message("the canonical form without signatures", bare.into_bytes(), false),
        ])
        .collect()
}
