//! Isolation through the whole stack, in namespaces: both families and live connections are cut, the
//! coordinators stay reachable, the kernel ends it although the agent is dead, and an isolation whose
//! coordinators do not answer is taken back.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use cordon::demo::world::{AgentProcess, Machine, level};
use serde_json::json;
use support::{Deployment, RUN_MAX, in_real_world, one_step};

const PORT: u16 = 8080;

#[test]
fn everything_but_the_coordinators_is_cut_until_the_lease_ends() {
    in_real_world(async |mut world| {
        let other = world.machine("other").await?;
        other.listen(PORT).await?;
        let deployment = Deployment::start(world, 3, 1).await?;
        let agent = &deployment.agents[0];
        for (number, address) in other.addresses().iter().enumerate() {
            agent
                .machine
                .hold(&number.to_string(), SocketAddr::new(*address, PORT))
                .await?;
        }
        assert_eq!(reached(agent, &other).await?, [true, true]);

        let parameters = json!({"mode": "network", "ttl": "20s", "confirm_within": "10s"});
        let run = deployment
            .operator
            .start_run(&one_step("cut", "host.isolate", parameters), &json!({}))
            .await?;
        let run = deployment.operator.ended(&run.run_id, RUN_MAX).await?;
        assert_eq!(
            run.status,
            "succeeded",
            "{}",
            cordon::demo::world::run_in_words(&run)
        );

        assert_eq!(
            reached(agent, &other).await?,
            [false, false],
            "IPv4 and IPv6 are cut"
        );
        for number in 0..other.addresses().len() {
            assert!(
                !agent.machine.held(&number.to_string()).await?.reachable,
                "a live connection is cut"
            );
        }
        for node in &deployment.cluster.nodes {
            let to = SocketAddr::new(node.machine.address(), node.member.agent_port);
            assert!(
                agent.machine.probe(to).await?.reachable,
                "{} stays reachable",
                node.name()
            );
            let operators = SocketAddr::new(node.machine.address(), node.member.operator_port);
            assert!(
                !agent.machine.probe(operators).await?.reachable,
                "only the agents' port does"
            );
        }
        agent.kill().await?;
        assert_eq!(
            reached(agent, &other).await?,
            [false, false],
            "the agent's death lifts nothing"
        );
        level(
            "the kernel ending the isolation",
            Duration::from_secs(90),
            async || {
                let to = SocketAddr::new(other.address(), PORT);
                let probe = agent.machine.probe(to).await?;
                Ok(if probe.reachable {
                    Ok(())
                } else {
                    Err(probe.reason)
                })
            },
        )
        .await?;
        assert_eq!(reached(agent, &other).await?, [true, true]);
        deployment.end().await
    });
}

#[test]
fn an_isolation_that_cuts_off_the_coordinators_is_taken_back() {
    in_real_world(async |mut world| {
        let other = world.machine("other").await?;
        other.listen(PORT).await?;
        // Names are what goes wrong in the field: here a hosts file that is the agent's alone.
        let hosts = world.folder().join("hosts-file");
        let cluster = cordon::demo::world::Cluster::start(&mut world, 1).await?;
        let operator = cluster.operator()?;
        let node = &cluster.nodes[0];
        let address = node.machine.address().to_string();
        std::fs::write(&hosts, format!("{address} c1.world\n"))?;
        let agent = AgentProcess::prepare(&mut world, &cluster, "host-1", "").await?;
        agent
            .machine
            .bind(&hosts, std::path::Path::new("/etc/hosts"))
            .await?;
        let text = std::fs::read_to_string(agent.config())?.replace(&format!("\"{address}:"), "\"c1.world:");
        std::fs::write(agent.config(), text)?;
        agent.enroll(&cluster, &operator).await?;
        agent.start().await?;
        let agents = [agent];
        cordon::demo::world::all_online(&operator, &agents).await?;
        let [agent] = agents;

        // The session stands; from now on the name leads elsewhere, and the rules will let only that through.
        std::fs::write(&hosts, "10.77.255.254 c1.world\n")?;
        let parameters = json!({"mode": "network", "ttl": "1h", "confirm_within": "4s"});
        let run = operator
            .start_run(&one_step("cut", "host.isolate", parameters), &json!({}))
            .await?;
        level("the intent of the isolation", RUN_MAX, async || {
            let begun = agent.journal().await?.iter().any(|line| line.record == "outcome");
            Ok(if begun {
                Ok(())
            } else {
                Err("no outcome yet".to_owned())
            })
        })
        .await?;
        assert_eq!(reached(&agent, &other).await?, [true, true], "nobody is stranded");
        std::fs::write(&hosts, format!("{address} c1.world\n"))?;
        let run = operator.ended(&run.run_id, RUN_MAX).await?;
        assert_eq!(run.status, "failed");
        let task = operator.tasks(&run).await?.remove(0);
        assert_eq!(task.status, "failed", "{task:?}");
        agent.shut_down().await?;
        cluster.shut_down().await?;
        Ok(())
    });
}

/// Whether the agent's host reaches the other one, over each of its addresses.
async fn reached(agent: &AgentProcess, other: &Machine) -> anyhow::Result<Vec<bool>> {
    let mut reached = Vec::new();
    for address in other.addresses() {
        reached.push(
            agent
                .machine
                .probe(SocketAddr::new(*address, PORT))
                .await?
                .reachable,
        );
    }
    Ok(reached)
}
