use super::ground::Known;
use super::*;
use crate::state::{Roles, State};

const CONTAIN: &str = r#"
playbook: contain
version: 1
inputs:
  ttl: {type: duration, default: 1h}
targets:
  hosts: {select: "has(agent.labels.site) && agent.labels.site == 'west'"}
steps:
  look: {do: host.info, targets: hosts}
  cut:
    do: host.isolate
    targets: hosts
    needs: [look]
    with: {mode: network, ttl: "${inputs.ttl}"}
    gate: {when: 'target.labels.criticality == "critical"', approve: {roles: [commander], expires: 10m}}
"#;

fn known(number: usize, labels: &[(&str, &str)]) -> Known {
    Known {
        id: format!("h{number}").parse().expect("an id"),
        labels: labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        facts: r#"{"os":"linux"}"#.into(),
        version: "1".into(),
        online: true,
    }
}

/// Two of a hundred hosts.
fn ground() -> Ground {
    Ground {
        event: Value::Null,
        group: Value::Null,
        agents: vec![known(1, &[("site", "west")]), known(2, &[("site", "west")])],
        fleet: 100,
        roles: Roles::default(),
        held: BTreeMap::new(),
        places: Vec::new(),
        playbooks: BTreeMap::new(),
    }
}

fn planned(text: &str, inputs: &Value, ground: &Ground) -> Result<Plan, PlanError> {
    let manifest = playbook::compile(text).expect("a playbook").manifest;
    let inputs = playbook::bind_inputs(&manifest, inputs).expect("inputs");
    draw(manifest, inputs, json!({}), ground, "ada")
}

fn hash(ground: &Ground) -> Digest {
    planned(CONTAIN, &json!({}), ground).expect("a plan").hash
}

#[test]
fn what_a_run_is_decided_by_is_in_the_hash() {
    let first = hash(&ground());
    assert_eq!(first, hash(&ground()), "it is a function of what it is given");
    let mut seen = vec![first];
    let mut differs = |what: &str, found: Digest| {
        assert!(!seen.contains(&found), "{what} makes another plan");
        seen.push(found);
    };
    differs(
        "an input",
        planned(CONTAIN, &json!({"ttl": "2h"}), &ground())
            .expect("a plan")
            .hash,
    );
    differs(
        "the text",
        planned(&CONTAIN.replace("10m", "11m"), &json!({}), &ground())
            .expect("a plan")
            .hash,
    );
    let mut more = ground();
    more.agents.push(known(3, &[("site", "west")]));
    differs("another host", hash(&more));
    let mut labelled = ground();
    labelled.agents[0]
        .labels
        .insert("criticality".into(), "critical".into());
    differs("a critical host", hash(&labelled));
    let mut labelled = ground();
    labelled.agents[0]
        .labels
        .insert("owner".into(), "payments".into());
    differs("any label of a host", hash(&labelled));
    let mut small = ground();
    small.fleet = 30;
    differs(
        "a share of the fleet that is large enough for two people",
        hash(&small),
    );
    let manifest = playbook::compile(CONTAIN).expect("a playbook").manifest;
    let inputs = json!({"ttl": "1h"});
    let other = draw(manifest, inputs, json!({"a": 1}), &ground(), "ada").expect("a plan");
    differs("a constant", other.hash);
}

#[test]
fn what_hosts_decide_themselves_is_not_in_the_hash() {
    let first = hash(&ground());
    let mut other = ground();
    other.agents[0].online = false;
    other.agents[0].facts = r#"{"os":"other","peers":["h1"]}"#.into();
    other.agents[1].version = "2".into();
    other.agents.push(known(3, &[("site", "east")]));
    other.fleet = 200;
    assert_eq!(hash(&other), first);
    let manifest = playbook::compile(CONTAIN).expect("a playbook").manifest;
    let by_another = draw(manifest, json!({"ttl": "1h"}), json!({}), &ground(), "bob").expect("a plan");
    assert_eq!(by_another.hash, first);
}

#[test]
fn the_catalogue_that_the_plan_was_drawn_with_is_in_the_hash() {
    let plan = planned(CONTAIN, &json!({}), &ground()).expect("a plan");
    let hash_with = |change: &dyn Fn(&mut Foreseen)| {
        let mut steps = Foretold::of(&plan.manifest, None).steps;
        change(&mut steps[1]);
        let frozen = Frozen {
            event: &Value::Null,
            group: &Value::Null,
            manifest: &plan.manifest,
            manifest_hash: plan.manifest_hash,
            inputs: &plan.inputs,
            config: &plan.config,
            targets: &plan.targets,
            steps: &steps,
        };
        let ground = ground();
        frozen.hash(|id| ground.labels(id), ground.fleet)
    };
    assert_eq!(hash_with(&|_| {}), plan.hash);
    assert_ne!(hash_with(&|step| step.impact = Impact::Observe), plan.hash);
    assert_ne!(hash_with(&|step| step.undo = None), plan.hash);
}

