//! The library on real hosts: what each playbook looks for is planted, it runs to its end while people answer, and its
//! outputs, its evidence and what became of the hosts are compared with what was planted. In namespaces, so that what is
//! cut is really cut; `ransomware-contain` is the demo's part.

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use cordon::demo::world::{
    AgentProcess, Cluster, Launch, Machine, OperatorClient, World, WorldError, all_online, has_ended, level,
    request_id, run_in_words,
};
use proto::v1;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::{Deployment, RUN_MAX, in_real_world};

const PORT: u16 = 8080;
const HOSTS: usize = 3;
/// Folders of the computer that each host has for its own, and that are all, with its disk, that its agent goes into.
const OWN: [&str; 4] = ["/dev/shm", "/var/tmp", "/var/log", "/var/spool"];
/// Who lets tasks go. Neither starts the runs.
const PEOPLE: [&str; 2] = ["bob", "carol"];
const ROLE: &str = "incident-commander";

/// What is on the disk before a playbook looks.
struct Host {
    /// By the agent's place.
    number: usize,
    /// Its disk and its own folders, from outside.
    outside: PathBuf,
    /// Its disk, as it sees it.
    disk: PathBuf,
}

/// A file as the evidence must have it: host, path and hash.
type Kept = (String, String, String);

/// The whole stage.
struct Stage {
    deployment: Deployment,
    people: Vec<OperatorClient>,
    other: Machine,
    hosts: Vec<Host>,
}

#[test]
fn the_library_does_what_its_pages_say() {
    in_real_world(async |world| {
        let stage = Stage::set(world).await?;
        linux_triage(&stage).await?;
        ioc_sweep(&stage).await?;
        cryptominer(&stage).await?;
        webshell(&stage).await?;
        let evil = suspicious_process(&stage).await?;
        // Host 1 is cut off by `webshell`, host 2 by `suspicious-process`, where its file is left.
        un_isolate(&stage, &evil).await?;
        stage.deployment.end().await
    });
}

async fn linux_triage(stage: &Stage) -> anyhow::Result<()> {
    let [one, two, three] = stage.hosts();
    let program = one.program("/dev/shm/.x/kworker", "")?;
    stage.start(one, "kworker", &program, ["1000"]).await?;
    let dropped = three.write("/var/tmp/loot.tar", b"loot")?;
    let cron = two.write("/var/spool/cron/root", b"* * * * * /dev/shm/.x/kworker\n")?;
    let log = three.write("/var/log/auth.log", b"Accepted password for root\n")?;
    three.write("/var/log/huge.bin", b"no log that is asked for")?;

    let run = stage
        .run("linux-triage", &[], json!({"hosts": ids()}), &[])
        .await?;
    let outputs = outputs(&run)?;
    let strange: Vec<&Value> = list(&outputs["strange_processes"])
        .filter(|process| process["exe"] == program.0.as_str())
        .collect();
    let pid = stage.agent(one).machine.pid("kworker");
    assert_eq!(
        strange,
        [&json!({"host": "host-1", "pid": pid, "exe": program.0})]
    );
    assert_eq!(outputs["verdict"], "look_closer");
    assert!(list(&outputs["look_closer_at"]).any(|host| host == "host-1"));
    let found = |name: &str| -> BTreeSet<(String, String)> {
        list(&outputs[name])
            .map(|file| (text(&file["host"]), text(&file["path"])))
            .collect()
    };
    let at = |host: &Host, file: &(String, String)| (host.id(), file.0.clone());
    assert_eq!(found("dropped"), [at(one, &program), at(three, &dropped)].into());
    assert_eq!(found("persistence"), [at(two, &cron)].into());
    assert_eq!(outputs["incomplete"], json!([]));
    assert_eq!(list(&outputs["systems"]).count(), HOSTS);
    stage
        .kept(
            &run,
            [two.kept("keep_persistence", &cron), three.kept("keep_logs", &log)],
        )
        .await?;
    stage.lives(one, "kworker").await
}

