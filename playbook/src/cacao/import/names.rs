//! Names of ours made from names of theirs.

use std::collections::BTreeSet;

/// Of a step, so that a loop can put its own name and a round before it.
const STEP_LENGTH_MAX: usize = 24;

/// Words that CEL reads as something else than a name, or keeps for later.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Lower-case letters and digits, with `gap` between words, a letter first; empty where the text has none.
pub(super) fn slug(text: &str, gap: char, length_max: usize) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with(gap) {
            slug.push(gap);
        }
        if slug.len() >= length_max {
            break;
        }
    }
    slug.trim_end_matches(gap).to_owned()
}

/// Names that are given once.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// A name for a step, an input or a set: `[a-z][a-z0-9_]{0,62}`, like this text where it can be.
    pub fn identifier(&mut self, text: &str, otherwise: &str, length_max: usize) -> String {
        let mut wanted = slug(text, '_', length_max);
        if wanted.is_empty() {
            wanted = slug(otherwise, '_', length_max);
        }
        let starts = wanted.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        // What begins so is reserved by the language.
        if !starts || wanted.starts_with(crate::eval::HERE_PREFIX) || RESERVED.contains(&wanted.as_str()) {
            wanted.insert(0, 'x');
        }
        self.unique(&wanted)
    }

    /// A step's name. No digit follows a `_` in it: that is how the rounds of loops are named.
    pub fn step(&mut self, text: &str, otherwise: &str) -> String {
        let slug = |text: &str| {
            let mut slug = slug(text, '_', STEP_LENGTH_MAX);
            for digit in '0'..='9' {
                slug = slug.replace(&format!("_{digit}"), &digit.to_string());
            }
            slug
        };
        self.identifier(&slug(text), &slug(otherwise), STEP_LENGTH_MAX)
    }

    /// The name itself, or with a letter behind it.
    fn unique(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 1;
        while !self.0.insert(name.clone()) {
            let (mut left, mut letters) = (number, String::new());
            while left > 0 {
                letters.insert(0, char::from(b'a' + (left % 26) as u8));
                left /= 26;
            }
            name = format!("{wanted}_{letters}");
            number += 1;
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_and_given_once() {
        let mut names = Names::default();
        assert_eq!(names.step("Isolate the host!", "x"), "isolate_the_host");
        assert_eq!(names.step("isolate the HOST", "x"), "isolate_the_host_b");
        assert_eq!(names.step("日本", "action--01"), "action01");
        assert_eq!(names.step("2 do", "x"), "x2_do");
        assert_eq!(names.step("scan 1", "x"), "scan1");
        assert_eq!(names.step("True", "x"), "xtrue");
        assert_eq!(names.step("here_x", "x"), "xhere_x");
        assert_eq!(names.step(&"long ".repeat(20), "x"), "long_long_long_long_long");
        assert_eq!(slug("Web  proxy (EU)", '-', 63), "web-proxy-eu");
        assert_eq!(slug("--", '-', 63), "");
    }
}
