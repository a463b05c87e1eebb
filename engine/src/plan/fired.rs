//! The run that a firing of a trigger asks for, or why there is none.
//!
//! [`Asked::of`] copies what is needed out of the state, [`Asked::bind`] compiles the playbook and takes its inputs from
//! what set it off, [`Bound::draw`] draws the plan: apart, so that the state is not held meanwhile. [`fired`] does it all.

use std::collections::BTreeSet;
use std::sync::Arc;

use playbook::canonical::canonical_json;
use playbook::eval::Scope;
use playbook::manifest::{Manifest, TriggerOn};
use serde_json::{Value, json};

use super::{Ground, PlanError, draw};
use crate::command::{Fired, StartRun};
use crate::events::{by_key_only, digest_of};
use crate::id::{Digest, RunId};
use crate::planner::parsed;
use crate::state::State;
use crate::state::triggers::Firing;

/// What a firing asks for, copied.
#[derive(Clone, Debug)]
pub struct Asked {
    firing: Firing,
    text: Arc<str>,
    published_by: String,
}

/// That, compiled and with its inputs bound.
#[derive(Debug)]
pub struct Bound {
    firing: u64,
    published_by: String,
    manifest: Manifest,
    inputs: Value,
    event: Value,
    group: Value,
    dedupe: Option<Digest>,
}

impl Asked {
    /// What this firing asks for; None: it is over.
    ///
    /// # Errors
    /// Why there can be no such run.
    pub fn of(state: &State, firing: u64) -> Option<Result<Asked, String>> {
        let firing = state.triggers().firing(firing)?.clone();
        let playbook = &firing.trigger.playbook;
        Some(match state.playbooks().get(playbook, Some(firing.version)) {
            Some(published) => Ok(Asked {
                text: published.text.clone(),
                published_by: published.published_by.clone(),
                firing,
            }),
            None => Err(format!(
                "version {} of {playbook} is not published any more",
                firing.version
            )),
        })
    }

    /// Compiles the playbook and binds its inputs. Takes as long as the text is large.
    ///
    /// # Errors
    /// Why there can be no such run.
    pub fn bind(self) -> Result<Bound, String> {
        let short = |problems: playbook::Problems| problems.in_short();
        let Firing {
            id,
            trigger,
            event,
            group,
            ..
        } = self.firing;
        let manifest = playbook::compile(&self.text).map_err(short)?.manifest;
        let value = |text: Option<Arc<str>>| text.map_or(Value::Null, |text| parsed(&text));
        let (event, group) = (value(event), value(group));
        let config = json!({});
        let given = playbook::inputs_of_event(&manifest, &event, &group, &config).map_err(short)?;
        let inputs = playbook::bind_inputs(&manifest, &Value::Object(given)).map_err(short)?;
        let mut dedupe = None;
        if let Some(declared) = manifest.triggers.get(usize::from(trigger.number))
            && let (TriggerOn::Threshold { .. }, Some(key)) = (&declared.on, &declared.dedupe)
            && !by_key_only(&key.key)
        {
            let mut scope = Scope::new();
            scope.bind("event", &event);
            scope.bind("group", &group);
            scope.bind("config", &config);
            let key = scope
                .render(&key.key)
                .map_err(|why| format!("dedupe.key: {why}"))?;
            dedupe = Some(digest_of(&canonical_json(&key)));
        }
        Ok(Bound {
            firing: id,
            published_by: self.published_by,
            manifest,
            inputs,
            event,
            group,
            dedupe,
        })
    }
}

impl Bound {
    /// The part of the cluster that it is drawn on.
    pub fn ground(&self, state: &State) -> Ground {
        let named = playbook::named_hosts(&self.manifest, &self.inputs, &json!({}));
        Ground::of(state, named.as_ref(), &BTreeSet::new())
            .with_playbooks(state, &self.manifest)
            .because(self.event.clone(), self.group.clone())
    }

    /// Draws its plan: the command that starts it.
    ///
    /// # Errors
    /// Why there can be no such run.
    pub fn draw(self, ground: &Ground, run: RunId) -> Result<StartRun, String> {
        let plan = draw(self.manifest, self.inputs, json!({}), ground, &self.published_by).map_err(
            |why| match why {
                PlanError::Targets(problems) => problems.in_short(),
                other => other.to_string(),
            },
        )?;
        Ok(StartRun {
            fired: Some(Fired {
                firing: self.firing,
                dedupe: self.dedupe,
            }),
            ..plan.start(run, None)
        })
    }
}

/// The command that starts what this firing asks for, as the state is; None: it is over.
///
/// # Errors
/// Why there can be no such run.
pub fn fired(state: &State, firing: u64, run: RunId) -> Option<Result<StartRun, String>> {
    let bound = match Asked::of(state, firing)?.and_then(Asked::bind) {
        Ok(bound) => bound,
        Err(why) => return Some(Err(why)),
    };
    let ground = bound.ground(state);
    Some(bound.draw(&ground, run))
}