async fn ioc_sweep(stage: &Stage) -> anyhow::Result<()> {
    let [one, two, three] = stage.hosts();
    let known = one.write_on_disk("opt/tool", b"bytes that a report names")?;
    let marked = two.write_on_disk("opt/notes.txt", b"...SWEEP-MARKER...")?;
    three.write_on_disk("opt/notes.txt", b"nothing of interest")?;

    let inputs = json!({
        "hosts": ids(),
        "roots": [one.disk],
        "sha256": [known.1],
        "rules": "rule marker { strings: $a = \"SWEEP-MARKER\" condition: $a }",
        "collect": true,
    });
    let run = stage.run("ioc-sweep", &[], inputs, &[]).await?;
    let expected = json!({
        "verdict": "found", "found_on": ["host-1", "host-2"], "by_hash": ["host-1"], "by_rule": ["host-2"],
        "cut_short": [], "not_asked": 0, "not_searched": [],
    });
    assert_eq!(outputs(&run)?, expected);
    stage
        .kept(
            &run,
            [one.kept("evidence", &known), two.kept("evidence", &marked)],
        )
        .await?;

    // A rule that does not compile is nobody's clean bill.
    let inputs = json!({"hosts": ids(), "roots": [one.disk], "rules": "rule broken {"});
    let run = stage.run("ioc-sweep", &[], inputs, &[]).await?;
    let outputs = outputs(&run)?;
    assert_eq!(
        (&outputs["verdict"], &outputs["found_on"]),
        (&json!("incomplete"), &json!([]))
    );
    assert_eq!(outputs["not_searched"], json!(ids()));
    Ok(())
}

async fn cryptominer(stage: &Stage) -> anyhow::Result<()> {
    let [_, two, three] = stage.hosts();
    let words = "stratum+tcp://pool.example.net donate-level randomx";
    let miner = three.program("/dev/shm/.m/kswapd", words)?;
    let settings = three.write(
        "/dev/shm/.m/config.json",
        br#"{"pools": [{"user": "x"}], "donate-level": 1}"#,
    )?;
    let cron = three.write("/var/spool/cron/www", b"* * * * * /dev/shm/.m/kswapd\n")?;
    stage.start(three, "kswapd", &miner, ["1000"]).await?;
    // By its name alone.
    let named = two.program("/var/tmp/xmrig", "")?;
    stage.start(two, "xmrig", &named, ["1000"]).await?;

    let inputs = json!({"hosts": ids(), "roots": ["/dev/shm", "/var/tmp"]});
    let run = stage
        .run("cryptominer", &[("delay: 2m", "delay: 2s")], inputs, &["kill"])
        .await?;
    let outputs = outputs(&run)?;
    let sorted = |name: &str| -> BTreeSet<String> { list(&outputs[name]).map(text).collect() };
    let both: BTreeSet<String> = [two.id(), three.id()].into();
    assert_eq!(outputs["verdict"], "found");
    for name in ["found_on", "running_on", "killed"] {
        assert_eq!(sorted(name), both, "{name}");
    }
    for name in ["came_back", "isolated", "not_looked_at"] {
        assert_eq!(outputs[name], json!([]), "{name}");
    }
    let files: BTreeSet<(String, String, String)> = list(&outputs["files"])
        .map(|file| (text(&file["host"]), text(&file["path"]), text(&file["rule"])))
        .collect();
    let of_rule = |file: &(String, String), rule: &str| (three.id(), file.0.clone(), rule.to_owned());
    assert_eq!(
        files,
        [
            of_rule(&miner, "miner_program"),
            of_rule(&settings, "miner_settings")
        ]
        .into()
    );
    let evidence = ["/var/spool/cron/root"].map(|path| {
        let hash = sha256(b"* * * * * /dev/shm/.x/kworker\n");
        two.kept("evidence", &(path.to_owned(), hash))
    });
    let more = [&miner, &settings, &cron].map(|file| three.kept("evidence", file));
    let mut evidence: Vec<_> = evidence.into_iter().chain(more).collect();
    evidence.push(two.kept("evidence", &named));
    stage.kept(&run, evidence).await?;
    stage.was_killed(three, "kswapd").await?;
    stage.was_killed(two, "xmrig").await?;
    stage.lives(&stage.hosts[0], "kworker").await
}

