//! The death of the leader in the middle, and the proof, from the agents' journals and the cluster's audit
//! records, that each task's effect happened once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::v1;

use super::document::Chaos;
use super::world::{AgentProcess, Cluster, JournalLine, OperatorClient, WorldError, level};

/// How long the cluster may take to commit the next task.
const FAILOVER_MAX: Duration = Duration::from_secs(30);
/// How long a restarted node may take to have everything.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// The audit record of an assignment, and of a task's end.
const ASSIGNED: &str = "task.assign";
const ENDED: &str = "task.end";

/// A leader that was killed.
pub struct Killed {
    pub name: String,
    pub failover: Duration,
}

/// Kills the leader with SIGKILL and waits until the next task is committed without it.
pub async fn kill_leader(
    cluster: &Cluster,
    operator: &OperatorClient,
    run_id: &str,
) -> Result<Killed, WorldError> {
    let leader = cluster.leader(None).await?;
    let records = operator.audit(run_id, 0).await?;
    let seen = records.last().map_or(0, |record| record.sequence);
    let started = Instant::now();
    leader.kill().await?;
    // Whatever carries a later time was proposed by another leader: this one is gone by now. All clocks are
    // one on this computer.
    let dead_at_ms = now_ms();
    let name = leader.name().to_owned();
    let what = format!("the next committed task after the death of {name}");
    level(&what, FAILOVER_MAX, async || {
        let records = operator.audit(run_id, seen).await?;
        let next = records
            .iter()
            .any(|record| record.at_ms > dead_at_ms && [ASSIGNED, ENDED].contains(&record.verb.as_str()));
        Ok(if next {
            Ok(())
        } else {
            Err(format!("{} new audit records", records.len()))
        })
    })
    .await?;
    Ok(Killed {
        name,
        failover: started.elapsed(),
    })
}

/// Starts the node again and waits until it has applied what is committed.
pub async fn restart(cluster: &Cluster, name: &str) -> Result<(), WorldError> {
    let Some(node) = cluster.nodes.iter().find(|node| node.name() == name) else {
        return Ok(());
    };
    node.start().await?;
    node.ready().await?;
    let committed = cluster.operator()?.cluster_status().await?.committed_index;
    let operator = cluster.operator_at(node)?;
    level(&format!("{name} having caught up"), CATCH_UP_MAX, async || {
        let status = operator.status().await?;
        let applied = status.applied_index;
        Ok(if applied >= committed && !status.leader_id.is_empty() {
            Ok(())
        } else {
            Err(format!("applied {applied} of {committed}"))
        })
    })
    .await
}

/// A task, by step and item.
type Task = (String, u32);

/// What the journals and the records say when they are put side by side.
#[derive(Debug, Default)]
pub struct Proof {
    pub duplicates: Vec<String>,
    pub lost: Vec<String>,
    /// Tasks that were compared.
    pub compared: usize,
}

impl Proof {
    /// Compares what the cluster says of each task with what the agents' journals say.
    pub async fn collect(
        operator: &OperatorClient,
        agents: &[AgentProcess],
        run_id: &str,
        tasks: &[v1::Task],
    ) -> Result<Proof, WorldError> {
        let mut journal = Vec::new();
        for agent in agents {
            let lines = agent.journal().await?;
            journal.extend(lines.into_iter().map(|line| (agent.id().to_owned(), line)));
        }
        let audit = operator.audit(run_id, 0).await?;
        Ok(Proof::of(run_id, tasks, &journal, &audit))
    }

    fn of(
        run_id: &str,
        tasks: &[v1::Task],
        journal: &[(String, JournalLine)],
        audit: &[v1::AuditRecord],
    ) -> Proof {
        let mut proof = Proof::default();
        // Agent, intents, outcomes of each task.
        let mut seen: BTreeMap<Task, Vec<(&str, &str, u32)>> = BTreeMap::new();
        for (agent, line) in journal.iter().filter(|(_, line)| line.run_id == run_id) {
            let task = (line.step.clone(), line.item);
            seen.entry(task)
                .or_default()
                .push((agent, &line.record, line.attempt));
        }
        for task in tasks.iter().filter(|task| !task.agent_id.is_empty()) {
            let name = format!("{}[{}] on {}", task.step, task.item, task.agent_id);
            let lines = seen.remove(&(task.step.clone(), task.item)).unwrap_or_default();
            let count = |record: &str| lines.iter().filter(|(_, kind, _)| *kind == record).count();
            let (intents, outcomes) = (count("intent"), count("outcome"));
            if lines.iter().any(|(agent, ..)| *agent != task.agent_id) {
                proof
                    .duplicates
                    .push(format!("{name}: another agent did it as well"));
            }
            let ran = matches!(
                task.status.as_str(),
                "succeeded" | "failed" | "cancelled" | "unknown"
            );
            if !ran || task.attempts == 0 {
                if intents > 0 {
                    proof.lost.push(format!(
                        "{name}: the agent did it, the cluster says {}",
                        task.status
                    ));
                }
                continue;
            }
            proof.compared += 1;
            // Even a retry that the playbook asked for counts: the demo's asks for none.
            if intents > 1 {
                proof.duplicates.push(format!("{name}: begun {intents} times"));
            }
            if intents == 0 || (outcomes == 0 && task.status != "unknown") {
                proof.lost.push(format!(
                    "{name}: {} by the cluster, not in the journal",
                    task.status
                ));
            }
            let ends = audit
                .iter()
                .filter(|record| record.verb == ENDED && tells_of(record, task))
                .count();
            match ends {
                1 => {}
                0 => proof.lost.push(format!("{name}: no audit record of its end")),
                more => proof
                    .duplicates
                    .push(format!("{name}: {more} audit records of its end")),
            }
        }
        for ((step, item), lines) in seen {
            let agent = lines.first().map_or("?", |line| line.0);
            proof.lost.push(format!(
                "{step}[{item}] on {agent}: in the journal, unknown to the cluster"
            ));
        }
        proof
    }

    /// The document's figures.
    pub fn figures(&self, killed: Option<&Killed>) -> Chaos {
        Chaos {
            leader_killed: killed.is_some(),
            failover_ms: killed.map_or(0, |killed| {
                u64::try_from(killed.failover.as_millis()).unwrap_or(u64::MAX)
            }),
            duplicates: self.duplicates.len(),
            lost: self.lost.len(),
        }
    }
}

/// Whether an audit record is about this task: its detail names the step and ranges of items.
fn tells_of(record: &v1::AuditRecord, task: &v1::Task) -> bool {
    #[derive(serde::Deserialize)]
    struct Detail {
        step: String,
        items: Vec<(u32, u32)>,
    }
    serde_json::from_str::<Detail>(&record.detail_json).is_ok_and(|detail| {
        detail.step == task.step
            && detail
                .items
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&task.item))
    })
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
