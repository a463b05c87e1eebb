//! What a script shows of the state.

use std::fmt::Write as _;

use super::*;

impl World {
    pub(super) fn show(&mut self, what: &str) {
        match what {
            "runs" => {
                for run in self.state.runs_newest_first() {
                    let _ = writeln!(
                        self.out,
                        "  {} {} {} outputs {}",
                        short(run.id),
                        run.word(),
                        run.reason,
                        run.outputs
                            .as_ref()
                            .map_or("-".into(), |o| playbook::canonical::canonical_json(o))
                    );
                    for (n, step) in run.steps.iter().enumerate() {
                        let _ = writeln!(
                            self.out,
                            "    {} {} {}",
                            run.declared(n as u16).name,
                            step.status.as_str(),
                            step.reason
                        );
                        for task in run.tasks(n as u16, 0) {
                            let error = task
                                .error()
                                .map_or(String::new(), |e| format!(" {}: {}", e.code, e.message));
                            let _ = writeln!(
                                self.out,
                                "      {} {} {} attempts={}{}{error}",
                                task.item,
                                task.agent.map_or("-", |a| a.as_str()),
                                task.status(),
                                task.attempts(),
                                task.output().map_or(String::new(), |o| format!(" {o}"))
                            );
                        }
                    }
                }
            }
            // The runs that steps began, and of which attempts.
            "tree" => {
                let mut runs: Vec<_> = self.state.runs_newest_first().collect();
                runs.reverse();
                for run in runs {
                    let of = run.parent.map_or(String::new(), |parent| {
                        let key = parent.attempt;
                        format!(
                            " of {}/{}#{} depth={} below={} alike={} from_results={}",
                            short(key.task.run),
                            key.task.item,
                            key.attempt,
                            parent.depth,
                            parent.below,
                            parent.alike,
                            parent.from_results
                        )
                    });
                    let below: Vec<_> = self.state.children(run.id).map(|child| short(child.id)).collect();
                    let _ = writeln!(
                        self.out,
                        "  {} {} v{} {} by {}{of} began {below:?}",
                        short(run.id),
                        run.manifest().playbook,
                        run.manifest().version,
                        run.word(),
                        run.requester
                    );
                }
            }
            "wanted" => {
                let runs: Vec<_> = self.state.active_runs().map(|run| run.id).collect();
                for call in runs.iter().flat_map(|run| self.state.children_wanted(run)) {
                    let (item, attempt) = (call.key.task.item, call.key.attempt);
                    let _ = writeln!(
                        self.out,
                        "  {}/{item}#{attempt} {} {}",
                        call.step, call.action, call.parameters
                    );
                }
            }
            "calls" => {
                let runs: Vec<_> = self.state.active_runs().map(|run| run.id).collect();
                for call in runs.iter().flat_map(|run| self.state.calls(run)) {
                    let stop = call.cancel.map_or(String::new(), |why| format!(" STOP({why})"));
                    let _ = writeln!(
                        self.out,
                        "  {}/{}#{} {} {}{stop}",
                        call.step, call.key.task.item, call.key.attempt, call.action, call.parameters
                    );
                }
            }
            "approvals" => {
                for a in self.state.approvals_newest_first().take(2) {
                    let answers: Vec<_> = a
                        .answers
                        .iter()
                        .map(|answer| format!("{} ({}): {}", answer.operator, answer.role, answer.reason))
                        .collect();
                    let _ = writeln!(
                        self.out,
                        "  {} {}/{} {:?} {} roles {:?} missing {} of {}{}{}{} answers {answers:?}",
                        a.id,
                        short(a.run),
                        self.state.run(&a.run).map_or("", |r| &r.declared(a.step).name),
                        a.items,
                        a.status.as_str(),
                        a.roles,
                        a.missing(),
                        a.quorum,
                        a.barred
                            .as_ref()
                            .map_or(String::new(), |id| format!(", not {id}")),
                        if a.escalated { ", escalated" } else { "" },
                        if a.note.is_empty() {
                            String::new()
                        } else {
                            format!(" ({})", a.note)
                        },
                    );
                }
            }
            "triggers" => self.show_triggers(),
            "roles" => {
                for (operator, role) in self.state.roles().iter() {
                    let _ = writeln!(self.out, "  {operator} {role}");
                }
            }
            "playbooks" => {
                for p in self.state.playbooks().iter() {
                    let _ = writeln!(
                        self.out,
                        "  {} {} by {}: {}",
                        p.name, p.version, p.published_by, p.note
                    );
                }
            }
            "agents" => {
                for agent in self.state.agents() {
                    let _ = writeln!(
                        self.out,
                        "  {} online={} open={} alarm={:?} revoked={:?}",
                        agent.id,
                        agent.is_online(),
                        agent.tasks_open(),
                        agent.alarm,
                        agent.revoked
                    );
                }
            }
            "tokens" => {
                for token in self.state.tokens() {
                    let _ = writeln!(
                        self.out,
                        "  {} {}/{} revoked={} by {}",
                        token.id,
                        token.used(),
                        token.uses,
                        token.revoked,
                        token.created_by
                    );
                }
            }
            // Of the audit, what people did to runs.
            "audit" | "control" => {
                let asked = [
                    "run.pause",
                    "run.resume",
                    "run.retry",
                    "run.rollback",
                    "run.undo",
                    "run.cancel",
                    "task.settle",
                    "refused",
                ];
                for r in self.state.audit_after(0, 1000) {
                    if what == "control" && !asked.contains(&r.verb.as_str()) {
                        continue;
                    }
                    let subject = r.subject.parse::<RunId>().map_or(r.subject.clone(), short);
                    let _ = writeln!(
                        self.out,
                        "  {} @{} {} {} {subject} {}",
                        r.sequence, r.index, r.actor, r.verb, r.detail
                    );
                }
            }
            other => panic!("no view {other}"),
        }
    }
}
