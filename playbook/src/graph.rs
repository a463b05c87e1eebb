//! A picture of a playbook: its steps and what they wait for, as a Mermaid flowchart or as SVG.
//!
//! Mermaid (<https://mermaid.js.org/syntax/flowchart.html>) is what code hosts and wikis draw by themselves; the SVG is
//! drawn here (`layout`, `svg`), for reports and browsers. Everything that a playbook says is escaped; a label can
//! neither end itself nor become markup.

mod layout;
mod svg;

use std::fmt::{self, Write as _};

use crate::eval::as_written;
use crate::manifest::{Expression, Kind, Manifest, NeedState, Over, Step};

pub use svg::svg;

/// Characters of a condition that a label shows.
const CONDITION_CHARS_MAX: usize = 60;

/// Draws the playbook. `status` gives a step's status in a run, which colours it; None draws it plainly.
pub fn mermaid(manifest: &Manifest, status: impl Fn(&str) -> Option<String>) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = draw(&mut text, manifest, status);
    text
}

fn draw(
    out: &mut String,
    manifest: &Manifest,
    status: impl Fn(&str) -> Option<String>,
) -> Result<(), fmt::Error> {
    writeln!(out, "flowchart TD")?;
    for step in &manifest.steps {
        node(out, "  ", step)?;
    }
    for step in &manifest.steps {
        for need in &step.needs {
            let Some(needed) = manifest.steps.get(usize::from(need.step)) else {
                continue;
            };
            // A plain need is the usual way; the others are told apart by word and by line.
            let arrow = match need.state {
                NeedState::Succeeded => "-->",
                NeedState::Done => "-.->|done|",
                NeedState::Failed => "-.->|failed|",
            };
            writeln!(out, "  {} {arrow} {}", id(needed), id(step))?;
        }
    }
    if !manifest.finally.is_empty() {
        writeln!(out, "  subgraph finally [\"finally, one after another\"]")?;
        for step in &manifest.finally {
            node(out, "    ", step)?;
        }
        for pair in manifest.finally.windows(2) {
            writeln!(out, "    {} --> {}", id(&pair[0]), id(&pair[1]))?;
        }
        writeln!(out, "  end")?;
    }
    let steps = manifest.steps.iter().chain(&manifest.finally);
    let coloured: Vec<(String, String)> = steps
        .filter_map(|step| Some((id(step), status(&step.name)?)))
        .collect();
    for (name, ground, text) in COLOURS {
        let of_it: Vec<&str> = coloured
            .iter()
            .filter(|(_, status)| status == name)
            .map(|(id, _)| id.as_str())
            .collect();
        if !of_it.is_empty() {
            writeln!(out, "  classDef {name} fill:{ground},color:{text}")?;
            writeln!(out, "  class {} {name}", of_it.join(","))?;
        }
    }
    Ok(())
}

/// Ends and states of a step with the colours of their ground and their text: on light and on dark paper.
const COLOURS: &[(&str, &str, &str)] = &[
    ("succeeded", "#2e7d32", "#fff"),
    ("failed", "#c62828", "#fff"),
    ("unknown", "#6a1b9a", "#fff"),
    ("expired", "#ef6c00", "#fff"),
    ("cancelled", "#616161", "#fff"),
    ("skipped", "#bdbdbd", "#000"),
    ("running", "#1565c0", "#fff"),
];

/// Apart from the words of Mermaid, such as `end`, which cannot be the id of a node.
fn id(step: &Step) -> String {
    format!("s_{}", step.name)
}

/// What is said of a step, line by line, not escaped yet. The first is its name.
fn lines(step: &Step) -> Vec<String> {
    let mut lines = vec![step.name.clone()];
    lines.push(match &step.kind {
        Kind::Do { action, .. } => action.clone(),
        Kind::Decide { rules } => format!("decides, rules: {}", rules.len()),
        Kind::Score { rules } => format!("scores, rules: {}", rules.len()),
        Kind::Ask { roles, .. } => format!("asks {}", roles.join(", ")),
        Kind::Notify { to, .. } => format!("tells {}", to.len()),
        Kind::WaitEvent { class, .. } => format!("waits for {class}"),
        Kind::Playbook { name, wait, .. } => format!("{} {name}", if *wait { "runs" } else { "starts" }),
    });
    if let Some(gate) = &step.gate {
        lines.push(format!("approved by {}", gate.roles.join(", ")));
    }
    match &step.over {
        Over::Once => {}
        Over::Targets(set) => lines.push(format!("on {set}")),
        Over::ForEach { list, name, host, .. } => {
            let within = host
                .as_ref()
                .map_or(String::new(), |host| format!(", on {}", host.within));
            lines.push(format!("for each {name} in {}{within}", shortened(list)));
        }
    }
    if let Some(when) = &step.when {
        lines.push(format!("when {}", shortened(when)));
    }
    lines
}

