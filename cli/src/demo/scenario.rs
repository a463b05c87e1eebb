//! The story from the first certificate to the last probe.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use proto::v1;
use serde_json::json;

use super::Args;
use super::chaos::{self, Killed, Proof};
use super::check::{self, Check};
use super::document::{Document, Evidence, Isolation, Probe, Run, Tasks};
use super::plant::{self, Part, PlantedHost};
use super::probe::{self, OTHER_PORT, Targets};
use super::story::Story;
use super::world::{
    self, AgentProcess, Cluster, Machine, OperatorClient, Reality, World, WorldError, has_ended,
};

/// How many coordinators.
const COORDINATORS: usize = 3;
/// The library's playbook.
const PLAYBOOK: &str = "ransomware-contain";
/// How long the run may take.
const RUN_MAX: Duration = Duration::from_secs(180);
/// How often the run is looked at.
const LOOK: Duration = Duration::from_millis(40);

/// How it ended.
pub struct Outcome {
    pub ok: bool,
    pub document: Document,
}

/// Everything that runs. Fields are dropped in this order, the world with its folder last.
struct Stage {
    agents: Vec<AgentProcess>,
    cluster: Cluster,
    other: Machine,
    world: World,
}

/// What was seen while the run went on.
struct Watched {
    run: v1::Run,
    during: Vec<Probe>,
    killed: Option<Killed>,
}

/// Plays the whole story.
pub async fn run(args: &Args, story: &Story, reality: Reality) -> Result<Outcome, WorldError> {
    let executable = std::env::current_exe().map_err(|source| WorldError::File {
        path: "/proc/self/exe".into(),
        source,
    })?;
    let mut world = World::new(reality, executable).await?;
    let logs = world.logs();
    let kept = args.keep.then(|| world.keep());
    match play(args, story, world).await {
        Ok(outcome) => {
            if let Some(folder) = kept {
                story.detail(&format!("kept: {}", folder.display()));
            }
            Ok(outcome)
        }
        Err(error) => {
            // The world is gone with its logs unless they are kept, so the error carries what matters.
            if kept.is_some() {
                story.detail(&format!("logs: {}", logs.display()));
            }
            Err(error)
        }
    }
}

async fn play(args: &Args, story: &Story, world: World) -> Result<Outcome, WorldError> {
    describe(story, world.reality());
    let real = world.reality().is_real();
    let mut stage = set_up(args, story, world).await?;
    let result = act(args, story, &mut stage, real).await;
    if result.is_err() {
        for name in ["c1", "c2", "c3"]
            .into_iter()
            .chain(stage.agents.iter().map(AgentProcess::id))
        {
            let log = if name.starts_with('c') {
                name.to_owned()
            } else {
                "agent".to_owned()
            };
            story.detail(&world::tail(&stage.world.logs().join(format!("{log}.log"))));
            if !name.starts_with('c') {
                break;
            }
        }
    }
    let (document, checks) = result?;
    // An orderly end, so that a problem with it is seen rather than hidden in a drop.
    let Stage {
        agents,
        cluster,
        other,
        world,
    } = stage;
    for agent in agents {
        agent.shut_down().await?;
    }
    cluster.shut_down().await?;
    drop(other);
    drop(world);
    let failed = checks.iter().filter(|check| check.problem.is_some()).count();
    story.verdict(&match failed {
        0 => format!("All {} assertions held. Nothing is left running.", checks.len()),
        _ => format!("{failed} of {} assertions did not hold.", checks.len()),
    });
    Ok(Outcome {
        ok: failed == 0,
        document,
    })
}

fn describe(story: &Story, reality: &Reality) {
    match reality {
        Reality::Namespaces { .. } => story.detail(
            "Every machine of this demo has its own network, processes and mounts in Linux namespaces; \
             isolation is real,\nand nothing of this computer's own network is touched.",
        ),
        Reality::Loopback { why, nft } => {
            story.detail(&format!("No namespaces here: {why}."));
            story.detail(if nft.is_some() {
                "Agents run on the loopback; isolation's rules are only checked with `nft -c`, never applied."
            } else {
                "Agents run on the loopback; isolation is neither applied nor checked."
            });
        }
    }
}

