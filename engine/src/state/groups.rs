//! The groups in which a step's tasks are let go: `canary`, then `waves`, then what is left.
//!
//! A group is opened when the one before has ended and nothing speaks against going on; so tasks of later
//! groups do not exist yet, and none of their deadlines run.

use playbook::manifest::{Strategy, Wave};

/// Behind which task the group ends that holds the one at `opened`: all of them, where there are no groups.
pub(crate) fn group_end(strategy: &Strategy, total: u32, opened: u32) -> u32 {
    ends(strategy, total)
        .find(|&end| end > opened)
        .unwrap_or(total)
        .min(total)
}

/// `opened` tasks are whole groups, with more to come.
pub(crate) fn is_between(strategy: &Strategy, total: u32, opened: u32) -> bool {
    opened > 0 && opened < total && ends(strategy, total).any(|end| end == opened)
}

/// These many tasks are the canary's, or some of them.
pub(crate) fn in_canary(strategy: &Strategy, opened: u32) -> bool {
    strategy.canary.is_some_and(|canary| opened <= canary)
}

/// The ends of the groups, in order; what is behind the last one is a group too.
fn ends(strategy: &Strategy, total: u32) -> impl Iterator<Item = u32> + '_ {
    let sizes = strategy
        .canary
        .into_iter()
        .chain(strategy.waves.iter().map(move |wave| match *wave {
            Wave::Count(count) => count,
            Wave::Percent(share) => (f64::from(total) * share / 100.0).ceil() as u32,
        }));
    sizes.scan(0u32, |end, size| {
        *end = end.saturating_add(size.max(1));
        Some(*end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of the groups of so many tasks.
    fn sizes(canary: Option<u32>, waves: &[Wave], total: u32) -> Vec<u32> {
        let strategy = Strategy {
            canary,
            waves: waves.to_vec(),
            ..Strategy::default()
        };
        let mut sizes = Vec::new();
        let mut opened = 0;
        while opened < total {
            assert_eq!(is_between(&strategy, total, opened), opened > 0);
            let end = group_end(&strategy, total, opened);
            sizes.push(end - opened);
            opened = end;
        }
        assert!(!is_between(&strategy, total, total));
        sizes
    }

    #[test]
    fn the_groups_are_as_large_as_declared_and_the_rest_is_the_last() {
        use Wave::{Count, Percent};
        assert_eq!(sizes(None, &[], 7), [7]);
        assert_eq!(sizes(Some(2), &[], 7), [2, 5]);
        assert_eq!(
            sizes(None, &[Count(1), Percent(1.0), Percent(10.0)], 250),
            [1, 3, 25, 221]
        );
        assert_eq!(sizes(Some(1), &[Percent(50.0)], 4), [1, 2, 1]);
    }

    #[test]
    fn groups_end_with_the_tasks() {
        use Wave::{Count, Percent};
        assert_eq!(sizes(Some(10), &[], 3), [3]);
        assert_eq!(sizes(None, &[Percent(100.0)], 3), [3]);
        assert_eq!(
            sizes(None, &[Count(2), Count(u32::MAX), Count(u32::MAX)], 3),
            [2, 1]
        );
        assert_eq!(sizes(Some(3), &[Count(1)], 0), [0; 0]);
    }
}
