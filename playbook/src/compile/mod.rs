//! Text to manifest. Every problem is reported, not only the first.

mod check;
mod fields;
mod follow;
mod kinds;
mod looping;
mod policy;
mod schema;
mod secrets;
mod step;
mod template;
mod top;
mod triggers;
mod types;

use crate::manifest::{FORMAT, FORMAT_WHOLE, Manifest};
use crate::problem::{Place, Problem, Problems};
use crate::yaml::{self, Node};

pub use schema::schema;

/// The longest text of a playbook.
pub const TEXT_BYTES_MAX: usize = 512 << 10;

/// A playbook that compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// What runs.
    pub manifest: Manifest,
    /// What a reviewer should look at.
    pub warnings: Vec<Problem>,
}

/// Compiles a playbook.
///
/// # Errors
/// All problems of the text at once; the text of the error shows each with its line.
pub fn compile(text: &str) -> Result<Compiled, Problems> {
    if text.len() > TEXT_BYTES_MAX {
        let problem = Problem {
            code: "E0002",
            place: Place::default(),
            message: format!(
                "a playbook of {} bytes is longer than {TEXT_BYTES_MAX}",
                text.len()
            ),
            hint: "move data into inputs and split the rest into playbooks".to_owned(),
        };
        return Err(Problems::new(vec![problem], text));
    }
    let root = yaml::read(text).map_err(|problem| Problems::new(vec![*problem], text))?;
    let mut compiler = Compiler::default();
    let manifest = compiler.playbook(&root);
    compiler.found.sort_by_key(|p| (p.place, p.code));
    let (warnings, errors): (Vec<_>, Vec<_>) =
        compiler.found.into_iter().partition(|p| p.code.starts_with('W'));
    match manifest {
        Some(manifest) if errors.is_empty() => Ok(Compiled { manifest, warnings }),
        _ => Err(Problems::new(errors, text)),
    }
}

/// What is found on the way.
#[derive(Default)]
struct Compiler {
    found: Vec<Problem>,
    uses: Vec<template::Use>,
    /// What the names of a loop's body stand for while one of its rounds is compiled.
    round: looping::Round,
    /// What is compiled or checked was before, in an earlier round of the same loop: its problems are told.
    repeated: bool,
}

impl Compiler {
    fn problem(
        &mut self,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.repeated {
            return;
        }
        self.found.push(Problem {
            code,
            place,
            message: message.into(),
            hint: hint.into(),
        });
    }

    fn playbook(&mut self, root: &Node) -> Option<Manifest> {
        let fields = self.fields(root, "a playbook", fields::TOP)?;
        let playbook = self.name_of(root, &fields);
        let version = self.version_of(root, &fields);
        let info = fields
            .get("info")
            .map_or_else(|| serde_json::json!({}), |node| self.info(node));
        let inputs = fields
            .get("inputs")
            .map(|node| self.inputs(node))
            .unwrap_or_default();
        let triggers = fields
            .get("triggers")
            .map(|node| self.triggers(node))
            .unwrap_or_default();
        let limits = fields
            .get("limits")
            .map(|node| self.limits(node))
            .unwrap_or_default();
        let targets = fields
            .get("targets")
            .map(|node| self.targets(node))
            .unwrap_or_default();
        let (mut steps, finally) = self.all_steps(root, &fields);
        self.follow(&mut steps);
        let format = match steps.iter().any(|placed| placed.step.follows()) {
            true => FORMAT,
            false => FORMAT_WHOLE,
        };
        let outputs = fields
            .get("outputs")
            .map(|node| self.outputs(node))
            .unwrap_or_default();
        let manifest = Manifest {
            format,
            playbook,
            version,
            info,
            triggers,
            inputs,
            limits,
            targets,
            steps: steps.iter().map(|s| s.step.clone()).collect(),
            finally: finally.iter().map(|s| s.step.clone()).collect(),
            outputs,
        };
        self.check(&manifest, &steps, &finally);
        self.secrets(root);
        Some(manifest)
    }
}
