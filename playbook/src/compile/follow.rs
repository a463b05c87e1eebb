//! Steps that follow each other host by host: which of their needs are asked of the other step's task on the same host.
//!
//! A step waits for all hosts of the one before where it has something to say of all of them together: where it reads more
//! of a step over hosts than the same host's item, where people are asked about it, where it goes in groups or after a
//! pause, and where the playbook says so (`barrier: true`).

use super::Compiler;
use super::step::{Placed, set_of};
use super::template::{Place as Where, Use};
use crate::manifest::{Kind, Over, Step};

impl Compiler {
    /// Marks the needs that are asked host by host.
    pub(super) fn follow(&self, steps: &mut [Placed]) {
        let sets: Vec<(String, Option<String>, bool)> = steps
            .iter()
            .map(|placed| {
                let set = set_of(&placed.step.over).map(str::to_owned);
                (placed.step.name.clone(), set, has_one_task_per_host(&placed.step))
            })
            .collect();
        for placed in steps {
            let step = &mut placed.step;
            let set = set_of(&step.over).map(str::to_owned);
            let among = |name: &str| sets.iter().any(|(other, over, _)| other == name && *over == set);
            if !may_follow(step) || self.uses.iter().any(|used| reads_all(used, &step.name, among)) {
                continue;
            }
            for need in &mut step.needs {
                let (_, over, per_host) = &sets[usize::from(need.step)];
                need.by_host = *per_host && *over == set;
            }
        }
    }
}

fn has_one_task_per_host(step: &Step) -> bool {
    matches!(step.kind, Kind::Do { .. }) && matches!(step.over, Over::Targets(_))
}

/// Nothing of what the step declares is about its hosts together.
fn may_follow(step: &Step) -> bool {
    let strategy = &step.strategy;
    has_one_task_per_host(step)
        && !strategy.barrier
        && strategy.canary.is_none()
        && strategy.waves.is_empty()
        && step.gate.is_none()
        && step.delay_ms == 0
}

/// An expression of this step that is evaluated before it ends reads more of one of these steps than the same host's item.
fn reads_all(used: &Use, step: &str, among: impl Fn(&str) -> bool) -> bool {
    let own = match &used.at {
        Where::Step(name)
        | Where::Task(name)
        | Where::Expect(name)
        | Where::Retry(name)
        | Where::FailWhen(name) => name == step,
        _ => false,
    };
    own && used.parsed.paths.iter().any(|path| {
        path[0] == "steps"
            && path.get(1).is_none_or(|name| among(name))
            && path.get(2).is_none_or(|field| field != "here")
    })
}

#[cfg(test)]
mod tests {
    use crate::compile;
    use crate::manifest::{FORMAT, FORMAT_WHOLE};

    /// Whether the second of two steps over the same hosts follows the first one, when it says this besides.
    fn follows(second: &str) -> bool {
        let text = format!(
            "playbook: p\nversion: 1\ntargets: {{a: {{select: 'true'}}, b: {{select: 'true'}}}}\nsteps:\n  \
             once: {{decide: [{{else: {{}}}}]}}\n  one: {{do: host.info, targets: a}}\n  two: {{do: host.info, {second}}}\n"
        );
        let compiled = compile(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let follows = compiled.manifest.steps[2].follows();
        assert_eq!(
            compiled.manifest.format,
            if follows { FORMAT } else { FORMAT_WHOLE },
            "older readers take what they understand"
        );
        follows
    }

    #[test]
    fn a_step_follows_where_it_is_about_one_host_after_the_other() {
        for second in [
            "targets: a, needs: [one]",
            "targets: a, needs: [one.done]",
            "targets: a, needs: [one.failed, once]",
            "targets: a, needs: [one], when: steps.one.here.status == 'succeeded'",
            "targets: a, needs: [one], strategy: {max_parallel: 3, fail_when: failed > 2}",
            "targets: a, needs: [one, once], when: steps.once.status == 'succeeded'",
        ] {
            assert!(follows(second), "{second}");
        }
    }

    #[test]
    fn a_step_waits_for_all_hosts_where_it_is_about_all() {
        for second in [
            "targets: a",
            "targets: a, needs: [once]",
            "targets: b, needs: [one]",
            "targets: a, needs: [one], strategy: {barrier: true}",
            "targets: a, needs: [one], strategy: {canary: 1}",
            "targets: a, needs: [one], strategy: {waves: [1]}",
            "targets: a, needs: [one], delay: 1s",
            "targets: a, needs: [one], when: size(steps.one.failed) == 0",
            "targets: a, needs: [one.done], when: steps.one.status == 'succeeded'",
            "targets: a, needs: [one], expect: size(steps.one.ok) == 2",
            "targets: a, needs: [one], strategy: {fail_when: failed > size(steps.one.ok)}",
            "targets: a, needs: [one], gate: {approve: {roles: [lead], expires: 5m}}",
        ] {
            assert!(!follows(second), "{second}");
        }
    }
}
