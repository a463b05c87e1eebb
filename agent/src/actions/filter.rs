//! Which files an action means: globs, size, age.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;
use serde::Deserialize;

use super::ActionError;
use super::parameters::{Size, Span};
use super::patterns::Patterns;

/// The parameters that choose files, as several actions take them.
#[derive(Debug, Default, Deserialize)]
pub struct FilterParameters {
    #[serde(default)]
    globs: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    size_min: Option<Size>,
    size_max: Option<Size>,
    newer_than: Option<Span>,
    older_than: Option<Span>,
}

/// A compiled choice of files.
#[derive(Debug)]
pub struct Filter {
    globs: Patterns,
    /// What the walk leaves out, whole folders at once.
    pub exclude: Patterns,
    size_min: u64,
    size_max: u64,
    /// Seconds since 1970: modified after this.
    modified_after_s: Option<i64>,
    /// Seconds since 1970: modified before this.
    modified_before_s: Option<i64>,
}

impl Filter {
    /// Compiles the choice; ages count back from now.
    ///
    /// # Errors
    /// `invalid_parameters`.
    pub fn new(parameters: &FilterParameters) -> Result<Self, ActionError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let back = |span: Span| now.as_secs().saturating_sub(span.0.as_secs()) as i64;
        Ok(Filter {
            globs: Patterns::new("globs", &parameters.globs)?,
            exclude: Patterns::new("exclude", &parameters.exclude)?,
            size_min: parameters.size_min.map_or(0, |size| size.0),
            size_max: parameters.size_max.map_or(u64::MAX, |size| size.0),
            modified_after_s: parameters.newer_than.map(back),
            modified_before_s: parameters.older_than.map(back),
        })
    }

    /// Whether the file is meant. No globs: every file is, as far as its name goes.
    pub fn admits(&self, relative: &[u8], absolute: &[u8], stat: &Stat) -> bool {
        let size_bytes = u64::try_from(stat.st_size).unwrap_or(0);
        (self.size_min..=self.size_max).contains(&size_bytes)
            && self.modified_after_s.is_none_or(|limit| stat.st_mtime >= limit)
            && self.modified_before_s.is_none_or(|limit| stat.st_mtime <= limit)
            && (self.globs.is_empty() || self.globs.matches(relative, absolute))
    }
}
