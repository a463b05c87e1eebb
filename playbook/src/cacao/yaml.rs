//! Writes the YAML of our language. What comes from a document is quoted, so that it is text and nothing else:
//! neither YAML nor an expression.

use serde_json::Value;

use super::id::variables;

/// A value, written in one line.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Yaml {
    /// Quoted already.
    Scalar(String),
    List(Vec<Yaml>),
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    /// Text as it is: `${` in it is no expression.
    pub fn text(text: &str) -> Yaml {
        Yaml::Scalar(scalar(&literal(text)))
    }

    /// Text in a place where no `${` is looked for: an expression by nature, a pattern, a default.
    pub fn bare(cel: &str) -> Yaml {
        Yaml::Scalar(scalar(cel))
    }

    /// A value in a place where no expression can stand.
    pub fn plain(value: &Value) -> Yaml {
        match value {
            Value::String(text) => Yaml::bare(text),
            Value::Array(items) => Yaml::List(items.iter().map(Yaml::plain).collect()),
            Value::Object(entries) => Yaml::Map(
                entries
                    .iter()
                    .map(|(name, value)| (name.clone(), Yaml::plain(value)))
                    .collect(),
            ),
            plain => Yaml::Scalar(plain.to_string()),
        }
    }

    /// A value that is wholly an expression.
    pub fn expression(cel: &str) -> Yaml {
        Yaml::Scalar(scalar(&format!("${{{cel}}}")))
    }

    /// Text in which variables stand: each becomes an expression. `read` says which, or why it cannot be.
    pub fn template(text: &str, read: &mut dyn FnMut(&str) -> Result<Read, String>) -> Result<Yaml, String> {
        let mut parts = String::new();
        let mut from = 0;
        for (name, place) in variables(text) {
            parts.push_str(&literal(&text[from..place.start]));
            match read(name)? {
                Read::Literal(value) => parts.push_str(&literal(&value)),
                Read::Expression(cel) => parts.push_str(&format!("${{{cel}}}")),
            }
            from = place.end;
        }
        parts.push_str(&literal(&text[from..]));
        Ok(Yaml::Scalar(scalar(&parts)))
    }

    /// JSON, in whose texts variables may stand.
    pub fn json(value: &Value, read: &mut dyn FnMut(&str) -> Result<Read, String>) -> Result<Yaml, String> {
        Ok(match value {
            Value::String(text) => Yaml::template(text, read)?,
            Value::Array(items) => Yaml::List(
                items
                    .iter()
                    .map(|item| Yaml::json(item, read))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(entries) => Yaml::Map(
                entries
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), Yaml::json(value, read)?)))
                    .collect::<Result<_, String>>()?,
            ),
            plain => Yaml::Scalar(plain.to_string()),
        })
    }

    pub fn word(word: &str) -> Yaml {
        Yaml::Scalar(scalar(word))
    }

    pub fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Yaml {
        Yaml::List(words.into_iter().map(Yaml::word).collect())
    }

    pub fn number(number: u64) -> Yaml {
        Yaml::Scalar(number.to_string())
    }

    pub fn map(entries: impl IntoIterator<Item = (&'static str, Yaml)>) -> Yaml {
        Yaml::Map(
            entries
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }

    pub fn flow(&self) -> String {
        match self {
            Yaml::Scalar(text) => text.clone(),
            Yaml::List(items) => format!(
                "[{}]",
                items.iter().map(Yaml::flow).collect::<Vec<_>>().join(", ")
            ),
            Yaml::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|(name, value)| format!("{}: {}", scalar(name), value.flow()))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }
}

/// What the use of a variable becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A constant's value.
    Literal(String),
    /// CEL.
    Expression(String),
}

/// In our language `$${` is `${`.
fn literal(text: &str) -> String {
    text.replace("${", "$${")
}

/// A YAML scalar that is read as this text.
fn scalar(text: &str) -> String {
    let word = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b));
    let meant_otherwise = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text);
    if word && !meant_otherwise {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if unseen(c) => {
                let code = u32::from(c);
                quoted.push_str(&match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                });
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Characters that are not seen, that turn the direction of what is, or that end a line.
fn unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

/// A comment of one line.
pub(super) fn comment(text: &str) -> String {
    let line: String = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .map(|c| if unseen(c) { '\u{fffd}' } else { c })
        .take(300)
        .collect();
    format!("# {line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_is_text_and_nothing_else() {
        for text in [
            "plain",
            "true",
            "y",
            "",
            "- a",
            "a: b",
            "${inputs.x}",
            "$${a",
            "#x",
            "a\nb\tc\r",
            "\u{0}\u{7f}\u{85}\u{2028}\u{202e}\u{feff}\u{1f600}",
            "\"\\'",
            "1",
            "!!x",
            "*a",
        ] {
            let yaml = format!(
                "playbook: p\nversion: 1\nsteps:\n  d: {{decide: [{{else: {{x: {}}}}}]}}\n",
                Yaml::text(text).flow()
            );
            let manifest = crate::compile(&yaml)
                .unwrap_or_else(|problems| panic!("{text:?}: {problems}"))
                .manifest;
            let crate::manifest::Kind::Decide { rules } = &manifest.steps[0].kind else {
                panic!("a decide");
            };
            assert_eq!(
                rules[0].set["x"],
                crate::manifest::Template::Literal(Value::String(text.to_owned())),
                "{yaml}"
            );
        }
    }

    #[test]
    fn a_comment_is_one_line() {
        assert_eq!(comment("a\nsteps: {}\u{202e}\r b"), "# a steps: {}\u{fffd} b");
    }

    #[test]
    fn variables_become_expressions() {
        let mut read = |name: &str| match name {
            "__c__" => Ok(Read::Literal("${".to_owned())),
            "__v__" => Ok(Read::Expression("inputs.v".to_owned())),
            _ => Err("no".to_owned()),
        };
        let text = Yaml::template("a ${x} __v__:value __c__:value", &mut read).expect("it can be read");
        assert_eq!(text.flow(), "\"a $${x} ${inputs.v} $${\"");
        assert!(Yaml::template("__w__:value", &mut read).is_err());
    }
}
