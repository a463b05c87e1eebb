//! `host.isolate` and `host.release` with the real nft, in network namespaces of the test's own:
//! `host` has a link to `coordinator` and one to `other`. Needs root; skips loudly without.
//!
//! A namespace is a thread that left the machine's: it vanishes with the thread, and nothing of the
//! machine's own network is ever touched.
#![cfg(target_os = "linux")]

mod support;

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use agent::actions::{CoordinatorProbe, Environment, IsolationMode};
use agent::isolation::{Restored, restore};
use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::thread::{UnshareFlags, gettid};
use serde_json::{Value, json};
use support::{Shelf, context, environment, run};

/// Long enough to get an answer over a virtual link, short enough to wait for none.
const PATIENCE: Duration = Duration::from_secs(1);

/// A state that must come is waited for this long.
const DEADLINE: Duration = Duration::from_secs(60);

type Job = Box<dyn FnOnce(&tokio::runtime::Runtime) + Send>;

struct Namespace {
    jobs: Sender<Job>,
    tid: i32,
}

impl Namespace {
    fn new() -> Self {
        let (jobs, inbox) = channel::<Job>();
        let (say_tid, tid) = channel();
        std::thread::spawn(move || {
            #[expect(
                deprecated,
                reason = "only the flags for files and file systems make it unsafe"
            )]
            rustix::thread::unshare(UnshareFlags::NEWNET).expect("a network namespace");
            say_tid
                .send(gettid().as_raw_nonzero().get())
                .expect("the test waits");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            for job in inbox {
                job(&runtime);
            }
        });
        let namespace = Namespace {
            jobs,
            tid: tid.recv().expect("started"),
        };
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs a closure in the namespace.
    fn run<T: Send + 'static>(&self, work: impl FnOnce(&tokio::runtime::Runtime) -> T + Send + 'static) -> T {
        let (answer, answered) = channel();
        let job: Job = Box::new(move |runtime| {
            // A test that has failed waits no more.
            let _ = answer.send(work(runtime));
        });
        self.jobs.send(job).expect("the namespace is there");
        answered.recv().expect("the work did not panic")
    }

    fn block_on<T: Send + 'static, F: Future<Output = T>>(
        &self,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> T {
        self.run(move |runtime| runtime.block_on(work()))
    }

    fn command(&self, program: &'static str, arguments: &str) -> String {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        self.run(move |_| {
            let output = Command::new(program).args(&arguments).output().expect("starts");
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{program} {arguments:?}: {errors}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }

    fn ip(&self, arguments: &str) {
        self.command("ip", arguments);
    }

    fn nft(&self, arguments: &str) -> String {
        self.command("nft", arguments)
    }

    /// Answers each byte with itself, over TCP, until the test ends.
    fn serve_tcp(&self, address: &'static str) {
        self.run(move |_| {
            let listener = TcpListener::bind(address).expect("binds");
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    std::thread::spawn(move || {
                        let mut reader = stream.try_clone().expect("cloned");
                        let mut byte = [0u8; 1];
                        while reader.read_exact(&mut byte).is_ok() && (&stream).write_all(&byte).is_ok() {}
                    });
                }
            });
        });
    }

    fn serve_udp(&self, address: &'static str) {
        self.run(move |_| {
            let socket = UdpSocket::bind(address).expect("binds");
            std::thread::spawn(move || {
                let mut bytes = [0u8; 16];
                while let Ok((count, from)) = socket.recv_from(&mut bytes) {
                    // An isolated peer cannot be answered.
                    let _ = socket.send_to(&bytes[..count], from);
                }
            });
        });
    }

    fn connect(&self, address: &str) -> Option<TcpStream> {
        let address: SocketAddr = address.parse().expect("an address");
        self.run(move |_| TcpStream::connect_timeout(&address, PATIENCE).ok().filter(echoes))
    }

    fn reaches(&self, address: &str) -> bool {
        self.connect(address).is_some()
    }

    fn reaches_by_udp(&self, address: &str) -> bool {
        let address: SocketAddr = address.parse().expect("an address");
        self.run(move |_| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("binds");
            socket.set_read_timeout(Some(PATIENCE)).expect("set");
            let mut bytes = [0u8; 16];
            socket.send_to(b"ping", address).is_ok() && socket.recv(&mut bytes).is_ok()
        })
    }
}

