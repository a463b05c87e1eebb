//! Calls over named connections, to a real HTTP peer: what it sees, what comes back, and a leader that dies in the
//! middle of one.

mod common;

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, PATIENCE, retry, run_to_end};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use parking_lot::Mutex;
use proto::v1;

const PLAYBOOK: &str = r#"
playbook: quarantine
version: 1
steps:
  hosts: {do: http.call, with: {connection: cmdb, method: GET, path: /hosts, query: {state: "infected & known"}}}
  block:
    needs: [hosts]
    foreach: {in: steps.hosts.output.json, as: host, max_parallel: 2}
    do: http.call
    with: {connection: cmdb, method: PUT, path: "/quarantine/${host}", json: {run: "${run.id}"}}
    retry: {max: 2, initial: 10ms, when: 'error.code == "rate_limited"'}
  none: {needs: [block], do: http.call, with: {connection: cmdb, method: POST, path: /teapot}, on_failure: continue}
  later: {needs: [none.done], do: intel.lookup, with: {type: ip, value: 192.0.2.7, providers: [misp]}, on_failure: continue}
  tell: {needs: [later.done], notify: {to: ["log:soc", "webhook:chat"], severity: high, text: "${size(steps.block.ok)} blocked"}}
outputs:
  blocked: "${steps.block.ok.map(i, i.item)}"
  refused: "${steps.none.items[0].error.code}"
  missing: "${steps.later.items[0].error.code}"
"#;

const SLOW: &str = r#"
playbook: slow
version: 1
steps:
  put: {do: http.call, with: {connection: cmdb, method: PUT, path: /slow}, timeout: {attempt: 5m}}
outputs: {status: "${steps.put.output.status}"}
"#;

/// What the peer was asked.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    key: String,
    authorization: String,
    body: String,
}

#[derive(Default)]
struct Peer {
    asked: Mutex<Vec<Asked>>,
    /// While it is set, /slow does not answer.
    hold: AtomicBool,
}

impl Peer {
    /// Serves on a port of the loopback until the test ends.
    async fn start() -> (Arc<Peer>, String) {
        let peer = Arc::new(Peer::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn({
            let peer = peer.clone();
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let peer = peer.clone();
                    let serve = hyper::service::service_fn(move |request| {
                        let peer = peer.clone();
                        async move { Ok::<_, Infallible>(peer.answer(request).await) }
                    });
                    tokio::spawn(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(hyper_util::rt::TokioIo::new(stream), serve),
                    );
                }
            }
        });
        (peer, format!("http://{address}"))
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .map_or(String::new(), |value| value.to_str().unwrap().to_owned())
        };
        let (key, authorization) = (header("idempotency-key"), header("authorization"));
        let line = format!("{} {}", request.method(), request.uri());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let before = self
            .asked
            .lock()
            .iter()
            .filter(|asked| asked.line == line)
            .count();
        self.asked.lock().push(Asked {
            line: line.clone(),
            key,
            authorization,
            body: String::from_utf8(body.to_vec()).unwrap(),
        });
        let (status, text) = match line.as_str() {
            "GET /api/hosts?state=infected+%26+known" => (200, r#"["h1", "h2", "h3"]"#),
            "PUT /api/quarantine/h2" if before == 0 => (429, "{}"),
            "POST /api/teapot" => (418, "{\"why\": \"short and stout\"}"),
            "PUT /api/slow" => {
                while self.hold.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                (200, "{}")
            }
            _ => (200, "{}"),
        };
        Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .body(Full::from(text))
            .unwrap()
    }

    fn asked(&self, line: &str) -> Vec<Asked> {
        let all = self.asked.lock();
        all.iter().filter(|asked| asked.line == line).cloned().collect()
    }
}

/// A cluster whose nodes know the peer as `cmdb` and as `chat`.
fn cluster(count: u64, url: &str) -> Cluster {
    let mut cluster = Cluster::start(count);
    for at in 0..count as usize {
        let secrets = cluster.home(at).join("secrets");
        std::fs::create_dir(&secrets).unwrap();
        std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o700)).unwrap();
        let token = secrets.join("cmdb.token");
        std::fs::write(&token, "s3cret\n").unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        cluster.kill(at);
        cluster.configure(
            at,
            &format!(
                "[disk]\nevidence_free_percent_min = 0\nruns_free_percent_min = 0\n\
                 [connections.cmdb]\nurl = \"{url}/api\"\ntoken_file = \"secrets/cmdb.token\"\n\
                 [connections.chat]\nurl = \"{url}/chat\"\n"
            ),
        );
        cluster.launch(at);
    }
    cluster
}

