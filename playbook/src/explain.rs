//! What each code of a problem means: a reason that holds in general, and an example before and after.
//!
//! The examples are compiled by a test: what is shown as wrong has the problem, what is shown as right has none.

use crate::cacao;

/// One code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// `E0xxx` or, for a warning, `W0xxx`; `C0xxx` of a CACAO document. A code keeps its meaning for ever and is never used again.
    pub code: &'static str,
    /// In a line.
    pub title: &'static str,
    /// Why it is a problem, and what to do.
    pub reason: &'static str,
    /// Where an example can be given.
    pub example: Option<Example>,
}

/// Parts of a playbook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    frame: Frame,
    /// With the problem.
    pub wrong: &'static str,
    /// Without it.
    pub right: &'static str,
}

/// What has to stand around an example to make it a playbook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    /// Nothing.
    Whole,
    /// A name, a version and a step.
    Top,
    /// Everything but the steps.
    Steps,
}

/// Looks a code up, in any case.
pub fn explain(code: &str) -> Option<&'static Explanation> {
    all().find(|known| known.code.eq_ignore_ascii_case(code))
}

/// All of them: those of CACAO documents, then those of playbooks, each sorted.
pub fn all() -> impl Iterator<Item = &'static Explanation> {
    cacao::CODES.iter().chain(ALL)
}

pub(crate) const fn plain(code: &'static str, title: &'static str, reason: &'static str) -> Explanation {
    Explanation {
        code,
        title,
        reason,
        example: None,
    }
}

const fn shown(
    code: &'static str,
    title: &'static str,
    reason: &'static str,
    frame: Frame,
    wrong: &'static str,
    right: &'static str,
) -> Explanation {
    Explanation {
        code,
        title,
        reason,
        example: Some(Example { frame, wrong, right }),
    }
}

use Frame::{Steps, Top, Whole};