fn echoes(stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut byte = [0u8; 1];
    let mut stream = stream;
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok() && byte == *b"x"
}

/// Asks the coordinator's echo over a new connection.
struct EchoProbe(SocketAddr);

impl CoordinatorProbe for EchoProbe {
    fn probe(&self, within: Duration) -> BoxFuture<'_, Result<(), String>> {
        async move {
            match tokio::time::timeout(within, tokio::net::TcpStream::connect(self.0)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no answer".to_owned()),
            }
        }
        .boxed()
    }
}

struct World {
    host: Namespace,
    coordinator: Namespace,
    other: Namespace,
    state: tempfile::TempDir,
}

const COORDINATOR: &str = "10.9.1.1:7401";
const COORDINATOR_V6: &str = "[fd00:9:1::1]:7401";
const OTHER: &str = "10.9.2.1:80";
const OTHER_V6: &str = "[fd00:9:2::1]:80";
const OTHER_UDP: &str = "10.9.2.1:9000";

impl World {
    /// None: not here, and said so.
    fn new() -> Option<Self> {
        let nft = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"]
            .iter()
            .any(|path| Path::new(path).exists());
        if !rustix::process::geteuid().is_root() || !nft {
            eprintln!("SKIPPED: isolation needs root and nft");
            return None;
        }
        let world = World {
            host: Namespace::new(),
            coordinator: Namespace::new(),
            other: Namespace::new(),
            state: tempfile::tempdir().expect("a folder"),
        };
        for (link, peer, net) in [("hc", &world.coordinator, 1), ("ho", &world.other, 2)] {
            world.host.ip(&format!(
                "link add {link} type veth peer name h0 netns {}",
                peer.tid
            ));
            for (namespace, link, end) in [(&world.host, link, 2), (peer, "h0", 1)] {
                namespace.ip(&format!("addr add 10.9.{net}.{end}/24 dev {link}"));
                namespace.ip(&format!("addr add fd00:9:{net}::{end}/64 dev {link} nodad"));
                namespace.ip(&format!("link set {link} up"));
            }
            peer.ip(&format!("route add default via 10.9.{net}.2"));
        }
        world
            .host
            .run(|_| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("set"));
        world.coordinator.serve_tcp("0.0.0.0:7401");
        world.coordinator.serve_tcp("[fd00:9:1::1]:7401");
        world.coordinator.serve_tcp("0.0.0.0:80");
        world.other.serve_tcp("0.0.0.0:80");
        world.other.serve_tcp("[fd00:9:2::1]:80");
        world.other.serve_udp("0.0.0.0:9000");
        world.host.serve_tcp("0.0.0.0:22");
        // A link that has just come up may lose its first packets.
        for address in [COORDINATOR, COORDINATOR_V6, OTHER, OTHER_V6] {
            until(address, || world.host.reaches(address));
        }
        Some(world)
    }

    fn environment(&self, coordinators: &[&str]) -> Environment {
        let first = coordinators[0].parse().expect("an address");
        Environment {
            state_dir: self.state.path().to_owned(),
            coordinators: coordinators.iter().map(|text| (*text).to_owned()).collect(),
            probe: Arc::new(EchoProbe(first)),
            ..environment(&[], &Arc::new(Shelf::default()))
        }
    }