async fn webshell(stage: &Stage) -> anyhow::Result<()> {
    let [one, two, three] = stage.hosts();
    let shell = one.write_on_disk("www/up/x.php", b"<?php @eval($_POST['x']); ?>")?;
    let access = one.write("/var/log/nginx/access.log", b"POST /up/x.php\n")?;
    two.write_on_disk("www/index.php", b"<?php echo 1; ?>")?;
    two.write("/var/log/nginx/access.log", b"GET /index.php\n")?;
    // A web server with a shell below it; on the other host with a child that is none.
    for (host, child) in [(one, "bash"), (two, "convert")] {
        let server = host.copy("/bin/sh", &host.on_disk("bin/nginx"), "")?;
        let child = host.program(&host.on_disk(&format!("bin/{child}")), "")?;
        let idle = host.program(&host.on_disk("bin/idle"), "")?;
        let script = format!("{} 1000; {} 1000; :", child.0, idle.0);
        stage
            .start(host, "nginx", &server, ["-c".to_owned(), script])
            .await?;
    }

    let inputs = json!({"hosts": ids(), "roots": [one.on_disk("www")], "isolate": true});
    let run = stage.run("webshell", &[], inputs, &["kill"]).await?;
    let expected = json!({
        "verdict": "found", "found_on": ["host-1"], "shells_on": ["host-1"], "isolated": ["host-1"],
        "killed": ["host-1"], "not_looked_at": [],
        "files": [{"host": "host-1", "path": shell.0, "rule": "php_request_into_code", "sha256": shell.1}],
    });
    assert_eq!(outputs(&run)?, expected);
    stage
        .kept(&run, [one.kept("evidence", &shell), one.kept("logs", &access)])
        .await?;
    for host in [one, two] {
        stage.lives(host, "nginx").await?;
    }
    assert!(
        !stage.reaches(one).await?,
        "it stays isolated when the run is over"
    );
    assert!(stage.reaches(two).await? && stage.reaches(three).await?);
    Ok(())
}

/// Gives the hash of what was found.
async fn suspicious_process(stage: &Stage) -> anyhow::Result<String> {
    let [one, two, three] = stage.hosts();
    let path = two.on_disk("run/evil");
    let evil = two.program(&path, "evil")?;
    let watchdog = two.copy("/bin/sh", &two.on_disk("bin/watchdog"), "")?;
    let script = format!("while :; do {path} 1000; done");
    stage
        .start(two, "watchdog", &watchdog, ["-c".to_owned(), script])
        .await?;
    let same = three.program(&path, "evil")?;
    stage.start(three, "evil", &same, ["1000"]).await?;
    // Another program at the same place is not what was asked for.
    let harmless = one.program(&path, "harmless")?;
    stage.start(one, "harmless", &harmless, ["1000"]).await?;

    let inputs = json!({"hosts": ids(), "exe": path, "sha256": [evil.1], "isolate": true});
    let run = stage
        .run(
            "suspicious-process",
            &[("delay: 1m", "delay: 2s")],
            inputs,
            &["kill"],
        )
        .await?;
    let expected = json!({
        "verdict": "found", "found_on": ["host-2", "host-3"], "executables": [evil.1],
        "killed": ["host-2", "host-3"], "came_back": ["host-2"], "isolated": ["host-2"], "not_looked_at": [],
    });
    assert_eq!(outputs(&run)?, expected);
    stage
        .kept(&run, [two.kept("evidence", &evil), three.kept("evidence", &same)])
        .await?;
    stage.was_killed(three, "evil").await?;
    stage.lives(one, "harmless").await?;
    assert!(!stage.reaches(two).await?, "it came back, so the host is cut off");
    assert!(stage.reaches(three).await?);
    Ok(evil.1)
}

async fn un_isolate(stage: &Stage, evil: &str) -> anyhow::Result<()> {
    let [one, two, _] = stage.hosts();
    let inputs = |hosts: Value| {
        json!({
            "hosts": hosts, "reason": "cleaned and patched", "sha256": [evil], "roots": [one.disk],
        })
    };
    let shorter = [("soak: 5m", "soak: 2s")];
    let asked = ["release"];
    let run = stage
        .run(
            "un-isolate",
            &shorter,
            inputs(json!(["host-1", "host-2"])),
            &asked,
        )
        .await?;
    let expected = json!({
        "released": ["host-1"], "was_not_isolated": [], "foreign_edits": [], "still_infected": ["host-2"],
        "not_released": ["host-2"],
    });
    assert_eq!(outputs(&run)?, expected);
    assert!(stage.reaches(one).await?, "it is back");
    assert!(!stage.reaches(two).await?, "the file is still there");

    stage.agent(two).machine.kill("watchdog").await?;
    std::fs::remove_file(two.seen_from_outside(&two.on_disk("run/evil")))?;
    let run = stage
        .run(
            "un-isolate",
            &shorter,
            inputs(json!(["host-2", "host-3"])),
            &asked,
        )
        .await?;
    let outputs = outputs(&run)?;
    // Host 3 still has the file, and was never cut off.
    assert_eq!(
        (&outputs["released"], &outputs["still_infected"]),
        (&json!(["host-2"]), &json!(["host-3"]))
    );
    for host in &stage.hosts {
        assert!(stage.reaches(host).await?, "{} is on the network", host.id());
    }
    stage.kept(&run, []).await
}

