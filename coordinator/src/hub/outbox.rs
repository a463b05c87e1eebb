//! What a session has handed out: nothing twice, nothing above `observe` without a lease.

use catalogue::Impact;
use engine::Assignment;
use engine::id::AttemptKey;

/// What one session has sent of the assignments of its agent.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    sent: Vec<Sent>,
}

#[derive(Clone, Debug)]
struct Sent {
    key: AttemptKey,
    step: String,
    cancelled: bool,
    /// The agent said that it has ended.
    ended: bool,
}

/// Something to send.
#[derive(Debug, PartialEq)]
pub enum Order {
    /// Begin this.
    Assign(Assignment),
    /// Stop this, and say how it ended.
    Cancel {
        /// The attempt.
        key: AttemptKey,
        /// Its step's name.
        step: String,
        /// For the agent.
        reason: String,
    },
}

impl Outbox {
    /// Counts an attempt as sent: the agent said that it is at it.
    pub fn note_running(&mut self, key: AttemptKey, step: String) {
        self.sent.push(Sent {
            key,
            step,
            cancelled: false,
            ended: false,
        });
    }

    /// Notes that the agent said how an attempt ended: when the cluster drops it, that is why.
    pub fn note_ended(&mut self, key: &AttemptKey) {
        if let Some(sent) = self.sent.iter_mut().find(|sent| sent.key == *key) {
            sent.ended = true;
        }
    }

    /// What to send, given the agent's assignments as they are now. An attempt is assigned once and
    /// cancelled once per session. One that is being cancelled before this session sent it is only
    /// cancelled: the agent knows it from an earlier session, or says that it never began. One that the
    /// agent is at and that is assigned no more has ended for the cluster: it is cancelled too.
    pub fn orders(&mut self, assignments: Vec<Assignment>, has_lease: bool) -> Vec<Order> {
        let mut orders = Vec::new();
        self.sent.retain(|sent| {
            let is_assigned = assignments.iter().any(|assignment| assignment.key == sent.key);
            if !is_assigned && !sent.ended && !sent.cancelled {
                orders.push(Order::Cancel {
                    key: sent.key,
                    step: sent.step.clone(),
                    reason: "the cluster has ended this attempt".into(),
                });
            }
            is_assigned
        });
        for mut assignment in assignments {
            let sent = self.sent.iter_mut().find(|sent| sent.key == assignment.key);
            let cancel = assignment.cancel.take();
            let (key, step) = (assignment.key, assignment.step.clone());
            match (sent, cancel) {
                (Some(sent), Some(reason)) if !sent.cancelled && !sent.ended => {
                    sent.cancelled = true;
                    orders.push(Order::Cancel { key, step, reason });
                }
                (Some(_), _) => {}
                (None, Some(reason)) => {
                    self.note_running(key, step.clone());
                    self.sent.last_mut().expect("just pushed").cancelled = true;
                    orders.push(Order::Cancel { key, step, reason });
                }
                (None, None) if has_lease || assignment.impact == Impact::Observe => {
                    self.note_running(key, step);
                    orders.push(Order::Assign(assignment));
                }
                // Without a lease this node cannot know whether that was given to someone else since.
                (None, None) => {}
            }
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use engine::id::{RunId, TaskKey};

    use super::*;

    fn assignment(item: u32, impact: Impact) -> Assignment {
        Assignment {
            key: AttemptKey {
                task: TaskKey {
                    run: RunId(uuid::Uuid::nil()),
                    step: 0,
                    item,
                },
                attempt: 1,
                token: 7,
            },
            step: "s".into(),
            action: "a.b".into(),
            parameters: "{}".into(),
            impact,
            urgent: false,
            cancel: None,
            started: false,
            attempt_timeout_ms: 0,
            start_by: None,
            heartbeat_timeout_ms: 0,
        }
    }

    fn cancelled(item: u32) -> Assignment {
        Assignment {
            cancel: Some("stop".into()),
            ..assignment(item, Impact::Contain)
        }
    }

    fn names(orders: &[Order]) -> Vec<String> {
        let name = |order: &Order| match order {
            Order::Assign(assignment) => format!("assign {}", assignment.key.task.item),
            Order::Cancel { key, reason, .. } => format!("cancel {} {reason}", key.task.item),
        };
        orders.iter().map(name).collect()
    }

    #[test]
    fn each_attempt_is_assigned_once_and_cancelled_once() {
        let mut outbox = Outbox::default();
        let one = || vec![assignment(1, Impact::Contain)];
        assert_eq!(names(&outbox.orders(one(), true)), ["assign 1"]);
        assert!(outbox.orders(one(), true).is_empty());
        assert_eq!(names(&outbox.orders(vec![cancelled(1)], true)), ["cancel 1 stop"]);
        assert!(outbox.orders(vec![cancelled(1)], true).is_empty());
        assert!(outbox.orders(vec![], true).is_empty());
        assert!(outbox.sent.is_empty(), "what has ended is forgotten");
    }

    #[test]
    fn without_a_lease_only_what_observes_goes_out() {
        let mut outbox = Outbox::default();
        let both = || vec![assignment(1, Impact::Collect), assignment(2, Impact::Observe)];
        assert_eq!(names(&outbox.orders(both(), false)), ["assign 2"]);
        assert_eq!(names(&outbox.orders(both(), true)), ["assign 1"]);
        let stopped = vec![cancelled(1), assignment(2, Impact::Observe)];
        assert_eq!(names(&outbox.orders(stopped, false)), ["cancel 1 stop"]);
    }

    #[test]
    fn what_the_agent_is_at_is_not_sent_again() {
        let mut outbox = Outbox::default();
        outbox.note_running(assignment(1, Impact::Contain).key, "s".into());
        assert!(
            outbox
                .orders(vec![assignment(1, Impact::Contain)], true)
                .is_empty()
        );
        assert_eq!(names(&outbox.orders(vec![cancelled(1)], true)), ["cancel 1 stop"]);
    }

    #[test]
    fn what_was_never_sent_is_only_cancelled() {
        let mut outbox = Outbox::default();
        assert_eq!(names(&outbox.orders(vec![cancelled(1)], true)), ["cancel 1 stop"]);
        assert!(outbox.orders(vec![cancelled(1)], true).is_empty());
    }

    #[test]
    fn what_is_assigned_no_more_is_stopped_unless_it_ended() {
        let mut outbox = Outbox::default();
        let both = || vec![assignment(1, Impact::Contain), assignment(2, Impact::Contain)];
        outbox.orders(both(), true);
        outbox.note_ended(&assignment(1, Impact::Contain).key);
        assert!(
            outbox.orders(both(), true).is_empty(),
            "its end is not committed yet"
        );
        assert_eq!(
            names(&outbox.orders(vec![], true)),
            ["cancel 2 the cluster has ended this attempt"]
        );
        assert!(outbox.orders(vec![], true).is_empty());
    }
}
