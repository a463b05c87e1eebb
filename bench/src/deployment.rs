//! A whole cluster as it is deployed: three coordinators, each a process of its own on an address of the
//! loopback, and an operator.

use std::time::Duration;

use anyhow::{Context, bail};
use cordon::demo::world::{
    Api, Cluster, OperatorClient, Reality, World, has_ended, request_id, run_in_words,
};
use proto::v1;

/// Members of the cluster.
const NODES: usize = 3;
/// How long a run may take that nothing hinders.
const RUN_MAX: Duration = Duration::from_secs(120);

/// Running coordinators; everything ends with it.
pub struct Deployment {
    pub world: World,
    pub cluster: Cluster,
    pub operator: OperatorClient,
}

impl Deployment {
    /// Starts a fresh cluster and waits for its leader.
    pub async fn start() -> anyhow::Result<Deployment> {
        let reality = Reality::Loopback {
            why: "a benchmark isolates nothing".to_owned(),
            nft: None,
        };
        let mut world = World::new(reality, std::env::current_exe()?).await?;
        let cluster = Cluster::start(&mut world, NODES).await?;
        let operator = cluster.operator()?;
        Ok(Deployment {
            world,
            cluster,
            operator,
        })
    }

    /// A connection to the node at this place in the cluster.
    pub async fn api(&self, node: usize) -> anyhow::Result<Api> {
        let node = &self.cluster.nodes[node % self.cluster.nodes.len()];
        self.cluster
            .operator_at(node)?
            .api()
            .await
            .map_err(anyhow::Error::msg)
    }

    /// Waits until exactly so many agents are online in the cluster's own record.
    pub async fn online(&self, count: usize, within: Duration) -> anyhow::Result<()> {
        let what = format!("{count} agents online");
        cordon::demo::world::level(&what, within, async || {
            let online = self.operator.status().await?.agents_online;
            Ok(match online as usize == count {
                true => Ok(()),
                false => Err(format!("{online} online")),
            })
        })
        .await?;
        Ok(())
    }

    /// Ends all processes.
    pub async fn stop(self) -> anyhow::Result<()> {
        Ok(self.cluster.shut_down().await?)
    }
}

/// Starts a run.
pub async fn start(api: &mut Api, playbook: &str, inputs: &serde_json::Value) -> anyhow::Result<String> {
    let request = v1::StartRunRequest {
        playbook_yaml: playbook.to_owned(),
        inputs_json: inputs.to_string(),
        request_id: request_id(),
        plan_sha256: String::new(),
    };
    let reply = api.start_run(request).await.context("the run does not start")?;
    Ok(reply.into_inner().run_id)
}

/// Watches a run to its end, which must be a success.
pub async fn succeeded(api: &mut Api, run_id: &str) -> anyhow::Result<v1::Run> {
    let watched = async {
        let request = v1::WatchRunRequest {
            run_id: run_id.to_owned(),
            after_revision: 0,
        };
        let mut events = api.watch_run(request).await?.into_inner();
        while let Some(event) = events.message().await? {
            match event.run {
                Some(run) if has_ended(&run) => return anyhow::Ok(run),
                Some(_) | None => {}
            }
        }
        bail!("the watch of run {run_id} ended before the run")
    };
    let run = tokio::time::timeout(RUN_MAX, watched)
        .await
        .with_context(|| format!("run {run_id} did not end within {} s", RUN_MAX.as_secs()))??;
    if run.status != "succeeded" {
        bail!("run {run_id}: {}", run_in_words(&run));
    }
    Ok(run)
}
