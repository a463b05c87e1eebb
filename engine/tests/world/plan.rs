//! Plans in scripts. Their hashes change with every form of the manifest, so a script says only whether they are alike.

use std::fmt::Write as _;

use engine::error::Refusal;
use engine::id::RunId;
use engine::plan::{Ground, Plan, PlanError, draw};
use engine::{Command, Reply};
use playbook::canonical::canonical_json;
use serde_json::json;

use super::{World, uuid};

impl World {
    /// What a run of a playbook would do now.
    pub fn drawn(&self, playbook: &str) -> Result<Plan, PlanError> {
        let manifest = self.playbooks[playbook].clone();
        let inputs = playbook::bind_inputs(&manifest, &self.inputs).expect("good inputs");
        let named = playbook::named_hosts(&manifest, &inputs, &json!({}));
        let ground = Ground::of(&self.state, named.as_ref(), &Default::default())
            .with_playbooks(&self.state, &manifest);
        draw(manifest, inputs, json!({}), &ground, "alice")
    }

    pub(super) fn show_plan(&mut self, playbook: &str) {
        let words = match self.drawn(playbook) {
            Ok(plan) => {
                let same = self.shown.replace(plan.hash) == Some(plan.hash);
                in_words(&plan, same)
            }
            Err(why) => {
                // A blank line would be one of the script's own.
                let why = why.to_string();
                let lines: Vec<_> = why.lines().filter(|line| !line.trim().is_empty()).collect();
                format!("  no plan: {}\n", lines.join("\n"))
            }
        };
        self.out.push_str(&words);
    }

    pub(super) fn start_planned(&mut self, run: &str, playbook: &str, expected: bool) {
        let plan = self.drawn(playbook).expect("a plan");
        let expected = expected.then(|| self.shown.expect("a plan that was shown"));
        let start = plan.start(RunId(uuid(run)), expected);
        match self.apply(self.actor.clone(), Command::StartRun(Box::new(start))) {
            Reply::Refused(Refusal::OtherPlan { expected, found }) => {
                assert_ne!(expected, found);
                self.out.push_str("  refused: it is another plan\n");
            }
            Reply::Refused(why) => {
                let _ = writeln!(self.out, "  refused: {why}");
            }
            reply => assert!(matches!(reply, Reply::RunStarted { .. }), "{reply:?}"),
        }
        if self.leader {
            self.plan();
        }
    }
}

fn in_words(plan: &Plan, same: bool) -> String {
    let mut out = format!("  {} plan\n", if same { "the same" } else { "another" });
    for (name, hosts) in &plan.targets {
        let _ = writeln!(out, "  {name}: {hosts:?} of {}", plan.fleet);
    }
    for host in &plan.hosts {
        let marks = [
            (!host.is_online, " offline"),
            (host.is_critical, " critical"),
            (host.is_touched, " touched"),
        ];
        let marks: String = marks
            .iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, mark)| *mark)
            .collect();
        let _ = writeln!(out, "  host {}{marks}", host.id);
    }
    for step in &plan.steps {
        let impact = step.impact.map_or("-", catalogue::Impact::as_str);
        let _ = writeln!(
            out,
            "  step {} {} {} {impact} tasks={:?} undo={:?} {}",
            step.name,
            step.kind,
            step.action,
            step.tasks,
            step.undo,
            canonical_json(&step.parameters)
        );
        if let Some(gate) = &step.gate {
            let _ = writeln!(
                out,
                "    waits {:?} of {:?}: {} of {:?} not_requester={} people={:?} later={:?} {}",
                gate.waits,
                gate.of,
                gate.quorum,
                gate.roles,
                gate.not_requester,
                gate.people,
                gate.people_later,
                gate.why.as_deref().unwrap_or("")
            );
        }
    }
    for warning in &plan.warnings {
        let _ = writeln!(out, "  warning: {warning}");
    }
    out
}
