//! Durable commands a second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use coordinator::raft::{ProposeError, RaftHandle};
use engine::command::{Command, Envelope};
use engine::id::{AgentId, Digest};
use engine::{Actor, Entry, Reply, Timestamp};
use sha2::Digest as _;

use crate::cluster::Cluster;
use crate::percentile;

/// Of an encoded entry.
const COMMAND_BYTES: usize = 256;

/// One line for each number of clients.
pub async fn run(clients: &[usize], seconds: u64) -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let leader = cluster.leader().await?;
    let agent = found(&leader).await?;
    for &clients in clients {
        measure(&leader, &agent, clients, seconds).await?;
    }
    cluster.stop().await;
    Ok(())
}

async fn measure(leader: &RaftHandle, agent: &AgentId, clients: usize, seconds: u64) -> anyhow::Result<()> {
    let fill = fill(agent);
    let before = leader.with_state(engine::State::audit_sequence);
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let mut tasks = Vec::new();
    for client in 0..clients {
        let (leader, agent) = (leader.clone(), agent.clone());
        tasks.push(tokio::spawn(async move {
            let mut took_us = Vec::new();
            let mut errors = 0_u64;
            let mut number = 0_u64;
            while Instant::now() < until {
                let envelope = command(&agent, client as u64, number, fill);
                number += 1;
                let one = Instant::now();
                match leader.propose(envelope).await {
                    Ok((_, Reply::Done)) => took_us.push(one.elapsed().as_micros() as u64),
                    Err(ProposeError::Busy) => {
                        errors += 1;
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Ok(_) | Err(_) => errors += 1,
                }
            }
            (took_us, errors)
        }));
    }
    let mut took_us = Vec::new();
    let mut errors = 0;
    for task in tasks {
        let (mut one, failed) = task.await?;
        took_us.append(&mut one);
        errors += failed;
    }
    let lasted = began.elapsed().as_secs_f64();
    took_us.sort_unstable();
    // Each command that is answered has its audit record in the state: the load is its own oracle.
    let recorded = leader.with_state(engine::State::audit_sequence) - before;
    if recorded < took_us.len() as u64 {
        bail!(
            "{} commands were acknowledged, but the state has records of {recorded}",
            took_us.len()
        );
    }
    let line = serde_json::json!({
        "bench": "commit",
        "clients": clients,
        "per_s": (took_us.len() as f64 / lasted).round(),
        "p50_us": percentile(&took_us, 50),
        "p99_us": percentile(&took_us, 99),
        "n": took_us.len(),
        "errors": errors,
    });
    println!("{line}");
    Ok(())
}

/// An agent whose labels the clients set again and again.
async fn found(leader: &RaftHandle) -> anyhow::Result<AgentId> {
    let digest = |text: &str| Digest(sha2::Sha256::digest(text.as_bytes()).into());
    let id: AgentId = "bench".parse()?;
    let commands = [
        Command::Bootstrap {
            cluster: uuid::Uuid::new_v4(),
            trust_domain: "bench.cordon".to_owned(),
            nodes: Vec::new(),
        },
        Command::CreateToken {
            id: "bench".to_owned(),
            hash: digest("token"),
            uses: 1,
            expires_at: Timestamp(u64::MAX),
            labels: BTreeMap::new(),
            agent: Some(id.clone()),
        },
        Command::Enroll {
            token: digest("token"),
            key: digest("key"),
            hostname: "bench".to_owned(),
        },
    ];
    for command in commands {
        let envelope = Envelope {
            request: None,
            actor: Actor::Operator("bench".to_owned()),
            command,
        };
        let (_, reply) = leader.propose(envelope).await.context("the cluster is founded")?;
        if let Reply::Refused(refusal) = reply {
            bail!("the cluster is not founded: {refusal}");
        }
    }
    Ok(id)
}

/// A command whose entry has [`COMMAND_BYTES`].
fn command(agent: &AgentId, client: u64, number: u64, fill: usize) -> Envelope {
    let value = format!("{client:06}-{number:010}{}", "x".repeat(fill));
    Envelope {
        request: None,
        actor: Actor::Operator("bench".to_owned()),
        command: Command::SetLabels {
            agent: agent.clone(),
            labels: BTreeMap::from([("n".to_owned(), value)]),
        },
    }
}

/// How much to fill in.
fn fill(agent: &AgentId) -> usize {
    let size = |fill: usize| {
        let entry = Entry {
            at: Timestamp(1_767_225_600_000),
            envelope: command(agent, 0, 0, fill),
        };
        entry.encode().len()
    };
    (0..COMMAND_BYTES)
        .find(|fill| size(*fill) >= COMMAND_BYTES)
        .unwrap_or(0)
}
