//! What is always true of the state. `check` walks everything: for tests and the simulation, not for
//! every apply.

use std::collections::BTreeSet;

use crate::limits::DEPTH_MAX;
use crate::snapshot::SnapshotError;
use crate::state::State;
use crate::state::approvals::ApprovalStatus;
use crate::state::runs::RunStatus;
use crate::state::steps::StepStatus;
use crate::state::tasks::TaskStatus;

impl State {
    /// # Panics
    /// With the broken invariant, if any.
    pub fn check(&self) {
        self.check_derived();
        self.check_audit();
        for run in self.runs.iter() {
            let name = run.id;
            assert_eq!(
                run.status.is_end(),
                run.ended_at.is_some() && !self.runs.active().contains(&name),
                "run {name}: its end, its time of end and the list of active runs agree"
            );
            assert!(
                run.paused_at.is_none() || matches!(run.status, RunStatus::Running | RunStatus::RollingBack),
                "run {name}: only what goes on is paused"
            );
            assert_eq!(
                run.undo.then.is_some(),
                run.status == RunStatus::RollingBack,
                "run {name}: one that is rolled back remembers how it had ended"
            );
            assert!(
                !run.undo.wanted || !run.status.is_end(),
                "run {name}: what is over wants nothing undone"
            );
            assert!(
                run.undoes_what_is_there(),
                "run {name}: each of its tasks is undone once"
            );
            assert!(
                run.revision <= self.applied_index,
                "run {name}: its revision is of an applied entry"
            );
            for (number, step) in run.steps.iter().enumerate() {
                let at = format!("run {name} step {number}");
                assert!(
                    !run.status.is_end() || step.status.is_end(),
                    "{at}: a run that is over has no step that is not"
                );
                assert_eq!(
                    step.status.is_end(),
                    step.ended_at.is_some(),
                    "{at}: an end has its time"
                );
                assert!(
                    step.status == StepStatus::Running || step.counts.open() == 0,
                    "{at}: only a running step has open tasks"
                );
                for (item, task) in step.tasks.iter().enumerate() {
                    let at = format!("{at} task {item} ({:?})", task.status);
                    assert_eq!(
                        task.status.is_end(),
                        task.ended_at.is_some(),
                        "{at}: an end has its time"
                    );
                    assert!(
                        task.token <= self.applied_index,
                        "{at}: its token is of an applied entry"
                    );
                    assert!(
                        task.token > 0 || task.attempt <= step.attempts_before,
                        "{at}: an attempt has a token"
                    );
                    let begins_run = run.begins_run(number as u16) && task.status == TaskStatus::Started;
                    let ends_with_run = begins_run && task.stop.is_some();
                    assert!(
                        task.wake.is_some()
                            == (!task.status.is_end()
                                && !ends_with_run
                                && !matches!(task.status, TaskStatus::Judging | TaskStatus::Gated)),
                        "{at}: what can wait for ever has a deadline"
                    );
                    if let Some(undone) = run
                        .undone_task(number as u16, item as u32)
                        .filter(|_| run.undoes_runs(number as u16) && task.status == TaskStatus::Started)
                    {
                        assert!(
                            self.children_of_task(undone).any(|child| !child.status.is_end()),
                            "{at}: it ends when the last run does that it has rolled back"
                        );
                    }
                    if begins_run {
                        let child = self.child_of(&run.attempt(number as u16, item as u32));
                        assert!(
                            child.is_none_or(|child| !child.status.is_end()),
                            "{at}: it ends when its run does"
                        );
                        assert!(
                            child.is_some() || task.stop.is_none(),
                            "{at}: only a run that was begun is waited for"
                        );
                    }
                    assert!(
                        task.token > 0 || !task.status.in_flight(),
                        "{at}: what is handed out is an attempt"
                    );
                }
            }
        }
        self.check_approvals();
        self.check_children();
        self.triggers.check();
        for agent in self.agents.iter() {
            assert!(
                agent.revoked.is_none() || agent.session.is_none(),
                "agent {}: who is denied has no session",
                agent.id
            );
        }
        for token in self.tokens.iter() {
            assert!(
                token.used() <= token.uses,
                "token {}: not used more often than it may be",
                token.id
            );
        }
    }

