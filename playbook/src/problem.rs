//! What is wrong with a playbook, where, and how to mend it.

use std::fmt;

/// A place in the text, from line 1 and column 1 (in characters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// 0: nowhere in particular.
    pub line: u32,
    /// Of the first character.
    pub column: u32,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable: `E0xxx`, or `W0xxx` for a warning; [`crate::explain`] says what it means.
    pub code: &'static str,
    /// Where.
    pub place: Place,
    /// What, and why.
    pub message: String,
    /// How to mend it; empty where nothing can be proposed.
    pub hint: String,
}

/// All that is wrong with one text. Its display shows each with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// Sorted by place; never empty.
    pub list: Vec<Problem>,
    /// The lines that the problems name, by number.
    lines: Vec<(u32, String)>,
}

impl std::error::Error for Problems {}

impl Problems {
    /// Sorts them and keeps the lines of the text that they name.
    pub fn new(mut list: Vec<Problem>, text: &str) -> Problems {
        list.sort_by_key(|p| (p.place, p.code));
        list.dedup();
        let mut lines: Vec<(u32, String)> = Vec::new();
        for problem in &list {
            let number = problem.place.line;
            if number > 0 && lines.last().is_none_or(|(last, _)| *last != number) {
                let line = text.lines().nth(number as usize - 1).unwrap_or_default();
                lines.push((number, line.to_owned()));
            }
        }
        Problems { list, lines }
    }

    /// Their messages in one line, for a place that has no room for more.
    pub fn in_short(&self) -> String {
        let all: Vec<&str> = self.list.iter().map(|problem| problem.message.as_str()).collect();
        all.join("; ")
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.list.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            let line = self
                .lines
                .iter()
                .find(|(number, _)| *number == problem.place.line)
                .map(|(_, line)| line.as_str());
            problem.render(f, line)?;
        }
        Ok(())
    }
}

impl Problem {
    fn render(&self, f: &mut fmt::Formatter<'_>, line: Option<&str>) -> fmt::Result {
        let level = if self.code.starts_with('W') {
            "warning"
        } else {
            "error"
        };
        writeln!(f, "{level}[{}]: {}", self.code, clean(&self.message))?;
        if let Some(line) = line {
            let Place { line: number, column } = self.place;
            let margin = " ".repeat(number.to_string().len());
            // A long line is shown around the place.
            let skip = (column as usize).saturating_sub(90);
            let shown: String = clean(line).chars().skip(skip).take(110).collect();
            writeln!(f, "{margin}--> line {number}, column {column}")?;
            writeln!(f, "{number} | {shown}")?;
            writeln!(
                f,
                "{margin} | {}^",
                " ".repeat((column as usize).saturating_sub(1 + skip))
            )?;
        }
        if !self.hint.is_empty() {
            writeln!(f, "  = help: {}", clean(&self.hint))?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.code.starts_with('W') {
            "warning"
        } else {
            "error"
        };
        write!(f, "{level}[{}]: {}", self.code, clean(&self.message))?;
        if self.place.line > 0 {
            write!(f, " (line {}, column {})", self.place.line, self.place.column)?;
        }
        Ok(())
    }
}

/// Control characters, which a terminal could obey, become visible.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}