    fn act(
        &self,
        action: &'static str,
        environment: Environment,
        parameters: Value,
    ) -> Result<Value, &'static str> {
        self.host.block_on(move || async move {
            run(action, context(environment, parameters))
                .await
                .map_err(|error| {
                    eprintln!("{action}: {error}");
                    error.code
                })
        })
    }

    fn isolate(&self, ttl: &str) -> Value {
        let environment = self.environment(&[COORDINATOR, COORDINATOR_V6]);
        let parameters =
            json!({"mode": "network", "allow": ["coordinator"], "ttl": ttl, "confirm_within": "10s"});
        self.act("host.isolate", environment, parameters)
            .expect("isolates")
    }

    fn release(&self) -> Value {
        self.act(
            "host.release",
            self.environment(&[COORDINATOR]),
            json!({"reason": "test"}),
        )
        .expect("releases")
    }

    fn has_our_tables(&self) -> bool {
        self.host.nft("list tables").contains("cordon")
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < DEADLINE,
            "{what} did not come within {DEADLINE:?}"
        );
    }
}

#[test]
fn an_isolated_host_reaches_its_coordinators_and_nobody_else() {
    let Some(world) = World::new() else { return };
    let host = &world.host;
    host.nft("add table inet mine");
    host.nft("add chain inet mine output { type filter hook output priority 0 ; policy accept ; }");
    let mine = host.nft("list table inet mine");
    // A macvlan of another namespace sends its frames through the host's link, past every inet hook.
    let aside = Namespace::new();
    host.ip(&format!(
        "link add mv0 link ho netns {} type macvlan mode bridge",
        aside.tid
    ));
    aside.ip("addr add 10.9.2.9/24 dev mv0");
    aside.ip("link set mv0 up");

    let everything = |expected: bool| {
        assert_eq!(host.reaches(OTHER), expected, "TCP over IPv4");
        assert_eq!(host.reaches(OTHER_V6), expected, "TCP over IPv6");
        assert_eq!(host.reaches_by_udp(OTHER_UDP), expected, "UDP");
        assert_eq!(
            host.reaches("10.9.1.1:80"),
            expected,
            "another port of the coordinator"
        );
        assert_eq!(world.coordinator.reaches(OTHER), expected, "forwarded");
        assert_eq!(
            world.coordinator.reaches("10.9.1.2:22"),
            expected,
            "into the host, from the coordinator"
        );
        assert_eq!(
            world.other.reaches("10.9.2.2:22"),
            expected,
            "into the host, from elsewhere"
        );
        assert_eq!(aside.reaches(OTHER), expected, "a macvlan on the host's link");
        assert!(
            host.reaches(COORDINATOR) && host.reaches(COORDINATOR_V6),
            "the coordinator"
        );
        assert!(host.reaches("127.0.0.1:22"), "loopback");
    };
    everything(true);
    let to_coordinator = host.connect(COORDINATOR).expect("connects");
    let to_other = host.connect(OTHER).expect("connects");
    let to_other_v6 = host.connect(OTHER_V6).expect("connects");

    let output = world.isolate("1h");
    assert_eq!(
        (&output["isolated"], &output["warnings"]),
        (&json!(true), &json!([]))
    );
    assert!(output["connections_cut"].as_u64() >= Some(2), "{output:#}");
    everything(false);
    assert!(
        echoes(&to_coordinator),
        "a live connection to the coordinator stays"
    );
    assert!(!echoes(&to_other) && !echoes(&to_other_v6), "others are cut");

    // Renewing it is as if it had been asked for once.
    assert_eq!(world.isolate("2h")["ruleset_sha256"], output["ruleset_sha256"]);
    everything(false);

    assert_eq!(
        world.release(),
        json!({"released": true, "was_isolated": true, "foreign_edits": []})
    );
    everything(true);
    assert!(!world.has_our_tables());
    assert_eq!(host.nft("list table inet mine"), mine);
    assert_eq!(
        world.release(),
        json!({"released": true, "was_isolated": false, "foreign_edits": []})
    );
}

