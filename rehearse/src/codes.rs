//! What each code of a test file's problem means.

use playbook::explain::Explanation;

/// All of them, sorted.
pub const ALL: &[Explanation] = &[
    of(
        "T0001",
        "The test file is too long or has too much in it",
        "A test is read by people, and runs on every change: its text, its cases and its hosts are bounded.",
    ),
    of(
        "T0101",
        "This part of the test file has the wrong shape",
        "Another kind of value was expected here: a map, a list, text, a number or a duration.",
    ),
    of(
        "T0102",
        "There is no such field",
        "Fields that nobody knows are refused and never ignored: an expectation that is misspelt would hold whatever happens.",
    ),
    of(
        "T0103",
        "Something is missing",
        "A case needs what it expects, and a fake needs how it ends: a test that expects nothing cannot fail.",
    ),
    of(
        "T0104",
        "The name is not known",
        "A test names steps, hosts, actions and outputs that the playbook or the case's fleet has.",
    ),
    of(
        "T0105",
        "The action can never answer so",
        "What a fake gives is checked against the output that the catalogue promises of the action: a test over answers that \
         cannot come shows nothing. `cordon action describe NAME` prints the schema.",
    ),
    of(
        "T0106",
        "The step has no answers",
        "Only steps that ask a host, another system or people have answers that a test can give; the others are decided by the \
         engine. A gate is approved or denied, a question is filled in or denied.",
    ),
    of(
        "T0201",
        "It ended otherwise",
        "The case was carried out, and what the test file expects of it does not hold. Either the playbook does something else \
         than was meant, or the expectation is out of date.",
    ),
    of(
        "T0202",
        "Nothing answers",
        "A step asked a host or a system, and no fake of the case fits. Without an answer the task would only run out of time, \
         which `fault: silent` says on purpose.",
    ),
    of(
        "T0203",
        "The run was not started",
        "Its inputs, its targets or the language that it uses were refused, as they would be by the cluster.",
    ),
    of(
        "T0204",
        "The run does not end",
        "Nothing is left that could happen in it, or far too much does.",
    ),
    of(
        "T0205",
        "No case used this answer",
        "A fake that nothing asks, or a person whom nobody asks, shows that the test says something else than the playbook does: \
         a step that is never reached, a host that is not among its targets, an earlier fake that fits first.",
    ),
    of(
        "T0206",
        "What a person said or did was refused",
        "The engine judges people as it does in a cluster: answers by their role, by who asked for the run, once for each \
         person, in time; what is done to the run by how far it is. `refused: WHY` beside it expects that.",
    ),
    of(
        "T0207",
        "The case cannot be set up so",
        "The engine refused something of the world that the case describes, such as a host with too many labels: neither the \
         playbook nor the run is at fault.",
    ),
    of(
        "T0208",
        "A step that waits cannot tell whether an event is for it",
        "The `when` of the step could not be evaluated over the event that came in: in a cluster the step would wait on, as if \
         the event were not for it.",
    ),
];

const fn of(code: &'static str, title: &'static str, reason: &'static str) -> Explanation {
    Explanation {
        code,
        title,
        reason,
        example: None,
    }
}

/// Looks a code up, in any case.
pub fn explain(code: &str) -> Option<&'static Explanation> {
    ALL.iter().find(|known| known.code.eq_ignore_ascii_case(code))
}