const ALL: &[Explanation] = &[
    shown(
        "E0001",
        "The text is not YAML that a playbook can be",
        "A playbook is one YAML document: a map with unique text keys, indented by spaces, of bounded size and depth. \
         Doubled keys are refused because one of the two would be lost in silence.",
        Whole,
        "playbook: p\nplaybook: q\n",
        "playbook: p\nversion: 1\nsteps:\n  look: {do: host.info, targets: all}\ntargets: {all: {select: \"true\"}}\n",
    ),
    plain(
        "E0002",
        "The text is too long",
        "A playbook is read by people before it runs, so its text is bounded. Lists of hashes, hosts or addresses belong \
         into inputs, and several jobs into several playbooks.",
    ),
    shown(
        "E0101",
        "A map was expected",
        "This part of a playbook is made of `name: value` lines, and something else stands there: a list, a text or \
         nothing.",
        Top,
        "inputs: [hosts]",
        "inputs: {hosts: {type: list<host>}}",
    ),
    shown(
        "E0102",
        "There is no such field",
        "Fields that nobody knows are refused and never ignored: a misspelt `timeout` would otherwise be no timeout. The \
         nearest name is proposed where there is one.",
        Steps,
        "look: {do: host.info, targets: all, timeuot: {attempt: 30s}}",
        "look: {do: host.info, targets: all, timeout: {attempt: 30s}}",
    ),
    shown(
        "E0103",
        "This part of the language cannot run yet",
        "The word belongs to the language, but this version has no way to carry it out. It is refused by name, because a \
         gate or an undo that is ignored is worse than none.",
        Steps,
        "look: {do: host.info, targets: all, strategy: {canary: 2}}",
        "look: {do: host.info, targets: all, strategy: {max_parallel: 2}}",
    ),
    shown(
        "E0104",
        "The value has the wrong kind",
        "A text, a number or a flag was expected, or a number within bounds. YAML reads `yes` as text and `1.10` as a \
         number: put quotes around what is meant as text.",
        Top,
        "limits: {max_targets: many}",
        "limits: {max_targets: 100}",
    ),
    shown(
        "E0105",
        "The playbook has no steps",
        "A playbook without steps would succeed and do nothing, which nobody wants to read in a report.",
        Whole,
        "playbook: p\nversion: 1\nsteps: {}\n",
        "playbook: p\nversion: 1\ntargets: {all: {select: \"true\"}}\nsteps:\n  look: {do: host.info, targets: all}\n",
    ),
    shown(
        "E0106",
        "The duration cannot be used",
        "Durations are numbers with units, the greatest first: ms, s, m, h, d. A bare number has no unit, and a deadline of \
         nothing would end every task before it starts, so both are refused.",
        Steps,
        "look: {do: host.info, targets: all, delay: 30}",
        "look: {do: host.info, targets: all, delay: 30s}",
    ),
    shown(
        "E0107",
        "The name cannot be used",
        "Names of steps, inputs, outputs and target sets are used within expressions, so they are 1 to 63 of a-z, 0-9 and _, \
         with a letter first.",
        Steps,
        "look-around: {do: host.info, targets: all}",
        "look_around: {do: host.info, targets: all}",
    ),
    shown(
        "E0108",
        "The playbook has no name, or one that cannot be used",
        "The name identifies the playbook in runs, audit records and file names: 1 to 63 of a-z, 0-9 and -.",
        Whole,
        "playbook: Contain It\nversion: 1\ntargets: {all: {select: \"true\"}}\nsteps:\n  look: {do: host.info, targets: all}\n",
        "playbook: contain-it\nversion: 1\ntargets: {all: {select: \"true\"}}\nsteps:\n  look: {do: host.info, targets: all}\n",
    ),
    shown(
        "E0109",
        "The playbook has no version",
        "The version is a whole number that you count up with each change, so that people can say which one ran.",
        Whole,
        "playbook: p\ntargets: {all: {select: \"true\"}}\nsteps:\n  look: {do: host.info, targets: all}\n",
        "playbook: p\nversion: 1\ntargets: {all: {select: \"true\"}}\nsteps:\n  look: {do: host.info, targets: all}\n",
    ),
    shown(
        "E0110",
        "The input has no type, or one that does not exist",
        "Inputs are checked before anything runs, so each has a type: string, int, float, bool, timestamp, duration, ip, cidr, \
         url, email, host, sha256, path, artifact, json, list<T>, map<T> or {enum: [a, b]}.",
        Top,
        "inputs: {hosts: {type: list<server>}}",
        "inputs: {hosts: {type: list<host>}}",
    ),
    shown(
        "E0111",
        "The pattern is no regular expression",
        "`pattern` is a regular expression that the whole text of the input must match. Look-around and back-references are \
         not offered: every pattern is decided in linear time.",
        Top,
        "inputs: {ticket: {type: string, pattern: \"INC-(\"}}",
        "inputs: {ticket: {type: string, pattern: \"INC-[0-9]+\"}}",
    ),
    shown(
        "E0112",
        "The default does not fit its own input",
        "A default is checked like a value that is given: by type, `min`, `max` and `pattern`.",
        Top,
        "inputs: {hash: {type: sha256, default: none}}",
        "inputs: {hash: {type: sha256}}",
    ),
    shown(
        "E0113",
        "The target set has not exactly one source",
        "A set is either a list of agents by id (`hosts`) or all agents for which a condition holds (`select`).",
        Top,
        "targets: {web: {max: 10}}",
        "targets: {web: {select: \"agent.labels.role == 'web'\", max: 10}}",
    ),
    shown(
        "E0114",
        "Two steps have the same name",
        "Results are read by name, so a name is unique over `steps` and `finally` together.",
        Whole,
        "playbook: p\nversion: 1\ntargets: {all: {select: \"true\"}}\nsteps:\n  look: {do: host.info, targets: all}\nfinally:\n  \
         look: {do: host.info, targets: all}\n",
        "playbook: p\nversion: 1\ntargets: {all: {select: \"true\"}}\nsteps:\n  look: {do: host.info, targets: all}\nfinally:\n  \
         look_again: {do: host.info, targets: all}\n",
    ),
    shown(
        "E0115",
        "`needs` is a list",
        "A step may need several others; even one is written as a list.",
        Steps,
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: a}",
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a]}",
    ),
    shown(
        "E0116",
        "The need is not understood",
        "`a` waits until step a has succeeded, `a.done` until it has ended in whatever way, `a.failed` until it has failed.",
        Steps,
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a.ok]}",
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a]}",
    ),
    shown(
        "E0117",
        "A step is needed twice",
        "Two needs of the same step either say the same or contradict each other.",
        Steps,
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a, a.done]}",
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a.done]}",
    ),
    shown(
        "E0118",
        "A step is needed that does not exist",
        "Needs name steps of the same playbook. A step of `finally` cannot be needed: it runs when all else has ended.",
        Steps,
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [aa]}",
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a]}",
    ),
    shown(
        "E0119",
        "The retry has no bound",
        "A retry says how often (`max`), and its pauses grow by a `factor` from 1 to 10.",
        Steps,
        "look: {do: host.info, targets: all, retry: {initial: 5s}}",
        "look: {do: host.info, targets: all, retry: {max: 3, initial: 5s}}",
    ),
    shown(
        "E0120",
        "A `decide` happens once",
        "Rules decide for the whole run. What differs from host to host is a `when` of the step that acts.",
        Steps,
        "d: {decide: [{else: {go: true}}], targets: all}",
        "d: {decide: [{else: {go: true}}]}",
    ),
    shown(
        "E0121",
        "A step of `finally` needs nothing",
        "The steps of `finally` run one after another when no other step is left, in whatever way the others ended.",
        Top,
        "targets: {all: {select: \"true\"}}\nfinally:\n  tidy: {do: host.info, targets: all, needs: [look]}",
        "targets: {all: {select: \"true\"}}\nfinally:\n  tidy: {do: host.info, targets: all}",
    ),
    shown(
        "E0122",
        "A `decide` has no parameters",
        "`with` belongs to an action. Rules read inputs and results by themselves.",
        Steps,
        "d: {decide: [{else: {go: true}}], with: {a: 1}}",
        "d: {decide: [{else: {go: true}}]}",
    ),
    shown(
        "E0123",
        "A step does not do exactly one thing",
        "A step is one of `do` (an action of the catalogue) and `decide` (rules).",
        Steps,
        "look: {targets: all}",
        "look: {do: host.info, targets: all}",
    ),
    shown(
        "E0124",
        "The rules are not understood",
        "`decide` is a list. Each rule has `when` (a condition) and `set` (what it decides); the last has `else` only.",
        Steps,
        "d: {decide: [{when: \"true\"}, {else: {go: false}}]}",
        "d: {decide: [{when: \"true\", set: {go: true}}, {else: {go: false}}]}",
    ),
    shown(
        "E0125",
        "`else` is not the last rule",
        "The first rule that holds wins, and `else` always holds, so rules behind it would never be asked.",
        Steps,
        "d: {decide: [{else: {go: false}}, {when: \"true\", set: {go: true}}, {else: {go: false}}]}",
        "d: {decide: [{when: \"true\", set: {go: true}}, {else: {go: false}}]}",
    ),
    shown(
        "E0126",
        "The `decide` has no `else`",
        "Without it there are cases in which nothing is decided, and the steps that read the decision would fail.",
        Steps,
        "d: {decide: [{when: \"true\", set: {go: true}}]}",
        "d: {decide: [{when: \"true\", set: {go: true}}, {else: {go: false}}]}",
    ),
    shown(
        "E0127",
        "The `foreach` is not complete",
        "`in` is an expression that gives a list, `as` the name under which each item is read.",
        Steps,
        "look: {do: host.info, targets: all, foreach: {in: inputs.hosts, host: h}}",
        "look: {do: host.info, targets: all, foreach: {in: inputs.hosts, as: h, host: h}}",
    ),
    shown(
        "E0128",
        "The item's name means something else already",
        "An item called `inputs` or `target` would hide what has that name in every playbook.",
        Steps,
        "look: {do: host.info, targets: all, foreach: {in: inputs.hosts, as: target, host: target}}",
        "look: {do: host.info, targets: all, foreach: {in: inputs.hosts, as: h, host: h}}",
    ),
    shown(
        "E0129",
        "`foreach.host` and `targets` go together",
        "An item that runs on a host names it with `host`, and `targets` names the frozen set that must hold it, so that \
         a result can never lead to a host that nobody approved.",
        Steps,
        "look: {do: host.info, foreach: {in: inputs.hosts, as: h, host: h}}",
        "look: {do: host.info, targets: all, foreach: {in: inputs.hosts, as: h, host: h}}",
    ),
    shown(
        "E0130",
        "There is no such action",
        "`cordon action list` shows the catalogue.",
        Steps,
        "look: {do: host.inof, targets: all}",
        "look: {do: host.info, targets: all}",
    ),
    shown(
        "E0131",
        "The action has no such parameter",
        "`cordon action describe NAME` shows which there are.",
        Steps,
        "cut: {do: host.isolate, targets: all, with: {mod: network, ttl: 1h}}",
        "cut: {do: host.isolate, targets: all, with: {mode: network, ttl: 1h}}",
    ),
    shown(
        "E0132",
        "A parameter is missing",
        "The action cannot be done without it. `cordon action describe NAME` shows what it means.",
        Steps,
        "find: {do: file.find, targets: all}",
        "find: {do: file.find, targets: all, with: {roots: [/srv]}}",
    ),
    shown(
        "E0133",
        "A parameter does not fit",
        "Parameters that are written out are checked against the action's schema before anything runs.",
        Steps,
        "find: {do: file.find, targets: all, with: {roots: 7}}",
        "find: {do: file.find, targets: all, with: {roots: [/srv]}}",
    ),
    shown(
        "E0134",
        "`on_failure` is not understood",
        "`fail` ends the run when the step fails, `continue` lets it go on.",
        Steps,
        "look: {do: host.info, targets: all, on_failure: ignore}",
        "look: {do: host.info, targets: all, on_failure: continue}",
    ),
    shown(
        "E0201",
        "An expression is text",
        "A condition is a text in the expression language, or true or false.",
        Steps,
        "look: {do: host.info, targets: all, when: 7}",
        "look: {do: host.info, targets: all, when: size(inputs.hosts) > 7}",
    ),
    shown(
        "E0202",
        "This field is an expression already",
        "`when`, `select`, `in`, `host`, `expect` and `fail_when` are expressions by nature; `${...}` is for values.",
        Steps,
        "look: {do: host.info, targets: all, when: \"${size(inputs.hosts) > 0}\"}",
        "look: {do: host.info, targets: all, when: size(inputs.hosts) > 0}",
    ),
    shown(
        "E0203",
        "`${` is not closed",
        "An expression within a value stands between `${` and `}`. A literal `${` is written `$${`.",
        Steps,
        "find: {do: file.find, targets: all, with: {roots: [\"/srv/${inputs.name\"]}}",
        "find: {do: file.find, targets: all, with: {roots: [\"/srv/${inputs.name}\"]}}",
    ),
    shown(
        "E0204",
        "The expression is not understood",
        "Expressions are CEL within bounds: no side effects, no loops that do not end, no functions but those that \
         docs/playbook-reference.md lists.",
        Steps,
        "look: {do: host.info, targets: all, when: \"size(inputs.hosts) >\"}",
        "look: {do: host.info, targets: all, when: \"size(inputs.hosts) > 0\"}",
    ),
    shown(
        "E0205",
        "The name is reserved",
        "Names that begin with `here_` are used within; a result of the same host is `steps.NAME.here`.",
        Steps,
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a], when: here_a.status == \"succeeded\"}",
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a], when: steps.a.here.status == \"succeeded\"}",
    ),
    shown(
        "E0301",
        "Steps wait for each other",
        "Each of these steps needs another of them, so none can ever start.",
        Steps,
        "a: {do: host.info, targets: all, needs: [b]}\nb: {do: host.info, targets: all, needs: [a]}",
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a]}",
    ),
    shown(
        "E0302",
        "There is no such target set",
        "Sets are declared under `targets` at the top, where they are counted and frozen before anything runs.",
        Steps,
        "look: {do: host.info, targets: al}",
        "look: {do: host.info, targets: all}",
    ),
    shown(
        "E0303",
        "The step names no host",
        "An action of an agent runs on a host: name a set with `targets`, or give each item of a `foreach` its `host`.",
        Steps,
        "look: {do: host.info}",
        "look: {do: host.info, targets: all}",
    ),
    shown(
        "E0304",
        "There is no such input",
        "What a run is given is declared under `inputs`.",
        Steps,
        "look: {do: host.info, targets: all, when: size(inputs.host) > 0}",
        "look: {do: host.info, targets: all, when: size(inputs.hosts) > 0}",
    ),
    shown(
        "E0305",
        "A map has no order to go through",
        "The order of a map's keys means nothing and may differ, and a decision must come out the same each time. Go over a \
         list, or read the names that you need.",
        Steps,
        "look: {do: host.info, targets: all, when: \"inputs.all(name, name != 'x')\"}",
        "look: {do: host.info, targets: all, when: \"inputs.hosts.all(host, host != 'x')\"}",
    ),
    shown(
        "E0306",
        "The name is not in scope",
        "`target` is there in a step over hosts, `output` in `expect`, `error` in `retry.when`, the counts in `fail_when`, \
         `agent` in `select`; `steps` and `run` once a run exists.",
        Steps,
        "look: {do: host.info, targets: all, when: \"output.cpus > 1\"}",
        "look: {do: host.info, targets: all, expect: \"output.cpus > 1\"}",
    ),
    shown(
        "E0307",
        "There is no such step",
        "Results are read as `steps.NAME`, of a step of the same playbook.",
        Steps,
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a], when: size(steps.aa.ok) > 0}",
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a], when: size(steps.a.ok) > 0}",
    ),
    shown(
        "E0308",
        "A step has no such field",
        "A step offers `status`, `output`, `items`, `ok`, `failed`, `unknown` and `here`.",
        Steps,
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a], when: size(steps.a.good) > 0}",
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a], when: size(steps.a.ok) > 0}",
    ),
    shown(
        "E0309",
        "`here` has no host",
        "`steps.NAME.here` is the result of the same host, so both steps go over the same `targets`, and it is read where a \
         host is: in `when`, `with` or `expect`.",
        Steps,
        "a: {do: host.info, targets: some}\nb: {do: host.info, targets: all, needs: [a], when: steps.a.here.status == \"succeeded\"}",
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a], when: steps.a.here.status == \"succeeded\"}",
    ),
    shown(
        "E0310",
        "The step reads a result that may not be there yet",
        "Steps run side by side unless one needs the other, so a step reads only what it needs, directly or through others.",
        Steps,
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, when: size(steps.a.ok) > 0}",
        "a: {do: host.info, targets: all}\nb: {do: host.info, targets: all, needs: [a.done], when: size(steps.a.ok) > 0}",
    ),
    shown(
        "E0311",
        "The step reads an output that may be missing",
        "A step that was skipped has no output. Need the step itself (then this one is skipped too), or ask for its status \
         first.",
        Steps,
        "a: {decide: [{else: {go: true}}], when: size(inputs.hosts) > 0}\n\
         b: {do: host.info, targets: all, needs: [a.done], when: steps.a.output.go}",
        "a: {decide: [{else: {go: true}}], when: size(inputs.hosts) > 0}\n\
         b: {do: host.info, targets: all, needs: [a], when: steps.a.output.go}",
    ),
    shown(
        "E0312",
        "The step has no output of its own",
        "A step over hosts or items has one output for each: `ok`, `failed`, `unknown` and `items` list them, and `here` is \
         that of the same host. `output` alone is what a `decide` has set.",
        Steps,
        "a: {do: host.info, targets: all}\nb: {decide: [{else: {cpus: \"${steps.a.output.cpus}\"}}], needs: [a]}",
        "a: {do: host.info, targets: all}\nb: {decide: [{else: {cpus: \"${steps.a.ok.map(i, i.output.cpus)}\"}}], needs: [a]}",
    ),
    shown(
        "W0401",
        "The action cannot be undone",
        "A warning: the action changes the host and the catalogue knows no inverse of it. Have the step reviewed by a second \
         person.",
        Steps,
        "kill: {do: process.kill, targets: all, with: {processes: [{pid: 7, start_ticks: 1, exe: /tmp/evil}], signal: KILL}}",
        "cut: {do: host.isolate, targets: all, with: {mode: network, ttl: 1h}}",
    ),
    plain(
        "E0501",
        "The inputs are no map",
        "Inputs are given by name: `--input NAME=VALUE`, or a JSON object with `--inputs FILE`.",
    ),
    plain(
        "E0502",
        "The playbook has no such input",
        "An input that nobody reads is a misspelling, so it is refused. The nearest name is proposed where there is one.",
    ),
    plain(
        "E0503",
        "An input is missing",
        "An input without a default must be given.",
    ),
    plain(
        "E0504",
        "An input does not fit its type",
        "Values are checked by type, `min`, `max` and `pattern` before anything runs.",
    ),
    plain(
        "E0511",
        "A target set cannot be resolved",
        "Its expression failed, or it names an agent that is not enrolled. `cordon agent list` shows those that are.",
    ),
    plain(
        "E0512",
        "A target set has no host",
        "A run over nothing would succeed and protect nobody. Write `allow_empty: true` at the set where that is right.",
    ),
    plain(
        "E0513",
        "There are more hosts than allowed",
        "`max` of a set and `limits.max_targets` bound what one run may touch. Narrow the set, or raise the limit in a new \
         version, which is reviewed.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile;

    fn framed(frame: Frame, part: &str) -> String {
        let indented = part.replace('\n', "\n  ");
        match frame {
            Whole => part.to_owned(),
            Top => format!(
                "playbook: p\nversion: 1\n{part}\nsteps:\n  d: {{decide: [{{else: {{go: true}}}}]}}\n"
            ),
            Steps => format!(
                "playbook: p\nversion: 1\ninputs: {{hosts: {{type: list<host>}}, name: {{type: string, default: a}}}}\n\
                 targets: {{all: {{select: \"true\"}}, some: {{hosts: \"${{inputs.hosts}}\"}}}}\nsteps:\n  {indented}\n"
            ),
        }
    }

    /// Every code that the text has.
    fn codes(text: &str) -> Vec<&'static str> {
        match compile(text) {
            Ok(compiled) => compiled.warnings.iter().map(|problem| problem.code).collect(),
            Err(problems) => problems.list.iter().map(|problem| problem.code).collect(),
        }
    }

    #[test]
    fn examples_are_as_wrong_and_as_right_as_they_say() {
        for known in ALL {
            let Some(example) = known.example else { continue };
            let wrong = codes(&framed(example.frame, example.wrong));
            assert!(wrong.contains(&known.code), "{}: {wrong:?}", known.code);
            let right = codes(&framed(example.frame, example.right));
            assert_eq!(right, Vec::<&str>::new(), "{}", known.code);
        }
    }

    /// The sources are read, so that nobody can add a code without explaining it.
    #[test]
    fn every_code_is_explained_and_every_explanation_is_of_a_code() {
        let sources = [
            include_str!("bind.rs"),
            include_str!("yaml.rs"),
            include_str!("compile/mod.rs"),
            include_str!("compile/check.rs"),
            include_str!("compile/fields.rs"),
            include_str!("compile/step.rs"),
            include_str!("compile/template.rs"),
            include_str!("compile/top.rs"),
        ];
        let pattern = regex::Regex::new("\"([EW]0[0-9]{3})\"").unwrap();
        let used: std::collections::BTreeSet<&str> = sources
            .iter()
            .flat_map(|source| {
                pattern
                    .captures_iter(source)
                    .map(|found| found.extract::<1>().1[0])
            })
            .collect();
        let explained: std::collections::BTreeSet<&str> = ALL.iter().map(|known| known.code).collect();
        assert_eq!(used, explained);
        assert_eq!(explained.len(), ALL.len(), "a code is explained twice");
    }

    #[test]
    fn codes_are_found_in_any_case() {
        assert_eq!(explain("e0301").map(|known| known.code), Some("E0301"));
        assert_eq!(explain("E9999"), None);
    }
}
