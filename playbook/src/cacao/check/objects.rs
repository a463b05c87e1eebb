//! Steps with their commands, and what is defined beside the workflow.

use serde_json::{Map, Value};

use super::super::id::{Id, variables};
use super::super::violation::Path;
use super::super::vocabulary as words;
use super::Checker;
use super::table::{self, Table};

/// The text of a property.
pub(super) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

impl<'a> Checker<'a> {
    pub(super) fn steps(&mut self) {
        let root = Path::Root;
        let path = root.name("workflow");
        match self.root.get("workflow") {
            Some(Value::Object(_)) | None => {}
            Some(other) => {
                let message = format!("the workflow is an object, not {}", super::kind_of(other));
                self.violation("C0104", &path, message, "");
            }
        }
        for (id, step) in self.dictionary("workflow") {
            let path = path.name(id);
            let Value::Object(step) = step else {
                self.violation("C0104", &path, "a step is an object", "");
                continue;
            };
            let kind = text(step, "type").unwrap_or_default();
            self.named_as(&path, id, kind, words::STEP_TYPES);
            if Id::parse(id).is_some_and(|id| id.version() != '4') {
                self.violation(
                    "C0202",
                    &path,
                    "the UUID of a step is of version 4",
                    "draw a new one, and change what refers to it",
                );
            }
            self.object(
                &path,
                step,
                &[table::STEP, table::step(kind)],
                words::STEP_TYPES.contains(&kind),
            );
            self.commands(&path, step);
            self.cases(&path, step);
            self.condition(&path, step);
        }
    }

    /// The key of a dictionary is an identifier with the type of its value.
    fn named_as(&mut self, path: &Path<'_>, id: &str, kind: &str, kinds: &[&str]) {
        if let Some(known) = self.identifier(path, id, kinds)
            && !kind.is_empty()
            && known.kind != kind
        {
            self.violation(
                "C0203",
                path,
                format!(
                    "the identifier says `{}`, the object's type is `{kind}`",
                    known.kind
                ),
                "an identifier begins with the exact type of its object",
            );
        }
    }

    fn cases(&mut self, path: &Path<'_>, step: &'a Map<String, Value>) {
        let path = path.name("cases");
        match step.get("cases") {
            None => {}
            Some(Value::Object(cases)) => {
                if cases.is_empty() {
                    self.violation(
                        "C0107",
                        &path,
                        "a switch has at least one case",
                        "add one, or `default`",
                    );
                }
                for (name, to) in cases {
                    let path = path.name(name);
                    self.key(&path, name);
                    self.value(&path, to, &table::Form::Step);
                }
            }
            Some(other) => {
                let message = format!("the cases are an object, not {}", super::kind_of(other));
                self.violation("C0104", &path, message, "");
            }
        }
    }

    fn condition(&mut self, path: &Path<'_>, step: &Map<String, Value>) {
        if let Some(condition) = text(step, "condition")
            && let Err(why) = super::super::condition::parse(condition)
        {
            self.violation(
                "C0501",
                &path.name("condition"),
                format!("this is no comparison: {why}"),
                "write it as in: __score__:value >= 70 AND __host__:value != 'db1'",
            );
        }
        if let Some(switch) = text(step, "switch")
            && super::super::id::whole_variable(switch).is_none()
        {
            self.violation(
                "C0502",
                &path.name("switch"),
                format!("`{switch}` is no variable"),
                "a switch looks at one variable: `__name__:value`",
            );
        }
    }

    fn commands(&mut self, path: &Path<'_>, step: &'a Map<String, Value>) {
        let path = path.name("commands");
        let commands = match step.get("commands") {
            None => return,
            Some(Value::Array(commands)) => commands,
            Some(other) => {
                let message = format!("the commands are a list, not {}", super::kind_of(other));
                return self.violation("C0104", &path, message, "");
            }
        };
        if commands.is_empty() {
            self.violation("C0107", &path, "an action has at least one command", "add one");
        }
        for (at, command) in commands.iter().enumerate() {
            let path = path.item(at);
            let Value::Object(command) = command else {
                self.violation("C0104", &path, "a command is an object", "");
                continue;
            };
            let kind = text(command, "type").unwrap_or_default();
            let own = table::command(kind);
            self.object(
                &path,
                command,
                &[table::COMMAND, own.unwrap_or(&[])],
                own.is_some(),
            );
            self.command(&path, kind, command);
        }
    }

