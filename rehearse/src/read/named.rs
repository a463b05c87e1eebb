//! The steps that a test can name: the playbook's own, and those that a run adds to undo them and to tell of their failure.

use playbook::manifest::{Compensate, Kind, Manifest, OnFailure, Step};
use playbook::{Place, nearest};

use super::fields::Reader;

/// What stands before the name of the step that is undone.
const UNDO: &str = "undo-";
/// What stands before the name of the step of whose failure people are told.
const NOTIFY: &str = "notify-";

/// A step that a test names.
pub(super) struct Named<'a> {
    /// Its own name.
    pub name: String,
    /// The playbook's step that it is, or is about.
    pub step: &'a Step,
    /// The action that it asks for; None: it asks for none.
    pub action: Option<&'static catalogue::Action>,
    /// It sends messages.
    pub tells: bool,
    /// It is the playbook's own.
    pub own: bool,
}

/// The step of this name; a problem where there is none.
pub(super) fn step_of<'a>(
    reader: &mut Reader,
    manifest: &'a Manifest,
    name: &str,
    place: Place,
) -> Option<Named<'a>> {
    let found = find(manifest, name);
    if found.is_none() {
        let (message, hint) = unknown(manifest, name);
        reader.problem("T0104", place, message, hint);
    }
    found
}

/// The actions that steps of the playbook ask for, and what undoes them, sorted.
pub(super) fn actions(manifest: &Manifest) -> Vec<&'static str> {
    let steps = manifest.steps.iter().chain(&manifest.finally);
    let done = steps.filter_map(action_of);
    let undone = manifest.steps.iter().filter_map(undone_by);
    let mut names: Vec<&str> = done.chain(undone).map(|action| action.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn find<'a>(manifest: &'a Manifest, name: &str) -> Option<Named<'a>> {
    if let Some(step) = manifest
        .step_number(name)
        .and_then(|number| manifest.step(number))
    {
        return Some(Named {
            name: name.to_owned(),
            step,
            action: action_of(step),
            tells: matches!(step.kind, Kind::Notify { .. }),
            own: true,
        });
    }
    let of = |prefix: &str| Some(without_number(name.strip_prefix(prefix)?));
    let added = |of: &str, action, tells| {
        manifest
            .steps
            .iter()
            .find(|step| step.name == of)
            .map(|step| Named {
                name: name.to_owned(),
                step,
                action,
                tells,
                own: false,
            })
    };
    if let Some(of) = of(UNDO) {
        let found = added(of, None, false)?;
        let action = undone_by(found.step);
        let runs = matches!(found.step.kind, Kind::Playbook { .. });
        return (action.is_some() || runs).then_some(Named { action, ..found });
    }
    added(of(NOTIFY)?, None, true).filter(|found| tells_of_failure(found.step))
}

/// The name without the `-2` that it has where the same is done a second time.
fn without_number(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((of, number)) if number.parse::<u32>().is_ok_and(|number| number > 1) => of,
        _ => name,
    }
}

/// What is wrong with a name that no step has, and what to write instead.
fn unknown(manifest: &Manifest, name: &str) -> (String, String) {
    for (prefix, why) in [
        (
            UNDO,
            "nothing undoes it: it has no `compensate`, and its action no inverse",
        ),
        (NOTIFY, "its `on_failure` has no `notify`"),
    ] {
        let of = name.strip_prefix(prefix).map(without_number);
        if let Some(of) = of.filter(|of| manifest.step_number(of).is_some()) {
            return (
                format!("there is never a step `{name}`"),
                format!("`{of}`: {why}"),
            );
        }
    }
    let mut names = Vec::new();
    for step in manifest.steps.iter().chain(&manifest.finally) {
        names.push(step.name.clone());
    }
    for step in &manifest.steps {
        names.extend(find(manifest, &format!("{UNDO}{}", step.name)).map(|undo| undo.name));
        names.extend(tells_of_failure(step).then(|| format!("{NOTIFY}{}", step.name)));
    }
    let hint = nearest::hint(name, names.iter().map(String::as_str));
    (format!("the playbook has no step `{name}`"), hint)
}

/// The action that a step asks for; None: it asks for none.
fn action_of(step: &Step) -> Option<&'static catalogue::Action> {
    match &step.kind {
        Kind::Do { action, .. } => catalogue::find(action),
        _ => None,
    }
}

/// The action that undoes a step; None: nothing does.
fn undone_by(step: &Step) -> Option<&'static catalogue::Action> {
    let done = action_of(step)?;
    match &step.compensate {
        Some(Compensate { action, .. }) => catalogue::find(action),
        None => catalogue::find(done.inverse?),
    }
}

fn tells_of_failure(step: &Step) -> bool {
    matches!(&step.on_failure, OnFailure::Then { notify, .. } if !notify.is_empty())
}
