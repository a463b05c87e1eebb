//! Members come and go: a follower whose disk is lost comes back as a new member, a learner first, by snapshot,
//! then a voter; and a leader that is removed hands over first.

mod support;

use std::time::Duration;

use cordon::demo::world::{
    AgentProcess, Cluster, Node, OperatorClient, WorldError, level, request_id, run_in_words,
};
use proto::v1;
use serde_json::json;
use support::Deployment;

/// Writes before the loss.
const WRITES: usize = 300;

#[test]
fn a_wiped_follower_rejoins_as_a_new_learner() {
    support::in_world(async |mut world| {
        let mut cluster = Cluster::start(&mut world, 3).await?;
        let leader = cluster.leader(None).await?.name().to_owned();
        let operator = cluster.operator()?;
        for _ in 0..WRITES {
            operator.create_token("").await?;
        }

        let lost = cluster
            .nodes
            .iter()
            .position(|node| node.name() != leader)
            .expect("two nodes follow");
        let lost = cluster.nodes.remove(lost);
        lost.kill().await?;
        std::fs::remove_dir_all(lost.home().join("data"))?;
        // Any node takes it: here the one that neither leads nor is lost.
        let follower = cluster.nodes.iter().find(|node| node.name() != leader);
        let operator = cluster.operator_at(follower.expect("one node follows"))?;
        remove(&operator, &lost, false).await?;

        let joiner = cluster.prepare_joiner(&mut world, "c4").await?;
        assert!(cluster.info().members.iter().all(|member| member.raft_id != 0));
        assert_ne!(
            joiner.member.raft_id, lost.member.raft_id,
            "an id is never used again"
        );
        joiner.start().await?;
        joiner.ready().await?;
        let member = &joiner.member;
        let add = v1::AddMemberRequest {
            raft_id: member.raft_id,
            node_id: member.name.clone(),
            peer_endpoint: member.endpoint(member.peer_port),
            agent_endpoint: member.endpoint(member.agent_port),
            operator_endpoint: member.endpoint(member.operator_port),
            enroll_endpoint: member.endpoint(member.enroll_port),
            request_id: request_id(),
        };
        operator
            .call("AddMember", async |mut api| api.add_member(add.clone()).await)
            .await?;
        level(
            "the new member being a voter",
            Duration::from_secs(60),
            async || {
                let status = operator.cluster_status().await?;
                let role = status
                    .members
                    .iter()
                    .find(|one| one.raft_id == member.raft_id)
                    .map(|one| one.role.clone());
                Ok(match role.as_deref() {
                    Some("follower" | "leader") => Ok(()),
                    other => Err(format!("{other:?}")),
                })
            },
        )
        .await?;
        let newest = member.raft_id;
        cluster.nodes.push(joiner);
        support::same_state_everywhere(&cluster).await?;

        // It can lead, whoever is asked for that.
        operator
            .call("TransferLeader", async |mut api| {
                api.transfer_leader(v1::TransferLeaderRequest { raft_id: newest })
                    .await
            })
            .await?;
        level("the new member leading", Duration::from_secs(60), async || {
            let name = cluster.leader(None).await?.name().to_owned();
            Ok(if name == "c4" { Ok(()) } else { Err(name) })
        })
        .await?;

        // And it counts: with an old node gone, the new one and the other old one are a majority.
        let old = cluster.nodes.iter().find(|node| node.name() == leader);
        old.expect("it still runs").kill().await?;
        cluster.leader(Some(&leader)).await?;
        cluster.operator()?.create_token("").await?;
        cluster.shut_down().await?;
        Ok(())
    });
}

