//! What this version compiles and cannot run yet: said, and left out where the test file says so.
//!
//! A test of a playbook that has such a part would otherwise only show that its run is refused. A test file that names the
//! part in `without` tries the rest: a step that would wait for an event waits for none, and gives nothing. Nothing stands in
//! for a part that the file does not name.

use std::collections::BTreeMap;

use playbook::manifest::{Kind, Manifest, Rule};

/// The playbook as its cases run it, without the parts that these names are of.
pub(crate) fn reduced(manifest: &Manifest, without: &[String]) -> Manifest {
    let mut manifest = manifest.clone();
    let named = |part: &str| without.iter().any(|name| name == part);
    for step in manifest.steps.iter_mut().chain(&mut manifest.finally) {
        let waits = matches!(step.kind, Kind::WaitEvent { .. });
        if waits && named(&format!("{} (step {})", step.kind.name(), step.name)) {
            let all = Rule {
                when: None,
                set: BTreeMap::new(),
            };
            step.kind = Kind::Decide { rules: vec![all] };
        }
    }
    manifest
}

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
