//! A state with agents in this process: the engine alone, without the network and the log.

use anyhow::Context;
use engine::command::{Envelope, NodeInfo, SessionOpened};
use engine::id::{AgentId, Digest, NodeId};
use engine::{Actor, Applied, Command, Reply, State, Timestamp};
use sha2::Digest as _;

/// Agents that one join token can admit.
const TOKEN_USES: usize = engine::limits::TOKEN_USES_MAX as usize;
/// Of so many agents one is critical, and half of them are in the west.
const CRITICAL_EVERY: usize = 100;
/// The only member.
pub const NODE: NodeId = NodeId(1);

/// As much as an agent says of a small host.
const FACTS: &str = r#"{"os":"linux","kernel":"6.8.0-45-generic","arch":"x86_64","hostname":"host.example.org","distribution":"Debian GNU/Linux 12 (bookworm)","cpus":8,"memory_bytes":33554432000,"boot_at_ms":1764000000000}"#;

/// All agents have a session.
pub struct Fleet {
    pub state: State,
    pub agents: Vec<AgentId>,
    index: u64,
}

impl Fleet {
    pub fn new(agents: usize) -> anyhow::Result<Fleet> {
        let mut fleet = Fleet {
            state: State::default(),
            agents: Vec::with_capacity(agents),
            index: 0,
        };
        let at = |port: u16| format!("c1:{port}");
        let member = NodeInfo {
            node: NODE,
            name: "c1".into(),
            peer_endpoint: at(7402),
            agent_endpoint: at(7401),
            operator_endpoint: at(7400),
            enroll_endpoint: at(7403),
        };
        fleet.apply(
            Actor::Leader,
            Command::Bootstrap {
                cluster: uuid::Uuid::from_u128(1),
                trust_domain: "cordon.bench".into(),
                nodes: vec![member],
            },
        )?;
        for (role, labels) in [
            ("west", &[("site", "west")][..]),
            ("east", &[("site", "east")]),
            ("critical", &[("site", "west"), ("criticality", "critical")]),
        ] {
            fleet.apply(
                Actor::Operator("ada".into()),
                Command::CreateToken {
                    id: role.into(),
                    hash: digest(role),
                    uses: TOKEN_USES as u32,
                    expires_at: Timestamp(u64::MAX / 2),
                    labels: labels
                        .iter()
                        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                        .collect(),
                    agent: None,
                },
            )?;
        }
        let mut opened = Vec::with_capacity(agents);
        for n in 0..agents {
            let token = match n {
                n if n % CRITICAL_EVERY == 0 => "critical",
                n if n % 2 == 0 => "west",
                _ => "east",
            };
            let key = digest(&format!("key {n}"));
            let command = Command::Enroll {
                token: digest(token),
                key,
                hostname: format!("host-{n:06}"),
            };
            let Reply::Enrolled { agent, .. } = fleet.apply(Actor::Node(NODE), command)?.reply else {
                anyhow::bail!("agent {n} was not enrolled");
            };
            fleet.agents.push(agent.clone());
            opened.push(SessionOpened {
                agent,
                session: n as u64 + 1,
                key,
                version: "1".into(),
                boot_id: "b".into(),
                facts: FACTS.into(),
                running: Vec::new(),
            });
        }
        fleet.apply(
            Actor::Node(NODE),
            Command::Sessions {
                node: NODE,
                opened,
                closed: Vec::new(),
                facts: Vec::new(),
            },
        )?;
        Ok(fleet)
    }

    /// Applies a command that must not be refused.
    pub fn apply(&mut self, actor: Actor, command: Command) -> anyhow::Result<Applied> {
        self.index += 1;
        let envelope = Envelope {
            request: None,
            actor,
            command,
        };
        let applied = self.state.apply(self.index, Timestamp(1), &envelope);
        match applied.reply {
            Reply::Refused(why) => Err(why).context("the state refuses what the benchmark asks"),
            _ => Ok(applied),
        }
    }
}

fn digest(text: &str) -> Digest {
    Digest(sha2::Sha256::digest(text).into())
}
