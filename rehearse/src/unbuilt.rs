//! Actions that this version declares and does not carry out yet: tests can fake them, and say so.

use playbook::manifest::{Kind, Manifest};

/// The actions of a playbook that no part of this version carries out, each with its steps.
pub(crate) fn actions(manifest: &Manifest) -> Vec<(&'static str, Vec<String>)> {
    let mut all: Vec<(&'static str, Vec<String>)> = Vec::new();
    for step in manifest.steps.iter().chain(&manifest.finally) {
        let Kind::Do { action, .. } = &step.kind else {
            continue;
        };
        let Some(action) = catalogue::find(action).filter(|action| !action.built) else {
            continue;
        };
        match all.iter_mut().find(|(name, _)| *name == action.name) {
            Some((_, steps)) => steps.push(step.name.clone()),
            None => all.push((action.name, vec![step.name.clone()])),
        }
    }
    all.sort();
    all
}
