//! A step of ours.

use super::super::yaml::Yaml;
use super::way::Link;

/// The field of a form in which a person says whether it is done.
pub(super) const OUTCOME: &str = "outcome";
/// Rounds of a loop, for which CACAO has no bound.
pub(super) const ROUNDS: usize = 20;

/// A step of ours.
pub(super) struct Step {
    pub name: String,
    pub comments: Vec<String>,
    pub fields: Vec<(&'static str, Yaml)>,
    /// It is a question, and a person may answer that it failed.
    pub answers: bool,
    /// Of a loop: `while` and the body.
    pub repeat: Option<(String, Vec<Step>)>,
    /// Rounds of a loop.
    pub rounds: usize,
}

impl Step {
    pub fn write(&self, indent: usize, to: &mut String) {
        let pad = " ".repeat(indent);
        for comment in &self.comments {
            to.push_str(&format!("{pad}{comment}\n"));
        }
        to.push_str(&format!("{pad}{}:\n", Yaml::word(&self.name).flow()));
        for (name, value) in &self.fields {
            to.push_str(&format!("{pad}  {name}: {}\n", value.flow()));
        }
        if let Some((condition, body)) = &self.repeat {
            to.push_str(&format!("{pad}  loop:\n"));
            to.push_str(&format!("{pad}    while: {}\n", Yaml::bare(condition).flow()));
            to.push_str(&format!("{pad}    max: {}\n", self.rounds));
            to.push_str(&format!("{pad}    body:\n"));
            for step in body {
                step.write(indent + 6, to);
            }
        }
    }

    pub fn link(&self) -> Link {
        Link {
            name: self.name.clone(),
            answers: self.answers,
        }
    }

    pub fn count(&self) -> usize {
        self.repeat.as_ref().map_or(0, |(_, body)| body.len() + 1)
    }
}
