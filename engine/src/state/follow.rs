//! Steps that follow others host by host ([`playbook::manifest::Need::by_host`]): a host goes on as soon as it is through
//! with what the step needs, whatever the other hosts are at.
//!
//! Such a step's tasks are made in the order in which their hosts come, so a task's item says nothing of its host. Which
//! hosts may go on and have not is derived, and kept by whatever ends a task or a step.

use std::collections::BTreeSet;

use playbook::manifest::{Need, NeedState, Over};

use crate::state::runs::Run;
use crate::state::steps::StepStatus;
use crate::state::tasks::TaskStatus;

impl Run {
    /// The needs of a step that are asked host by host.
    pub(crate) fn followed(&self, step: u16) -> impl Iterator<Item = &Need> {
        self.declared(step).needs.iter().filter(|need| need.by_host)
    }

    /// No further host will come: all that the step follows has ended, or the run has failed.
    pub(crate) fn has_followed(&self, step: u16) -> bool {
        let state = &self.steps[usize::from(step)];
        self.declared(step).follows()
            && (self.failed
                || (state.free.is_empty()
                    && self
                        .followed(step)
                        .all(|need| self.steps[usize::from(need.step)].status.is_end())))
    }

    /// The item of the task that a step over hosts has on this one.
    pub(crate) fn item_on(&self, step: u16, host: u32) -> Option<u32> {
        let state = &self.steps[usize::from(step)];
        let in_order = state.tasks.get(host as usize);
        match in_order.is_some_and(|task| task.host == host) {
            true => Some(host),
            false => state.items.get(&host).copied(),
        }
    }

    /// A task of this step was made or has ended, or is open again: its host may go on, or not.
    pub(crate) fn host_has_moved(&mut self, step: u16, host: u32) {
        for follower in self.followers(step) {
            self.weigh_host(follower, host);
        }
    }

    /// A step has ended, or goes on again: all of its hosts may go on, or not.
    pub(crate) fn step_has_moved(&mut self, step: u16) {
        for follower in self.followers(step) {
            self.weigh_hosts(follower);
        }
    }

    /// Finds again which hosts may go on with a step that follows others.
    pub(crate) fn weigh_hosts(&mut self, step: u16) {
        if !self.declared(step).follows() {
            return;
        }
        let hosts = match &self.declared(step).over {
            Over::Targets(set) => self.targets.get(set).map_or(0, Vec::len) as u32,
            _ => 0,
        };
        self.steps[usize::from(step)].free = BTreeSet::new();
        for host in 0..hosts {
            self.weigh_host(step, host);
        }
    }

    fn weigh_host(&mut self, step: u16, host: u32) {
        let goes_on = !self.steps[usize::from(step)].status.is_end()
            && self.item_on(step, host).is_none()
            && self.followed(step).all(|need| self.lets_go(need, host));
        let free = &mut self.steps[usize::from(step)].free;
        match goes_on {
            true => free.insert(host),
            false => free.remove(&host),
        };
    }

    /// What a step needs holds for this host. Where the other step never came to it, its own end says whether.
    fn lets_go(&self, need: &Need, host: u32) -> bool {
        let other = &self.steps[usize::from(need.step)];
        let Some(item) = self.item_on(need.step, host) else {
            return other.status.is_end()
                && match need.state {
                    NeedState::Done => true,
                    NeedState::Succeeded => other.tasks.is_empty() && other.status == StepStatus::Succeeded,
                    NeedState::Failed => other.tasks.is_empty() && other.status == StepStatus::Failed,
                };
        };
        let status = other.tasks[item as usize].status;
        match need.state {
            NeedState::Done => status.is_end(),
            NeedState::Succeeded => status == TaskStatus::Succeeded,
            NeedState::Failed => matches!(status, TaskStatus::Failed | TaskStatus::Expired),
        }
    }

    /// The steps that follow this one host by host.
    fn followers(&self, step: u16) -> Vec<u16> {
        if self.manifest.format < FIRST_FORMAT {
            return Vec::new();
        }
        (0u16..)
            .zip(&self.manifest.steps)
            .filter(|(_, other)| other.needs.iter().any(|need| need.by_host && need.step == step))
            .map(|(number, _)| number)
            .collect()
    }

    /// After a retry: steps that had ended without some of their hosts go on, for these may come now.
    pub(crate) fn follow_again(&mut self) {
        // Each pass that changes something opens at least one step more.
        while let Some(step) = (0..self.manifest.steps.len() as u16).find(|&step| self.is_left_behind(step)) {
            let state = &mut self.steps[usize::from(step)];
            state.status = StepStatus::Running;
            state.ended_at = None;
            state.reason.clear();
        }
        for step in 0..self.manifest.steps.len() as u16 {
            self.weigh_hosts(step);
        }
    }

    /// The step ended, and not by itself badly, without hosts for which what it follows goes on again.
    fn is_left_behind(&self, step: u16) -> bool {
        let state = &self.steps[usize::from(step)];
        let Over::Targets(set) = &self.declared(step).over else {
            return false;
        };
        let hosts = self.targets.get(set).map_or(0, Vec::len);
        matches!(
            state.status,
            StepStatus::Succeeded | StepStatus::Skipped | StepStatus::Cancelled
        ) && !state.stopped
            && !state.tasks.is_empty()
            && state.tasks.len() < hosts
            && self
                .followed(step)
                .any(|need| !self.steps[usize::from(need.step)].status.is_end())
    }
}

/// The first format of manifests in which steps follow others host by host.
const FIRST_FORMAT: u32 = playbook::manifest::FORMAT_WHOLE + 1;
