//! From SIGKILL of the leader to the end of a task that was asked for after it, while the swarm is at work.

use std::time::{Duration, Instant};

use anyhow::Context;
use cordon::demo::world::{OperatorClient, run_in_words};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::deployment::Deployment;
use crate::fanout::ATTACH_MAX;
use crate::percentile;
use crate::steps::playbook;
use crate::swarm::Swarm;

/// Steps of each run: a leader may die between them too.
const STEPS: usize = 2;
/// How long a run may take when a leader dies in it.
const RUN_MAX: Duration = Duration::from_secs(60);
/// Load before the next leader dies.
const BETWEEN: Duration = Duration::from_secs(2);

/// One line over all rounds.
pub async fn run(agents: usize, rounds: usize) -> anyhow::Result<()> {
    let deployment = Deployment::start().await?;
    let mut swarm = Swarm::enroll(&deployment, agents).await?;
    swarm.attach(&deployment, ATTACH_MAX).await?;
    let ids: Vec<String> = swarm.ids().map(str::to_owned).collect();
    let (busy, probing) = (deployment.cluster.operator()?, deployment.cluster.operator()?);
    let stop = CancellationToken::new();
    let kill = async {
        let (mut took_us, mut runs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            tokio::time::sleep(BETWEEN).await;
            let leader = deployment.cluster.leader(None).await?;
            let killed = Instant::now();
            leader.kill().await?;
            runs.push(one_run(&probing, &ids[..1]).await?);
            took_us.push(killed.elapsed().as_micros() as u64);
            leader.start().await?;
            leader.ready().await?;
            deployment.online(agents, ATTACH_MAX).await?;
        }
        stop.cancel();
        anyhow::Ok((took_us, runs))
    };
    let ((mut took_us, mut runs), loaded) = tokio::try_join!(kill, load(&busy, &ids, &stop))?;
    runs.extend(loaded);
    let verdict = swarm.log().check(&deployment.operator, &runs).await?;
    swarm.stop().await?;
    deployment.stop().await?;
    took_us.sort_unstable();
    let line = json!({
        "bench": "failover",
        "agents": agents,
        "p50_ms": percentile(&took_us, 50) / 1_000,
        "max_ms": took_us.last().copied().unwrap_or(0) / 1_000,
        "n": rounds,
        "runs_checked": runs.len(),
        "tasks_checked": verdict.tasks,
        "duplicates": verdict.duplicates,
        "lost": verdict.lost,
    });
    println!("{line}");
    Ok(())
}

/// Run after run over the whole swarm.
async fn load(
    operator: &OperatorClient,
    hosts: &[String],
    stop: &CancellationToken,
) -> anyhow::Result<Vec<String>> {
    let mut runs = Vec::new();
    while !stop.is_cancelled() {
        runs.push(one_run(operator, hosts).await?);
    }
    Ok(runs)
}

async fn one_run(operator: &OperatorClient, hosts: &[String]) -> anyhow::Result<String> {
    let started = operator
        .start_run(&playbook(STEPS), &json!({ "hosts": hosts }))
        .await;
    let id = started.context("the run does not start")?.run_id;
    let run = operator.ended(&id, RUN_MAX).await?;
    anyhow::ensure!(run.status == "succeeded", "run {id}: {}", run_in_words(&run));
    Ok(id)
}
