//! Steps in scripts, without YAML.

use super::*;

/// A step: NAME action=host.info [over=all] [needs=a,b.done] [parallel=2] [canary=1] [waves=1,10%] [soak=ms] [retry=2/1000] [queue=ms] [attempt=ms]
/// [total=ms] [heartbeat=ms] [delay=ms] [continue=1] | when EXPR | expect EXPR | fail EXPR | again EXPR |
/// foreach EXPR | host EXPR | with NAME EXPR
pub fn step(manifest: &Manifest, text: &str) -> Step {
    let mut clauses = text.split(" | ");
    let mut words = clauses.next().expect("a name").split_whitespace();
    let kind = Kind::Do {
        action: "host.info".into(),
        with: BTreeMap::new(),
    };
    let mut step = Step {
        over: Over::Targets("all".into()),
        ..Step::plain(words.next().expect("a name").into(), kind)
    };
    for word in words {
        let (name, value) = word.split_once('=').expect("name=value");
        let ms = || Some(value.parse::<u64>().expect("ms"));
        match name {
            "action" => {
                step.kind = Kind::Do {
                    action: value.into(),
                    with: BTreeMap::new(),
                }
            }
            "needs" => {
                for need in value.split(',') {
                    let (name, state) = need.split_once('.').unwrap_or((need, ""));
                    let state = match state {
                        "done" => NeedState::Done,
                        "failed" => NeedState::Failed,
                        _ => NeedState::Succeeded,
                    };
                    step.needs.push(Need {
                        step: manifest.step_number(name).expect("an earlier step"),
                        state,
                        by_host: false,
                    });
                }
            }
            "parallel" => step.strategy.max_parallel = ms().map(|n| n as u32),
            "canary" => step.strategy.canary = ms().map(|n| n as u32),
            "soak" => step.strategy.soak_ms = ms().expect("ms"),
            "waves" => {
                step.strategy.waves = value
                    .split(',')
                    .map(|wave| match wave.strip_suffix('%') {
                        Some(share) => Wave::Percent(share.parse().expect("a share")),
                        None => Wave::Count(wave.parse().expect("a count")),
                    })
                    .collect();
            }
            "retry" => {
                let (max, pause) = value.split_once('/').expect("max/ms");
                step.retry = Some(Retry {
                    max: max.parse().expect("max"),
                    initial_ms: pause.parse().expect("ms"),
                    factor: 2.0,
                    delay_ms_max: 60_000,
                    jitter: false,
                    when: None,
                });
            }
            "queue" => step.timeout.queue_ms = ms(),
            "attempt" => step.timeout.attempt_ms = ms(),
            "total" => step.timeout.total_ms = ms(),
            "heartbeat" => step.timeout.heartbeat_ms = ms(),
            "delay" => step.delay_ms = ms().expect("ms"),
            "continue" => step.on_failure = OnFailure::Continue,
            other => panic!("no option {other}"),
        }
    }
    for clause in clauses {
        let (name, text) = clause.split_once(' ').expect("clause TEXT");
        let expression = Expression(text.into());
        match name {
            "when" => {
                step.when_per_task =
                    text.contains("target") || text.contains("here_") || text.contains("item_");
                step.when = Some(expression);
            }
            "expect" => step.expect = Some(expression),
            "fail" => step.strategy.fail_when = Some(expression),
            "again" => {
                if let Some(retry) = &mut step.retry {
                    retry.when = Some(expression);
                }
            }
            "foreach" => {
                step.over = Over::ForEach {
                    list: expression,
                    name: "item_".into(),
                    distinct: true,
                    host: None,
                }
            }
            "host" => {
                if let Over::ForEach { host, .. } = &mut step.over {
                    *host = Some(playbook::manifest::ItemHost {
                        id: expression,
                        within: "all".into(),
                    });
                }
            }
            "with" => {
                if let Kind::Do { with, .. } = &mut step.kind {
                    let (name, text) = text.split_once(' ').expect("with NAME VALUE");
                    with.insert(name.into(), template(text));
                }
            }
            // decide NAME VALUE [if EXPR]
            "decide" => {
                let (set, when) = text
                    .split_once(" if ")
                    .map_or((text, None), |(s, w)| (s, Some(Expression(w.into()))));
                let (name, value) = set.split_once(' ').expect("decide NAME VALUE");
                let rule = Rule {
                    when,
                    set: [(name.to_owned(), template(value))].into(),
                };
                match &mut step.kind {
                    Kind::Decide { rules } => rules.push(rule),
                    kind => *kind = Kind::Decide { rules: vec![rule] },
                }
                step.over = Over::Once;
            }
            other => panic!("no clause {other}"),
        }
    }
    step
}

pub(super) fn template(text: &str) -> Template {
    match text.strip_prefix("= ") {
        Some(expression) => Template::Expression(Expression(expression.into())),
        None => Template::Literal(serde_json::from_str(text).expect("JSON")),
    }
}