async fn set_up(args: &Args, story: &Story, mut world: World) -> Result<Stage, WorldError> {
    story.step("Fresh certificates, and three coordinators that elect a leader");
    let other = world.machine("other").await?;
    other.listen(OTHER_PORT).await?;
    let cluster = Cluster::prepare(&mut world, COORDINATORS).await?;
    cluster.launch().await?;
    story.detail(&format!("leader: {}", cluster.leader(None).await?.name()));

    story.step(&format!("{} agents join with one-time tokens", args.agents));
    let operator = cluster.operator()?;
    let mut agents = Vec::new();
    for number in 1..=args.agents {
        agents.push(AgentProcess::prepare(&mut world, &cluster, &format!("host-{number}"), "").await?);
    }
    for agent in &agents {
        agent.enroll(&cluster, &operator).await?;
        agent.start().await?;
    }
    world::all_online(&operator, &agents).await?;
    Ok(Stage {
        agents,
        cluster,
        other,
        world,
    })
}

async fn act(
    args: &Args,
    story: &Story,
    stage: &mut Stage,
    real: bool,
) -> Result<(Document, Vec<Check>), WorldError> {
    let operator = stage.cluster.operator()?;
    story.step("Harmless look-alikes are planted");
    let planted = stage
        .agents
        .iter()
        .enumerate()
        .map(|(n, agent)| plant::plant(agent, plant::part(n)));
    let hosts = try_join_all(planted).await?;
    story.table(
        &["HOST", "NOTES", "PROGRAM", "RUNNING"],
        hosts.iter().map(|host| {
            let program = host.dropper.as_ref().map(|file| file.path.display().to_string());
            let running = if host.pid.is_some() { "yes" } else { "" };
            vec![
                host.id.clone(),
                host.notes.len().to_string(),
                program.unwrap_or_default(),
                running.to_owned(),
            ]
        }),
    );
    let targets = Targets::new(&stage.cluster, &stage.other);
    let mut probes = probe::all(&stage.agents, &targets, "before").await?;

    story.step(&format!("The playbook {PLAYBOOK} starts"));
    let playbook = playbook::library::find(PLAYBOOK).ok_or_else(|| WorldError::Call {
        call: "StartRun",
        reason: format!("this build has no playbook {PLAYBOOK}"),
    })?;
    let started = operator.start_run(playbook, &inputs(&hosts)).await?;
    story.detail(&format!("run {}", started.run_id));
    let watched = watch(args, story, stage, &operator, &started.run_id, &targets).await?;
    probes.extend(watched.during);
    if let Some(killed) = &watched.killed {
        story.step(&format!("{} comes back and catches up", killed.name));
        chaos::restart(&stage.cluster, &killed.name).await?;
    }
    story.step(&format!(
        "The run has {}; the hosts are probed again",
        watched.run.status
    ));
    story.detail(&world::run_in_words(&watched.run));
    probes.extend(probe::all(&stage.agents, &targets, "after").await?);

    let tasks = operator.tasks(&watched.run).await?;
    let evidence = read_evidence(&operator, &watched.run.id).await?;
    let proof = Proof::collect(&operator, &stage.agents, &watched.run.id, &tasks).await?;
    show(story, &hosts, &tasks, &probes, &evidence);

    let mut checks = vec![
        Check::new(
            "the run succeeded",
            match watched.run.status.as_str() {
                "succeeded" => Ok(()),
                _ => Err(world::run_in_words(&watched.run)),
            },
        ),
        Check::new("no task failed or is unknown", check::clean_ends(&tasks)),
        Check::new(
            "isolated exactly where found",
            check::only_where_found(&tasks, &hosts, "host.isolate"),
        ),
        Check::new(
            "killed exactly where found",
            check::only_where_found(&tasks, &hosts, "process.kill"),
        ),
        Check::new(
            "killed the planted process only",
            check::right_processes(&tasks, &hosts, real),
        ),
        Check::new(
            "the planted processes are gone, all others live",
            processes(stage, &hosts).await?,
        ),
        Check::new(
            "the notes are evidence, on two nodes, byte for byte",
            check::evidence(&evidence, &hosts),
        ),
        Check::new("the hash led to the third host", check::sweep(&tasks, &hosts)),
        Check::new(
            "released in the end",
            check::only_where_found(&tasks, &hosts, "host.release"),
        ),
        Check::new(
            "before: everything is reachable",
            probe::judge(&probes, &hosts, "before"),
        ),
        Check::new(
            "after: everything is reachable",
            probe::judge(&probes, &hosts, "after"),
        ),
        Check::new("every effect happened once", none(&proof.duplicates)),
        Check::new("journals and records tell the same", none(&proof.lost)),
        Check::new(
            "decided again from the log, it comes out the same",
            operator.replay(&watched.run.id).await?,
        ),
    ];
    if real {
        let judged = probe::judge(&probes, &hosts, "during");
        checks.push(Check::new(
            "during: the isolated reach the coordinators only",
            judged,
        ));
    }
    if args.chaos {
        let result = watched
            .killed
            .as_ref()
            .map(drop)
            .ok_or("the run ended before".to_owned());
        checks.push(Check::new("the leader was killed with tasks in flight", result));
    }
    story.step("What must hold");
    for check in &checks {
        story.assertion(check.name, check.problem.as_deref());
    }
    let document = Document {
        ok: checks.iter().all(|check| check.problem.is_none()),
        run: Run {
            id: watched.run.id.clone(),
            status: watched.run.status.clone(),
        },
        tasks: count(&tasks),
        isolation: Isolation { real, probes },
        evidence,
        chaos: proof.figures(watched.killed.as_ref()),
    };
    Ok((document, checks))
}

