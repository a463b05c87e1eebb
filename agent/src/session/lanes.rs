//! What waits to be run: two lanes, so that containing never queues behind collecting.

use std::collections::VecDeque;

use super::event::Assignment;

/// An assignment and when it came.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// What to do.
    pub assignment: Box<Assignment>,
    /// On the monotonic clock.
    pub received_ms: u64,
}

impl Waiting {
    /// The last moment at which it may begin.
    pub fn start_by_ms(&self) -> Option<u64> {
        let within = self.assignment.start_within_ms;
        (within > 0).then(|| self.received_ms.saturating_add(within))
    }
}

/// Two bounded queues, each with its own slots: neither ever takes the other's.
#[derive(Debug)]
pub struct Lanes {
    urgent: Lane,
    normal: Lane,
}

#[derive(Debug)]
struct Lane {
    waiting: VecDeque<Waiting>,
    waiting_max: usize,
    busy: usize,
    slots: usize,
}

impl Lanes {
    /// `waiting_max` bounds each lane's queue.
    pub fn new(urgent_slots: usize, normal_slots: usize, waiting_max: usize) -> Lanes {
        let lane = |slots| Lane {
            waiting: VecDeque::new(),
            waiting_max,
            busy: 0,
            slots,
        };
        Lanes {
            urgent: lane(urgent_slots),
            normal: lane(normal_slots),
        }
    }

    /// Queues it; gives it back when its lane is full.
    pub fn push(&mut self, waiting: Waiting) -> Result<(), Waiting> {
        let lane = self.lane(waiting.assignment.urgent);
        if lane.waiting.len() >= lane.waiting_max {
            return Err(waiting);
        }
        lane.waiting.push_back(waiting);
        Ok(())
    }

    /// Takes a slot for the next that has one, the urgent lane first.
    pub fn begin_next(&mut self) -> Option<Waiting> {
        for lane in [&mut self.urgent, &mut self.normal] {
            if lane.busy < lane.slots
                && let Some(waiting) = lane.waiting.pop_front()
            {
                lane.busy += 1;
                return Some(waiting);
            }
        }
        None
    }

    /// Gives a slot back.
    pub fn end(&mut self, urgent: bool) {
        let lane = self.lane(urgent);
        lane.busy = lane.busy.saturating_sub(1);
    }

    /// Takes what waits and satisfies the condition out of its queue.
    pub fn take(&mut self, mut condition: impl FnMut(&Waiting) -> bool) -> Vec<Waiting> {
        let mut taken = Vec::new();
        for lane in [&mut self.urgent, &mut self.normal] {
            if !lane.waiting.iter().any(&mut condition) {
                continue;
            }
            let (out, kept): (Vec<_>, Vec<_>) = lane.waiting.drain(..).partition(&mut condition);
            lane.waiting = kept.into();
            taken.extend(out);
        }
        taken
    }

    /// The first moment at which something that waits is too late.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let queues = self.urgent.waiting.iter().chain(&self.normal.waiting);
        // At that moment it may still begin; just after it is too late.
        queues
            .filter_map(Waiting::start_by_ms)
            .map(|by_ms| by_ms.saturating_add(1))
            .min()
    }

    fn lane(&mut self, urgent: bool) -> &mut Lane {
        if urgent {
            &mut self.urgent
        } else {
            &mut self.normal
        }
    }
}