    /// The tree of runs is one: each has a parent that is there, one level above it.
    fn check_children(&self) {
        for run in self.runs.iter() {
            let Some(parent) = &run.parent else { continue };
            let at = format!("run {}", run.id);
            let task = parent.attempt.task;
            let above = self.runs.get(&task.run).expect("runs are kept");
            let depth = above.parent.map_or(0, |above| above.depth);
            assert_eq!(
                parent.depth,
                depth + 1,
                "{at}: it is one level below the run that began it"
            );
            assert!(parent.depth + parent.below <= DEPTH_MAX, "{at}: the tree ends");
            assert!(
                above.begins_run(task.step),
                "{at}: it is of a step that begins runs"
            );
            assert_eq!(
                run.requester, above.requester,
                "{at}: it is done for whom the first one is"
            );
            assert_eq!(
                self.child_of(&parent.attempt).map(|child| child.id),
                Some(run.id),
                "{at}: an attempt begins one run"
            );
        }
    }

    /// Whatever waits for people is asked about once, and whom it asks can still end it.
    fn check_approvals(&self) {
        for approval in self.approvals.iter() {
            let at = format!("approval {}", approval.id);
            assert_eq!(
                approval.status.is_end(),
                approval.ended_at.is_some(),
                "{at}: an end has its time"
            );
            let people: BTreeSet<_> = approval.answers.iter().map(|answer| &answer.operator).collect();
            assert_eq!(
                people.len(),
                approval.answers.len(),
                "{at}: each person answers once"
            );
            assert!(
                approval
                    .barred
                    .as_ref()
                    .is_none_or(|barred| !people.contains(barred)),
                "{at}: who may not answer has not"
            );
            if approval.status == ApprovalStatus::Approved {
                assert_eq!(
                    people.len() as u32,
                    approval.quorum,
                    "{at}: enough people approved"
                );
            }
            if approval.status.is_end() {
                continue;
            }
            assert!(approval.missing() > 0, "{at}: it waits for somebody");
            assert!(
                approval.answers.iter().all(|answer| answer.yes),
                "{at}: one no ends it"
            );
            let run = self.runs.get(&approval.run).expect("a request's run is kept");
            assert_eq!(
                approval.question.is_some(),
                run.is_question(approval.step),
                "{at}: its kind is its step's"
            );
            assert_eq!(
                run.steps[usize::from(approval.step)].status,
                StepStatus::Running,
                "{at}: its step goes on"
            );
        }
        for run in self.runs.iter() {
            for number in 0..run.steps.len() as u16 {
                let step = &run.steps[usize::from(number)];
                let at = format!("run {} step {number}", run.id);
                let asked: Vec<_> = self
                    .approvals
                    .waiting_of(run.id)
                    .filter(|a| a.step == number)
                    .collect();
                assert!(asked.len() <= 1, "{at}: it is asked about once");
                let is_asked = step.status == StepStatus::Running && run.is_question(number);
                assert!(
                    !is_asked || asked.len() == 1,
                    "{at}: a question waits for an answer"
                );
                let gated: Vec<u32> = (0u32..)
                    .zip(&step.tasks)
                    .filter(|(_, task)| task.status == TaskStatus::Gated)
                    .map(|(item, _)| item)
                    .collect();
                if run.is_group_whole(number) {
                    let items: Vec<u32> = asked.iter().flat_map(|approval| approval.each_item()).collect();
                    assert_eq!(
                        gated, items,
                        "{at}: what waits for people is what they are asked about"
                    );
                }
            }
        }
    }

    /// Every index is what it would be if it were built anew.
    fn check_derived(&self) {
        let again = State::decode(&self.encode()).map_err(|e: SnapshotError| e.to_string());
        match again {
            Ok(again) => {
                assert_eq!(
                    self.timers, again.timers,
                    "deadlines are those of the tasks, steps and runs"
                );
                assert_eq!(
                    self.agents, again.agents,
                    "agents' open tasks and keys are indexed"
                );
                assert_eq!(self.runs, again.runs, "ready and judged tasks are indexed");
                assert!(
                    self.triggers == again.triggers,
                    "what triggers have seen is indexed"
                );
                assert_eq!(
                    self.approvals, again.approvals,
                    "what waits for people is indexed"
                );
                assert!(*self == again, "a snapshot keeps everything");
            }
            Err(why) => panic!("the snapshot can be read again: {why}"),
        }
    }

    fn check_audit(&self) {
        let mut before: Option<&crate::state::AuditRecord> = None;
        for record in self.audit_after(0, usize::MAX) {
            if let Some(before) = before {
                assert_eq!(record.sequence, before.sequence + 1, "the audit has no gaps");
                assert_eq!(
                    record.hash,
                    record.chain_hash(&before.hash),
                    "the audit is chained"
                );
            }
            before = Some(record);
        }
        if let Some(last) = before {
            assert_eq!(
                last.hash,
                self.audit_head(),
                "the audit's head is its last record's hash"
            );
        }
    }
}
