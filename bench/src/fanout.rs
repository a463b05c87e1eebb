//! One task on every agent of a swarm, from the request to the end of the run: all results are committed.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::deployment::{self, Deployment};
use crate::percentile;
use crate::swarm::Swarm;

/// How long a swarm may take to attach.
pub const ATTACH_MAX: Duration = Duration::from_secs(120);

const PLAYBOOK: &str = "
playbook: bench-fanout
version: 1
targets:
  all: {select: agent.online}
steps:
  noop: {do: host.info, targets: all}
";

/// One line for each size of the swarm.
pub async fn run(agents: &[usize], rounds: usize) -> anyhow::Result<()> {
    for &agents in agents {
        let deployment = Deployment::start().await?;
        let mut swarm = Swarm::enroll(&deployment, agents).await?;
        swarm.attach(&deployment, ATTACH_MAX).await?;
        let mut runs = Vec::new();
        let mut took_us = Vec::new();
        for round in 0..rounds {
            let mut api = deployment.api(round).await?;
            let began = Instant::now();
            let run = deployment::start(&mut api, PLAYBOOK, &json!({})).await?;
            let ended = deployment::succeeded(&mut api, &run).await?;
            took_us.push(began.elapsed().as_micros() as u64);
            let done = ended
                .steps
                .first()
                .and_then(|step| step.tasks)
                .unwrap_or_default();
            anyhow::ensure!(
                done.succeeded as usize == agents,
                "{} of {agents} tasks succeeded",
                done.succeeded
            );
            runs.push(run);
        }
        let verdict = swarm.log().check(&deployment.operator, &runs).await?;
        swarm.stop().await?;
        deployment.stop().await?;
        took_us.sort_unstable();
        let p50_us = percentile(&took_us, 50);
        let line = json!({
            "bench": "fanout",
            "agents": agents,
            "p50_ms": p50_us / 1_000,
            "max_ms": took_us.last().copied().unwrap_or(0) / 1_000,
            "tasks_per_s": (agents as f64 / (p50_us as f64 / 1e6)).round(),
            "n": rounds,
            "tasks_checked": verdict.tasks,
            "duplicates": verdict.duplicates,
            "lost": verdict.lost,
        });
        println!("{line}");
    }
    Ok(())
}
