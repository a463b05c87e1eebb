//! The members, as the leader keeps them: sessions of nodes that are gone are closed in their name, and
//! learners that have caught up get their vote.

use std::collections::HashMap;
use std::time::Duration;

use engine::id::NodeId;
use tokio::time::Instant;

use super::{Over, close_sessions_of};
use crate::config::Config;
use crate::control::Control;
use crate::raft::Change;

/// How often the members are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Looks after the members for one term.
pub(super) async fn keep(control: &Control, config: &Config) -> Over {
    let lost_after = Duration::from_millis(config.leader.node_lost_ms);
    let mut silent_since: HashMap<u64, Instant> = HashMap::new();
    let mut every = tokio::time::interval(LOOK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let status = control.raft().status();
        for peer in status.peers.iter().filter(|peer| peer.id != control.node().0) {
            if peer.recently_active {
                silent_since.remove(&peer.id);
                if peer.is_learner {
                    promote(control, peer.id).await;
                }
                continue;
            }
            let since = *silent_since.entry(peer.id).or_insert_with(Instant::now);
            if since.elapsed() >= lost_after && close_sessions_of(control, NodeId(peer.id)).await.is_err() {
                return Over;
            }
        }
    }
}

/// A learner that lags is refused, and asked again at the next look.
async fn promote(control: &Control, id: u64) {
    match control.raft().change_membership(Change::Promote(id)).await {
        Ok(()) => tracing::info!(node = id, "a learner has caught up and votes from now on"),
        Err(reason) => tracing::debug!(node = id, %reason, "a learner does not vote yet"),
    }
}
