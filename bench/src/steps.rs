//! Dependent steps: five on each of many hosts at once, and a long chain of them one at a time.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use cordon::demo::world::Api;
use serde_json::json;
use tokio::task::JoinSet;

use crate::deployment::{self, Deployment};
use crate::fanout::ATTACH_MAX;
use crate::percentile;
use crate::swarm::Swarm;

/// Steps of one run where many hosts are worked on.
const STEPS: usize = 5;
/// Clients that share a connection to a node: fewer than the streams that it takes on one.
const CLIENTS_PER_CONNECTION: usize = 20;

/// So many steps, each of which needs the one before, over the hosts that a run is given.
pub fn playbook(steps: usize) -> String {
    let mut text = "
playbook: bench-steps
version: 1
inputs:
  hosts: {type: list<host>}
targets:
  hosts: {hosts: \"${inputs.hosts}\"}
steps:
  s1: {do: host.info, targets: hosts}
"
    .to_owned();
    for step in 2..=steps {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "  s{step}: {{do: host.info, targets: hosts, needs: [s{}]}}",
            step - 1
        );
    }
    text
}

/// Five dependent steps on each of `hosts` hosts: as one run over all of them, again and again, and as a run
/// for each host, all at once. One line for each shape.
pub async fn many(hosts: usize, seconds: u64) -> anyhow::Result<()> {
    let deployment = Deployment::start().await?;
    let mut swarm = Swarm::enroll(&deployment, hosts).await?;
    swarm.attach(&deployment, ATTACH_MAX).await?;
    let ids: Vec<String> = swarm.ids().map(str::to_owned).collect();
    let lasting = Duration::from_secs(seconds);
    let one = vec![ids.clone()];
    let each = ids.into_iter().map(|id| vec![id]).collect();
    measure(&deployment, &swarm, "one run over all hosts", one, lasting).await?;
    measure(&deployment, &swarm, "a run for each host", each, lasting).await?;
    swarm.stop().await?;
    deployment.stop().await
}

/// One client for each set of hosts starts run after run over its own.
async fn measure(
    deployment: &Deployment,
    swarm: &Swarm,
    shape: &str,
    sets: Vec<Vec<String>>,
    lasting: Duration,
) -> anyhow::Result<()> {
    let text: std::sync::Arc<str> = playbook(STEPS).into();
    let mut clients = JoinSet::new();
    let mut shared: Option<Api> = None;
    let until = Instant::now() + lasting;
    let count = sets.len();
    for (number, hosts) in sets.into_iter().enumerate() {
        let api = match shared.take().filter(|_| number % CLIENTS_PER_CONNECTION != 0) {
            Some(api) => api,
            None => deployment.api(number / CLIENTS_PER_CONNECTION).await?,
        };
        shared = Some(api.clone());
        clients.spawn(client(api, text.clone(), hosts, until));
    }
    let began = Instant::now();
    let (mut took_us, mut runs, mut steps) = (Vec::new(), Vec::new(), 0);
    while let Some(client) = clients.join_next().await {
        for (run, hosts, us) in client?? {
            runs.push(run);
            took_us.push(us);
            steps += hosts * STEPS;
        }
    }
    let lasted = began.elapsed().as_secs_f64();
    let verdict = swarm.log().check(&deployment.operator, &runs).await?;
    anyhow::ensure!(
        verdict.tasks == steps as u64,
        "{} tasks are recorded of {steps} that ended",
        verdict.tasks
    );
    took_us.sort_unstable();
    let line = json!({
        "bench": "steps",
        "shape": shape,
        "runs_at_once": count,
        "steps_per_run": STEPS,
        "per_s": (steps as f64 / lasted).round(),
        "run_p50_us": percentile(&took_us, 50),
        "run_p99_us": percentile(&took_us, 99),
        "n": steps,
        "duplicates": verdict.duplicates,
        "lost": verdict.lost,
    });
    println!("{line}");
    Ok(())
}

/// Its runs, each with the number of its hosts and how long it took.
async fn client(
    mut api: Api,
    text: std::sync::Arc<str>,
    hosts: Vec<String>,
    until: Instant,
) -> anyhow::Result<Vec<(String, usize, u64)>> {
    let mut runs = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        let run = deployment::start(&mut api, &text, &json!({ "hosts": hosts })).await?;
        deployment::succeeded(&mut api, &run).await?;
        runs.push((run, hosts.len(), began.elapsed().as_micros() as u64));
    }
    Ok(runs)
}

/// A chain of steps on one host, one at a time: from the moment that one is carried out to the same moment of
/// the next, so assignment, execution, report and decision, durable at each turn.
pub async fn chain(steps: usize) -> anyhow::Result<()> {
    let deployment = Deployment::start().await?;
    let mut swarm = Swarm::enroll(&deployment, 1).await?;
    swarm.attach(&deployment, ATTACH_MAX).await?;
    let hosts: Vec<&str> = swarm.ids().collect();
    let mut api = deployment.api(0).await?;
    let run = deployment::start(&mut api, &playbook(steps), &json!({ "hosts": hosts })).await?;
    deployment::succeeded(&mut api, &run).await?;
    let verdict = swarm
        .log()
        .check(&deployment.operator, std::slice::from_ref(&run))
        .await?;
    let done = swarm.log().of(&run);
    let mut took_us: Vec<u64> = done
        .windows(2)
        .map(|pair| (pair[1].at - pair[0].at).as_micros() as u64)
        .collect();
    took_us.sort_unstable();
    swarm.stop().await?;
    deployment.stop().await?;
    let line = json!({
        "bench": "step",
        "p50_us": percentile(&took_us, 50),
        "p99_us": percentile(&took_us, 99),
        "n": took_us.len(),
        "duplicates": verdict.duplicates,
        "lost": verdict.lost,
    });
    println!("{line}");
    Ok(())
}
