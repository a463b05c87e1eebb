//! What is wrong with a CACAO document, and where.

use std::fmt;

use crate::problem::clean;

/// One rule of CACAO that a document breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Stable: `C0xxx`; [`crate::explain`] says what it means.
    pub code: &'static str,
    /// Where: `$.workflow['start--…'].on_completion`.
    pub path: String,
    /// What, and why.
    pub message: String,
    /// How to mend it; empty where nothing can be proposed.
    pub hint: String,
}

impl Violation {
    /// A reviewer should look at it, but the document can be imported.
    pub fn is_warning(&self) -> bool {
        self.code.starts_with("C09")
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.is_warning() { "warning" } else { "error" };
        writeln!(f, "{level}[{}]: {}", self.code, clean(&self.message))?;
        write!(f, " --> {}", clean(&self.path))?;
        if !self.hint.is_empty() {
            write!(f, "\n  = help: {}", clean(&self.hint))?;
        }
        Ok(())
    }
}

/// All that is wrong with one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violations {
    /// In the order of the document's parts; never empty.
    pub list: Vec<Violation>,
}

impl std::error::Error for Violations {}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, violation) in self.list.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            writeln!(f, "{violation}")?;
        }
        Ok(())
    }
}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Violations {
        Violations {
            list: vec![violation],
        }
    }
}

/// A place in a document, as a list on the stack: nothing is allocated until something is wrong.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    /// The document.
    Root,
    /// The value with this name.
    Name(&'a Path<'a>, &'a str),
    /// The item with this number.
    Item(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    pub fn name(&'a self, name: &'a str) -> Path<'a> {
        Path::Name(self, name)
    }

    pub fn item(&'a self, at: usize) -> Path<'a> {
        Path::Item(self, at)
    }

    /// `.name`, or `['a name']` where it is not a word.
    pub fn name_part(name: &str) -> String {
        let word = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if word {
            format!(".{name}")
        } else {
            format!("['{}']", name.replace('\\', "\\\\").replace('\'', "\\'"))
        }
    }

    pub fn item_part(at: usize) -> String {
        format!("[{at}]")
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => f.write_str("$"),
            Path::Name(outer, name) => write!(f, "{outer}{}", Path::name_part(name)),
            Path::Item(outer, at) => write!(f, "{outer}{}", Path::item_part(*at)),
        }
    }
}
