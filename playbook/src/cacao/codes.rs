//! What the codes of violations mean. `C09xx` are warnings.

use crate::explain::{Explanation, plain};

pub(crate) const ALL: &[Explanation] = &[
    plain(
        "C0001",
        "The document is not JSON",
        "A CACAO playbook is one JSON document in UTF-8, and nothing stands behind it.",
    ),
    plain(
        "C0002",
        "The document is too long",
        "What comes from elsewhere is bounded before it is looked at. A playbook of a thousand steps has about 1 MiB.",
    ),
    plain(
        "C0003",
        "The document is nested too deep, or has too many values",
        "CACAO's objects nest to a dozen levels. What goes far beyond that is a mistake or an attack on its readers.",
    ),
    plain(
        "C0004",
        "A name is given twice in one object",
        "Of two values with one name different readers take different ones, so a reviewer and an executor could see \
         different playbooks.",
    ),
    plain(
        "C0101",
        "The document is no playbook",
        "CACAO shares playbooks one by one: an object whose `type` is `playbook`.",
    ),
    plain(
        "C0102",
        "The version of the standard is not 2.0",
        "`spec_version` is `cacao-2.0`. The drafts and versions before have other step types and other meanings of the \
         same words.",
    ),
    plain(
        "C0103",
        "A required property is missing",
        "Without it the object does not say what the standard requires of it.",
    ),
    plain(
        "C0104",
        "The value has the wrong JSON type",
        "Text, number, boolean, list and object are not interchangeable: readers would convert them in different ways.",
    ),
    plain(
        "C0105",
        "There is no such property",
        "CACAO has no custom properties. What goes beyond the standard belongs into an extension, which is declared and \
         defined; a misspelt property would otherwise be lost in silence. `--lenient` leaves out what begins with `x_`.",
    ),
    plain(
        "C0106",
        "The number is out of range",
        "`priority`, `severity` and `impact` are 0 to 100; `delay` and `timeout` are whole milliseconds from 0 on.",
    ),
    plain(
        "C0107",
        "A list, a dictionary or a text is empty",
        "Optional properties with nothing in them are left out. `--lenient` leaves them out for you.",
    ),
    plain(
        "C0108",
        "The timestamp is not exact",
        "Timestamps have exactly three digits behind the second and are in UTC, written `Z`: 2024-05-01T12:00:00.000Z. \
         They tell versions apart, so there is one way to write each. `--lenient` writes them anew.",
    ),
    plain(
        "C0109",
        "Two moments are in the wrong order",
        "`modified` is not before `created`, and `valid_until` is later than `valid_from`.",
    ),
    plain(
        "C0110",
        "The value is not base 64 of text",
        "`command_b64` and `content_b64` are encoded by RFC 4648 section 4, with padding, and hold UTF-8 text.",
    ),
    plain(
        "C0111",
        "The key of a dictionary cannot be used",
        "Keys are 1 to 250 ASCII letters, digits, `_` and `-`.",
    ),
    plain(
        "C0112",
        "The word is not in a closed list",
        "Where the standard says `enum`, no other word has a meaning: types of steps, types of markings, TLP levels, \
         regions.",
    ),
    plain(
        "C0201",
        "The text is no identifier",
        "Identifiers are the exact type of an object, two hyphens and an RFC 4122 UUID of version 1 to 5.",
    ),
    plain(
        "C0202",
        "The UUID of a step is not of version 4",
        "The standard wants random UUIDs for steps; only a playbook may have one that is made from a name. `--lenient` \
         lets it stand, as nothing depends on it.",
    ),
    plain(
        "C0203",
        "The identifier is of another type of object",
        "An identifier begins with the type of what it names, and each reference allows certain types only. `--lenient` \
         renames agents and targets after their type.",
    ),
    plain(
        "C0204",
        "Two objects have the same UUID",
        "A UUID is unique over all objects of a playbook, whatever their type.",
    ),
    plain(
        "C0205",
        "A reference leads to nothing",
        "Whatever a playbook refers to by identifier (steps, agents, targets, logins, markings, extensions) is defined in \
         the same document.",
    ),
    plain(
        "C0301",
        "There is not exactly one start step",
        "A workflow begins at one place: one step of the type `start`.",
    ),
    plain(
        "C0302",
        "There is no end step",
        "A workflow, and each branch of it, says where it ends. `--lenient` adds an end where a step leads nowhere.",
    ),
    plain(
        "C0303",
        "`workflow_start` names something else than the start step",
        "It is there so that nobody has to search for the start; two answers to the same question are one too many.",
    ),
    plain(
        "C0304",
        "No step does anything",
        "A workflow has at least a start, an end, and one `action` or `playbook-action` between them.",
    ),
    plain(
        "C0305",
        "`on_completion` stands beside `on_success` or `on_failure`",
        "Either the step leads on in whatever way it ended, or success and failure lead to different places. With both \
         there are two answers.",
    ),
    plain(
        "C0306",
        "A start or end step leads on in a way that it cannot",
        "A start leads on by `on_completion` only, because it cannot fail; an end leads nowhere.",
    ),
    plain(
        "C0307",
        "A step leads nowhere",
        "Every step but an end has `on_completion`, or `on_success` (and perhaps `on_failure`). Executors differ in what \
         they do at a loose end. `--lenient` leads to a new end step.",
    ),
    plain(
        "C0308",
        "Two branches share a step",
        "Each branch of a parallel, if, while or switch step has steps of its own and reaches an end of its own. That is \
         how an executor knows when a branch is over and the step that opened it leads on. `--lenient` gives each branch \
         its own end where only the end was shared.",
    ),
    plain(
        "C0310",
        "Steps lead in a circle",
        "Only `while-condition` repeats, and its branch reaches an end before the condition is asked again.",
    ),
    plain(
        "C0311",
        "A parallel step has one branch",
        "`next_steps` has two or more. One step is led to directly.",
    ),
    plain(
        "C0312",
        "A step leads to the start",
        "The start is where a workflow begins, and nowhere else.",
    ),
    plain(
        "C0401",
        "The name of a variable cannot be used",
        "Two underscores, a letter, then letters, digits, `_` and `-`, and two underscores: `__host__`. At most 250 \
         characters.",
    ),
    plain(
        "C0402",
        "The value of a variable is not of its type",
        "Values are text, also numbers and booleans (\"10\", \"true\"), or null where none is known. `--lenient` writes \
         numbers and booleans as text.",
    ),
    plain(
        "C0403",
        "A variable is used that is not declared",
        "Every `__name__:value`, and every name in `in_args` and `out_args`, is declared in `playbook_variables` or in \
         `step_variables` of the step in which, or by whose agent and targets, it is used.",
    ),
    plain(
        "C0404",
        "A step would change a constant",
        "A variable with `constant: true` keeps its value; it cannot be in `out_args`.",
    ),
    plain(
        "C0405",
        "A step's own variable cannot come from outside",
        "`external` says that whoever starts the playbook gives the value, so it belongs to `playbook_variables`.",
    ),
    plain(
        "C0501",
        "The condition is no comparison",
        "Conditions are comparisons of STIX's pattern grammar: `__score__:value >= 70 AND __host__:value != 'db1'`. Texts \
         stand in single quotes. A boolean variable alone compares nothing; `--lenient` reads it as `= true`.",
    ),
    plain(
        "C0502",
        "A switch looks at no variable",
        "`switch` is the use of one variable, `__name__:value`, whose value is looked up in `cases`.",
    ),
    plain(
        "C0601",
        "A command says nothing",
        "It has `command`, or `command_b64` where it needs escaping.",
    ),
    plain(
        "C0602",
        "The command is not the first line of an HTTP request",
        "`command` of an HTTP command is method, target and version, with one space between them: `POST /block HTTP/1.1`. \
         OpenC2 is always sent by POST.",
    ),
    plain(
        "C0603",
        "There is no such kind of address",
        "An `address` has the keys dname, ipv4, ipv6, l2mac, vlan and url, each with a list.",
    ),
    plain(
        "C0605",
        "The login says two things",
        "Either a key store has the secret (`kms: true` with `kms_key_identifier`, and no user or password here), or not.",
    ),
    plain(
        "C0606",
        "There is a secret in clear text",
        "A password, token or authorisation header in a playbook is known to everybody who ever had the file. It is \
         refused, also by `--lenient`: take it out, change it where it is used, and let a connection of Cordon have the \
         new one from a file.",
    ),
    plain(
        "C0607",
        "An external reference has a name only",
        "Besides its name it has a description, source, url or an id, or nobody can follow it. `--lenient` lets it stand.",
    ),
    plain(
        "C0608",
        "The playbook has types and no activities",
        "A playbook whose `playbook_types` are of CACAO's vocabulary names at least one activity. `--lenient` lets it \
         stand: both are descriptive.",
    ),
    plain(
        "C0609",
        "An activity is done by no command",
        "Each entry of `playbook_activities` is the `playbook_activity` of a command. `--lenient` lets it stand.",
    ),
    plain(
        "C0610",
        "A sector is not listed at the top",
        "The sectors of agents and targets are repeated in `industry_sectors`. `--lenient` lets it stand.",
    ),
    plain(
        "C0611",
        "A reference is not listed at the top",
        "The external references of steps are repeated in those of the playbook. `--lenient` lets it stand.",
    ),
    plain(
        "C0701",
        "The property of an extension has a name that it cannot have",
        "3 to 250 of a-z, 0-9 and _.",
    ),
    plain(
        "C0702",
        "The text that the document carries is damaged",
        "An export of Cordon carries the playbook's text and its SHA-256. They do not belong together, or one of them is \
         missing: what is there is not what was exported.",
    ),
    plain(
        "C0703",
        "The document shows something else than the text that it carries",
        "Somebody who reads the workflow must not approve something else than what is imported. Export the text again, or \
         take the extension out of `playbook_extensions` and `extension_definitions` to import what the workflow shows.",
    ),
    plain(
        "C0704",
        "The text that the document carries does not compile",
        "It was exported by another version of Cordon, or made by hand.",
    ),
    plain(
        "C0751",
        "A signature does not say whose it is, or says it twice",
        "It has exactly one of `public_key`, `public_cert_chain`, `cert_url` and `thumbprint`.",
    ),
    plain(
        "C0752",
        "A signature is of another playbook",
        "`related_to` and `related_version` are the `id` and `modified` of the playbook that was signed. A changed \
         playbook is signed again.",
    ),
    plain(
        "C0801",
        "The playbook is too long",
        "What is imported is read by people before it runs, so its text, its steps and how deep branches are in branches \
         are bounded.",
    ),
    plain(
        "C0802",
        "Nothing is left to import",
        "No action is reached from the start, or only by failures that cannot happen.",
    ),
    plain(
        "C0803",
        "A loop is within a loop",
        "Our language unrolls loops, and one within another has no bound that a reviewer could see. The inner one can be \
         a playbook of its own.",
    ),
    plain(
        "C0804",
        "What the document becomes is refused by our own compiler",
        "Its rules hold and it was translated, but expressions become longer, or steps more, than a playbook can have. That \
         happens where one step waits for how dozens of others ended.",
    ),
    plain(
        "C0901",
        "The word is not in CACAO's vocabulary",
        "Where the standard says `ov`, other words are allowed if those who share the playbook know them. A command of \
         an unknown type becomes a question to people.",
    ),
    plain(
        "C0902",
        "Nothing leads to a step",
        "It would never be carried out, and is not imported. Often a step was left behind by an editor, or an edge was \
         lost.",
    ),
    plain(
        "C0904",
        "A step's variable hides one of the playbook",
        "The standard discourages it, because implementations differ in which of the two they change.",
    ),
    plain(
        "C0905",
        "The playbook is revoked",
        "Its author says that it is no longer valid.",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// The sources are read, so that nobody can add a code without explaining it.
    #[test]
    fn every_code_is_explained_and_every_explanation_is_of_a_code() {
        let sources = [
            include_str!("carried.rs"),
            include_str!("check/flow.rs"),
            include_str!("check/mod.rs"),
            include_str!("check/objects.rs"),
            include_str!("check/value.rs"),
            include_str!("check/variables.rs"),
            include_str!("import/branch.rs"),
            include_str!("import/mod.rs"),
            include_str!("import/steps.rs"),
            include_str!("json.rs"),
        ];
        let pattern = regex::Regex::new("\"(C0[0-9]{3})\"").unwrap();
        let used: BTreeSet<&str> = sources
            .iter()
            .flat_map(|source| {
                pattern
                    .captures_iter(source)
                    .map(|found| found.extract::<1>().1[0])
            })
            .collect();
        let explained: Vec<&str> = super::ALL.iter().map(|known| known.code).collect();
        assert_eq!(
            used.into_iter().collect::<Vec<_>>(),
            explained,
            "sorted, and each once"
        );
    }
}