    fn command(&mut self, path: &Path<'_>, kind: &str, command: &Map<String, Value>) {
        let either = ["manual", "bash", "caldera-cmd", "powershell", "ssh"].contains(&kind);
        if either && !command.contains_key("command") && !command.contains_key("command_b64") {
            self.violation(
                "C0601",
                path,
                "the command says nothing",
                "add `command` or `command_b64`",
            );
        }
        if !["http-api", "openc2-http"].contains(&kind) {
            return;
        }
        let Some(line) = text(command, "command") else {
            return;
        };
        match start_line(line) {
            None => self.violation(
                "C0602",
                &path.name("command"),
                format!("`{line}` is not the first line of an HTTP request"),
                "method, target and version: `POST /block HTTP/1.1`",
            ),
            Some(("POST", _)) => {}
            Some((method, _)) if kind == "openc2-http" => self.violation(
                "C0602",
                &path.name("command"),
                format!("OpenC2 over HTTP is sent by POST, not by {method}"),
                "write `POST /target HTTP/1.1`",
            ),
            Some(_) => {}
        }
        let headers = command
            .get("headers")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        for (name, values) in headers {
            let secret = ["authorization", "proxy-authorization", "cookie", "x-api-key"]
                .contains(&name.to_ascii_lowercase().as_str());
            let literal = values
                .as_array()
                .is_some_and(|values| values.iter().filter_map(Value::as_str).any(is_literal));
            if secret && literal {
                self.clear_text(&path.name("headers").name(name));
            }
        }
    }

    pub(super) fn definitions(&mut self) {
        self.defined("agent_definitions", Some(words::AGENT_TYPES), |kind| {
            (table::AGENT, table::agent(kind))
        });
        self.defined("target_definitions", Some(words::AGENT_TYPES), |kind| {
            (table::AGENT, table::agent(kind))
        });
        self.defined(
            "authentication_info_definitions",
            Some(words::AUTHENTICATION_TYPES),
            |kind| (table::AUTHENTICATION, table::authentication(kind)),
        );
        self.defined("extension_definitions", None, |_| {
            (table::EXTENSION_DEFINITION, Some(&[]))
        });
        self.defined("data_marking_definitions", None, |kind| {
            (table::MARKING, Some(table::marking(kind)))
        });
        let root = Path::Root;
        let path = root.name("authentication_info_definitions");
        for (id, info) in self.dictionary("authentication_info_definitions") {
            if let Value::Object(info) = info {
                self.authentication(&path.name(id), info);
            }
        }
        let path = root.name("data_marking_definitions");
        for (id, marking) in self.dictionary("data_marking_definitions") {
            let Value::Object(marking) = marking else { continue };
            self.times(&path.name(id), marking);
            if text(marking, "id").is_some_and(|own| own != id) {
                self.violation(
                    "C0203",
                    &path.name(id).name("id"),
                    "the marking's own identifier is another",
                    "it is the same as the key under which it stands",
                );
            }
        }
    }

    /// One dictionary of definitions. `open`: other types than these are allowed.
    fn defined(
        &mut self,
        name: &'static str,
        open: Option<&[&str]>,
        tables: impl Fn(&str) -> (Table, Option<Table>),
    ) {
        let root = Path::Root;
        let path = root.name(name);
        match self.root.get(name) {
            None | Some(Value::Object(_)) => {}
            Some(other) => {
                let message = format!("definitions are an object, not {}", super::kind_of(other));
                self.violation("C0104", &path, message, "");
            }
        }
        for (id, value) in self.dictionary(name) {
            let path = path.name(id);
            let Value::Object(object) = value else {
                self.violation("C0104", &path, "a definition is an object", "");
                continue;
            };
            let kind = text(object, "type").unwrap_or_default();
            self.named_as(&path, id, kind, &[]);
            let (common, own) = tables(kind);
            self.object(&path, object, &[common, own.unwrap_or(&[])], own.is_some());
            if open.is_some() && object.contains_key("address") {
                self.address(&path, object);
            }
        }
    }

    fn address(&mut self, path: &Path<'_>, object: &Map<String, Value>) {
        if object
            .get("address")
            .and_then(Value::as_object)
            .is_some_and(Map::is_empty)
        {
            self.violation(
                "C0107",
                &path.name("address"),
                "the address is empty",
                "name where it is",
            );
        }
    }

    /// Keys stay in a key store; nothing is in clear text.
    fn authentication(&mut self, path: &Path<'_>, info: &Map<String, Value>) {
        let stored = info.get("kms") == Some(&Value::Bool(true));
        let named = info.contains_key("kms_key_identifier");
        if stored != named {
            self.violation(
                "C0605",
                path,
                "`kms: true` and `kms_key_identifier` go together",
                "name the key in the key store, or leave both out",
            );
        }
        for name in ["user_id", "username", "password", "oauth_header", "token"] {
            let Some(value) = text(info, name) else { continue };
            if stored && !value.is_empty() && name != "oauth_header" {
                self.violation(
                    "C0605",
                    &path.name(name),
                    format!("`{name}` is given although the key store has it"),
                    "leave it out",
                );
            } else if ["password", "token"].contains(&name) && is_literal(value) {
                self.clear_text(&path.name(name));
            }
        }
    }

