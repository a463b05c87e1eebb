//! Planning over a fleet: what a coordinator does for `cordon playbook plan`, without the network and the log.

use std::collections::BTreeSet;
use std::time::Instant;

use engine::id::RunId;
use engine::plan::{Ground, Plan, draw};
use engine::{Actor, Command};
use serde_json::json;

use crate::fleet::Fleet;
use crate::percentile;

/// Selects by labels for what contains, by facts for what observes, and asks people about some of the hosts.
const PLAYBOOK: &str = r#"
playbook: bench-plan
version: 1
inputs:
  ttl: {type: duration, default: 4h}
targets:
  west: {select: "has(agent.labels.site) && agent.labels.site == 'west'"}
  all: {select: "agent.facts.os == 'linux'"}
steps:
  look: {do: host.info, targets: all}
  isolate:
    do: host.isolate
    targets: west
    needs: [look.done]
    with: {mode: network, allow: [coordinator], ttl: "${inputs.ttl}"}
    gate:
      when: target.labels.criticality == "critical"
      approve: {roles: [commander], quorum: 2, expires: 10m}
"#;

/// One line for each size of the fleet.
pub fn run(sizes: &[usize], rounds: usize) -> anyhow::Result<()> {
    for &agents in sizes {
        let mut fleet = Fleet::new(agents)?;
        let (mut took_us, mut copied_us, mut started_us) = (Vec::new(), Vec::new(), Vec::new());
        let mut shape = (0, 0);
        for round in 0..rounds {
            let began = Instant::now();
            let manifest = playbook::compile(PLAYBOOK)?.manifest;
            let inputs = playbook::bind_inputs(&manifest, &json!({}))?;
            let named = playbook::named_hosts(&manifest, &inputs, &json!({}));
            let copying = Instant::now();
            let ground = Ground::of(&fleet.state, named.as_ref(), &BTreeSet::new());
            copied_us.push(copying.elapsed().as_micros() as u64);
            let plan = draw(manifest, inputs, json!({}), &ground, "ada")?;
            took_us.push(began.elapsed().as_micros() as u64);
            shape = (plan.targets.values().map(Vec::len).sum(), plan.hosts.len());
            started_us.push(start(&mut fleet, plan, round)?);
        }
        for all in [&mut took_us, &mut copied_us, &mut started_us] {
            all.sort_unstable();
        }
        let line = json!({
            "bench": "plan",
            "agents": agents,
            "targets": shape.0,
            "hosts": shape.1,
            "p50_us": percentile(&took_us, 50),
            "p99_us": percentile(&took_us, 99),
            // For so long the state is held.
            "copy_p50_us": percentile(&copied_us, 50),
            // The apply that checks the hash and starts the run.
            "start_p50_us": percentile(&started_us, 50),
            "n": rounds,
        });
        println!("{line}");
    }
    Ok(())
}

/// How long the apply takes that starts the plan, in microseconds.
fn start(fleet: &mut Fleet, plan: Plan, round: usize) -> anyhow::Result<u64> {
    let expected = plan.hash;
    let start = plan.start(RunId(uuid::Uuid::from_u128(round as u128 + 2)), Some(expected));
    let began = Instant::now();
    fleet.apply(Actor::Operator("ada".into()), Command::StartRun(Box::new(start)))?;
    Ok(began.elapsed().as_micros() as u64)
}
