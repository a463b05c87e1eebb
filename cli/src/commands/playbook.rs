//! Reading playbooks.

use std::{fs, path::Path};

use proto::v1;
use serde_json::{Map, Value};

use crate::error::{CliError, Result};

/// Longest playbook that is read, in bytes.
const PLAYBOOK_BYTES_MAX: usize = 1 << 20;

/// The text of a playbook file.
pub fn read(name: &str) -> Result<String> {
    let path = Path::new(name);
    let text = fs::read_to_string(path).map_err(|error| CliError::file("read the playbook", path, &error))?;
    if text.len() > PLAYBOOK_BYTES_MAX {
        return Err(CliError::invalid(format!(
            "{name} has {} bytes; a playbook has at most {PLAYBOOK_BYTES_MAX}",
            text.len()
        )));
    }
    Ok(text)
}

/// What is known of a playbook before it is sent.
pub struct Checked {
    /// What it does that is more than observing, for people.
    pub above_observe: Vec<String>,
}

/// The cluster compiles the playbook; until then any run may do anything, so every run is confirmed.
pub fn check(name: &str, _yaml: &str) -> Result<Checked> {
    Ok(Checked {
        above_observe: vec![name.to_owned()],
    })
}

impl Checked {
    /// How many hosts it may touch.
    pub fn count_hosts(&self, _inputs: &Map<String, Value>, agents: &[v1::Agent]) -> Result<usize> {
        Ok(agents.len())
    }
}
