//! Globs over paths, of the root's relative path or the absolute one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::ActionError;

/// At most this many globs in one list.
const GLOBS_MAX: usize = 64;

/// At most this many bytes in one glob.
const GLOB_BYTES_MAX: usize = 1024;

/// A set of globs. One without a `/` is asked of the last name alone, wherever the file lies
/// (`*.locked`); one with a `/` is asked of the path relative to the root (`home/*/notes.txt`) and of
/// the absolute path (`/srv/**/README*`). `*` does not cross a `/`, `**` does.
#[derive(Clone, Debug)]
pub struct Patterns {
    names: GlobSet,
    paths: GlobSet,
}

impl Patterns {
    /// Compiles the globs of the parameter called `field`.
    ///
    /// # Errors
    /// `invalid_parameters`, naming the field and the glob.
    pub fn new(field: &str, globs: &[String]) -> Result<Self, ActionError> {
        let wrong = |why: String| ActionError::new("invalid_parameters", format!("`{field}`: {why}"));
        if globs.len() > GLOBS_MAX {
            return Err(wrong(format!(
                "{} globs, but at most {GLOBS_MAX} are allowed",
                globs.len()
            )));
        }
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for text in globs {
            if text.len() > GLOB_BYTES_MAX {
                return Err(wrong(format!(
                    "a glob of {} bytes, at most {GLOB_BYTES_MAX} are allowed",
                    text.len()
                )));
            }
            let glob = GlobBuilder::new(text)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| wrong(format!("{text:?} is no glob: {}", error.kind())))?;
            if text.contains('/') {
                paths.add(glob)
            } else {
                names.add(glob)
            };
        }
        let built = |builder: GlobSetBuilder| builder.build().map_err(|error| wrong(error.to_string()));
        Ok(Patterns {
            names: built(names)?,
            paths: built(paths)?,
        })
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.paths.is_empty()
    }

    /// Whether any of them matches the file.
    pub fn matches(&self, relative: &[u8], absolute: &[u8]) -> bool {
        let name = relative.rsplit(|byte| *byte == b'/').next().unwrap_or(relative);
        let path = |bytes| Path::new(OsStr::from_bytes(bytes));
        self.names.is_match(path(name))
            || self.paths.is_match(path(relative))
            || self.paths.is_match(path(absolute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, relative: &[u8]) -> bool {
        let absolute = [b"/srv/".as_slice(), relative].concat();
        Patterns::new("globs", &[glob.to_owned()])
            .expect("a glob")
            .matches(relative, &absolute)
    }

    #[test]
    fn names_relative_and_absolute_paths() {
        assert!(matches("*.locked", b"a/b/c.locked"));
        assert!(!matches("*.locked", b"a.locked/b"));
        assert!(matches("a/*", b"a/b") && !matches("a/*", b"a/b/c"));
        assert!(matches("a/**", b"a/b/c"));
        assert!(matches("/srv/**/c", b"a/b/c") && !matches("/opt/**", b"a/b/c"));
        assert!(matches("n?te*", b"x/note\xff.txt"));
    }

    #[test]
    fn a_broken_glob_is_named() {
        let error = Patterns::new("exclude", &["[a".to_owned()]).expect_err("no glob");
        assert_eq!(error.code, "invalid_parameters");
        assert!(
            error.message.contains("`exclude`") && error.message.contains("[a"),
            "{error}"
        );
    }
}
