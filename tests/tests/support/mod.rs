//! What the end-to-end tests share: a world on a thread of its own, off the machine's own network.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use cordon::demo::world::{AgentProcess, Cluster, OperatorClient, Reality, World, all_online, namespace};

/// How long a run of a test's small playbook may take on a busy machine.
pub const RUN_MAX: Duration = Duration::from_secs(120);

/// The executable under test.
pub fn executable() -> PathBuf {
    env!("CARGO_BIN_EXE_cordon-e2e").into()
}

/// Runs a test in a world. Where there are namespaces its thread leaves the machine's network first;
/// otherwise everything is on the loopback.
pub fn in_world<F>(test: impl FnOnce(World) -> F + Send + 'static)
where
    F: Future<Output = anyhow::Result<()>>,
{
    let reality = namespace::survey_with(&executable(), false);
    run(reality, test);
}

/// The same, for a test that means nothing without namespaces: it is skipped loudly where there are none.
pub fn in_real_world<F>(test: impl FnOnce(World) -> F + Send + 'static)
where
    F: Future<Output = anyhow::Result<()>>,
{
    match namespace::survey_with(&executable(), false) {
        Reality::Loopback { why, .. } => eprintln!("SKIPPED: needs root, namespaces and nft: {why}"),
        reality => run(reality, test),
    }
}

fn run<F>(reality: Reality, test: impl FnOnce(World) -> F + Send + 'static)
where
    F: Future<Output = anyhow::Result<()>>,
{
    // A thread of its own: its network namespace must not become that of the other tests.
    let thread = std::thread::spawn(move || -> anyhow::Result<()> {
        if reality.is_real() {
            namespace::enter_network()?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut world = World::new(reality, executable()).await?;
            let folder = world.keep();
            let result = test(world).await;
            match &result {
                Ok(()) => std::fs::remove_dir_all(&folder)?,
                Err(_) => eprintln!("the world's logs are kept in {}", folder.join("logs").display()),
            }
            result
        })
    });
    match thread.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{error:?}"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs the operator's command to its end, and gives what it printed. It must succeed.
pub fn cordon(config: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = std::process::Command::new(executable());
    let output = command.args(["--config", config]).args(arguments).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "cordon {arguments:?}: {stderr}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A cluster with agents that are online.
pub struct Deployment {
    pub agents: Vec<AgentProcess>,
    pub operator: OperatorClient,
    pub cluster: Cluster,
    pub world: World,
}

impl Deployment {
    /// Starts `coordinators` nodes and `agents` agents (host-1, host-2, ..).
    pub async fn start(mut world: World, coordinators: usize, agents: usize) -> anyhow::Result<Deployment> {
        let cluster = Cluster::start(&mut world, coordinators).await?;
        let operator = cluster.operator()?;
        let mut started = Vec::new();
        for number in 1..=agents {
            let agent = AgentProcess::prepare(&mut world, &cluster, &format!("host-{number}"), "").await?;
            agent.enroll(&cluster, &operator).await?;
            agent.start().await?;
            started.push(agent);
        }
        all_online(&operator, &started).await?;
        Ok(Deployment {
            agents: started,
            operator,
            cluster,
            world,
        })
    }

    /// Ends everything in order, when every run was decided again.
    pub async fn end(self) -> anyhow::Result<()> {
        replay_all(&self.cluster)?;
        for agent in self.agents {
            agent.shut_down().await?;
        }
        self.cluster.shut_down().await?;
        Ok(())
    }
}

/// Every run is decided again from the log, and must come out the same.
pub fn replay_all(cluster: &Cluster) -> anyhow::Result<()> {
    let config = cluster.operator_home().join("config.toml").display().to_string();
    let runs = cordon(&config, &["run", "list", "--limit", "1000", "-o", "json"])?;
    let runs: serde_json::Value = serde_json::from_str(&runs)?;
    let runs = runs
        .as_array()
        .ok_or_else(|| anyhow::anyhow!("no list: {runs}"))?;
    for run in runs {
        let id = run["id"].as_str().unwrap_or_default();
        let said = cordon(&config, &["run", "replay", id])?;
        anyhow::ensure!(said.contains("came out the same"), "{said}");
    }
    Ok(())
}

/// A playbook of one step on all agents, whether they are online at the moment or not.
pub fn one_step(name: &str, action: &str, with: serde_json::Value) -> String {
    format!(
        "playbook: {name}\nversion: 1\ntargets:\n  all: {{select: \"agent.id != ''\", max: 1000}}\n\
         steps:\n  only:\n    targets: all\n    do: {action}\n    with: {with}\n"
    )
}

/// Waits until every node has applied the same, with the same hash of its state.
pub async fn same_state_everywhere(cluster: &Cluster) -> anyhow::Result<()> {
    let mut operators = Vec::new();
    for node in &cluster.nodes {
        operators.push(cluster.operator_at(node)?);
    }
    cordon::demo::world::level("the same state on every node", RUN_MAX, async || {
        let mut seen = Vec::new();
        for operator in &operators {
            let status = operator.cluster_status().await?;
            let own = status.members.into_iter().find(|member| member.self_);
            seen.push(own.map(|member| (member.applied_index, member.state_hash)));
        }
        let same = seen.iter().all(|state| state.is_some() && *state == seen[0]);
        Ok(if same { Ok(()) } else { Err(format!("{seen:?}")) })
    })
    .await?;
    Ok(())
}
