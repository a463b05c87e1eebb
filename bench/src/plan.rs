//! Planning over a fleet: what a coordinator does for `cordon playbook plan`, without the network and the log.

use std::time::Instant;

use anyhow::Context;
use engine::command::{Envelope, NodeInfo, SessionOpened};
use engine::id::{Digest, NodeId, RunId};
use engine::plan::{Ground, Plan, draw};
use engine::{Actor, Command, Reply, State, Timestamp};
use serde_json::json;
use sha2::Digest as _;

use crate::percentile;

/// Selects by labels for what contains, by facts for what observes, and asks people about some of the hosts.
const PLAYBOOK: &str = r#"
playbook: bench-plan
version: 1
inputs:
  ttl: {type: duration, default: 4h}
targets:
  west: {select: "has(agent.labels.site) && agent.labels.site == 'west'"}
  all: {select: "agent.facts.os == 'linux'"}
steps:
  look: {do: host.info, targets: all}
  isolate:
    do: host.isolate
    targets: west
    needs: [look.done]
    with: {mode: network, allow: [coordinator], ttl: "${inputs.ttl}"}
    gate:
      when: target.labels.criticality == "critical"
      approve: {roles: [commander], quorum: 2, expires: 10m}
"#;

/// Agents that one join token can admit.
const TOKEN_USES: usize = engine::limits::TOKEN_USES_MAX as usize;
/// Of so many agents one is critical, and half of them are in the west.
const CRITICAL_EVERY: usize = 100;

/// One line for each size of the fleet.
pub fn run(sizes: &[usize], rounds: usize) -> anyhow::Result<()> {
    for &agents in sizes {
        let mut fleet = Fleet::new(agents)?;
        let (mut took_us, mut copied_us, mut started_us) = (Vec::new(), Vec::new(), Vec::new());
        let mut shape = (0, 0);
        for round in 0..rounds {
            let began = Instant::now();
            let manifest = playbook::compile(PLAYBOOK)?.manifest;
            let inputs = playbook::bind_inputs(&manifest, &json!({}))?;
            let named = playbook::named_hosts(&manifest, &inputs, &json!({}));
            let copying = Instant::now();
            let ground = Ground::of(&fleet.state, named.as_ref());
            copied_us.push(copying.elapsed().as_micros() as u64);
            let plan = draw(manifest, inputs, json!({}), &ground, "ada")?;
            took_us.push(began.elapsed().as_micros() as u64);
            shape = (plan.targets.values().map(Vec::len).sum(), plan.hosts.len());
            started_us.push(fleet.start(plan, round)?);
        }
        for all in [&mut took_us, &mut copied_us, &mut started_us] {
            all.sort_unstable();
        }
        let line = json!({
            "bench": "plan",
            "agents": agents,
            "targets": shape.0,
            "hosts": shape.1,
            "p50_us": percentile(&took_us, 50),
            "p99_us": percentile(&took_us, 99),
            // For so long the state is held.
            "copy_p50_us": percentile(&copied_us, 50),
            // The apply that checks the hash and starts the run.
            "start_p50_us": percentile(&started_us, 50),
            "n": rounds,
        });
        println!("{line}");
    }
    Ok(())
}

/// A state with agents.
struct Fleet {
    state: State,
    index: u64,
}

impl Fleet {
    fn new(agents: usize) -> anyhow::Result<Fleet> {
        let mut fleet = Fleet {
            state: State::default(),
            index: 0,
        };
        let node = NodeId(1);
        let at = |port: u16| format!("c1:{port}");
        let member = NodeInfo {
            node,
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
        let mut opened = Vec::new();
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
            let Reply::Enrolled { agent, .. } = fleet.apply(Actor::Node(node), command)? else {
                anyhow::bail!("agent {n} was not enrolled");
            };
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
            Actor::Node(node),
            Command::Sessions {
                node,
                opened,
                closed: Vec::new(),
                facts: Vec::new(),
            },
        )?;
        Ok(fleet)
    }

    fn apply(&mut self, actor: Actor, command: Command) -> anyhow::Result<Reply> {
        self.index += 1;
        let envelope = Envelope {
            request: None,
            actor,
            command,
        };
        match self.state.apply(self.index, Timestamp(1), &envelope).reply {
            Reply::Refused(why) => Err(why).context("the state refuses what the fleet is made of"),
            reply => Ok(reply),
        }
    }

    /// How long the apply takes that starts the plan, in microseconds.
    fn start(&mut self, plan: Plan, round: usize) -> anyhow::Result<u64> {
        let expected = plan.hash;
        let start = plan.start(RunId(uuid::Uuid::from_u128(round as u128 + 2)), Some(expected));
        let began = Instant::now();
        self.apply(Actor::Operator("ada".into()), Command::StartRun(Box::new(start)))?;
        Ok(began.elapsed().as_micros() as u64)
    }
}

/// As much as an agent says of a small host.
const FACTS: &str = r#"{"os":"linux","kernel":"6.8.0-45-generic","arch":"x86_64","hostname":"host.example.org","distribution":"Debian GNU/Linux 12 (bookworm)","cpus":8,"memory_bytes":33554432000,"boot_at_ms":1764000000000}"#;

fn digest(text: &str) -> Digest {
    Digest(sha2::Sha256::digest(text).into())
}
