//! From the parameters of a task to typed values: raw JSON ends here.

use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::ActionError;

/// Reads parameters into an action's own struct.
///
/// # Errors
/// `invalid_parameters`, with the field that is wrong. The runner has checked the catalogue's schema
/// before; this is the second lock, and the one that gives the action its types.
pub fn parse<T: DeserializeOwned>(parameters: serde_json::Value) -> Result<T, ActionError> {
    serde_json::from_value(parameters).map_err(|error| {
        ActionError::new(
            "invalid_parameters",
            format!("the parameters of this action are wrong: {error}"),
        )
    })
}

/// A size in bytes: `1048576` or `"1MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A span of time: `"30s"`, `"5m"`, `"24h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        catalogue::parse_size(&value).map(Size).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let ms = catalogue::parse_duration(&text).map_err(D::Error::custom)?;
        Ok(Span(Duration::from_millis(ms)))
    }
}