fn node(out: &mut String, indent: &str, step: &Step) -> fmt::Result {
    let lines = lines(step);
    let mut label = format!("<b>{}</b>", escaped(&lines[0]));
    for line in &lines[1..] {
        label.push_str("<br/>");
        label.push_str(&escaped(line));
    }
    // A decision is a rhombus.
    let (open, close) = match step.kind {
        Kind::Do { .. } | Kind::Notify { .. } => ("[\"", "\"]"),
        Kind::Decide { .. } | Kind::Score { .. } => ("{\"", "\"}"),
        Kind::Ask { .. } | Kind::WaitEvent { .. } => ("([\"", "\"])"),
        Kind::Playbook { .. } => ("[[\"", "\"]]"),
    };
    writeln!(out, "{indent}{}{open}{label}{close}", id(step))
}

fn shortened(expression: &Expression) -> String {
    let one_line = as_written(expression)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    match one_line.char_indices().nth(CONDITION_CHARS_MAX) {
        None => one_line,
        Some((end, _)) => format!("{}...", &one_line[..end]),
    }
}

/// Letters, digits and what is harmless stay; everything else becomes an entity of Mermaid's, by its number.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || " .,:_-+*/=!?()".contains(c) {
            out.push(c);
        } else {
            let _ = write!(out, "#{};", u32::from(c));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile;

    const TEXT: &str = r#"
playbook: p
version: 1
inputs: {hosts: {type: list<host>}}
targets: {all: {select: "true"}}
steps:
  end: {do: host.info, targets: all, when: 'size(inputs.hosts) > 0 && "\"]; click s_end \"javascript:x()\"" != "<script>"'}
  verdict: {needs: [end], decide: [{when: size(steps.end.ok) > 1, set: {go: true}}, {else: {go: false}}]}
  cut: {needs: [verdict], do: host.isolate, with: {mode: network, ttl: 1h}, targets: all, when: steps.verdict.output.go}
  again: {needs: [cut.failed], do: host.info, targets: all, foreach: {in: inputs.hosts, as: h, host: h}}
  report: {needs: [cut.done], do: host.info, targets: all, when: steps.cut.here.status == "succeeded"}
finally:
  release: {do: host.release, targets: all}
  last: {do: host.info, targets: all}
"#;

    #[test]
    fn a_playbook_is_drawn() {
        let manifest = compile(TEXT).unwrap().manifest;
        insta::assert_snapshot!(mermaid(&manifest, |_| None));
    }

    #[test]
    fn a_run_is_coloured() {
        let manifest = compile(TEXT).unwrap().manifest;
        let drawn = mermaid(&manifest, |step| match step {
            "end" | "cut" => Some("succeeded".to_owned()),
            "again" => Some("skipped".to_owned()),
            // A status that nobody knows yet has no colour.
            "report" => Some("paused".to_owned()),
            _ => None,
        });
        let coloured: Vec<&str> = drawn.lines().filter(|line| line.contains("class")).collect();
        assert_eq!(
            coloured,
            [
                "  classDef succeeded fill:#2e7d32,color:#fff",
                "  class s_end,s_cut succeeded",
                "  classDef skipped fill:#bdbdbd,color:#000",
                "  class s_again skipped",
            ]
        );
    }

    #[test]
    fn nothing_that_a_playbook_says_leaves_its_label() {
        let drawn = mermaid(&compile(TEXT).unwrap().manifest, |_| None);
        for line in drawn.lines() {
            assert!(line.matches('"').count() <= 2, "{line}");
            assert!(!line.contains("<script"), "{line}");
        }
    }
}
