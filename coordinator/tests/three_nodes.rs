//! Evidence on two of three nodes, a leader that is killed in the middle of a run, and a disk without room.

mod common;

use bytes::Bytes;
use common::{Cluster, PATIENCE, code, ended, run_to_end, start_run, started};
use proto::v1;
use sha2::{Digest, Sha256};
use tokio_stream::StreamExt;

const COLLECT: &str = "
playbook: take
version: 1
inputs:
  hosts: {type: list<host>, min: 1}
targets:
  all: {hosts: '${inputs.hosts}'}
steps:
  take:
    targets: all
    do: file.collect
    with: {paths: [/etc/hostname], max_bytes: 1MiB}
";

fn chunks(key: &v1::AttemptKey, offset: usize, content: &[u8], whole: bool) -> Vec<v1::EvidenceChunk> {
    let header = v1::EvidenceHeader {
        key: Some(key.clone()),
        upload_id: "u-1".into(),
        offset_bytes: offset as u64,
        path: Bytes::from_static(b"/etc/host\xff"),
        size_bytes_max: 1 << 20,
    };
    let trailer = v1::EvidenceTrailer {
        sha256: hex::encode(Sha256::digest(content)),
        size_bytes: content.len() as u64,
        read_at_ms: 1_000,
        changed_during_read: false,
    };
    let end = if whole { content.len() } else { content.len() / 2 };
    let mut chunks = vec![v1::EvidenceChunk {
        header: Some(header),
        data: Bytes::copy_from_slice(&content[offset..end]),
        trailer: None,
    }];
    if whole {
        chunks.push(v1::EvidenceChunk {
            trailer: Some(trailer),
            ..Default::default()
        });
    }
    chunks
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_is_resumed_copied_recorded_and_read_back() {
    let mut cluster = Cluster::start(3);
    let agent = cluster.enroll(0, "web-1").await;
    let endpoint = cluster.agent_endpoint(1);
    let mut session = agent.attach(&endpoint).await;
    let mut operator = cluster.operator(2).await;
    let run = start_run(&mut operator, COLLECT, &["web-1"]).await;
    let key = session.assignment().await.key.unwrap();
    session.report(started(&key)).await;
    session.committed().await;

    let content: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let mut client = agent.client(&endpoint).await;
    // A first try breaks off in the middle.
    let broken = client
        .put_evidence(tokio_stream::iter(chunks(&key, 0, &content, false)))
        .await;
    assert_eq!(code(&broken.unwrap_err()), "invalid");
    let ask = v1::EvidenceOffsetRequest {
        key: Some(key.clone()),
        upload_id: "u-1".into(),
    };
    let offset = client
        .evidence_offset(ask)
        .await
        .unwrap()
        .into_inner()
        .offset_bytes as usize;
    assert_eq!(offset, content.len() / 2);
    let receipt = client
        .put_evidence(tokio_stream::iter(chunks(&key, offset, &content, true)))
        .await
        .unwrap()
        .into_inner();
    let sha256 = hex::encode(Sha256::digest(&content));
    assert_eq!(
        (receipt.sha256.as_str(), receipt.size_bytes, receipt.copies),
        (sha256.as_str(), 300_000, 2)
    );

    // Through any node, also one that holds no copy.
    for at in 0..3 {
        let mut operator = cluster.operator(at).await;
        let request = v1::GetEvidenceRequest {
            sha256: sha256.clone(),
            offset_bytes: 100_000,
        };
        let mut data = operator.get_evidence(request).await.unwrap().into_inner();
        let mut read = Vec::new();
        while let Some(part) = data.next().await {
            read.extend_from_slice(&part.unwrap().data);
        }
        assert!(read == content[100_000..], "node {at} gives other bytes");
    }
    let verify = v1::VerifyEvidenceRequest {
        sha256: sha256.clone(),
    };
    let verified = operator
        .verify_evidence(verify.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(verified.ok && verified.copies.len() == 2, "{verified:?}");
    let records = operator
        .list_evidence(v1::ListEvidenceRequest {
            run_id: run.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .records;
    assert_eq!(
        (records[0].agent_id.as_str(), records[0].path.as_str()),
        ("web-1", "/etc/host\\xff")
    );

    // A damaged copy is found.
    let file = cluster
        .home(1)
        .join("data/evidence/sha256")
        .join(&sha256[..2])
        .join(&sha256);
    let mut damaged = content.clone();
    damaged[7] ^= 1;
    std::fs::write(file, damaged).unwrap();
    let verified = operator.verify_evidence(verify).await.unwrap().into_inner();
    assert!(!verified.ok);
    assert_eq!(
        verified.copies.iter().filter(|copy| copy.verified).count(),
        1,
        "{verified:?}"
    );

    // Nobody uploads for what was not assigned to it.
    let other = cluster.enroll(0, "web-2").await;
    let mut client = other.client(&endpoint).await;
    let refused = client
        .put_evidence(tokio_stream::iter(chunks(&key, 0, &content, true)))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    cluster.kill(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_outlives_its_leader() {
    let mut cluster = Cluster::start(3);
    let agent = cluster.enroll(0, "web-1").await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    // The session is on a node that lives on: a change of the leader moves no agent.
    let mut session = agent.attach(&cluster.agent_endpoint(follower)).await;
    let mut operator = cluster.operator(follower).await;
    let run = start_run(&mut operator, COLLECT, &["web-1"]).await;
    let key = session.assignment().await.key.unwrap();
    session.report(started(&key)).await;
    session.committed().await;

    cluster.kill(leader);
    let output = "{\"files\":[],\"skipped\":[],\"total_bytes\":0,\"truncated\":false}";
    session.succeed(&key, output).await;
    let ended = run_to_end(&mut operator, &run).await;
    assert_eq!(ended.status, "succeeded");
    let new_leader = cluster.leader().await;
    assert_ne!(new_leader, leader);

    // The old one comes back and agrees.
    cluster.launch(leader);
    let mut operator = cluster.operator(leader).await;
    let same = common::retry(async || {
        operator
            .clone()
            .get_run(v1::GetRunRequest { id: run.clone() })
            .await
    })
    .await;
    assert_eq!(
        (same.status.as_str(), same.revision),
        ("succeeded", ended.revision)
    );
    drop(operator.status(v1::StatusRequest {}).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_without_room_is_named_by_whoever_is_asked() {
    let mut cluster = Cluster::start(3);
    let agent = cluster.enroll(0, "web-1").await;
    let leader = cluster.leader().await;
    let (full, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.stop(full);
    cluster.configure(full, "[disk]\nruns_free_percent_min = 100\n");
    cluster.launch(full);
    let to = v1::TransferLeaderRequest {
        raft_id: cluster.members[full].raft_id,
    };
    common::retry(async || cluster.operator(other).await.transfer_leader(to).await).await;
    let asked = || v1::StartRunRequest {
        playbook_yaml: COLLECT.into(),
        inputs_json: serde_json::json!({"hosts": [&agent.id]}).to_string(),
        request_id: uuid::Uuid::now_v7().to_string(),
        plan_sha256: String::new(),
    };
    for at in [other, full] {
        let refused = cluster.operator(at).await.start_run(asked()).await.unwrap_err();
        assert_eq!(code(&refused), "disk_full", "{refused:?}");
        let named = format!("the disk of {} ", cluster.members[full].name);
        assert!(refused.message().contains(&named), "{refused:?}");
    }

    // Led by another, it runs.
    let to = v1::TransferLeaderRequest {
        raft_id: cluster.members[other].raft_id,
    };
    common::retry(async || cluster.operator(other).await.transfer_leader(to).await).await;
    cluster.operator(other).await.start_run(asked()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_refuses_runs_and_evidence_and_nothing_else() {
    let mut cluster = Cluster::start(1);
    let agent = cluster.enroll(0, "web-1").await;
    let endpoint = cluster.agent_endpoint(0);
    let mut session = agent.attach(&endpoint).await;
    let mut operator = cluster.operator(0).await;
    let collecting = start_run(&mut operator, COLLECT, &["web-1"]).await;
    let key = session.assignment().await.key.unwrap();
    session.report(started(&key)).await;
    session.committed().await;

    cluster.kill(0);
    // No disk has this much free: it holds at least the configuration.
    cluster.configure(
        0,
        "[disk]\nevidence_free_percent_min = 100\nruns_free_percent_min = 100\n",
    );
    cluster.launch(0);
    let session = agent.attach(&endpoint).await;
    let mut operator = cluster.operator(0).await;
    let refused = tokio::time::timeout(PATIENCE, async {
        loop {
            let asked = v1::StartRunRequest {
                playbook_yaml: COLLECT.into(),
                inputs_json: serde_json::json!({"hosts": ["web-1"]}).to_string(),
                request_id: uuid::Uuid::now_v7().to_string(),
                plan_sha256: String::new(),
            };
            // The leader may not be elected yet.
            match operator.start_run(asked).await {
                Err(refused) if refused.code() != tonic::Code::Unavailable => break refused,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                Ok(started) => panic!("a run was started: {started:?}"),
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(code(&refused), "disk_full", "{refused:?}");
    let refused = agent
        .client(&endpoint)
        .await
        .put_evidence(tokio_stream::iter(chunks(&key, 0, b"a note", true)))
        .await
        .unwrap_err();
    assert_eq!(code(&refused), "disk_low", "{refused:?}");

    // What agents report, and what stops a run, is taken.
    let output = "{\"files\":[],\"skipped\":[],\"total_bytes\":0,\"truncated\":false}";
    session.report(ended(&key, "succeeded", output)).await;
    assert_eq!(run_to_end(&mut operator, &collecting).await.status, "succeeded");
}
