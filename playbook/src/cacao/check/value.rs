//! One object against its tables, one value against its form.

use serde_json::{Map, Value};

use super::super::id::{Id, is_moment};
use super::super::violation::Path;
use super::table::{Form, Property, Table};
use super::{Checker, kind_of};
use crate::nearest;

/// A dictionary's own key: ASCII letters, digits, `_` and `-`.
fn is_key(text: &str) -> bool {
    (1..=250).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The bytes of base 64, if they are text.
pub(in super::super) fn decoded(text: &str) -> Option<String> {
    String::from_utf8(data_encoding::BASE64.decode(text.as_bytes()).ok()?).ok()
}

impl Checker<'_> {
    /// An object against what it can have. `closed`: it can have nothing else.
    pub(super) fn object(
        &mut self,
        path: &Path<'_>,
        object: &Map<String, Value>,
        tables: &[Table],
        closed: bool,
    ) {
        let known = || tables.iter().flat_map(|table| table.iter());
        for (name, value) in object {
            match known().find(|property| property.name == name) {
                Some(property) => self.value(&path.name(name), value, &property.form),
                None if closed => {
                    let hint = nearest::nearest(name, known().map(|property| property.name)).map_or_else(
                        || "CACAO has no custom properties: they belong into an extension".to_owned(),
                        |nearest| format!("did you mean `{nearest}`?"),
                    );
                    self.violation(
                        "C0105",
                        &path.name(name),
                        format!("there is no property `{name}` here"),
                        hint,
                    );
                }
                None => {}
            }
        }
        for Property { name, .. } in known().filter(|property| property.required) {
            if !object.contains_key(*name) {
                self.violation(
                    "C0103",
                    path,
                    format!("`{name}` is missing"),
                    format!("add `{name}`"),
                );
            }
        }
    }

    fn wrong(&mut self, path: &Path<'_>, value: &Value, expected: &str) {
        self.violation(
            "C0104",
            path,
            format!("{expected} is expected, not {}", kind_of(value)),
            "",
        );
    }

    pub(super) fn value(&mut self, path: &Path<'_>, value: &Value, form: &Form) {
        match form {
            Form::Elsewhere => {}
            Form::Bool if value.is_boolean() => {}
            Form::Bool => self.wrong(path, value, "a boolean"),
            Form::Whole(least, most) => match value {
                Value::Number(number) => {
                    let within = number.as_u64().is_some_and(|n| (*least..=*most).contains(&n));
                    if !within {
                        let range = match *most {
                            u64::MAX => format!("from {least} on"),
                            most => format!("from {least} to {most}"),
                        };
                        self.violation(
                            "C0106",
                            path,
                            format!("a whole number {range} is expected, not {number}"),
                            "",
                        );
                    }
                }
                _ => self.wrong(path, value, "a whole number"),
            },
            Form::List(inner) => match value {
                Value::Array(items) => {
                    if items.is_empty() {
                        self.violation(
                            "C0107",
                            path,
                            "a list has at least one item",
                            "leave the property out",
                        );
                    }
                    for (at, item) in items.iter().enumerate() {
                        self.value(&path.item(at), item, inner);
                    }
                }
                _ => self.wrong(path, value, "a list"),
            },
            Form::Object(table) => match value {
                Value::Object(object) => self.object(path, object, &[table], true),
                _ => self.wrong(path, value, "an object"),
            },
            Form::Texts | Form::Lists | Form::Addresses => self.names(path, value, form),
            Form::Extensions => self.extensions(path, value),
            Form::Variables(global) => self.declared(path, value, *global),
            Form::Text
            | Form::Loose
            | Form::Moment
            | Form::Base64
            | Form::Id(_)
            | Form::Step
            | Form::In(_)
            | Form::OneOf(_)
            | Form::Word(_) => match value {
                Value::String(text) => self.text(path, text, form),
                _ => self.wrong(path, value, "text"),
            },
        }
    }

    fn text(&mut self, path: &Path<'_>, text: &str, form: &Form) {
        match form {
            Form::Text if text.is_empty() => {
                self.violation(
                    "C0107",
                    path,
                    "this text is empty",
                    "say it, or leave the property out",
                );
            }
            Form::Moment if !is_moment(text) => {
                self.violation(
                    "C0108",
                    path,
                    format!("`{text}` is no timestamp with milliseconds in UTC"),
                    "write it as in 2024-05-01T12:00:00.000Z",
                );
            }
            Form::Base64 if decoded(text).is_none() => {
                self.violation(
                    "C0110",
                    path,
                    "this is not base 64 (with its padding) of UTF-8 text",
                    "encode it again, by RFC 4648 section 4",
                );
            }
            Form::OneOf(words) if !words.contains(&text) => {
                let hint = nearest::hint(text, words.iter().copied());
                self.violation(
                    "C0112",
                    path,
                    format!("`{text}` is not one of the words that can stand here"),
                    hint,
                );
            }
            Form::Word(words) if !words.contains(&text) => {
                let hint = nearest::nearest(text, words.iter().copied()).map_or_else(
                    || "keep it if those who share the playbook know it".to_owned(),
                    |nearest| format!("did you mean `{nearest}`?"),
                );
                self.violation(
                    "C0901",
                    path,
                    format!("`{text}` is not in CACAO's vocabulary"),
                    hint,
                );
            }
            Form::Id(kinds) => {
                self.identifier(path, text, kinds);
            }
            Form::Step => {
                if let Some(id) = self.identifier(path, text, super::super::vocabulary::STEP_TYPES)
                    && !self.has("workflow", text)
                {
                    let hint = self.near(id, "workflow");
                    self.violation("C0205", path, format!("there is no step `{text}`"), hint);
                }
            }
            Form::In(dictionary) => {
                if let Some(id) = self.identifier(path, text, &[])
                    && !self.has(dictionary, text)
                {
                    let hint = self.near(id, dictionary);
                    self.violation(
                        "C0205",
                        path,
                        format!("there is no `{text}` in `{dictionary}`"),
                        hint,
                    );
                }
            }
            _ => {}
        }
    }

    /// Where else the object of a dangling reference may be.
    fn near(&self, id: Id<'_>, dictionary: &str) -> String {
        let same = self
            .dictionary(dictionary)
            .find(|(known, _)| Id::parse(known).is_some_and(|known| known.uuid == id.uuid));
        match same {
            Some((known, _)) => format!("did you mean `{known}`?"),
            None => format!("add it to `{dictionary}`, or refer to what is there"),
        }
    }

    /// An identifier of one of these types; none: of any.
    pub(super) fn identifier<'t>(
        &mut self,
        path: &Path<'_>,
        text: &'t str,
        kinds: &[&str],
    ) -> Option<Id<'t>> {
        let Some(id) = Id::parse(text) else {
            self.violation(
                "C0201",
                path,
                format!("`{text}` is no identifier"),
                "an identifier is the type of an object, two hyphens and an RFC 4122 UUID",
            );
            return None;
        };
        if !kinds.is_empty() && !kinds.contains(&id.kind) {
            self.violation(
                "C0203",
                path,
                format!("`{}` cannot stand here", id.kind),
                format!("it is the identifier of: {}", kinds.join(", ")),
            );
            return None;
        }
        Some(id)
    }

    fn names(&mut self, path: &Path<'_>, value: &Value, form: &Form) {
        let Value::Object(entries) = value else {
            return self.wrong(path, value, "an object");
        };
        for (name, value) in entries {
            let path = path.name(name);
            match form {
                Form::Addresses if !super::super::vocabulary::ADDRESSES.contains(&name.as_str()) => {
                    let hint = nearest::hint(name, super::super::vocabulary::ADDRESSES.iter().copied());
                    self.violation("C0603", &path, format!("`{name}` is no kind of address"), hint);
                }
                Form::Texts => {
                    self.key(&path, name);
                    self.value(&path, value, &Form::Text);
                }
                // VLANs are numbers in some documents, texts in the standard.
                Form::Addresses if name == "vlan" => {
                    let list = value.as_array();
                    if list.is_none_or(|list| list.iter().any(|item| !item.is_string() && !item.is_u64())) {
                        self.wrong(&path, value, "a list of texts");
                    }
                }
                _ => self.value(&path, value, &Form::List(&Form::Text)),
            }
        }
    }

    /// The key of a dictionary that its author chose.
    pub(super) fn key(&mut self, path: &Path<'_>, name: &str) {
        if !is_key(name) {
            self.violation(
                "C0111",
                path,
                format!("`{name}` cannot be a name in a dictionary"),
                "1 to 250 of a-z, A-Z, 0-9, _ and -",
            );
        }
    }

    /// What extensions there are, each defined, and what they say.
    fn extensions(&mut self, path: &Path<'_>, value: &Value) {
        let Value::Object(entries) = value else {
            return self.wrong(path, value, "an object");
        };
        if entries.is_empty() {
            self.violation(
                "C0107",
                path,
                "a dictionary has at least one entry",
                "leave the property out",
            );
        }
        for (id, extension) in entries {
            let path = path.name(id);
            if self.identifier(&path, id, &["extension-definition"]).is_some()
                && !self.has("extension_definitions", id)
            {
                self.violation(
                    "C0205",
                    &path,
                    "this extension is not defined",
                    "add its definition to `extension_definitions`",
                );
            }
            let Value::Object(properties) = extension else {
                self.wrong(&path, extension, "an object");
                continue;
            };
            for name in properties.keys() {
                let holds = (3..=250).contains(&name.len())
                    && name
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
                if !holds {
                    self.violation(
                        "C0701",
                        &path.name(name),
                        format!("`{name}` cannot be a property of an extension"),
                        "3 to 250 of a-z, 0-9 and _",
                    );
                }
            }
        }
    }

    /// `modified` is not before `created`, `valid_until` is behind `valid_from`.
    pub(super) fn times(&mut self, path: &Path<'_>, object: &Map<String, Value>) {
        let at = |name: &str| {
            let text = object.get(name)?.as_str().filter(|text| is_moment(text))?;
            text.parse::<jiff::Timestamp>().ok()
        };
        if let (Some(created), Some(modified)) = (at("created"), at("modified"))
            && modified < created
        {
            self.violation(
                "C0109",
                &path.name("modified"),
                "it was modified before it was created",
                "`modified` is the same as `created`, or later",
            );
        }
        if let (Some(from), Some(until)) = (at("valid_from"), at("valid_until"))
            && until <= from
        {
            self.violation(
                "C0109",
                &path.name("valid_until"),
                "it ends to be valid before it begins",
                "`valid_until` is later than `valid_from`",
            );
        }
    }
}
