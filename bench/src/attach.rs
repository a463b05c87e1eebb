//! A fleet that comes all in the same moment, without the pause that spreads real ones: from the first dial to the last session in the replicated record.

use std::time::Instant;

use serde_json::json;

use crate::deployment::Deployment;
use crate::fanout::ATTACH_MAX;
use crate::swarm::Swarm;

/// One line: agents a second over full mutual TLS handshakes, Hello and the committed record of presence.
pub async fn run(agents: usize) -> anyhow::Result<()> {
    let deployment = Deployment::start().await?;
    let began = Instant::now();
    let mut swarm = Swarm::enroll(&deployment, agents).await?;
    swarm.without_pause();
    let enrolled_s = began.elapsed().as_secs_f64();
    let began = Instant::now();
    swarm.attach(&deployment, ATTACH_MAX).await?;
    let attached_s = began.elapsed().as_secs_f64();
    swarm.stop().await?;
    deployment.stop().await?;
    let line = json!({
        "bench": "attach",
        "agents": agents,
        "per_s": (agents as f64 / attached_s).round(),
        "enrolled_per_s": (agents as f64 / enrolled_s).round(),
        "n": agents,
    });
    println!("{line}");
    Ok(())
}
