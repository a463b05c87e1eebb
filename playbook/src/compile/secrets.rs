//! Secrets that could reach a log. Whatever a playbook holds is published, and whatever a run is given is in the log, in the
//! audit and on every operator's screen: secrets belong into files that named connections read.

use super::Compiler;
use crate::problem::Place;
use crate::yaml::{Data, Node};

/// Names of what is kept from others. Compared without case, `-` and `_`.
const NAMES: &[&str] = &[
    "accesskey",
    "accesstoken",
    "apikey",
    "apitoken",
    "authorization",
    "authtoken",
    "bearertoken",
    "clientsecret",
    "credential",
    "credentials",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "proxyauthorization",
    "secret",
    "secretkey",
    "sharedkey",
    "token",
    "xapikey",
];
/// How texts begin that are nothing else.
const BEGINNINGS: &[(&str, usize)] = &[
    ("-----BEGIN ", 30),
    ("AKIA", 20),
    ("Basic ", 14),
    ("Bearer ", 20),
    ("ghp_", 30),
    ("github_pat_", 30),
    ("glpat-", 20),
    ("sk-", 30),
    ("xoxb-", 20),
    ("xoxp-", 20),
];

impl Compiler {
    /// Inputs that ask for secrets, and secrets that stand in the text.
    pub(super) fn secrets(&mut self, root: &Node) {
        let Data::Map(fields) = &root.data else { return };
        for (key, node) in fields {
            match (key.name.as_str(), &node.data) {
                ("inputs", Data::Map(inputs)) => {
                    for (input, declared) in inputs {
                        if is_name(&input.name) {
                            self.problem(
                                "W0403",
                                input.place,
                                format!("input `{}` asks for a secret, and what a run is given is in the log and shown", input.name),
                                "give it to a connection, in a file: a playbook names the connection",
                            );
                        }
                        self.secret_texts(declared);
                    }
                }
                _ => self.secret_texts(node),
            }
        }
    }

    fn secret_texts(&mut self, node: &Node) {
        match &node.data {
            Data::Text(text) if is_secret(text) => self.secret(node.place),
            Data::List(items) => items.iter().for_each(|item| self.secret_texts(item)),
            Data::Map(entries) => {
                for (key, value) in entries {
                    match &value.data {
                        // What it is worked out from is no secret of the text.
                        Data::Text(text)
                            if is_name(&key.name) && !text.is_empty() && !text.contains("${") =>
                        {
                            self.secret(value.place);
                        }
                        _ => self.secret_texts(value),
                    }
                }
            }
            _ => {}
        }
    }

    fn secret(&mut self, place: Place) {
        self.problem(
            "W0403",
            place,
            "this looks like a secret, and whoever may read the playbook or a run of it reads it",
            "give it to a connection, in a file, and make it a new one: this one is known now",
        );
    }
}

fn is_name(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    NAMES.contains(&plain.as_str())
}

fn is_secret(text: &str) -> bool {
    BEGINNINGS.iter().any(|(beginning, length)| {
        text.starts_with(beginning)
            && text.len() >= *length
            && !text.contains("${")
            && (beginning.starts_with("---") || !text[beginning.len()..].contains(' '))
    })
}
