//! `playbook import --cacao` and `playbook export --cacao`, offline. Nothing that a document says is carried out.

use std::path::{Path, PathBuf};

use certs::document::{Algorithm, PublicKey};
use playbook::cacao::{self, Imported, Key, Mode, Origin, Signature};
use serde_json::{Value, json};

use super::playbook::read;
use crate::{
    args::{Export, Import},
    error::{CliError, Result},
    exit_codes,
    output::{Format, Output, clean},
};

/// Who exports, where nobody is named.
const EXPORTER: &str = "cordon";

/// Reads a document, and shows or writes what it is in our language.
///
/// # Errors
/// What the document violates, and a signature that does not hold.
pub fn import(out: Output, args: &Import) -> Result<u8> {
    let document = CliError::read("read the document", &args.file)?;
    let name = args.file.display().to_string();
    let trusted = args.signer.as_deref().map(signer).transpose()?;
    let verdicts = verify(&document, trusted.as_ref())?;
    let mode = if args.lenient { Mode::Lenient } else { Mode::Strict };
    let imported = cacao::import(&document, mode).map_err(|violations| {
        CliError::invalid(format!(
            "{name} is not a CACAO playbook that can be imported\n{violations}"
        ))
        .with_hint("`cordon explain CODE` says what a rule is for; `--lenient` repairs what needs no guess")
    })?;
    let text = &imported.mapped.text;
    let mut written = Vec::new();
    if let Some(to) = &args.to {
        written.push((to.clone(), text.as_bytes()));
        // As it came, byte for byte: what was signed.
        written.push((beside(to, "cacao.json"), document.as_bytes()));
        for rules in &imported.mapped.rulesets {
            written.push((beside(to, &format!("{}.yml", rules.name)), rules.text.as_bytes()));
        }
        write_all(&written)?;
    }
    let files: Vec<String> = written
        .iter()
        .map(|(path, _)| path.display().to_string())
        .collect();
    if out.format == Format::Table {
        report(&imported, &verdicts);
        match args.to {
            None => out.print(text)?,
            Some(_) => out.print(
                &files
                    .iter()
                    .map(|file| format!("Wrote {}\n", clean(file)))
                    .collect::<String>(),
            )?,
        }
    } else {
        out.one("", &shape(&imported, &verdicts, &files))?;
    }
    Ok(exit_codes::OK)
}

/// Writes a playbook as a document.
///
/// # Errors
/// The playbook's problems; an identity or a moment that is none.
pub fn export(out: Output, args: &Export) -> Result<u8> {
    let yaml = read(&args.playbook)?;
    let now = jiff::Timestamp::now();
    let moment = |given: Option<&String>, otherwise| match given {
        None => Ok(otherwise),
        Some(text) => text.parse::<jiff::Timestamp>().map_err(|_| {
            CliError::new(exit_codes::USAGE, format!("`{text}` is no moment"))
                .with_hint("write it as in 2024-05-01T12:00:00.000Z")
        }),
    };
    let modified = moment(args.modified.as_ref(), now)?;
    let created = moment(args.created.as_ref(), modified)?;
    if modified < created {
        return Err(CliError::new(
            exit_codes::USAGE,
            "the playbook was modified before it was created",
        ));
    }
    let origin = Origin {
        created_by: args
            .created_by
            .clone()
            .unwrap_or_else(|| Origin::identity(EXPORTER)),
        created,
        modified,
    };
    let document = cacao::export(&yaml, &origin)
        .map_err(|problems| CliError::invalid(format!("{} is not valid\n{problems}", args.playbook)))?;
    // An identity that is none shows here.
    if let Some(violation) = cacao::check(&document)
        .into_iter()
        .find(|violation| !violation.is_warning())
    {
        return Err(CliError::invalid(violation.to_string()));
    }
    match &args.to {
        None => out.print(&document)?,
        Some(to) => {
            write_all(&[(to.clone(), document.as_bytes())])?;
            let text = format!("Wrote {}\n", clean(&to.display().to_string()));
            out.one(
                &text,
                &json!({ "playbook": args.playbook, "to": to.to_string_lossy() }),
            )?;
        }
    }
    Ok(exit_codes::OK)
}

/// What is known of one signature.
struct Verdict {
    signature: Signature,
    key_sha256: Option<String>,
    status: &'static str,
    why: String,
}

/// Looks at every signature. One that is checked and does not hold refuses the document; so does the absence of one
/// by a signer that was asked for.
fn verify(document: &str, trusted: Option<&PublicKey>) -> Result<Vec<Verdict>> {
    let signatures =
        cacao::signatures(document).map_err(|violations| CliError::invalid(violations.to_string()))?;
    let now = jiff::Timestamp::now();
    let verdicts: Vec<Verdict> = signatures
        .into_iter()
        .map(|signature| verdict(signature, now))
        .collect();
    if let Some(bad) = verdicts.iter().find(|verdict| verdict.status == "invalid") {
        let what = format!(
            "the signature of `{}` does not hold: {}",
            bad.signature.signee, bad.why
        );
        return Err(CliError::invalid(what)
            .with_hint("the document is not what was signed: ask its author for it again"));
    }
    if let Some(trusted) = trusted {
        let by = trusted.sha256();
        let holds =
            |verdict: &Verdict| verdict.status == "valid" && verdict.key_sha256.as_deref() == Some(&by);
        if !verdicts.iter().any(holds) {
            return Err(CliError::new(
                exit_codes::REFUSED,
                format!("no valid signature is by the key {by} that `--signer` names"),
            )
            .with_hint("import without `--signer` to see which signatures there are"));
        }
    }
    Ok(verdicts)
}