#[test]
fn a_leader_that_is_removed_hands_over_first() {
    support::in_world(async |mut world| {
        let cluster = Cluster::start(&mut world, 3).await?;
        let leader = cluster.leader(None).await?;
        let follower = cluster.nodes.iter().find(|node| node.name() != leader.name());
        let operator = cluster.operator_at(follower.expect("two nodes follow"))?;
        remove(&operator, leader, false).await?;

        let status = operator.cluster_status().await?;
        let left: Vec<_> = status.members.iter().map(|one| one.node_id.as_str()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(!left.contains(&leader.name()), "{left:?}");
        // It says so, and is gone for those who ask it: the two decide without it.
        let exit = leader
            .machine
            .wait(leader.name(), Duration::from_secs(60))
            .await?;
        assert_eq!(exit.code, Some(3));
        says_that_it_was_removed(leader)?;
        operator.create_token("").await?;
        // Started again it says the same.
        leader.start().await?;
        let exit = leader
            .machine
            .wait(leader.name(), Duration::from_secs(60))
            .await?;
        assert_eq!(exit.code, Some(3));
        cluster.shut_down().await?;
        Ok(())
    });
}

#[test]
fn a_member_that_was_removed_while_it_was_down_is_told_by_the_others() {
    support::in_world(async |mut world| {
        let cluster = Cluster::start(&mut world, 3).await?;
        let leader = cluster.leader(None).await?;
        let operator = cluster.operator()?;
        operator.create_token("").await?;
        leader.kill().await?;
        let left = cluster.leader(Some(leader.name())).await?;
        // Whoever is asked says who is away, and only of that one.
        for node in cluster.nodes.iter().filter(|node| node.name() != leader.name()) {
            let asked = cluster.operator_at(node)?;
            level(
                "the dead one being told as such",
                Duration::from_secs(60),
                async || {
                    let members = asked.cluster_status().await?.members;
                    let away: Vec<_> = members
                        .into_iter()
                        .filter(|member| member.role == "unreachable")
                        .map(|member| member.node_id)
                        .collect();
                    Ok(if away == [leader.name()] {
                        Ok(())
                    } else {
                        Err(format!("{away:?}"))
                    })
                },
            )
            .await?;
        }
        remove(&cluster.operator_at(left)?, leader, false).await?;
        leader.start().await?;
        let exit = leader
            .machine
            .wait(leader.name(), Duration::from_secs(60))
            .await?;
        assert_eq!(exit.code, Some(3));
        says_that_it_was_removed(leader)?;
        cluster.shut_down().await?;
        Ok(())
    });
}

fn says_that_it_was_removed(node: &Node) -> anyhow::Result<()> {
    let log = std::fs::read_to_string(node.machine.log_path(node.name()))?;
    anyhow::ensure!(
        log.contains("this node was removed from the cluster, for good") && log.contains("--replace NAME"),
        "{log}"
    );
    Ok(())
}

#[test]
fn evidence_of_a_removed_member_is_copied_to_another() {
    support::in_world(async |world| {
        let deployment = Deployment::start(world, 3, 1).await?;
        let (cluster, agent) = (&deployment.cluster, &deployment.agents[0]);
        let digest = collect(&deployment, agent).await?;
        let leader = cluster.leader(None).await?.name().to_owned();
        let holders = deployment.operator.verify_evidence(&digest).await?.copies;
        let gone = holders.iter().find(|copy| copy.node_id != leader);
        let gone = gone.expect("two nodes hold it").node_id.clone();
        let gone = cluster.nodes.iter().find(|node| node.name() == gone);
        let gone = gone.expect("a holder is a member");
        gone.kill().await?;
        let leading = cluster.leader(Some(gone.name())).await?;
        let operator = cluster.operator_at(leading)?;
        remove(&operator, gone, false).await?;
        level("a second copy", Duration::from_secs(60), async || {
            let copies = operator.verify_evidence(&digest).await?.copies;
            let good = copies
                .iter()
                .all(|copy| copy.verified && copy.node_id != gone.name());
            Ok(if good && copies.len() == 2 {
                Ok(())
            } else {
                Err(format!("{copies:?}"))
            })
        })
        .await?;
        deployment.end().await
    });
}

#[test]
fn the_last_holder_of_evidence_is_not_removed_unasked() {
    support::in_world(async |world| {
        let deployment = Deployment::start(world, 2, 1).await?;
        let (cluster, agent) = (&deployment.cluster, &deployment.agents[0]);
        let digest = collect(&deployment, agent).await?;
        let stays = cluster.leader(None).await?;
        let goes = cluster.nodes.iter().find(|node| node.name() != stays.name());
        let operator = cluster.operator_at(stays)?;
        remove(&operator, goes.expect("the other one"), false).await?;
        let refused = remove(&operator, stays, false)
            .await
            .expect_err("it holds the last copy");
        let refused = refused.to_string();
        assert!(
            refused.contains("no other member holds 1 pieces of evidence") && refused.contains(&digest),
            "{refused}"
        );
        // Whoever insists is refused for another reason: it is the last member.
        let refused = remove(&operator, stays, true)
            .await
            .expect_err("it is the last member");
        assert!(!refused.to_string().contains("evidence"), "{refused}");
        deployment.end().await
    });
}

async fn remove(operator: &OperatorClient, node: &Node, lose_evidence: bool) -> Result<(), WorldError> {
    let request = v1::RemoveMemberRequest {
        raft_id: node.member.raft_id,
        request_id: request_id(),
        lose_evidence,
    };
    operator
        .call("RemoveMember", async |mut api| {
            api.remove_member(request.clone()).await
        })
        .await
        .map(|_| ())
}

/// Collects one small file from the agent's host, and gives its digest.
async fn collect(deployment: &Deployment, agent: &AgentProcess) -> anyhow::Result<String> {
    std::fs::write(agent.disk_outside.join("note.txt"), "pay up")?;
    let with = json!({"roots": [agent.disk], "globs": ["**/note.txt"], "max_bytes": "1MiB"});
    let playbook = support::one_step("collect", "file.collect", with);
    let run = deployment.operator.start_run(&playbook, &json!({})).await?;
    let run = deployment.operator.ended(&run.run_id, support::RUN_MAX).await?;
    anyhow::ensure!(run.status == "succeeded", "{}", run_in_words(&run));
    Ok(deployment.operator.evidence(&run.id).await?.remove(0).sha256)
}

#[test]
fn a_member_whose_data_folder_was_emptied_is_replaced_as_it_is_told() {
    support::in_world(async |mut world| {
        let mut cluster = Cluster::start(&mut world, 3).await?;
        let operator = cluster.operator()?;
        for _ in 0..10 {
            operator.create_token("").await?;
        }
        let leader = cluster.leader(None).await?.name().to_owned();
        let at = cluster.nodes.iter().position(|node| node.name() != leader);
        let at = at.expect("two nodes follow");
        let emptied = &cluster.nodes[at];
        let (name, old_id) = (emptied.name().to_owned(), emptied.member.raft_id);
        emptied.kill().await?;
        // What lies there before a log does is no log.
        let raft = emptied.home().join("data/raft");
        std::fs::remove_dir_all(emptied.home().join("data"))?;
        std::fs::create_dir_all(&raft)?;
        std::fs::write(raft.join("LOCK"), "")?;
        emptied.start().await?;
        let exit = emptied.machine.wait(&name, Duration::from_secs(60)).await?;
        let log = std::fs::read_to_string(emptied.machine.log_path(&name))?;
        assert_eq!(exit.code, Some(3), "the data folder is to blame: {log}");
        assert!(
            log.contains("what it voted and acknowledged is forgotten"),
            "{log}"
        );
        // The two others go on.
        operator.create_token("").await?;

        // What it says is to be done, word by word.
        for step in [
            "cluster remove RAFT_ID",
            "coordinator issue DIR --replace NAME",
            "cluster add",
        ] {
            assert!(log.contains(&format!("`cordon {step}")), "{log}");
        }
        let config = cluster.operator_home().join("config.toml");
        let config = config.to_str().expect("a plain path").to_owned();
        let cordon = |arguments: &[&str]| support::cordon(&config, arguments);
        let unasked = cordon(&["cluster", "remove", &old_id.to_string()]);
        let unasked = unasked.expect_err("there is nobody to ask").to_string();
        assert!(unasked.contains("give --confirm if it is meant"), "{unasked}");
        cordon(&["cluster", "remove", &old_id.to_string(), "--confirm"])?;
        let birth = cluster.birth().to_str().expect("a plain path").to_owned();
        let told = cordon(&["coordinator", "issue", &birth, "--replace", &name])?;
        let add = told
            .lines()
            .find_map(|line| line.split_once("cordon cluster add "))
            .expect("it says how to add the new member")
            .1;
        let node = &cluster.nodes[at];
        assert!(!node.home().join("data/raft").exists(), "the old folder is aside");
        node.start().await?;
        node.ready().await?;
        let mut arguments = vec!["cluster", "add"];
        arguments.extend(add.split_whitespace());
        cordon(&arguments)?;

        let new_id = old_id.max(3) + 1;
        cluster.nodes[at].member.raft_id = new_id;
        level(
            "the new member being a voter",
            Duration::from_secs(60),
            async || {
                let status = operator.cluster_status().await?;
                let known: Vec<_> = status
                    .members
                    .iter()
                    .filter(|one| one.node_id == name)
                    .map(|one| (one.raft_id, one.role.clone()))
                    .collect();
                Ok(if known == [(new_id, "follower".to_owned())] {
                    Ok(())
                } else {
                    Err(format!("{known:?}"))
                })
            },
        )
        .await?;
        support::same_state_everywhere(&cluster).await?;
        cluster.shut_down().await?;
        Ok(())
    });
}
