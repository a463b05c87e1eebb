//! Resident memory: of an agent that has nothing to do, and of a coordinator for each agent that is attached.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use cordon::demo::world::{AgentProcess, Launch, all_online};
use serde_json::json;

use crate::deployment::Deployment;
use crate::fanout::ATTACH_MAX;
use crate::swarm::Swarm;

/// Two lines: the agent, then the coordinators, of which the worst counts. `program` is the agent's executable;
/// without it this one is the agent too.
pub async fn run(agents: usize, settle: Duration, program: Option<PathBuf>) -> anyhow::Result<()> {
    let mut deployment = Deployment::start().await?;
    let process = AgentProcess::prepare(&mut deployment.world, &deployment.cluster, "idle", "").await?;
    process.enroll(&deployment.cluster, &deployment.operator).await?;
    match &program {
        None => process.start().await?,
        Some(program) => {
            let config = process.config().to_string_lossy().into_owned();
            let launch = Launch::program(program, ["run", "--config", &config]);
            process.start_with(|_own| launch).await?;
        }
    }
    let processes = [process];
    all_online(&deployment.operator, &processes).await?;
    tokio::time::sleep(settle).await;
    let [process] = processes;
    let (rss_kib, anonymous_kib) = resident_kib(process.pid())?;
    let line = json!({
        "bench": "memory",
        "of": "agent",
        "program": program.as_ref().and_then(|path| path.file_name()).unwrap_or("bench".as_ref()).to_string_lossy(),
        "rss_kib": rss_kib,
        "anonymous_kib": anonymous_kib,
    });
    println!("{line}");
    process.shut_down().await?;

    let mut swarm = Swarm::enroll(&deployment, agents).await?;
    tokio::time::sleep(settle).await;
    let before = coordinators_kib(&deployment)?;
    swarm.attach(&deployment, ATTACH_MAX).await?;
    tokio::time::sleep(settle).await;
    let after = coordinators_kib(&deployment)?;
    let mut sessions: BTreeMap<String, u64> = BTreeMap::new();
    for agent in deployment.operator.agents().await? {
        if agent.online {
            *sessions.entry(agent.node_id).or_default() += 1;
        }
    }
    let mut per_agent_kib: f64 = 0.0;
    for (node, attached) in &sessions {
        let grown = after[node].saturating_sub(before[node]);
        per_agent_kib = per_agent_kib.max(grown as f64 / *attached as f64);
    }
    swarm.stop().await?;
    deployment.stop().await?;
    let line = json!({
        "bench": "memory",
        "of": "coordinator",
        "agents": agents,
        "per_agent_kib": (per_agent_kib * 10.0).round() / 10.0,
        "before_kib": before,
        "after_kib": after,
        "sessions": sessions,
    });
    println!("{line}");
    Ok(())
}

fn coordinators_kib(deployment: &Deployment) -> anyhow::Result<BTreeMap<String, u64>> {
    let nodes = deployment.cluster.nodes.iter();
    nodes
        .map(|node| Ok((node.name().to_owned(), resident_kib(node.pid())?.0)))
        .collect()
}

/// `VmRSS` and `RssAnon`, as proc_pid_status(5) gives them.
pub fn resident_kib(pid: Option<u32>) -> anyhow::Result<(u64, u64)> {
    let pid = pid.context("the process was never started")?;
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let field = |name: &str| -> anyhow::Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
        value
            .with_context(|| format!("{path} has no {name}"))?
            .trim()
            .parse()
            .with_context(|| format!("{path}: {name}"))
    };
    Ok((field("VmRSS:")?, field("RssAnon:")?))
}