impl Stage {
    async fn set(mut world: World) -> anyhow::Result<Stage> {
        let other = world.machine("other").await?;
        other.listen(PORT).await?;
        let cluster = Cluster::start(&mut world, 3).await?;
        let operator = cluster.operator()?;
        let (mut agents, mut hosts) = (Vec::new(), Vec::new());
        for number in 0..HOSTS {
            let roots: Vec<String> = std::iter::once(world.disk().display().to_string())
                .chain(OWN.map(str::to_owned))
                .collect();
            let policy = format!("\n[policy]\nmode = \"full\"\nroots = {}\n", json!(roots));
            let id = format!("host-{}", number + 1);
            let agent = AgentProcess::prepare(&mut world, &cluster, &id, &policy).await?;
            let outside = world.folder().join("own").join(&id);
            for own in OWN {
                let folder = outside.join(own.trim_start_matches('/'));
                std::fs::create_dir_all(&folder)?;
                agent.machine.bind(&folder, Path::new(own)).await?;
            }
            agent.enroll(&cluster, &operator).await?;
            agent.start().await?;
            hosts.push(Host {
                number,
                outside,
                disk: agent.disk.clone(),
            });
            let disk = agent.disk.strip_prefix("/").context("an absolute path")?;
            let at = hosts[number].outside.join(disk);
            std::fs::create_dir_all(at.parent().context("a folder")?)?;
            std::os::unix::fs::symlink(&agent.disk_outside, at)?;
            agents.push(agent);
        }
        all_online(&operator, &agents).await?;
        let mut people = Vec::new();
        for name in PEOPLE {
            let grant = v1::GrantRoleRequest {
                operator_id: name.to_owned(),
                role: ROLE.to_owned(),
                request_id: request_id(),
            };
            operator
                .call("GrantRole", async |mut api| api.grant_role(grant.clone()).await)
                .await?;
            people.push(cluster.another_operator(name, &cluster.nodes[0])?);
        }
        Ok(Stage {
            deployment: Deployment {
                agents,
                operator,
                cluster,
                world,
            },
            people,
            other,
            hosts,
        })
    }

    fn hosts(&self) -> [&Host; HOSTS] {
        [&self.hosts[0], &self.hosts[1], &self.hosts[2]]
    }

    fn agent(&self, host: &Host) -> &AgentProcess {
        &self.deployment.agents[host.number]
    }

