//! What is printed: tables for people, JSON for programs, and nothing in either that drives a terminal.
//!
//! A command makes both forms of its answer and `Output` picks. Text from the cluster may have come from a
//! hostile endpoint, so every control and direction character is shown escaped (R65).

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::{
    error::{CliError, Result},
    exit_codes,
};

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Jsonl,
}

/// Where answers go and how.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub format: Format,
    /// Standard output is a terminal: columns may wrap, and progress may move.
    pub terminal: bool,
}

impl Output {
    pub fn new(format: Format) -> Output {
        Output {
            format,
            terminal: io::stdout().is_terminal(),
        }
    }

    /// A list: a table with these columns, a JSON array, or a line of JSON for each.
    pub fn list(self, columns: &[&str], rows: &[Vec<String>], items: &[Value]) -> Result<()> {
        match self.format {
            Format::Table => self.print(&self.table(columns, rows)),
            Format::Json => self.json(&Value::Array(items.to_vec())),
            Format::Jsonl => items
                .iter()
                .try_for_each(|item| self.line(&json_text(item, false))),
        }
    }

    /// One thing: text for people, or one JSON object.
    pub fn one(self, text: &str, item: &Value) -> Result<()> {
        match self.format {
            Format::Table => self.print(text),
            Format::Json => self.json(item),
            Format::Jsonl => self.line(&json_text(item, false)),
        }
    }

    pub fn json(self, item: &Value) -> Result<()> {
        self.line(&json_text(item, true))
    }

    /// One line, escaped by the caller where it holds text from elsewhere.
    pub fn line(self, text: &str) -> Result<()> {
        self.print(&format!("{text}\n"))
    }

    /// Columns without borders. Cells are escaped here. Off a terminal nothing wraps and nothing is cut.
    pub fn table(self, columns: &[&str], rows: &[Vec<String>]) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(if self.terminal {
            ContentArrangement::Dynamic
        } else {
            ContentArrangement::Disabled
        });
        table.set_header(columns.iter().map(|column| column.to_uppercase()));
        for row in rows {
            table.add_row(row.iter().map(|cell| clean(cell)));
        }
        let text = table.to_string();
        text.lines().map(|line| format!("{}\n", line.trim())).collect()
    }

    /// Name and value, a line each, for people. Values are escaped here; empty ones are left out.
    pub fn fields(self, fields: &[(&str, String)]) -> String {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        fields
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name:width$}  {}\n", clean(value)))
            .collect()
    }

    /// Writes to standard output. A reader that has gone (`| head`) is no failure.
    pub fn print(self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::new(
                exit_codes::OUTPUT,
                format!("cannot write the answer to standard output: {error}"),
            )
            .with_hint(
                "make room where standard output goes, or send it elsewhere; what was asked for was done",
            )),
            _ => Ok(()),
        }
    }
}

/// Says a line on standard error. A reader that has gone does not want to hear it.
pub fn tell(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Shows control, direction and invisible characters as `\u{..}` and everything else as it is.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        if drives_a_terminal(character) {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    clean
}

/// JSON that is safe to look at: what serde leaves as it is but a terminal would obey is written `\uXXXX`.
fn json_text(value: &Value, pretty: bool) -> String {
    // Serialising a Value cannot fail: its keys are strings.
    let text = if pretty {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    let text = text.unwrap_or_default();
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        // The line breaks between the members of a pretty document are our own; inside strings serde
        // has escaped them.
        if character != '\n' && drives_a_terminal(character) {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            safe.push(character);
        }
    }
    safe
}

fn drives_a_terminal(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A moment as RFC 3339 in UTC; empty for 0, which means never.
pub fn moment(at_ms: u64) -> String {
    if at_ms == 0 {
        return String::new();
    }
    match i64::try_from(at_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
    {
        Some(moment) => format!("{moment:.0}"),
        None => format!("{at_ms} ms"),
    }
}

/// A number of bytes with a binary unit.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_drives_a_terminal_gets_through() {
        assert_eq!(clean("a\x1b[31mb\r\u{202e}ü"), "a\\u{1b}[31mb\\r\\u{202e}ü");
        let value = serde_json::json!({ "a": "\u{9b}31m\u{202e}\u{e0001}\n" });
        assert_eq!(
            json_text(&value, false),
            r#"{"a":"\u009b31m\u202e\udb40\udc01\n"}"#
        );
        assert_eq!(
            serde_json::from_str::<Value>(&json_text(&value, true)).unwrap(),
            value
        );
    }

    #[test]
    fn sizes_and_moments_are_for_people() {
        assert_eq!(
            (size(0), size(1023), size(1536)),
            ("0 B".into(), "1023 B".into(), "1.5 KiB".into())
        );
        assert_eq!(moment(1_700_000_000_123), "2023-11-14T22:13:20Z");
        assert_eq!(moment(0), "");
    }
}
