//! The journal as text: one JSON object per line and record, in the order in which they were written.

use std::io::Write;
use std::path::Path;

use super::file::{self, JournalError};

/// Writes every record of the journal in this folder; works while the agent runs.
///
/// # Errors
/// When the journal is damaged or cannot be read, or the output cannot be written.
pub fn write(folder: &Path, json: bool, to: &mut impl Write) -> Result<(), JournalError> {
    let io = |source| JournalError::Io {
        doing: "print",
        path: folder.to_owned(),
        source,
    };
    for record in file::read_records(folder)? {
        let value = serde_json::to_value(&record).map_err(|error| io(error.into()))?;
        if json {
            writeln!(to, "{value}").map_err(io)?;
            continue;
        }
        let text = |name: &str| match value.get(name) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        let names = [
            "at_ms",
            "record",
            "run_id",
            "step",
            "item",
            "attempt",
            "token",
            "action",
            "status",
            "error_code",
        ];
        let line: Vec<String> = names
            .iter()
            .map(|name| text(name))
            .filter(|text| !text.is_empty())
            .collect();
        writeln!(to, "{}", line.join(" ")).map_err(io)?;
    }
    Ok(())
}
