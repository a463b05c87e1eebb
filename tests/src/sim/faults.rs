//! What goes wrong, and when.

use super::agents::Moment;
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
    /// A node dies in the middle of its next sync, or of the next snapshot's.
    CrashInSync {
        node: u64,
        in_install: bool,
        back_us: u64,
    },
    /// An agent dies, at once or at the next moment of some kind, and comes back later.
    CrashAgent {
        agent: usize,
        moment: Option<Moment>,
        back_us: u64,
    },
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
    /// An agent's clock jumps, for a while.
    SkewAgent { agent: usize, skew_ms: i64, for_us: u64 },
}

/// Draws the next fault.
fn draw(rng: &mut Rng, nodes: u64, agents: usize) -> Fault {
    let node = rng.between(1, nodes);
    match rng.below(14) {
        0..=1 => Fault::CrashNode {
            node,
            back_us: rng.between(50_000, 4_000_000),
        },
        2..=3 => Fault::CrashInSync {
            node,
            in_install: rng.percent(30),
            back_us: rng.between(50_000, 2_000_000),
        },
        4..=5 => Fault::CrashAgent {
            agent: rng.below(agents),
            moment: match rng.below(4) {
                0 => None,
                1 => Some(Moment::InWrite),
                _ => Some(Moment::BeforeOutcome),
            },
            back_us: rng.between(20_000, 2_000_000),
        },
        6..=8 => {
            let others = (1..=nodes).filter(|&n| n != node);
            let pairs = match rng.below(6) {
                // One node alone.
                0 => others.flat_map(|n| [(node, n), (n, node)]).collect(),
                // It hears nobody, and is heard.
                1 => others.map(|n| (n, node)).collect(),
                // Nobody hears it, and it hears.
                2 => others.map(|n| (node, n)).collect(),
                // It does not hear one other.
                3 => vec![(node % nodes + 1, node)],
                // Agents do not hear a node, or are not heard.
                4 => {
                    let down = rng.percent(50);
                    let agents = (0..agents as u64).map(|a| AGENT_BASE + a);
                    agents.map(|a| if down { (node, a) } else { (a, node) }).collect()
                }
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
        10..=11 => Fault::SlowDisk {
            node,
            sync_us: rng.between(10_000, 400_000),
            for_us: rng.between(200_000, 2_000_000),
        },
        12 => Fault::Skew {
            node,
            skew_ms: rng.between(0, 20_000) as i64 - 10_000,
        },
        _ => Fault::SkewAgent {
            agent: rng.below(agents),
            skew_ms: rng.between(0, 7_200_000) as i64 - 3_600_000,
            for_us: rng.between(200_000, 5_000_000),
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
            Fault::CrashInSync {
                node,
                in_install,
                back_us,
            } => self.nodes.get_mut(&node).expect("a node").doom = Some((in_install, back_us)),
            Fault::CrashNode { node, back_us } => {
                if self.nodes[&node].is_alive() {
                    self.crash_node(node)?;
                    self.after(back_us, Event::NodeBack { node });
                }
            }
            Fault::CrashAgent {
                agent,
                moment: Some(moment),
                back_us,
            } => self.agents[agent].doom = Some((moment, back_us)),
            Fault::CrashAgent {
                agent,
                moment: None,
                back_us,
            } => {
                if self.agents[agent].is_alive() {
                    self.crash_agent(agent);
                    self.after(back_us, Event::AgentBack { agent });
                }
            }
            Fault::Cut { pairs, for_us } => {
                for (from, to) in &pairs {
                    self.network.cut(*from, *to);
                }
                self.after(for_us, Event::Mend { pairs });
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
            Fault::SkewAgent {
                agent,
                skew_ms,
                for_us,
            } => {
                self.agents[agent].skew_ms = skew_ms;
                self.after(for_us, Event::SkewEnds { agent });
            }
            Fault::Skew { node, skew_ms } => self.nodes.get_mut(&node).expect("a node").skew_ms = skew_ms,
        }
        Ok(())
    }
}
