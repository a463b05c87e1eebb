//! The text that an export of ours carries.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::export::{EXTENSION, FORMAT, Origin, export};
use super::import::Mapped;
use super::jcs;
use super::violation::{Path, Violation};

/// The playbook that the document carries; none: it is no export of ours.
pub(super) fn carried(root: &Map<String, Value>) -> Result<Option<Mapped>, Violation> {
    let path = Path::Root;
    let path = path.name("playbook_extensions");
    let path = path.name(EXTENSION);
    let refuse = |code, path: &Path<'_>, message: String, hint: &str| Violation {
        code,
        path: path.to_string(),
        message,
        hint: hint.to_owned(),
    };
    let Some(extension) = root.get("playbook_extensions").and_then(|all| all.get(EXTENSION)) else {
        return Ok(None);
    };
    let word = |name: &str| extension.get(name).and_then(Value::as_str);
    if extension.get("cordon_format").and_then(Value::as_u64) != Some(FORMAT) {
        let message = format!("the form of the text that it carries is not {FORMAT}");
        return Err(refuse(
            "C0702",
            &path.name("cordon_format"),
            message,
            "import it with the version of Cordon that made it",
        ));
    }
    let (Some(text), Some(hash)) = (word("cordon_text"), word("cordon_sha256")) else {
        let message = "the text or its hash is missing".to_owned();
        return Err(refuse("C0702", &path, message, "export it again"));
    };
    if hex::encode(Sha256::digest(text)) != hash {
        let message = "the hash is not that of the text".to_owned();
        return Err(refuse(
            "C0702",
            &path.name("cordon_sha256"),
            message,
            "export it again",
        ));
    }
    let compiled = crate::compile(text).map_err(|problems| {
        refuse(
            "C0704",
            &path.name("cordon_text"),
            format!("it does not compile\n{problems}"),
            "",
        )
    })?;
    let mut found = root.clone();
    found.remove("signatures");
    let shown = origin(root)
        .and_then(|origin| export(text, &origin).ok())
        .and_then(|text| serde_json::from_str::<Value>(&text).ok());
    if shown.is_none_or(|shown| jcs::canonical(&shown) != jcs::canonical(&Value::Object(found))) {
        return Err(refuse(
            "C0703",
            &path,
            "the rest of the document is not what this text is exported as".to_owned(),
            "export the text again; or take the extension out, to import what the workflow shows",
        ));
    }
    Ok(Some(Mapped {
        name: compiled.manifest.playbook,
        text: text.to_owned(),
        notes: Vec::new(),
        rulesets: Vec::new(),
    }))
}

/// Who exported it, and when.
fn origin(root: &Map<String, Value>) -> Option<Origin> {
    let word = |name: &str| root.get(name)?.as_str();
    Some(Origin {
        created_by: word("created_by")?.to_owned(),
        created: word("created")?.parse().ok()?,
        modified: word("modified")?.parse().ok()?,
    })
}