    async fn start(
        &self,
        host: &Host,
        name: &str,
        program: &(String, String),
        arguments: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<(), WorldError> {
        let launch = Launch::program(&program.0, arguments);
        self.agent(host).machine.spawn(name, launch).await.map(drop)
    }

    /// Runs the library's playbook to its end, with shorter waits, while people let go what it asks for. It must ask
    /// for exactly these steps.
    async fn run(
        &self,
        name: &str,
        shorter: &[(&str, &str)],
        inputs: Value,
        asks: &[&str],
    ) -> anyhow::Result<v1::Run> {
        let mut text = playbook::library::find(name)
            .context("in the library")?
            .to_owned();
        for (long, short) in shorter {
            anyhow::ensure!(text.contains(long), "{name} has no `{long}`");
            text = text.replace(long, short);
        }
        let operator = &self.deployment.operator;
        let id = operator.start_run(&text, &inputs).await?.run_id;
        let asked = std::sync::Mutex::new(BTreeSet::new());
        let run = level(&format!("the end of {name}"), RUN_MAX, async || {
            let run = operator.run(&id).await?;
            for wait in &run.waits {
                let step = self.approve(wait.id).await?;
                asked.lock().expect("not poisoned").insert(step);
            }
            Ok(match has_ended(&run) {
                true => Ok(run),
                false => Err(run_in_words(&run)),
            })
        })
        .await?;
        anyhow::ensure!(run.status == "succeeded", "{name}: {}", run_in_words(&run));
        let asked = asked.into_inner().expect("not poisoned");
        let asks: BTreeSet<String> = asks.iter().map(|step| (*step).to_owned()).collect();
        anyhow::ensure!(asked == asks, "{name} asked for {asked:?}, not {asks:?}");
        Ok(run)
    }

    /// As many people as it takes say yes. Gives the step that it is about.
    async fn approve(&self, id: u64) -> Result<String, WorldError> {
        let mut step = String::new();
        for person in &self.people {
            let seen = person
                .call("GetApproval", async |mut api| {
                    api.get_approval(v1::GetApprovalRequest { id }).await
                })
                .await?;
            step = seen.step;
            if seen.status != "waiting" {
                break;
            }
            let request = v1::AnswerApprovalRequest {
                id,
                binding: seen.binding,
                verdict: "approve".to_owned(),
                reason: "planted".to_owned(),
                output_json: String::new(),
                request_id: request_id(),
            };
            person
                .call("AnswerApproval", async |mut api| {
                    api.answer_approval(request.clone()).await
                })
                .await?;
        }
        Ok(step)
    }

    /// The run's evidence is exactly this, each piece on two nodes, and it reads back as it was.
    async fn kept(&self, run: &v1::Run, expected: impl IntoIterator<Item = Kept>) -> anyhow::Result<()> {
        let operator = &self.deployment.operator;
        let mut kept: Vec<Kept> = Vec::new();
        for record in operator.evidence(&run.id).await? {
            let (sha256, size_bytes) = operator.read_evidence(&record.sha256).await?;
            anyhow::ensure!(
                sha256 == record.sha256 && size_bytes == record.size_bytes && record.nodes.len() >= 2,
                "{record:?} reads back as {sha256}"
            );
            kept.push((
                format!("{} {}", record.agent_id, record.step),
                record.path,
                record.sha256,
            ));
        }
        let mut expected: Vec<Kept> = expected.into_iter().collect();
        kept.sort();
        expected.sort();
        anyhow::ensure!(
            kept == expected,
            "{} kept {kept:#?}, not {expected:#?}",
            run.playbook
        );
        Ok(())
    }

    async fn lives(&self, host: &Host, name: &str) -> anyhow::Result<()> {
        match self.agent(host).machine.wait(name, Duration::ZERO).await {
            Ok(exit) => anyhow::bail!("{name} on {} ended with {exit}", host.id()),
            Err(_) => Ok(()),
        }
    }

    async fn was_killed(&self, host: &Host, name: &str) -> anyhow::Result<()> {
        let exit = self
            .agent(host)
            .machine
            .wait(name, Duration::from_secs(5))
            .await?;
        anyhow::ensure!(exit.signal.is_some(), "{name} on {} ended with {exit}", host.id());
        Ok(())
    }

    /// Whether the host reaches a machine that is no coordinator.
    async fn reaches(&self, host: &Host) -> anyhow::Result<bool> {
        let to = SocketAddr::new(self.other.address(), PORT);
        Ok(self.agent(host).machine.probe(to).await?.reachable)
    }
}

impl Host {
    fn id(&self) -> String {
        format!("host-{}", self.number + 1)
    }

    /// A path on its disk, as it sees it.
    fn on_disk(&self, path: &str) -> String {
        self.disk.join(path).display().to_string()
    }

    /// Where a path of the host is for us.
    fn seen_from_outside(&self, path: &str) -> PathBuf {
        self.outside.join(path.trim_start_matches('/'))
    }

    /// Writes a file; gives its path, as the host sees it, and its hash.
    fn write(&self, path: &str, content: &[u8]) -> anyhow::Result<(String, String)> {
        let outside = self.seen_from_outside(path);
        std::fs::create_dir_all(outside.parent().context("a folder")?)?;
        std::fs::write(&outside, content)?;
        Ok((path.to_owned(), sha256(content)))
    }

    fn write_on_disk(&self, path: &str, content: &[u8]) -> anyhow::Result<(String, String)> {
        self.write(&self.on_disk(path), content)
    }

    /// A copy of a program of this computer, with a note behind its end, where nobody looks.
    fn copy(&self, from: &str, path: &str, note: &str) -> anyhow::Result<(String, String)> {
        let mut content = std::fs::read(from)?;
        content.extend(note.as_bytes());
        let written = self.write(path, &content)?;
        std::fs::set_permissions(
            self.seen_from_outside(path),
            std::fs::Permissions::from_mode(0o755),
        )?;
        Ok(written)
    }

    /// A program that only sleeps.
    fn program(&self, path: &str, note: &str) -> anyhow::Result<(String, String)> {
        self.copy("/bin/sleep", path, note)
    }

    fn kept(&self, step: &str, file: &(String, String)) -> Kept {
        (format!("{} {step}", self.id()), file.0.clone(), file.1.clone())
    }
}

fn ids() -> Vec<String> {
    (1..=HOSTS).map(|number| format!("host-{number}")).collect()
}

fn outputs(run: &v1::Run) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&run.outputs_json)?)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}