#[test]
fn the_kernel_ends_the_isolation_with_its_lease() {
    let Some(world) = World::new() else { return };
    world.isolate("3s");
    // Nobody does anything from here on: no agent, no timer of ours.
    until("the end of the lease", || world.host.reaches(OTHER));
    assert!(world.host.reaches(OTHER_V6) && world.host.reaches_by_udp(OTHER_UDP));
    assert!(
        world.has_our_tables(),
        "they are inert, and stay until somebody tidies up"
    );
    let state = world.state.path().to_owned();
    assert_eq!(
        world.host.block_on(move || async move { restore(&state).await }),
        Ok(Restored::Ended)
    );
    assert!(!world.has_our_tables());
}

#[test]
fn without_confirmation_the_rules_are_taken_back() {
    let Some(world) = World::new() else { return };
    let live = world.host.connect(OTHER).expect("connects");
    let wrong = world.environment(&["10.9.1.77:7401"]);
    let parameters = json!({"mode": "network", "ttl": "1h", "confirm_within": "2s"});
    assert_eq!(
        world.act("host.isolate", wrong, parameters.clone()),
        Err("not_confirmed")
    );
    assert!(!world.has_our_tables());
    assert!(world.host.reaches(OTHER));
    until("the live connection", || echoes(&live));

    // An isolation in force stays as it was when its renewal fails.
    world.isolate("1h");
    let wrong = world.environment(&["10.9.1.77:7401"]);
    assert_eq!(world.act("host.isolate", wrong, parameters), Err("not_confirmed"));
    assert!(world.host.reaches(COORDINATOR) && !world.host.reaches(OTHER));
    assert_eq!(world.release()["was_isolated"], true);
}

#[test]
fn foreign_edits_are_told() {
    let Some(world) = World::new() else { return };
    world.isolate("1h");
    world
        .host
        .nft("insert rule inet cordon output tcp dport 4444 accept");
    let edits = world.release()["foreign_edits"].to_string();
    assert!(edits.contains("added") && edits.contains("4444"), "{edits}");

    world.isolate("1h");
    world.host.nft("delete table inet cordon");
    let edits = world.release()["foreign_edits"].to_string();
    assert!(edits.contains("deleted by somebody else"), "{edits}");
}

#[test]
fn a_confirmed_isolation_survives_a_crash_and_a_reboot() {
    let Some(world) = World::new() else { return };
    world.isolate("1h");
    let restored = || {
        let state = world.state.path().to_owned();
        world.host.block_on(move || async move { restore(&state).await })
    };
    assert_eq!(restored(), Ok(Restored::Kept));

    // A reboot: another boot id, and no rules.
    let file = world.state.path().join("isolation.json");
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("reads");
    let text = std::fs::read_to_string(&file)
        .expect("reads")
        .replace(boot_id.trim(), "another");
    std::fs::write(&file, text).expect("written");
    world.host.nft("flush ruleset");
    assert!(world.host.reaches(OTHER));
    assert_eq!(restored(), Ok(Restored::PutBack));
    assert!(world.host.reaches(COORDINATOR) && !world.host.reaches(OTHER));
    assert_eq!(world.release()["was_isolated"], true);
    assert_eq!(restored(), Ok(Restored::Nothing));
}

#[test]
fn a_check_changes_nothing() {
    let Some(world) = World::new() else { return };
    let check = || Environment {
        isolation: IsolationMode::Check,
        ..world.environment(&[COORDINATOR])
    };
    let output = world
        .act("host.isolate", check(), json!({"mode": "network", "ttl": "1h"}))
        .expect("checks");
    assert_eq!(
        (&output["isolated"], &output["warnings"]),
        (&json!(false), &json!(["check_only"]))
    );
    assert!(!world.has_our_tables() && world.host.reaches(OTHER));
    let output = world
        .act("host.release", check(), json!({}))
        .expect("does nothing");
    assert_eq!(output["released"], false);
}