/// What the library's playbook asks for.
fn inputs(hosts: &[PlantedHost]) -> serde_json::Value {
    let mut roots: Vec<String> = hosts
        .iter()
        .map(|host| host.disk.to_string_lossy().into_owned())
        .collect();
    // In namespaces every host sees its disk at the same place.
    roots.sort();
    roots.dedup();
    let ids: Vec<&str> = hosts.iter().map(|host| host.id.as_str()).collect();
    json!({
        "hosts": ids,
        "roots": roots,
        "note_globs": plant::NOTE_GLOBS,
        "rules": plant::RULES,
        "process_exe": format!("**/{}", plant::DROPPER_NAME),
        // The end shows that the hosts are reached again.
        "release": true,
        // A moment in which the hosts are isolated and everything else is done: the probes need one.
        "hold": true,
    })
}

/// Watches the run to its end; on the way it probes the isolated hosts, and kills the leader when asked to.
async fn watch(
    args: &Args,
    story: &Story,
    stage: &Stage,
    operator: &OperatorClient,
    run_id: &str,
    targets: &Targets,
) -> Result<Watched, WorldError> {
    let give_up = Instant::now() + RUN_MAX;
    let (mut during, mut killed) = (Vec::new(), None);
    let mut told: Vec<(String, String)> = Vec::new();
    loop {
        let run = operator.run(run_id).await?;
        for step in &run.steps {
            let state = (step.name.clone(), step.status.clone());
            if step.status != "waiting" && !told.contains(&state) {
                story.detail(&format!("{:<22} {}", step.name, step.status));
                told.push(state);
            }
        }
        if has_ended(&run) {
            return Ok(Watched { run, during, killed });
        }
        if Instant::now() >= give_up {
            return Err(WorldError::Awaited {
                what: "the end of the run".to_owned(),
                seconds: RUN_MAX.as_secs(),
                seen: world::run_in_words(&run),
            });
        }
        // Killed while tasks are in flight: some are assigned or running, none of the isolation has ended.
        if args.chaos && killed.is_none() && in_flight(&run) {
            story.detail("SIGKILL for the leader, with tasks in flight");
            let dead = chaos::kill_leader(&stage.cluster, operator, run_id).await?;
            story.detail(&format!(
                "{} is dead; the next task was committed after {} ms",
                dead.name,
                dead.failover.as_millis()
            ));
            killed = Some(dead);
            continue;
        }
        if during.is_empty() && isolated(&run) {
            story.detail("the infected hosts are isolated: probing");
            during = probe::all(&stage.agents, targets, "during").await?;
            // Probes that began in the isolation and ended after it would prove nothing.
            if !isolated(&operator.run(run_id).await?) {
                during.clear();
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn in_flight(run: &v1::Run) -> bool {
    run.steps
        .iter()
        .any(|step| step.tasks.as_ref().is_some_and(|tasks| tasks.running > 0) && step.status == "running")
}

/// The isolation has succeeded and the release has not begun.
fn isolated(run: &v1::Run) -> bool {
    let any = |action: &str, which: fn(&v1::Step) -> bool| {
        run.steps.iter().any(|step| step.action == action && which(step))
    };
    any("host.isolate", |step| step.status == "succeeded")
        && !any("host.release", |step| step.status != "waiting")
}

/// The planted process has been killed by a signal where it should; every bystander lives.
async fn processes(stage: &Stage, hosts: &[PlantedHost]) -> Result<Result<(), String>, WorldError> {
    let (dropper, bystander) = plant::PROCESSES;
    for (agent, host) in stage.agents.iter().zip(hosts) {
        if host.part == Part::Infected {
            match agent.machine.wait(dropper, Duration::from_secs(5)).await {
                Ok(exit) if exit.signal.is_some() => {}
                Ok(exit) => return Ok(Err(format!("{dropper} on {} ended with {exit}", host.id))),
                Err(_) => return Ok(Err(format!("{dropper} on {} is still running", host.id))),
            }
        }
        if let Ok(exit) = agent.machine.wait(bystander, Duration::ZERO).await {
            return Ok(Err(format!("{bystander} on {} ended with {exit}", host.id)));
        }
    }
    Ok(Ok(()))
}

/// Reads every piece of evidence back, hashes what arrives, and has every copy verified.
async fn read_evidence(operator: &OperatorClient, run_id: &str) -> Result<Vec<Evidence>, WorldError> {
    let mut evidence = Vec::new();
    for record in operator.evidence(run_id).await? {
        let (sha256, size_bytes) = operator.read_evidence(&record.sha256).await?;
        let verdict = operator.verify_evidence(&record.sha256).await?;
        let copies = verdict
            .copies
            .iter()
            .filter(|copy| copy.present && copy.verified)
            .count();
        evidence.push(Evidence {
            verified: verdict.ok && sha256 == record.sha256 && size_bytes == record.size_bytes,
            sha256: record.sha256,
            host: record.agent_id,
            path: record.path,
            size_bytes: record.size_bytes,
            copies,
        });
    }
    Ok(evidence)
}

fn show(story: &Story, hosts: &[PlantedHost], tasks: &[v1::Task], probes: &[Probe], evidence: &[Evidence]) {
    let done = |host: &PlantedHost, action: &str| {
        let done = tasks
            .iter()
            .any(|task| task.agent_id == host.id && task.action == action && task.status == "succeeded");
        if done { "yes" } else { "" }.to_owned()
    };
    let reached = |host: &PlantedHost, target: &str| {
        let marks = probes
            .iter()
            .filter(|probe| probe.host == host.id && probe.target == target)
            .map(|probe| if probe.reachable { "+" } else { "-" });
        marks.collect::<Vec<_>>().join(" ")
    };
    story.detail("");
    story.detail("Reachable before, during and after the isolation (+ yes, - no):");
    story.table(
        &["HOST", "ISOLATED", "KILLED", "RELEASED", "COORDINATORS", "OTHER"],
        hosts.iter().map(|host| {
            vec![
                host.id.clone(),
                done(host, "host.isolate"),
                done(host, "process.kill"),
                done(host, "host.release"),
                reached(host, "coordinator"),
                reached(host, "other"),
            ]
        }),
    );
    story.detail("");
    story.detail("Evidence:");
    story.table(
        &["HOST", "PATH", "BYTES", "SHA-256", "COPIES", "VERIFIED"],
        evidence.iter().map(|record| {
            let short = record.sha256.get(..16).unwrap_or(&record.sha256);
            let verified = if record.verified { "yes" } else { "NO" };
            vec![
                record.host.clone(),
                record.path.clone(),
                record.size_bytes.to_string(),
                short.to_owned(),
                record.copies.to_string(),
                verified.to_owned(),
            ]
        }),
    );
}

fn count(tasks: &[v1::Task]) -> Tasks {
    let with = |status: &str| {
        u32::try_from(tasks.iter().filter(|task| task.status == status).count()).unwrap_or(u32::MAX)
    };
    Tasks {
        total: u32::try_from(tasks.len()).unwrap_or(u32::MAX),
        succeeded: with("succeeded"),
        failed: with("failed"),
        skipped: with("skipped"),
        unknown: with("unknown"),
    }
}

fn none(problems: &[String]) -> Result<(), String> {
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("; "))
    }
}
