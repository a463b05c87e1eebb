//! What only the leader does: it plans and fires timers.

use std::collections::BTreeSet;

use engine::Actor;
use engine::command::{Command, Envelope};
use engine::planner::Planner;

use super::super::world::World;
use super::proposals::Waiting;

/// What a leader knows beyond the state.
pub(super) struct Leading {
    pub(super) planner: Planner,
    pub(super) plans: BTreeSet<u64>,
    pub(super) tick: Option<u64>,
    pub(super) from_us: u64,
}

impl World {
    /// Proposes what the planner and the clock ask for. True: something was proposed.
    pub(super) fn lead(&mut self, id: u64) -> Result<bool, (&'static str, String)> {
        let now = self.clock(id);
        let now_us = self.now_us;
        let node = self.nodes.get_mut(&id).expect("a node");
        let (Some(leading), Some(replica)) = (&mut node.leading, &node.replica) else {
            return Ok(false);
        };
        if now_us < leading.from_us || !replica.role().ready {
            return Ok(false);
        }
        let mut commands = Vec::new();
        {
            let state = replica.state().read();
            if leading.tick.is_none() && state.next_deadline().is_some_and(|due| due <= now) {
                commands.push(Command::Tick);
            }
            if leading.plans.is_empty() {
                commands.extend(leading.planner.plan(&state, now));
            }
        }
        let any = !commands.is_empty();
        for command in commands {
            let tick = matches!(command, Command::Tick);
            let envelope = Envelope {
                request: None,
                actor: Actor::Leader,
                command,
            };
            let waiting = if tick { Waiting::Tick } else { Waiting::Plan };
            let proposal = self.nodes[&id].next_id + 1;
            if let Some(leading) = &mut self.nodes.get_mut(&id).expect("a node").leading {
                if tick {
                    leading.tick = Some(proposal);
                } else {
                    leading.plans.insert(proposal);
                }
            }
            self.propose(id, envelope, waiting)?;
        }
        Ok(any)
    }
}
