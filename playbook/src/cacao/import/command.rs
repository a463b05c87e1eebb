//! One command of an action: what it is in our language.
//!
//! Nothing is pasted into what something else parses: a command that would need it is a question to people.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::super::check::{decoded, start_line};
use super::super::id::variables;
use super::super::yaml::{Read, Yaml};
use super::names::slug;
use super::variable::SCAN_ROOTS;

/// Reads a variable where the command stands.
pub(super) type Reader<'r> = dyn FnMut(&str) -> Result<Read, String> + 'r;

/// A command of ours.
pub(super) struct Do {
    pub action: &'static str,
    pub with: Vec<(&'static str, Yaml)>,
    /// It runs on hosts, or over a connection.
    pub on_hosts: bool,
    /// What a reviewer should know.
    pub notes: Vec<String>,
    pub ruleset: Option<Ruleset>,
}

/// Rules that a playbook of ours names and does not hold: they are put where the cluster keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// In `ruleset://NAME@sha256:HEX`.
    pub name: String,
    /// Of the text, in lower-case hex.
    pub sha256: String,
    /// As the document has it.
    pub text: String,
}

fn text<'a>(command: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    command.get(name).and_then(Value::as_str)
}

/// What a command says, decoded where it is encoded.
pub(super) fn says(command: &Map<String, Value>) -> String {
    text(command, "command")
        .map(str::to_owned)
        .or_else(|| decoded(text(command, "command_b64")?))
        .unwrap_or_default()
}

/// The command as an action, or why it is none. `name` is that of the step, `connection` of the system that it asks.
pub(super) fn action(
    command: &Map<String, Value>,
    name: &str,
    connection: &str,
    read: &mut Reader<'_>,
) -> Result<Do, String> {
    match text(command, "type").unwrap_or_default() {
        "bash" => script(command, "/bin/bash", &["-c"], read),
        "ssh" => script(command, "/bin/sh", &["-c"], read),
        "powershell" => script(
            command,
            "/usr/bin/pwsh",
            &["-NoProfile", "-NonInteractive", "-Command"],
            read,
        ),
        "http-api" => http(command, connection, read),
        "openc2-http" => http(command, connection, read),
        "yara" => {
            let rules = says(command);
            if variables(&rules).next().is_some() {
                return Err("a variable would have to be pasted into rules".to_owned());
            }
            Ok(Do {
                action: "scan.yara",
                with: vec![
                    ("rules", Yaml::text(&rules)),
                    ("roots", Yaml::expression(&format!("inputs.{SCAN_ROOTS}"))),
                ],
                on_hosts: true,
                notes: vec![format!(
                    "CACAO does not say where to scan: the input `{SCAN_ROOTS}` does"
                )],
                ruleset: None,
            })
        }
        "sigma" => sigma(command, name),
        other => Err(format!("Cordon has no action for commands of the type `{other}`")),
    }
}

/// A script is one argument of its interpreter.
fn script(
    command: &Map<String, Value>,
    program: &'static str,
    arguments: &[&str],
    read: &mut Reader<'_>,
) -> Result<Do, String> {
    let script = Yaml::template(&says(command), &mut |name| match read(name)? {
        Read::Literal(value) => Ok(Read::Literal(value)),
        Read::Expression(_) => Err(format!(
            "the value of `{name}` is only known when it runs, and would be pasted into a script"
        )),
    })?;
    let mut all: Vec<Yaml> = arguments.iter().map(|argument| Yaml::text(argument)).collect();
    all.push(script);
    Ok(Do {
        action: "host.run",
        with: vec![("program", Yaml::text(program)), ("arguments", Yaml::List(all))],
        on_hosts: true,
        notes: vec!["`host.run` does nothing until the policy of an agent allows it".to_owned()],
        ruleset: None,
    })
}

