//! Bad input: each gets an error that says what, where and how to mend it, with its exit code, and nothing
//! crashes or is lost.

mod support;

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use certs::tls::{ClientTls, ConnectOptions, connect, dial};
use certs::{Identity, IssuingCa, Role, Roots, SpiffeId, Validity, new_key_and_csr};
use cordon::demo::world::{Cluster, Launch, OperatorClient};
use proto::v1;
use proto::v1::agent_message::Body;
use serde_json::json;
use support::{Deployment, RUN_MAX, executable, in_world, one_step};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn cordon(arguments: &[&str]) -> Output {
    Command::new(executable())
        .args(arguments)
        .output()
        .expect("the executable can be started")
}

/// The command refuses with this code, and its words have all of these.
fn refused(output: &Output, code: i32, words: &[&str]) {
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in:\n{text}");
    }
}

fn validate(playbook: &str, words: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("bad.yaml");
    std::fs::write(&file, playbook).expect("it can be written");
    refused(
        &cordon(&["playbook", "validate", &file.to_string_lossy()]),
        7,
        words,
    );
}

#[test]
fn a_playbook_with_an_unknown_field() {
    let text = one_step("bad", "host.info", json!({})).replace("    with:", "    wiht:");
    validate(&text, &["wiht", "did you mean `with`", "line 9"]);
}

#[test]
fn a_playbook_with_a_bad_expression() {
    let text = one_step("bad", "host.info", json!({})) + "    when: \"1 +\"\n";
    validate(&text, &["when"]);
}

#[test]
fn a_playbook_with_a_cycle() {
    let text = "playbook: bad\nversion: 1\ntargets:\n  all: {select: \"agent.online\", max: 10}\nsteps:\n  \
                a: {targets: all, do: host.info, needs: [b]}\n  b: {targets: all, do: host.info, needs: [a]}\n";
    validate(text, &["wait for each other", "a, b", "line 6"]);
}

#[test]
fn an_empty_target_set() {
    in_world(async |mut world| {
        let cluster = Cluster::start(&mut world, 1).await?;
        let playbook = one_step("nobody", "host.info", json!({}));
        let error = cluster
            .operator()?
            .start_run(&playbook, &json!({}))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("E0512") && error.contains("target set `all` has no host"),
            "{error}"
        );
        cluster.shut_down().await?;
        Ok(())
    });
}

#[test]
fn a_file_name_that_is_not_utf8() {
    in_world(async |world| {
        let deployment = Deployment::start(world, 1, 1).await?;
        let agent = &deployment.agents[0];
        std::fs::write(
            agent
                .disk_outside
                .join(std::ffi::OsStr::from_bytes(b"bad-\xff\xfe.txt")),
            "content",
        )?;
        let find = json!({"roots": [agent.disk], "globs": ["**/*.txt"]});
        let run = deployment
            .operator
            .start_run(&one_step("find", "file.find", find), &json!({}))
            .await?;
        let run = deployment.operator.ended(&run.run_id, RUN_MAX).await?;
        assert_eq!(
            run.status,
            "succeeded",
            "{}",
            cordon::demo::world::run_in_words(&run)
        );
        let task = deployment.operator.tasks(&run).await?.remove(0);
        let output: serde_json::Value = serde_json::from_str(&task.output_json)?;
        assert!(output["matches"][0]["path_base64"].is_string(), "{output}");
        let collect = json!({"roots": [agent.disk], "globs": ["**/*.txt"], "max_bytes": "1MiB"});
        let run = deployment
            .operator
            .start_run(&one_step("collect", "file.collect", collect), &json!({}))
            .await?;
        let run = deployment.operator.ended(&run.run_id, RUN_MAX).await?;
        assert_eq!(
            run.status,
            "succeeded",
            "{}",
            cordon::demo::world::run_in_words(&run)
        );
        let record = deployment.operator.evidence(&run.id).await?.remove(0);
        assert!(record.path_bytes.ends_with(b"bad-\xff\xfe.txt"), "{record:?}");
        deployment.end().await
    });
}

