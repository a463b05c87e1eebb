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
        ActionError::new("invalid_parameters", format!("the parameters of this action are wrong: {error}"))
    })
}

/// A size in bytes: `1048576` or `"1MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A span of time: `"30s"`, `"5m"`, `"24h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(bytes) => Ok(Size(bytes)),
            NumberOrText::Text(text) => catalogue::parse_size(&text)
                .map(Size)
                .map_err(|error| D::Error::custom(format!("{text:?} is not a size: {error}"))),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        catalogue::parse_duration(&text)
            .map(Span)
            .map_err(|error| D::Error::custom(format!("{text:?} is not a duration: {error}")))
    }
}