fn sigma(command: &Map<String, Value>, name: &str) -> Result<Do, String> {
    let rules = says(command);
    if variables(&rules).next().is_some() {
        return Err("a variable would have to be pasted into rules".to_owned());
    }
    let ruleset = Ruleset {
        name: format!("cacao-{}", name.replace('_', "-")),
        sha256: hex::encode(Sha256::digest(&rules)),
        text: rules,
    };
    let reference = format!("ruleset://{}@sha256:{}", ruleset.name, ruleset.sha256);
    Ok(Do {
        action: "host.scan",
        with: vec![("sigma", Yaml::text(&reference))],
        on_hosts: true,
        notes: vec![format!(
            "the Sigma rules are to be kept by the cluster as `{}`",
            ruleset.name
        )],
        ruleset: Some(ruleset),
    })
}

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

fn http(command: &Map<String, Value>, connection: &str, read: &mut Reader<'_>) -> Result<Do, String> {
    let line = text(command, "command").unwrap_or_default();
    let (method, target) = start_line(line).ok_or("it does not begin with the first line of a request")?;
    if !METHODS.contains(&method) {
        return Err(format!("`http.call` has no method {method}"));
    }
    let (path, query) = target
        .split_once('?')
        .map_or((target, None), |(path, query)| (path, Some(query)));
    let plain = path.starts_with('/')
        && !path.contains('#')
        && !path.split('/').any(|part| part == "." || part == "..")
        && path.bytes().all(|b| b.is_ascii_graphic());
    if !plain {
        return Err("its target is no path beneath the address of a connection".to_owned());
    }
    let mut with = vec![
        ("connection", Yaml::text(connection)),
        ("method", Yaml::Scalar(method.to_owned())),
        ("path", Yaml::template(path, read)?),
    ];
    if let Some(query) = query {
        with.push(("query", self::query(query, read)?));
    }
    let body = match text(command, "content") {
        Some(content) => Some(content.to_owned()),
        None => text(command, "content_b64").and_then(decoded),
    };
    if let Some(body) = body.filter(|body| !body.is_empty()) {
        with.push(match serde_json::from_str::<Value>(&body) {
            Ok(json) => ("json", Yaml::json(&crate::canonical::sorted(&json), read)?),
            Err(_) if body.trim_start().starts_with(['{', '[', '<']) && variables(&body).next().is_some() => {
                return Err("a variable would have to be pasted into the body".to_owned());
            }
            Err(_) => ("text", Yaml::template(&body, read)?),
        });
    }
    let mut notes = Vec::new();
    let headers = command
        .get("headers")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let headers: Vec<&str> = headers.map(|(name, _)| name.as_str()).collect();
    if !headers.is_empty() {
        notes.push(format!(
            "headers are set by the connection `{connection}`, not by a playbook: {}",
            headers.join(", ")
        ));
    }
    Ok(Do {
        action: "http.call",
        with,
        on_hosts: false,
        notes,
        ruleset: None,
    })
}

/// `a=1&b=2` as a map.
fn query(query: &str, read: &mut Reader<'_>) -> Result<Yaml, String> {
    let mut entries: Vec<(String, Yaml)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = unescaped(name).ok_or("its query is not well escaped")?;
        let value = unescaped(value).ok_or("its query is not well escaped")?;
        if entries.iter().any(|(known, _)| *known == name) {
            return Err(format!("its query has `{name}` twice"));
        }
        entries.push((name, Yaml::template(&value, read)?));
    }
    Ok(Yaml::Map(entries))
}

/// Percent-encoding taken away, `+` as a space.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        bytes.push(match b {
            b'+' => b' ',
            b'%' => {
                let pair = [rest.next()?, rest.next()?];
                let pair = std::str::from_utf8(&pair).ok()?;
                u8::from_str_radix(pair, 16).ok()?
            }
            b => b,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A name for the connection to a system: as in the coordinators' configuration.
pub(super) fn connection(name: &str) -> String {
    let slug = slug(name, '-', 63);
    if slug.is_empty() { "cacao".to_owned() } else { slug }
}
