//! What each code of a problem means: a reason that holds in general, and an example before and after.
//!
//! The examples are compiled by a test: what is shown as wrong has the problem, what is shown as right has none.

mod language;

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

use language::ALL;

use crate::cacao;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile;

    fn framed(frame: Frame, part: &str) -> String {
        let indented = part.replace('\n', "\n  ");
        match frame {
            Frame::Whole => part.to_owned(),
            Frame::Top => format!(
                "playbook: p\nversion: 1\n{part}\nsteps:\n  d: {{decide: [{{else: {{go: true}}}}]}}\n"
            ),
            Frame::Steps => format!(
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
            include_str!("../bind.rs"),
            include_str!("../yaml.rs"),
            include_str!("../compile/mod.rs"),
            include_str!("../compile/check.rs"),
            include_str!("../compile/fields.rs"),
            include_str!("../compile/kinds.rs"),
            include_str!("../compile/looping.rs"),
            include_str!("../compile/policy.rs"),
            include_str!("../compile/secrets.rs"),
            include_str!("../compile/triggers.rs"),
            include_str!("../compile/types.rs"),
            include_str!("../compile/step.rs"),
            include_str!("../compile/template.rs"),
            include_str!("../compile/top.rs"),
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