#[test]
fn a_host_does_not_choose_what_is_done_to_it() {
    for select in [
        "agent.facts.os == 'linux'",
        "size(agent.peers) == 0",
        "agent.version == '1'",
    ] {
        let text = CONTAIN.replace("has(agent.labels.site) && agent.labels.site == 'west'", select);
        let refused = planned(&text, &json!({}), &ground());
        assert!(
            matches!(&refused, Err(PlanError::FactsDecide { step, .. }) if step == "cut"),
            "{select}: {refused:?}"
        );
    }
}

#[test]
fn the_critical_need_two_and_the_plan_says_who_there_is() {
    let mut ground = ground();
    ground.agents[1]
        .labels
        .insert("criticality".into(), "critical".into());
    let plan = planned(CONTAIN, &json!({}), &ground).expect("a plan");
    let gate = plan.steps[1].gate.as_ref().expect("a gate");
    assert_eq!((gate.waits, gate.of, gate.quorum), (Some(1), Some(2), 2));
    assert!(
        gate.why
            .as_ref()
            .is_some_and(|why| why.contains("criticality=critical"))
    );
    assert_eq!(
        plan.warnings,
        [
            "the gate of step cut needs 2 with the role commander, and nobody holds it: `cordon role grant` gives a role"
        ]
    );
    let marks: Vec<_> = plan
        .hosts
        .iter()
        .map(|host| (host.is_critical, host.is_touched))
        .collect();
    assert_eq!(marks, [(false, true), (true, true)]);
}

#[test]
fn the_examples_can_be_planned() {
    let mut ground = ground();
    ground.agents[1].facts = r#"{"os":"linux","peers":["h1","h9"]}"#.into();
    let text = include_str!("../../../playbook/examples/ransomware-response.yaml");
    let plan = planned(text, &json!({"hosts": ["h1"]}), &ground).expect("a plan");
    let sets: Vec<_> = plan.targets.values().flatten().map(AgentId::as_str).collect();
    assert_eq!(sets, ["h2", "h1"], "h2 is connected to h1, which is infected");
    let touched: Vec<_> = plan.hosts.iter().map(|host| host.is_touched).collect();
    assert_eq!(touched, [true, false], "the connected are only looked at");
    assert_eq!(plan.claims.locked.iter().collect::<Vec<_>>(), [r#""h1""#]);
    assert!(plan.warnings.iter().any(|warning| warning.contains("spread")));
}

#[test]
fn what_was_written_before_there_were_plans_is_read() {
    let plan = planned(CONTAIN, &json!({}), &ground()).expect("a plan");
    let run = RunId(uuid::Uuid::from_u128(1));
    let mut start = plan.start(run, None);
    start.foretold = None;
    let envelope = crate::Envelope {
        request: None,
        actor: crate::Actor::Operator("ada".into()),
        command: crate::Command::StartRun(Box::new(start)),
    };
    let bytes = envelope.encode();
    assert!(
        !bytes.windows(8).any(|window| window == b"foretold"),
        "what is not foretold is not written"
    );
    let again = crate::Envelope::decode(&bytes).expect("an envelope");
    assert_eq!(again, envelope);
    let mut state = State::default();
    let bootstrap = crate::Envelope {
        request: None,
        actor: crate::Actor::Leader,
        command: crate::Command::Bootstrap {
            cluster: uuid::Uuid::from_u128(2),
            trust_domain: "cordon.test".into(),
            nodes: Vec::new(),
        },
    };
    state.apply(1, crate::Timestamp(1), &bootstrap);
    let mut again = again;
    if let crate::Command::StartRun(start) = &mut again.command {
        // This state has no agents.
        start.targets.values_mut().for_each(Vec::clear);
        start
            .manifest
            .targets
            .values_mut()
            .for_each(|set| set.allow_empty = true);
        start.manifest_hash = start.manifest.sha256().parse().expect("a hash");
    }
    let reply = state.apply(2, crate::Timestamp(2), &again).reply;
    assert_eq!(reply, crate::Reply::RunStarted { run });
    assert_eq!(state.run(&run).map(|run| run.plan_hash), Some(None));
    let read = State::decode(&state.encode()).expect("a snapshot");
    assert_eq!(read.hash(), state.hash());
}

#[test]
fn what_another_run_has_locked_is_left_out() {
    let text = include_str!("../../../playbook/examples/ransomware-response.yaml");
    let mut ground = ground();
    ground.agents[1].facts = r#"{"os":"linux","peers":["h1"]}"#.into();
    let other = RunId(uuid::Uuid::from_u128(7));
    ground.held.insert(r#""h2""#.into(), other);
    let plan = planned(text, &json!({"hosts": ["h1", "h2"]}), &ground).expect("a plan");
    assert_eq!(plan.inputs["hosts"], json!(["h1"]));
    assert!(
        plan.targets.values().flatten().all(|host| host.as_str() != "h2"),
        "not as one that is connected either: {:?}",
        plan.targets
    );
    let said = format!("\"h2\" is left out: run {other} has locked it");
    assert!(plan.warnings.contains(&said), "{:?}", plan.warnings);
    let refused = planned(text, &json!({"hosts": ["h2"]}), &ground);
    assert!(matches!(&refused, Err(PlanError::AllHeld { .. })), "{refused:?}");
}
