//! What goes wrong, and when.

use super::event::Event;
use super::invariants::Check;
use super::network::AGENT_BASE;
use super::rng::Rng;
use super::world::World;

/// One fault.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A node dies, losing what it had not synced (but for this share of it), and comes back later.
    CrashNode { node: u64, back_us: u64 },
    /// An agent dies, and comes back later.
    CrashAgent { agent: usize, back_us: u64 },
    /// These directions are cut for a while.
    Cut { pairs: Vec<(u64, u64)>, for_us: u64 },
    /// The network turns bad for a while.
    Weather {
        drop_percent: u64,
        duplicate_percent: u64,
        delay_us_max: u64,
        for_us: u64,
    },
    /// A disk takes this long to sync, for a while.
    SlowDisk { node: u64, sync_us: u64, for_us: u64 },
    /// A node's clock jumps.
    Skew { node: u64, skew_ms: i64 },
}

/// Draws the next fault.
fn draw(rng: &mut Rng, nodes: u64, agents: usize) -> Fault {
    let node = rng.between(1, nodes);
    match rng.below(12) {
        0..=3 => Fault::CrashNode {
            node,
            back_us: rng.between(50_000, 3_000_000),
        },
        4..=5 => Fault::CrashAgent {
            agent: rng.below(agents),
            back_us: rng.between(20_000, 2_000_000),
        },
        6..=8 => {
            let pairs = match rng.below(3) {
                // One node alone.
                0 => (1..=nodes)
                    .filter(|&n| n != node)
                    .flat_map(|n| [(node, n), (n, node)])
                    .collect(),
                // Only one way.
                1 => (1..=nodes).filter(|&n| n != node).map(|n| (n, node)).collect(),
                // Agents lose a node.
                _ => (0..agents as u64)
                    .flat_map(|a| [(AGENT_BASE + a, node), (node, AGENT_BASE + a)])
                    .collect(),
            };
            Fault::Cut {
                pairs,
                for_us: rng.between(100_000, 3_000_000),
            }
        }
        9 => Fault::Weather {
            drop_percent: rng.between(0, 30),
            duplicate_percent: rng.between(0, 20),
            delay_us_max: rng.between(1_000, 200_000),
            for_us: rng.between(200_000, 2_000_000),
        },
        10 => Fault::SlowDisk {
            node,
            sync_us: rng.between(10_000, 400_000),
            for_us: rng.between(200_000, 2_000_000),
        },
        _ => Fault::Skew {
            node,
            skew_ms: rng.between(0, 20_000) as i64 - 10_000,
        },
    }
}

impl World {
    pub(super) fn fault(&mut self) -> Check {
        if self.healed {
            return Ok(());
        }
        let pause = self.rng.between(50_000, 1_200_000);
        self.after(pause, Event::Fault);
        let fault = draw(&mut self.rng, self.options.nodes, self.agents.len());
        if self.options.trace {
            println!("{:>12} fault {fault:?}", self.now_us);
        }
        match fault {
            Fault::CrashNode { node, back_us } => {
                if self.nodes[&node].is_alive() {
                    self.crash_node(node);
                    self.after(back_us, Event::NodeBack { node });
                }
            }
            Fault::CrashAgent { agent, back_us } => {
                if self.agents[agent].is_alive() {
                    self.crash_agent(agent);
                    self.after(back_us, Event::AgentBack { agent });
                }
            }
            Fault::Cut { pairs, for_us } => {
                for (from, to) in pairs {
                    self.network.cut(from, to);
                }
                self.after(for_us, Event::Mend);
            }
            Fault::Weather {
                drop_percent,
                duplicate_percent,
                delay_us_max,
                for_us,
            } => {
                self.network.drop_percent = drop_percent;
                self.network.duplicate_percent = duplicate_percent;
                self.network.delay_us_max = delay_us_max;
                self.after(for_us, Event::Weather);
            }
            Fault::SlowDisk {
                node,
                sync_us,
                for_us,
            } => {
                self.nodes.get_mut(&node).expect("a node").sync_us = sync_us;
                self.after(for_us, Event::SyncNormal { node });
            }
            Fault::Skew { node, skew_ms } => self.nodes.get_mut(&node).expect("a node").skew_ms = skew_ms,
        }
        Ok(())
    }
}
