//! The leader is killed with SIGKILL under load, twenty times: nothing that was acknowledged is lost.

mod support;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cordon::demo::world::{Cluster, OperatorClient, WorldError, level};
use proto::v1;

/// How often the leader dies.
const KILLS: usize = 20;
/// Clients that write all the time.
const WRITERS: usize = 4;
/// Acknowledged writes between two deaths.
const WRITES_BETWEEN: usize = 25;
/// Between two writes of one client: the cluster keeps at most 10,000 tokens.
const PAUSE: Duration = Duration::from_millis(20);

#[test]
fn nothing_acknowledged_is_lost_when_the_leader_dies_twenty_times() {
    support::in_world(async |mut world| {
        let cluster = Cluster::start(&mut world, 3).await?;
        let operators: Vec<OperatorClient> = (0..WRITERS)
            .map(|_| cluster.operator())
            .collect::<Result<_, _>>()?;
        let acknowledged = Mutex::new(BTreeSet::new());
        let over = AtomicBool::new(false);

        let write = async |operator: &OperatorClient| {
            while !over.load(Ordering::Relaxed) {
                // A client keeps its request id while it retries, so that a repeat makes no second token.
                let token = operator.create_token("").await?;
                let first = acknowledged
                    .lock()
                    .expect("no writer panics")
                    .insert(token.id.clone());
                assert!(first, "two requests were given the same token {}", token.id);
                tokio::time::sleep(PAUSE).await;
            }
            Ok::<_, WorldError>(())
        };
        let killing = async {
            for kill in 1..=KILLS {
                let seen = acknowledged.lock().expect("no writer panics").len();
                level("writes between two deaths", Duration::from_secs(60), async || {
                    let now = acknowledged.lock().expect("no writer panics").len();
                    Ok(if now >= seen + WRITES_BETWEEN {
                        Ok(())
                    } else {
                        Err(format!("{now} after {seen}"))
                    })
                })
                .await?;
                let leader = cluster.leader(None).await?;
                leader.kill().await?;
                cluster.leader(Some(leader.name())).await?;
                leader.start().await?;
                leader.ready().await?;
                eprintln!("death {kill}: {} is back, {seen} writes so far", leader.name());
            }
            over.store(true, Ordering::Relaxed);
            Ok::<_, WorldError>(())
        };
        let writing = futures::future::try_join_all(operators.iter().map(write));
        futures::try_join!(killing, writing)?;

        let acknowledged = acknowledged.into_inner().expect("no writer panics");
        for node in &cluster.nodes {
            let operator = cluster.operator_at(node)?;
            let list = operator.call("ListEnrollTokens", async |mut api| {
                api.list_enroll_tokens(v1::ListEnrollTokensRequest {}).await
            });
            let held: BTreeSet<String> = list.await?.tokens.into_iter().map(|token| token.id).collect();
            let lost: Vec<&String> = acknowledged.difference(&held).collect();
            assert!(
                lost.is_empty(),
                "{} of {} acknowledged writes are lost on {}: {lost:?}",
                lost.len(),
                acknowledged.len(),
                node.name()
            );
        }
        support::same_state_everywhere(&cluster).await?;
        cluster.shut_down().await?;
        Ok(())
    });
}
