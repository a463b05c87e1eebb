//! What operators ask of the cluster: runs of a few playbooks that touch every kind of ending.

use std::collections::BTreeMap;

use engine::command::StartRun;
use engine::id::{AgentId, RunId};
use engine::plan::Foretold;
use engine::state::claims::Claims;
use playbook::manifest::Manifest;

use super::rng::Rng;

/// What another playbook runs: published when a world begins.
pub const BELOW: &str = r#"
playbook: below
version: 1
inputs:
  hosts: {type: list<host>}
targets:
  all: {hosts: "${inputs.hosts}"}
steps:
  look: {targets: all, do: host.info, timeout: {queue: 20s, attempt: 2s, total: 40s}, on_failure: continue}
  contain:
    needs: [look.done]
    targets: all
    do: host.isolate
    with: {mode: network, ttl: 1h}
    timeout: {queue: 20s, attempt: 2s, total: 40s}
finally:
  tell: {notify: {to: ["log:soc"], text: done}}
outputs: {contained: "${size(steps.contain.ok)}"}
"#;

const PLAYBOOKS: [&str; 5] = [
    r#"
playbook: sweep
version: 1
inputs:
  hosts: {type: list<host>}
targets:
  all: {hosts: "${inputs.hosts}"}
steps:
  look:
    targets: all
    do: file.find
    with: {roots: [/srv]}
    strategy: {max_parallel: 2}
    timeout: {queue: 20s, attempt: 2s, total: 40s}
    retry: {max: 3, initial: 100ms, factor: 2, max_delay: 1s, jitter: true}
    on_failure: continue
  judge:
    needs: [look.done]
    decide:
      - {when: size(steps.look.ok) > 1, set: {verdict: many}}
      - {else: {verdict: few}}
  contain:
    needs: [judge]
    targets: all
    do: host.isolate
    with: {mode: network, ttl: 1h}
    timeout: {queue: 20s, attempt: 2s, total: 40s}
    retry: {max: 2, initial: 100ms, factor: 2, max_delay: 1s, jitter: true}
    on_failure: continue
finally:
  release:
    targets: all
    do: host.release
    with: {reason: done}
    timeout: {queue: 20s, attempt: 2s, total: 40s}
"#,
    r#"
playbook: contain
version: 1
inputs:
  hosts: {type: list<host>}
targets:
  all: {hosts: "${inputs.hosts}"}
steps:
  contain:
    targets: all
    do: host.isolate
    with: {mode: network, ttl: 1h}
    strategy: {fail_when: "failed == total"}
    timeout: {queue: 20s, attempt: 2s, total: 40s}
  after:
    needs: [contain]
    targets: all
    do: process.list
    timeout: {queue: 20s, attempt: 2s, total: 40s}
outputs: {contained: "${size(steps.contain.ok)}"}
"#,
    r#"
playbook: chain
version: 1
inputs:
  hosts: {type: list<host>}
targets:
  all: {hosts: "${inputs.hosts}"}
steps:
  one: {targets: all, do: host.info, timeout: {queue: 20s, attempt: 2s, total: 40s}, on_failure: continue}
  two: {needs: [one.done], targets: all, do: host.info, timeout: {queue: 20s, attempt: 2s, total: 40s}, on_failure: continue}
  three: {needs: [two.done], targets: all, do: host.release, with: {reason: test}, timeout: {queue: 20s, attempt: 2s, total: 40s}}
"#,
    r#"
playbook: above
version: 1
inputs:
  hosts: {type: list<host>}
targets:
  all: {hosts: "${inputs.hosts}"}
steps:
  each:
    foreach: {in: inputs.hosts, as: host, max_parallel: 2}
    playbook: {name: below}
    with: {hosts: ["${host}"]}
    retry: {max: 1, initial: 200ms}
    timeout: {attempt: 1m}
    on_failure: continue
  loose: {playbook: {name: below, version: 1, wait: false}, with: {hosts: "${inputs.hosts}"}, on_failure: continue}
  again:
    needs: [loose.done]
    when: size(inputs.hosts) > 2
    playbook: {name: above, version: 1, max_depth: 1}
    with: {hosts: ["${inputs.hosts[0]}"]}
    on_failure: continue
"#,
    r#"
playbook: asked
version: 1
inputs:
  hosts: {type: list<host>}
targets:
  all: {hosts: "${inputs.hosts}"}
steps:
  contain:
    targets: all
    do: host.isolate
    with: {mode: network, ttl: 1h}
    gate: {approve: {roles: [lead], expires: 15s}}
    timeout: {queue: 20s, attempt: 2s, total: 40s}
    on_failure: continue
  question: {ask: {roles: [lead], expires: 10s, form: {go: {type: bool, default: true}}}, on_failure: continue}
  call:
    needs: [question.done]
    do: http.call
    with: {connection: cmdb, method: PUT, path: /known}
    retry: {max: 2, initial: 100ms}
    timeout: {attempt: 2s}
    on_failure: continue
"#,
];

/// The playbooks, compiled once per process.
pub fn manifests() -> Vec<Manifest> {
    PLAYBOOKS
        .iter()
        .map(|text| match playbook::compile(text) {
            Ok(compiled) => compiled.manifest,
            Err(problems) => panic!("a playbook of the simulation does not compile: {problems:?}"),
        })
        .collect()
}

/// One client's wish.
pub fn start_run(rng: &mut Rng, manifests: &[Manifest], agents: &[AgentId], now_ms: u64) -> StartRun {
    let manifest = manifests[rng.below(manifests.len())].clone();
    let mut hosts: Vec<AgentId> = agents.iter().filter(|_| rng.percent(80)).cloned().collect();
    if hosts.is_empty() {
        hosts.push(agents[0].clone());
    }
    let names: Vec<&str> = hosts.iter().map(AgentId::as_str).collect();
    let inputs = serde_json::json!({ "hosts": names });
    StartRun {
        run: RunId(rng.uuid(now_ms)),
        manifest_hash: manifest.sha256().parse().expect("a SHA-256 in hex"),
        foretold: Some(Foretold::of(&manifest, None)),
        manifest,
        inputs,
        targets: BTreeMap::from([("all".to_owned(), hosts)]),
        config: serde_json::json!({}),
        event: serde_json::Value::Null,
        group: serde_json::Value::Null,
        claims: Claims::default(),
        asked: None,
        fired: None,
    }
}