/// A session of our own making, with a certificate of this agent.
async fn session(
    cluster: &Cluster,
    identity: Identity,
    messages: Vec<v1::AgentMessage>,
) -> Result<Vec<v1::CoordinatorMessage>, tonic::Status> {
    let node = &cluster.nodes[0];
    let roots = Roots::load(&cluster.operator_home().join("roots/coordinator.pem")).expect("the roots");
    let tls = ClientTls::new(Some(identity), &roots, &cluster.info().trust_domain).expect("a configuration");
    let endpoint = node.member.endpoint(node.member.agent_port);
    let channel = connect(&endpoint, &tls, Role::Coordinator, ConnectOptions::default())
        .await
        .expect("a connection");
    let mut client = v1::agent_service_client::AgentServiceClient::new(channel);
    // The stream stays open after the messages: the end must come from the server.
    let messages = tokio_stream::StreamExt::chain(tokio_stream::iter(messages), tokio_stream::pending());
    let mut answers = client.session(messages).await?.into_inner();
    let mut heard = Vec::new();
    while let Some(answer) = answers.message().await? {
        heard.push(answer);
    }
    Ok(heard)
}

fn hello(id: &str, domain: &str) -> v1::AgentMessage {
    let hello = v1::Hello {
        agent_id: id.to_owned(),
        trust_domain: domain.to_owned(),
        agent_version: "0".to_owned(),
        boot_id: "boot".to_owned(),
        facts_json: "{}".to_owned(),
        protocol: 1,
        ..Default::default()
    };
    v1::AgentMessage {
        body: Some(Body::Hello(hello)),
    }
}

/// The identity that the agent enrolled with.
fn identity_of(config: &Path) -> anyhow::Result<Identity> {
    let folder = config
        .parent()
        .expect("a file has a folder")
        .join("state/identity");
    Ok(Identity::load(&folder)?)
}

#[test]
fn a_host_that_lies_about_its_id_and_one_that_says_too_much() {
    in_world(async |world| {
        let deployment = Deployment::start(world, 1, 2).await?;
        let domain = deployment.cluster.info().trust_domain.clone();
        deployment.agents[0].kill().await?;
        let identity = identity_of(deployment.agents[0].config())?;

        let lie = session(
            &deployment.cluster,
            identity.clone(),
            vec![hello("host-2", &domain)],
        );
        let end = tokio::time::timeout(Duration::from_secs(30), lie).await?;
        let refusal = end.expect_err("an agent was taken for another");
        assert!(refusal.to_string().contains("names another"), "{refusal:?}");

        let report = v1::Report {
            key: Some(v1::AttemptKey {
                run_id: uuid_like(),
                step: "only".to_owned(),
                item: 0,
                attempt: 1,
                token: 1,
            }),
            body: Some(v1::report::Body::Ended(v1::Ended {
                status: "succeeded".to_owned(),
                output_json: format!("{{\"x\":\"{}\"}}", "x".repeat(3 << 20)),
                ..Default::default()
            })),
        };
        let reports = v1::AgentMessage {
            body: Some(Body::Reports(v1::Reports {
                reports: vec![report],
            })),
        };
        let flood = session(
            &deployment.cluster,
            identity,
            vec![hello("host-1", &domain), reports],
        );
        let end = tokio::time::timeout(Duration::from_secs(30), flood).await?;
        // Either the stream ends for it, or the report is refused by name: what counts is that it is not taken.
        let refused = match &end {
            Err(error) => format!("{error:?}").contains("a message is larger than the 1048576 bytes"),
            Ok(heard) => heard.iter().any(|message| match &message.body {
                Some(v1::coordinator_message::Body::Committed(committed)) => {
                    committed.ended.is_empty() && !committed.refused.is_empty()
                }
                _ => false,
            }),
        };
        assert!(refused, "an oversized report was not refused: {end:?}");

        still_serves(&deployment.operator, 2).await?;
        deployment.end().await
    });
}

fn uuid_like() -> String {
    cordon::demo::world::request_id()
}

