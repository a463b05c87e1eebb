//! The schema for editors takes what compiles, and refuses the slips that an editor can see.

use jsonschema::Validator;
use serde_json::{Value, json};

const EXAMPLES: [&str; 3] = [
    include_str!("../examples/failed-logins.yaml"),
    include_str!("../examples/phishing-response.yaml"),
    include_str!("../examples/ransomware-response.yaml"),
];
const FAILED_LOGINS: &str = EXAMPLES[0];
const RANSOMWARE: &str = EXAMPLES[2];

fn validator() -> Validator {
    let schema = playbook::schema();
    jsonschema::draft202012::meta::validate(&schema).expect("it is a schema");
    jsonschema::draft202012::new(&schema).expect("it compiles")
}

fn read(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

fn problems(validator: &Validator, playbook: &Value) -> Vec<String> {
    validator
        .iter_errors(playbook)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn what_compiles_is_taken() {
    let validator = validator();
    let library = playbook::library::all().iter().map(|(_, text)| *text);
    for text in EXAMPLES.into_iter().chain(library).chain([WHOLE]) {
        playbook::compile(text).expect("it compiles");
        let found = problems(&validator, &read(text));
        assert!(found.is_empty(), "{}\n{text}", found.join("\n"));
    }
}

#[test]
fn a_field_with_a_slip_of_the_pen_is_refused_wherever_it_stands() {
    let validator = validator();
    // Each field of each example, with one letter more: the last one that the text has.
    let mut seen = 0;
    for text in EXAMPLES.into_iter().chain([WHOLE]) {
        let playbook = read(text);
        assert!(validator.is_valid(&playbook));
        for pointer in maps(&playbook, String::new()) {
            let mut broken = playbook.clone();
            let map = broken
                .pointer_mut(&pointer)
                .and_then(Value::as_object_mut)
                .expect("a map");
            map.insert("tagrets".to_owned(), json!("all"));
            let taken = validator.is_valid(&broken);
            // There, names are the author's own.
            assert_eq!(taken, is_open(&pointer), "{pointer}");
            seen += usize::from(!taken);
        }
    }
    assert!(seen > 150, "{seen}");
}

/// Pointers to all maps.
fn maps(value: &Value, at: String) -> Vec<String> {
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => {
            let inner = map
                .iter()
                .flat_map(|(name, value)| maps(value, format!("{at}/{}", escaped(name))));
            let inner: Vec<String> = inner.collect();
            std::iter::once(at).chain(inner).collect()
        }
        Value::Array(items) => {
            let inner = items.iter().enumerate();
            inner
                .flat_map(|(number, value)| maps(value, format!("{at}/{number}")))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Values of the author's, and maps of names in which `"all"` is a value.
fn is_open(pointer: &str) -> bool {
    let last = pointer.rsplit('/').next().unwrap_or_default();
    pointer == "/outputs"
        || ["set", "else", "json"].contains(&last)
        || pointer.contains("/json/")
        // A sub-playbook's inputs.
        || ["/steps/spread/with", "/steps/other/with"].contains(&pointer)
}

#[test]
fn slips_are_refused() {
    let validator = validator();
    for (text, good, bad) in [
        (RANSOMWARE, "do: host.isolate", "do: host.isolat"),
        (RANSOMWARE, "mode: network,", "mode: net,"),
        (RANSOMWARE, "mode: network, ", ""),
        (RANSOMWARE, "ttl: 24h", "ttl: a day"),
        (RANSOMWARE, "max_cpu: 30%", "max_cpu: 300%"),
        (RANSOMWARE, "canary: 2", "canary: 0"),
        (RANSOMWARE, "quorum: 2", "quorum: two"),
        (RANSOMWARE, "type: list<host>", "type: list<hosts>"),
        (RANSOMWARE, "on_failure: continue", "on_failure: ignore"),
        (RANSOMWARE, "needs: [isolate.done]", "needs: [isolate.ended]"),
        (RANSOMWARE, "\"slack:#incidents\"", "\"smoke:#incidents\""),
        (RANSOMWARE, "version: 3\n", ""),
        (RANSOMWARE, "on_conflict: drop_item", "on_conflict: drop"),
        (
            RANSOMWARE,
            "    targets: infected\n    do: host.isolate",
            "    do: host.isolate",
        ),
        (
            RANSOMWARE,
            "    do: incident.open",
            "    targets: infected\n    do: incident.open",
        ),
        (
            RANSOMWARE,
            "    do: incident.open",
            "    decide: [{else: {x: 1}}]\n    do: incident.open",
        ),
        (FAILED_LOGINS, "within: 5m}", "within: 5}"),
        (FAILED_LOGINS, "at_least: 10, ", ""),
        (
            FAILED_LOGINS,
            "when: steps.verdict.output.action == \"block\"",
            "when: ${steps.verdict.output.action == \"block\"}",
        ),
        (
            FAILED_LOGINS,
            "      - {else: {action: watch, why: below thresholds}}\n",
            "",
        ),
        (
            FAILED_LOGINS,
            "retry: {max: 3, initial: 1s}",
            "retry: {initial: 1s}",
        ),
    ] {
        assert!(text.contains(good), "{good}");
        let broken = read(&text.replacen(good, bad, 1));
        assert!(!validator.is_valid(&broken), "taken: {bad}");
    }
}

/// What the examples leave out.
const WHOLE: &str = r#"
playbook: whole
version: 1
info: {attack: [T1059], category: test, impact: 10, tlp: clear, owner: soc, description: everything}
triggers:
  - {schedule: "0 6 * * 1-5", time_zone: Europe/Zurich, catch_up: true}
  - {webhook: call-me, dedupe: {key: "${event.id}", window: 1h}}
inputs:
  hosts: {type: list<host>, min: 1, max: 9, distinct: true}
  level: {type: {enum: [low, high]}, default: low}
  file:  {type: artifact, media: text/plain, max_bytes: 4096}
  note:  {type: string, pattern: "[a-z]+", default: abc}
limits: {timeout: 1h, max_targets: 10}
targets:
  all:  {hosts: "${inputs.hosts}", max: 10, allow_empty: true}
steps:
  look: {do: host.info, targets: all, strategy: {waves: [1, 1%, 10%], soak: 1m, barrier: true}}
  each:
    needs: [look]
    do: file.hash
    targets: all
    foreach: {in: inputs.hosts, as: h, host: h, max_parallel: 2, distinct: true}
    with: {paths: ["/etc/${h}"]}
    retry: {max: 2, initial: 1s, factor: 1.5, max_delay: 10s, jitter: false}
    timeout: {queue: 1m, attempt: 1m, total: 5m, heartbeat: 10s}
    on_failure: {compensate: [], notify: ["log:soc"]}
  event: {needs: [look.done], wait_event: {event: authentication, when: event.status_id == 1, expires: 1h}}
  question: {ask: {roles: [soc], expires: 1h, text: "Go on, ${run.requester}?", form: {go: {type: bool, default: false}}}}
  points: {needs: [question], score: [{add: -5, when: steps.question.output.go, note: sure}]}
  other: {playbook: {name: failed-logins}, with: {ip: 192.0.2.1}}
  again:
    needs: [points]
    loop:
      while: steps.points.output.value < 0
      max: 2
      body:
        again_look: {do: host.info, targets: all, delay: 1s}
finally:
  told: {notify: {to: ["log:soc"], severity: low, text: done}}
outputs: {value: "${steps.points.output.value}"}
"#;
