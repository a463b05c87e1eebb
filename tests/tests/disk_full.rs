//! A coordinator whose disk is full says so and takes nothing that it cannot keep; the others go on, and it
//! comes back when there is room again.

mod support;

use std::time::Duration;

use cordon::demo::world::{Cluster, Launch};

/// The small disk: some segments of the log fit, the filler takes the rest.
const DISK_BYTES: u64 = 320 << 20;
/// Writes while the disk is full: more than a segment's worth.
const WRITES: usize = 200;

#[test]
fn a_node_with_a_full_disk_loses_nothing_and_comes_back() {
    support::in_real_world(async |mut world| {
        let mut cluster = Cluster::prepare(&mut world, 3).await?;
        let small = &cluster.nodes[2];
        let data = small.home().join("data");
        std::fs::create_dir_all(&data)?;
        small.machine.mount_tmpfs(&data, DISK_BYTES).await?;
        for node in &cluster.nodes {
            node.start().await?;
        }
        for node in &cluster.nodes {
            node.ready().await?;
        }
        cluster.leader(None).await?;
        let operator = cluster.operator()?;
        for _ in 0..20 {
            operator.create_token("").await?;
        }

        let filler = data.join("filler");
        let fill = format!("cat /dev/zero > {0} 2>/dev/null; sync {0}", filler.display());
        let shell = |script: &str| Launch::program("/bin/sh", ["-c", script]);
        cluster.nodes[2]
            .machine
            .run(shell(&fill), Duration::from_secs(60))
            .await?;
        let mut acknowledged = Vec::new();
        for _ in 0..WRITES {
            acknowledged.push(operator.create_token("").await?.id);
        }

        let empty = format!("rm {}", filler.display());
        let small = &cluster.nodes[2];
        small.machine.run(shell(&empty), Duration::from_secs(60)).await?;
        if small.machine.wait(small.name(), Duration::ZERO).await.is_ok() {
            eprintln!("the node ended when its disk was full, as it may; it is started again");
            small.start().await?;
            small.ready().await?;
        }
        support::same_state_everywhere(&cluster).await?;
        let list = cluster.operator_at(&cluster.nodes[2])?;
        let list = list.call("ListEnrollTokens", async |mut api| {
            api.list_enroll_tokens(proto::v1::ListEnrollTokensRequest {})
                .await
        });
        let held: Vec<String> = list.await?.tokens.into_iter().map(|token| token.id).collect();
        assert!(
            acknowledged.iter().all(|id| held.contains(id)),
            "an acknowledged write is lost"
        );
        cluster.nodes.clear();
        Ok(())
    });
}