    /// The secret itself is not repeated.
    fn clear_text(&mut self, path: &Path<'_>) {
        self.violation(
            "C0606",
            path,
            "there is a secret in clear text here",
            "take it out, and change it where it is used: whoever has the file knows it. Cordon takes secrets from the \
             files of its connections",
        );
    }

    pub(super) fn signatures(&mut self) {
        let root = Path::Root;
        let path = root.name("signatures");
        let list = self.root.get("signatures").and_then(Value::as_array);
        for (at, signature) in list.into_iter().flatten().enumerate() {
            if let Value::Object(signature) = signature {
                self.signature(&path.item(at), signature);
            }
        }
    }

    fn signature(&mut self, path: &Path<'_>, signature: &'a Map<String, Value>) {
        self.times(path, signature);
        let keys = ["public_key", "public_cert_chain", "cert_url", "thumbprint"]
            .into_iter()
            .filter(|name| signature.contains_key(*name));
        if keys.count() != 1 {
            self.violation(
                "C0751",
                path,
                "a signature says in exactly one way whose it is",
                "one of `public_key`, `public_cert_chain`, `cert_url` and `thumbprint`",
            );
        }
        for (name, of) in [("related_to", "id"), ("related_version", "modified")] {
            if let (Some(related), Some(own)) = (text(signature, name), text(self.root, of))
                && related != own
            {
                self.violation(
                    "C0752",
                    &path.name(name),
                    format!("the signature is of another playbook: `{of}` is {own}"),
                    "take the signature out, and have the playbook signed again",
                );
            }
        }
        // A signature of the signature.
        match signature.get("signature") {
            Some(Value::Object(counter)) => {
                let path = path.name("signature");
                self.object(&path, counter, &[table::SIGNATURE], true);
                self.signature(&path, counter);
            }
            Some(_) => self.violation("C0104", &path.name("signature"), "a signature is an object", ""),
            None => {}
        }
    }

    /// What is used further down is also listed at the top.
    pub(super) fn repeated_at_the_top(&mut self) {
        let root = self.root;
        let listed = |name: &str| {
            root.get(name)
                .and_then(Value::as_array)
                .map_or(&[][..], Vec::as_slice)
        };
        let (references, sectors) = (listed("external_references"), listed("industry_sectors"));
        let mut missing = Vec::new();
        for (at, reference) in references.iter().enumerate() {
            let path = Path::Root;
            let path = path.name("external_references");
            if reference
                .as_object()
                .is_some_and(|object| object.len() == 1 && object.contains_key("name"))
            {
                missing.push(("C0607", path.item(at).to_string()));
            }
        }
        for (id, step) in self.dictionary("workflow") {
            let path = Path::Root;
            let path = path.name("workflow");
            let path = path.name(id);
            let of_step = step.get("external_references").and_then(Value::as_array);
            for (at, reference) in of_step.into_iter().flatten().enumerate() {
                if !references.contains(reference) {
                    missing.push(("C0611", path.name("external_references").item(at).to_string()));
                }
            }
        }
        for dictionary in ["agent_definitions", "target_definitions"] {
            for (id, definition) in self.dictionary(dictionary) {
                let path = Path::Root;
                let path = path.name(dictionary);
                if definition
                    .get("sector")
                    .is_some_and(|sector| !sectors.contains(sector))
                {
                    missing.push(("C0610", path.name(id).name("sector").to_string()));
                }
            }
        }
        for (code, path) in missing {
            let (message, hint) = match code {
                "C0607" => (
                    "the reference has a name only",
                    "add a url, a source, an id or a description",
                ),
                "C0610" => ("this sector is not in `industry_sectors`", "add it there"),
                _ => (
                    "this reference is not among those of the playbook",
                    "add it to `$.external_references`",
                ),
            };
            self.found.push(super::Violation {
                code,
                path,
                message: message.to_owned(),
                hint: hint.to_owned(),
            });
        }
    }
}

/// A secret stands here, and no variable for one.
fn is_literal(text: &str) -> bool {
    let mut rest = text.to_owned();
    for (name, _) in variables(text) {
        rest = rest.replace(&format!("{name}:value"), "");
    }
    let scheme = rest.trim().to_ascii_lowercase();
    !["", "basic", "bearer", "token", "apikey"].contains(&scheme.as_str())
}

/// Method and target of `METHOD target HTTP/version`.
pub(in super::super) fn start_line(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let method_holds = !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase());
    let target_holds = !target.is_empty() && !target.chars().any(char::is_control);
    let version_holds = ["HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/2.0", "HTTP/3"].contains(&version);
    (method_holds && target_holds && version_holds && words.next().is_none()).then_some((method, target))
}