fn verdict(signature: Signature, now: jiff::Timestamp) -> Verdict {
    let key = match &signature.key {
        Key::Public(der) => PublicKey::from_der(der).map_err(|error| ("invalid", error.to_string())),
        Key::Certificate(der) => {
            PublicKey::from_certificate(der).map_err(|error| ("invalid", error.to_string()))
        }
        Key::Elsewhere => Err((
            "unchecked",
            "its key is not in the document, and nothing is fetched".to_owned(),
        )),
        Key::Unreadable => Err(("invalid", "its key is not base 64".to_owned())),
    };
    let key_sha256 = key.as_ref().ok().map(PublicKey::sha256);
    let (status, why) = judge(&signature, key, now);
    Verdict {
        signature,
        key_sha256,
        status,
        why,
    }
}

fn judge(
    signature: &Signature,
    key: std::result::Result<PublicKey, (&'static str, String)>,
    now: jiff::Timestamp,
) -> (&'static str, String) {
    let Some(algorithm) = Algorithm::parse(&signature.algorithm) else {
        return (
            "unchecked",
            format!("`{}` is not verified here", signature.algorithm),
        );
    };
    let key = match key {
        Ok(key) => key,
        Err(why) => return why,
    };
    let Some(value) = &signature.value else {
        return ("invalid", "its value is not base 64".to_owned());
    };
    let holds = signature
        .messages
        .iter()
        .find(|message| key.verifies(algorithm, &message.bytes, value));
    let Some(message) = holds else {
        return ("invalid", "it is not of this document by this key".to_owned());
    };
    if signature.revoked {
        return ("revoked", "its signer took it back".to_owned());
    }
    if signature.valid_from.is_some_and(|from| now < from)
        || signature.valid_until.is_some_and(|until| now >= until)
    {
        return ("expired", "it does not hold at this time".to_owned());
    }
    let itself = if message.covers_itself {
        ""
    } else {
        ", and not what it says of itself"
    };
    ("valid", format!("over {}{itself}", message.form))
}

fn signer(path: &Path) -> Result<PublicKey> {
    let text = CliError::read("read the signer's key", path)?;
    PublicKey::from_pem(&text).map_err(|error| {
        CliError::invalid(format!("{}: {error}", path.display()))
            .with_hint("name a file with the public key or a certificate of the signer, in PEM")
    })
}

/// What people should know beside the text. On standard error, so that the text alone can be redirected.
fn report(imported: &Imported, verdicts: &[Verdict]) {
    for verdict in verdicts {
        let signee = clean(&verdict.signature.signee);
        let key = verdict
            .key_sha256
            .as_ref()
            .map(|key| format!(", key {key}"))
            .unwrap_or_default();
        eprintln!(
            "signature of {signee}: {} ({}){key}",
            verdict.status,
            clean(&verdict.why)
        );
    }
    for warning in &imported.warnings {
        for line in warning.to_string().lines() {
            eprintln!("{}", clean(line));
        }
    }
    for repair in &imported.repairs {
        eprintln!("repaired {}: {}", clean(&repair.path), clean(&repair.message));
    }
    for note in &imported.mapped.notes {
        eprintln!("review {}: {}", clean(&note.id), clean(&note.message));
    }
    if imported.carried {
        eprintln!("The document is an export of Cordon: the text is what it carries, its hash verified.");
    }
}

fn shape(imported: &Imported, verdicts: &[Verdict], files: &[String]) -> Value {
    let mapped = &imported.mapped;
    json!({
        "playbook": mapped.name,
        "text": mapped.text,
        "carried": imported.carried,
        "notes": mapped.notes.iter().map(|note| json!({ "id": note.id, "message": note.message })).collect::<Vec<_>>(),
        "repairs": imported.repairs.iter().map(|repair| json!({ "path": repair.path, "message": repair.message })).collect::<Vec<_>>(),
        "warnings": imported.warnings.iter().map(|warning| json!({
            "code": warning.code, "path": warning.path, "message": warning.message, "hint": warning.hint,
        })).collect::<Vec<_>>(),
        "signatures": verdicts.iter().map(|verdict| json!({
            "id": verdict.signature.id, "signee": verdict.signature.signee, "algorithm": verdict.signature.algorithm,
            "key_sha256": verdict.key_sha256, "status": verdict.status, "why": verdict.why,
        })).collect::<Vec<_>>(),
        "rulesets": mapped.rulesets.iter().map(|rules| json!({
            "name": rules.name, "sha256": rules.sha256, "text": rules.text,
        })).collect::<Vec<_>>(),
        "files": files,
    })
}

/// `DIR/NAME.ENDING` for `DIR/NAME.yaml`.
fn beside(to: &Path, ending: &str) -> PathBuf {
    to.with_extension(ending)
}

/// New files only: what is there may be somebody's work.
fn write_all(files: &[(PathBuf, &[u8])]) -> Result<()> {
    for (path, _) in files {
        if path.exists() {
            return Err(CliError::new(
                exit_codes::REFUSED,
                format!("{} is there already", path.display()),
            )
            .with_hint("name a new file, or move the old one away"));
        }
    }
    for (path, bytes) in files {
        certs::files::create_new(path, bytes, 0o644)
            .map_err(|error| CliError::invalid(format!("cannot write {}: {error}", path.display())))?;
    }
    Ok(())
}