#[test]
fn truncated_and_broken_frames() {
    in_world(async |world| {
        let deployment = Deployment::start(world, 1, 1).await?;
        let node = &deployment.cluster.nodes[0];
        let endpoint = node.member.endpoint(node.member.agent_port);
        let roots = Roots::load(&deployment.cluster.operator_home().join("roots/coordinator.pem"))?;
        let domain = &deployment.cluster.info().trust_domain;
        let tls = ClientTls::new(
            Some(agent_identity(&deployment.cluster, "nobody")?),
            &roots,
            domain,
        )?;
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
        // A frame that promises more than comes, one of an absurd length, and no HTTP/2 at all.
        let cut = [preface, &[0, 0, 100, 0, 0, 0, 0, 0, 1, 1, 2, 3]].concat();
        let absurd = [preface, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat();
        for bytes in [cut, absurd, vec![0x16; 4096]] {
            let mut stream = dial(&endpoint, &tls, Role::Coordinator, &ConnectOptions::default()).await?;
            stream.write_all(&bytes).await?;
            // A server that closes at once is as good as one that waits for the rest.
            let _closed = stream.shutdown().await;
            let mut rest = Vec::new();
            let _reset = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        }
        // And plain bytes where TLS is expected.
        let mut plain = tokio::net::TcpStream::connect(&endpoint).await?;
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
        drop(plain);
        still_serves(&deployment.operator, 1).await?;
        deployment.end().await
    });
}

fn agent_identity(cluster: &Cluster, id: &str) -> anyhow::Result<Identity> {
    let domain = &cluster.info().trust_domain;
    let ca = IssuingCa::load(&cluster.birth().join("ca"), Role::Agent)?;
    let (key, request) = new_key_and_csr()?;
    let name = SpiffeId::new(domain, Role::Agent, id)?;
    Ok(Identity::new(
        key,
        ca.issue_from_csr(&request, &name, Validity::lasting(Duration::from_secs(600)))?,
    )?)
}

async fn still_serves(operator: &OperatorClient, agents: usize) -> anyhow::Result<()> {
    assert_eq!(operator.agents().await?.len(), agents);
    operator.create_token("").await?;
    Ok(())
}

#[test]
fn a_coordinators_configuration_with_a_wrong_key() {
    in_world(async |mut world| {
        let cluster = Cluster::prepare(&mut world, 1).await?;
        let node = &cluster.nodes[0];
        let config = node.home().join("coordinator.toml");
        let text = std::fs::read_to_string(&config)?;
        std::fs::write(&config, text + "\n[raaft]\ntick_ms = 5\n")?;
        let output = check_run(node, &config).await?;
        assert_eq!(output.exit.code, Some(2), "{}", output.stderr);
        assert!(
            output.stderr.contains("raaft") && output.stderr.contains("coordinator.toml"),
            "{}",
            output.stderr
        );
        cluster.shut_down().await?;
        Ok(())
    });
}

#[test]
fn a_data_folder_of_another_cluster() {
    in_world(async |mut world| {
        let cluster = Cluster::start(&mut world, 1).await?;
        let node = &cluster.nodes[0];
        node.stop().await?;
        let config = node.home().join("coordinator.toml");
        let id = &cluster.info().id;
        let other = cordon::demo::world::request_id();
        std::fs::write(
            &config,
            std::fs::read_to_string(&config)?.replace(id.as_str(), &other),
        )?;
        let output = check_run(node, &config).await?;
        assert_eq!(output.exit.code, Some(3), "{}", output.stderr);
        assert!(output.stderr.contains("cluster"), "{}", output.stderr);
        cluster.shut_down().await?;
        Ok(())
    });
}

#[test]
fn a_port_that_is_in_use() {
    in_world(async |mut world| {
        let cluster = Cluster::prepare(&mut world, 1).await?;
        let node = &cluster.nodes[0];
        node.machine.listen(node.member.agent_port).await?;
        let output = check_run(node, &node.home().join("coordinator.toml")).await?;
        assert_eq!(output.exit.code, Some(4), "{}", output.stderr);
        assert!(output.stderr.contains("7401"), "{}", output.stderr);
        cluster.shut_down().await?;
        Ok(())
    });
}

/// Runs the coordinator in the expectation that it refuses.
async fn check_run(
    node: &cordon::demo::world::Node,
    config: &Path,
) -> anyhow::Result<cordon::demo::world::Output> {
    let launch = Launch::own(["__coordinator", "--config", &config.to_string_lossy()]);
    Ok(node.machine.run(launch, Duration::from_secs(30)).await?)
}
