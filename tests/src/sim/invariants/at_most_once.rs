//! For contain and above an effect happens at most once per task, and a task that is said to have succeeded had
//! its effect.

use std::collections::BTreeMap;

use catalogue::Impact;

use super::Check;

const NAME: &str = "at_most_once";

/// (run, step's name, item).
pub type Task = (String, String, u32);

/// What happened on hosts.
#[derive(Debug, Default)]
pub struct AtMostOnce {
    effects: BTreeMap<Task, u32>,
}

impl AtMostOnce {
    /// The effect of a task happened on its host.
    pub fn effect(&mut self, task: Task, impact: Impact) -> Check {
        let times = self.effects.entry(task.clone()).or_default();
        *times += 1;
        if impact >= Impact::Contain && *times > 1 {
            return Err((
                NAME,
                format!(
                    "the effect of {}/{}/{} happened {times} times",
                    task.0, task.1, task.2
                ),
            ));
        }
        Ok(())
    }

    /// The cluster says that the task succeeded.
    pub fn succeeded(&self, task: &Task) -> Check {
        if !self.effects.contains_key(task) {
            return Err((
                NAME,
                format!("{}/{}/{} succeeded without an effect", task.0, task.1, task.2),
            ));
        }
        Ok(())
    }

    /// How many effects there were.
    pub fn count(&self) -> u64 {
        self.effects.values().map(|&n| u64::from(n)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_effect_is_told_from_contain_up() {
        let task = |item| ("run".to_owned(), "step".to_owned(), item);
        let mut seen = AtMostOnce::default();
        assert_eq!(seen.effect(task(1), Impact::Contain), Ok(()));
        assert_eq!(seen.effect(task(2), Impact::Contain), Ok(()));
        assert!(seen.effect(task(1), Impact::Contain).is_err());
        assert_eq!(seen.effect(task(3), Impact::Observe), Ok(()));
        assert_eq!(seen.effect(task(3), Impact::Observe), Ok(()));
        assert_eq!(seen.count(), 5);
    }

    #[test]
    fn a_success_without_an_effect_is_told() {
        let seen = AtMostOnce::default();
        assert!(seen.succeeded(&("run".to_owned(), "step".to_owned(), 0)).is_err());
    }
}