async fn start(cluster: &Cluster, at: usize, playbook: &str) -> String {
    let operator = cluster.operator(at).await;
    let request = v1::StartRunRequest {
        playbook_yaml: playbook.into(),
        inputs_json: "{}".into(),
        request_id: uuid::Uuid::now_v7().to_string(),
        plan_sha256: String::new(),
    };
    retry(async || operator.clone().start_run(request.clone()).await)
        .await
        .run_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_talks_to_another_system() {
    let (peer, url) = Peer::start().await;
    let cluster = cluster(1, &url);
    let run = start(&cluster, 0, PLAYBOOK).await;
    let ended = run_to_end(&mut cluster.operator(0).await, &run).await;
    assert_eq!(ended.status, "succeeded", "{ended:?}");
    let outputs: serde_json::Value = serde_json::from_str(&ended.outputs_json).unwrap();
    assert_eq!(
        outputs,
        serde_json::json!({"blocked": ["h1", "h2", "h3"], "refused": "refused", "missing": "not_implemented"})
    );

    let hosts = peer.asked("GET /api/hosts?state=infected+%26+known");
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0].authorization, "Bearer s3cret");
    // Tried again with the same key, which is the task's.
    let second = peer.asked("PUT /api/quarantine/h2");
    assert_eq!(second.len(), 2);
    assert_eq!(second[0].key, format!("{run}/block/1"));
    assert_eq!(second[0].key, second[1].key);
    assert_eq!(second[0].body, format!("{{\"run\":\"{run}\"}}"));
    let told = peer.asked("POST /chat");
    assert_eq!(told.len(), 1);
    assert_eq!(
        told[0].authorization, "",
        "the secret of one connection stays with it"
    );
    assert!(told[0].body.contains("3 blocked"), "{told:?}");
    let log = cluster.log(0);
    assert!(log.contains("3 blocked") && log.contains("soc"), "{log}");
    assert!(!log.contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_outlives_its_leader_under_the_same_key() {
    let (peer, url) = Peer::start().await;
    let mut cluster = cluster(3, &url);
    peer.hold.store(true, Ordering::Relaxed);
    let run = start(&cluster, 0, SLOW).await;
    tokio::time::timeout(PATIENCE, async {
        while peer.asked("PUT /api/slow").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the leader makes the call");
    let leader = cluster.leader().await;
    let before = peer.asked("PUT /api/slow").len();
    cluster.kill(leader);
    tokio::time::timeout(PATIENCE, async {
        while peer.asked("PUT /api/slow").len() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the next leader makes it again");
    peer.hold.store(false, Ordering::Relaxed);
    let ended = run_to_end(&mut cluster.operator((leader + 1) % 3).await, &run).await;
    assert_eq!(
        (ended.status.as_str(), ended.outputs_json.as_str()),
        ("succeeded", "{\"status\":200}")
    );
    let asked = peer.asked("PUT /api/slow");
    assert!(asked.len() >= 2);
    assert!(
        asked.iter().all(|asked| asked.key == format!("{run}/put/0")),
        "{asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_cannot_be_used_is_told_at_the_start() {
    let cluster = Cluster::start(1);
    let refused = |connection: &str| {
        cluster.configure(
            0,
            &format!("[disk]\nruns_free_percent_min = 0\n[connections.cmdb]\n{connection}\n"),
        );
        let output = cluster.command(0).arg("check").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{connection}");
        String::from_utf8(output.stderr).unwrap()
    };
    for (connection, told) in [
        ("url = \"http://switch.test/\"", "allow_plain"),
        ("url = \"ftp://switch.test/\"", "neither https:// nor http://"),
        ("url = \"https://u:p@switch.test/\"", "no user and no password"),
        ("url = \"https://switch.test/\"\nuser = \"u\"", "go together"),
        (
            "url = \"https://switch.test/\"\ntoken_file = \"secrets/none\"",
            "secrets",
        ),
    ] {
        let said = refused(connection);
        assert!(said.contains(told), "{connection}: {said}");
    }
}
