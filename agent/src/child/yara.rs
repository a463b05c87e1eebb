//! The child that scans with YARA rules: compiles them, then answers each file that it is handed.
//!
//! Everything here runs inside the sandbox. It never maps a file (one that shrinks would end it) but
//! reads it, up to the size that the request allows.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::handover::{receive_file, receive_request};
use super::sandbox::{self, Limits};

/// Rules in one text, at most.
const RULES_MAX: usize = 10_000;

/// Strings and expressions of all rules together, at most.
const PATTERNS_MAX: usize = 50_000;

/// Compile errors told, at most.
const ERRORS_MAX: usize = 10;

/// Matching rules told of one file, at most.
const MATCHES_PER_FILE_MAX: usize = 64;

/// Offsets told of one matching rule, at most.
const STRINGS_PER_MATCH_MAX: usize = 32;

/// Tags told of one rule, at most.
const TAGS_MAX: usize = 32;

/// What a child is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The text of the rules.
    pub rules: String,
    /// Of the child as a whole.
    pub limits: Limits,
    /// Of each file this much is looked at.
    pub file_bytes_max: u64,
    /// Each file may take this long.
    pub file_timeout_s: u64,
}

/// What a child answers: first to the rules, then to each file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The rules are compiled.
    Ready {
        /// How many there are.
        rules: usize,
        /// The kernel confines the child's files with Landlock too.
        landlock: bool,
    },
    /// They are wrong.
    InvalidRules(Vec<RuleError>),
    /// There are too many of them.
    TooManyRules(String),
    /// A file was looked at.
    Scanned {
        /// The rules that match, with the file's hash when there is one.
        matches: Vec<Match>,
        /// Lower-case hex; empty when nothing matches.
        sha256: String,
        /// Not all is told.
        truncated: bool,
    },
    /// A file was not looked at to its end: a code.
    Skipped(String),
}

/// Something wrong in the rules' text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleError {
    /// From 1; 0 when it has no place.
    pub line: u64,
    /// From 1.
    pub column: u64,
    /// Of the compiler, such as `E009`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// A rule that matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// Its name.
    pub rule: String,
    /// Where it was defined.
    pub namespace: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Where its strings are.
    pub strings: Vec<Found>,
}

/// A string of a rule in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `$name`.
    pub identifier: String,
    /// From the start of the file, in bytes.
    pub offset: u64,
    /// In bytes.
    pub length: u64,
}

/// The child's work, from its standard input to its standard output.
///
/// # Errors
/// It could not be confined, or its parent does not speak the protocol.
pub fn main() -> anyhow::Result<()> {
    let socket = UnixStream::from(
        std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .context("taking the socket")?,
    );
    let request: Request = receive_request(&socket).context("receiving the request")?;
    let landlock = sandbox::enter(request.limits)?;

    let rules = match compile(&request.rules) {
        Ok(rules) => rules,
        Err(answer) => return say(&answer),
    };
    say(&Answer::Ready {
        rules: rules.iter().len(),
        landlock,
    })?;
    let mut scanner = yara_x::Scanner::new(&rules);
    scanner.use_mmap(false);
    scanner.set_timeout(Duration::from_secs(request.file_timeout_s.max(1)));
    scanner.max_matches_per_pattern(1000);
    let mut data = Vec::new();
    while let Some(file) = receive_file(&socket).context("receiving a file")? {
        say(&scan(&mut scanner, file, request.file_bytes_max, &mut data))?;
    }
    Ok(())
}

fn compile(text: &str) -> Result<yara_x::Rules, Answer> {
    let mut compiler = yara_x::Compiler::new();
    compiler.enable_includes(false).max_warnings(0);
    // Every error is kept by the compiler, the first one is returned as well.
    let failed = compiler.add_source(text).is_err();
    if failed || !compiler.errors().is_empty() {
        return Err(Answer::InvalidRules(
            compiler.errors().iter().take(ERRORS_MAX).map(describe).collect(),
        ));
    }
    let rules = compiler.build();
    let count = rules.iter().len();
    let patterns: usize = rules
        .iter()
        .map(|rule| rule.patterns().include_private(true).len())
        .sum();
    if count > RULES_MAX || patterns > PATTERNS_MAX {
        return Err(Answer::TooManyRules(format!(
            "{count} rules with {patterns} patterns; at most {RULES_MAX} and {PATTERNS_MAX} are allowed: split them"
        )));
    }
    Ok(rules)
}

fn describe(error: &yara_x::errors::CompileError) -> RuleError {
    let report = serde_json::to_value(error).unwrap_or_default();
    let number = |field: &str| report[field].as_u64().unwrap_or(0);
    let label = report["labels"][0]["text"].as_str().unwrap_or_default();
    let title = error.title();
    let message = if label.is_empty() {
        title.to_owned()
    } else {
        format!("{title}: {label}")
    };
    RuleError {
        line: number("line"),
        column: number("column"),
        code: error.code().to_owned(),
        message,
    }
}

fn scan(scanner: &mut yara_x::Scanner<'_>, file: File, bytes_max: u64, data: &mut Vec<u8>) -> Answer {
    data.clear();
    if let Err(error) = file.take(bytes_max).read_to_end(data) {
        let code = if error.kind() == ErrorKind::OutOfMemory {
            "limit_memory"
        } else {
            "io"
        };
        *data = Vec::new();
        return Answer::Skipped(code.to_owned());
    }
    let results = match scanner.scan(data) {
        Ok(results) => results,
        Err(yara_x::ScanError::Timeout) => return Answer::Skipped("timeout".to_owned()),
        Err(_) => return Answer::Skipped("scan_failed".to_owned()),
    };
    let mut truncated = results.matching_rules().len() > MATCHES_PER_FILE_MAX;
    let mut matches = Vec::new();
    for rule in results.matching_rules().take(MATCHES_PER_FILE_MAX) {
        let mut strings = Vec::new();
        for pattern in rule.patterns() {
            for found in pattern.matches() {
                if strings.len() == STRINGS_PER_MATCH_MAX {
                    truncated = true;
                    break;
                }
                let range = found.range();
                strings.push(Found {
                    identifier: cut(pattern.identifier()),
                    offset: range.start as u64,
                    length: range.len() as u64,
                });
            }
        }
        matches.push(Match {
            rule: cut(rule.identifier()),
            namespace: cut(rule.namespace()),
            tags: rule
                .tags()
                .take(TAGS_MAX)
                .map(|tag| cut(tag.identifier()))
                .collect(),
            strings,
        });
    }
    let sha256 = if matches.is_empty() {
        String::new()
    } else {
        hex::encode(Sha256::digest(&data))
    };
    Answer::Scanned {
        matches,
        sha256,
        truncated,
    }
}

/// Names are bounded in the output.
fn cut(name: &str) -> String {
    name.chars().take(128).collect()
}

fn say(answer: &Answer) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(&line)
        .and_then(|()| stdout.flush())
        .context("answering")
}
