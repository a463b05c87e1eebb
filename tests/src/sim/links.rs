//! Streams between agents and nodes: each keeps its order, and breaks when it is cut or an end of it dies.

use agent::session::event::{Input, Received};

use super::agents::Up;
use super::event::Event;
use super::network::AGENT_BASE;
use super::world::World;

/// An agent's stream.
#[derive(Debug)]
pub(super) struct Link {
    pub connection: u64,
    pub node: u64,
    pub node_life: u64,
    pub up_at: u64,
    pub down_at: u64,
}

impl World {
    /// A connection attempt comes to its end.
    pub(super) fn agent_link(&mut self, number: usize, life: u64, connection: u64, node: u64) {
        if self.agents[number].life != life || !self.agents[number].is_alive() {
            return;
        }
        let me = AGENT_BASE + number as u64;
        let open = self.network.is_open(me, node) && self.network.is_open(node, me);
        if open && self.nodes[&node].is_alive() {
            let node_life = self.nodes[&node].life;
            self.agents[number].link = Some(Link {
                connection,
                node,
                node_life,
                up_at: self.now_us,
                down_at: self.now_us,
            });
            self.agent_input(number, life, Input::Connected { connection });
        } else {
            let reason = "no answer".to_owned();
            self.agent_input(number, life, Input::Lost { connection, reason });
        }
    }

    /// Sends over a stream that keeps its order; over a cut, the stream breaks. Gives the time of arrival.
    pub(super) fn send_up(&mut self, number: usize, link: &Link, up: Up) -> u64 {
        let me = AGENT_BASE + number as u64;
        if !self.network.is_open(me, link.node) {
            self.break_link(number, link.connection);
            return link.up_at;
        }
        let delay = self.rng.between(50, self.network.delay_us_max);
        let at = (self.now_us + delay).max(link.up_at + 1);
        self.after(
            at - self.now_us,
            Event::FromAgent {
                agent: number,
                connection: link.connection,
                node: link.node,
                life: link.node_life,
                up,
            },
        );
        at
    }

    /// A node says something to an agent. False: the stream is gone.
    pub(super) fn send_down(&mut self, node: u64, number: usize, connection: u64, message: Received) -> bool {
        let me = AGENT_BASE + number as u64;
        let life = self.agents[number].life;
        let Some(link) = self.agents[number].link.as_ref() else {
            return false;
        };
        if link.connection != connection || link.node != node || link.node_life != self.nodes[&node].life {
            return false;
        }
        let down_at = link.down_at;
        if !self.network.is_open(node, me) {
            self.break_link(number, connection);
            return false;
        }
        let delay = self.rng.between(50, self.network.delay_us_max);
        let at = (self.now_us + delay).max(down_at + 1);
        self.agents[number].link.as_mut().expect("just seen").down_at = at;
        let input = Box::new(Input::Received { connection, message });
        self.after(
            at - self.now_us,
            Event::AgentInput {
                agent: number,
                life,
                input,
            },
        );
        true
    }

    /// The agent learns some time later that a stream is broken.
    fn break_link(&mut self, number: usize, connection: u64) {
        let life = self.agents[number].life;
        let delay = self.rng.between(1_000, 1_000_000);
        let input = Box::new(Input::Lost {
            connection,
            reason: "broken".to_owned(),
        });
        self.after(
            delay,
            Event::AgentInput {
                agent: number,
                life,
                input,
            },
        );
    }

    /// A node died: its agents learn it soon, or by themselves.
    pub(super) fn links_die(&mut self, node: u64) {
        for number in 0..self.agents.len() {
            let connection = self.agents[number]
                .link
                .as_ref()
                .filter(|l| l.node == node)
                .map(|l| l.connection);
            if let Some(connection) = connection
                && self.rng.percent(70)
            {
                self.break_link(number, connection);
            }
        }
    }
}
