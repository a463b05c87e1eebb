//! `playbook test`: the cases beside playbooks, carried out in virtual time, offline.

use std::path::{Path, PathBuf};
use std::time::Instant;

use playbook::Problems;
use rehearse::{CaseReport, Coverage, Suite};
use serde_json::{Value, json};

use super::playbook::{LIBRARY, in_lines, invalid, library_names, read, shapes};
use crate::{
    error::{CliError, Result},
    exit_codes,
    output::{Format, Output, clean},
};

/// What the name of a test file ends with, and of its playbook.
const TEST: &str = ".test.yaml";
const PLAYBOOK: &str = ".yaml";

/// What is asked for beside the files.
pub struct Asked<'a> {
    /// Only the case of this name.
    pub case: Option<&'a str>,
    /// Show every branch.
    pub coverage: bool,
    /// Fail below this share of the branches.
    pub min_coverage: Option<u8>,
}

/// What the cases of one file came to.
struct Played<'a> {
    name: &'a str,
    suite: Suite,
    /// Each with how long it took, in microseconds.
    reports: Vec<(CaseReport, u64)>,
    coverage: Coverage,
    /// Fakes and answers that no case used; None also where not all cases were carried out.
    unused: Option<Problems>,
    /// The share of the branches that is too little.
    short_of: Option<u8>,
}

/// Runs every case of every file; the exit code says whether all hold, every fake was used, and enough branches were
/// taken.
///
/// # Errors
/// A file that cannot be read or is not valid.
pub fn run(out: Output, files: &[String], asked: &Asked<'_>) -> Result<u8> {
    let mut items = Vec::new();
    let (mut passed, mut cases, mut all_good) = (0, 0, true);
    for name in files {
        let played = play(name, asked)?;
        if asked.case.is_some() && played.reports.is_empty() {
            continue;
        }
        cases += played.reports.len();
        passed += played
            .reports
            .iter()
            .filter(|(report, _)| report.findings.is_none())
            .count();
        all_good &= played.is_good();
        if out.format == Format::Table {
            out.print(&text(&played, asked))?;
        }
        items.push(shape(&played));
    }
    if let (0, Some(case)) = (cases, asked.case) {
        return Err(CliError::new(
            exit_codes::NOT_FOUND,
            format!("there is no case `{case}`"),
        ));
    }
    match out.format {
        Format::Table => out.print(&format!("{passed} of {cases} cases passed\n"))?,
        _ => out.list(&[], &[], &items)?,
    }
    Ok(if all_good {
        exit_codes::OK
    } else {
        exit_codes::FAILED
    })
}

fn play<'a>(name: &'a str, asked: &Asked<'_>) -> Result<Played<'a>> {
    let suite = suite(name)?;
    let mut coverage = suite.coverage();
    let mut reports = Vec::new();
    for (number, known) in suite.cases().enumerate() {
        if asked.case.is_some_and(|case| case != known) {
            continue;
        }
        let begun = Instant::now();
        if let Some(report) = suite.run(number, &mut coverage) {
            reports.push((report, begun.elapsed().as_micros() as u64));
        }
    }
    // One case alone is not meant to use or take everything.
    let unused = match asked.case {
        None => suite.unused(&coverage),
        Some(_) => None,
    };
    let short_of = asked
        .min_coverage
        .filter(|least| coverage.percent() < f64::from(*least));
    Ok(Played {
        name,
        suite,
        reports,
        coverage,
        unused,
        short_of,
    })
}

impl Played<'_> {
    fn is_good(&self) -> bool {
        let passed = self.reports.iter().all(|(report, _)| report.findings.is_none());
        passed && self.unused.is_none() && self.short_of.is_none()
    }
}

/// The playbook and its tests, from either's name.
fn suite(name: &str) -> Result<Suite> {
    let (yaml, tests) = if let Some(known) = name.strip_prefix(LIBRARY) {
        let yaml = read(name)?;
        let tests = playbook::library::tests(known).ok_or_else(|| {
            CliError::new(exit_codes::NOT_FOUND, format!("`{known}` has no tests"))
                .with_hint(format!("the library has: {}", library_names()))
        })?;
        (yaml, tests.to_owned())
    } else {
        let (playbook, tests) = beside(name)?;
        (
            CliError::read("read the playbook", &playbook)?,
            CliError::read("read the tests", &tests)?,
        )
    };
    let manifest = playbook::compile(&yaml)
        .map_err(|problems| invalid(name, &problems))?
        .manifest;
    Suite::read(&manifest, &yaml, &tests).map_err(|problems| not_tests(name, &problems))
}

fn not_tests(name: &str, problems: &Problems) -> CliError {
    CliError::invalid(format!("the tests of {name} are not valid\n{problems}"))
}

/// `NAME.yaml` and `NAME.test.yaml`, given either.
fn beside(name: &str) -> Result<(PathBuf, PathBuf)> {
    let of = |stem: &str, end: &str| Path::new(&format!("{stem}{end}")).to_owned();
    let stem = name.strip_suffix(TEST).or_else(|| name.strip_suffix(PLAYBOOK));
    let stem = stem.ok_or_else(|| {
        CliError::new(
            exit_codes::USAGE,
            format!("`{name}` is no playbook and no test of one"),
        )
        .with_hint("a playbook is NAME.yaml, and its tests stand beside it in NAME.test.yaml")
    })?;
    Ok((of(stem, PLAYBOOK), of(stem, TEST)))
}

fn text(played: &Played<'_>, asked: &Asked<'_>) -> String {
    let mut text = format!("{}\n", clean(played.name));
    for (action, steps) in played.suite.faked_only() {
        text.push_str(&format!(
            "  only faked: {action} (step {}) is not built yet, and ends as {} in a cluster\n",
            steps.join(", "),
            catalogue::NOT_IMPLEMENTED
        ));
    }
    for (report, elapsed_us) in &played.reports {
        let (mark, after) = match &report.findings {
            None => ("pass", String::new()),
            Some(problems) => ("FAIL", in_lines(&problems.to_string())),
        };
        let took = catalogue::format_duration(report.took_ms);
        text.push_str(&format!(
            "  {mark}  {}: {} after {took} ({:.1}ms)\n",
            clean(&report.name),
            report.status,
            *elapsed_us as f64 / 1_000.0,
        ));
        for line in after.lines() {
            text.push_str(&format!("        {line}\n"));
        }
        if report.findings.is_some() {
            text.push_str(&ends(report));
        }
    }
    if let Some(unused) = &played.unused {
        text.push_str("  FAIL  what the test file says and no case used:\n");
        for line in in_lines(&unused.to_string()).lines() {
            text.push_str(&format!("        {line}\n"));
        }
    }
    if asked.case.is_none() || asked.coverage {
        text.push_str(&branches(played, asked));
    }
    text
}

/// What was taken, and where that stands which never was.
fn branches(played: &Played<'_>, asked: &Asked<'_>) -> String {
    let coverage = &played.coverage;
    let (total, missed) = (coverage.total(), coverage.missed().count());
    let mut text = format!("  {} of {total} branches taken", total - missed);
    if let Some(least) = played.short_of {
        text.push_str(&format!(
            ": FAIL, that is {:.1} % of them, and {least} % are asked for",
            coverage.percent()
        ));
    }
    text.push('\n');
    for branch in coverage.branches() {
        let how_often = match branch.cases {
            0 => "never".to_owned(),
            1 => "1 case".to_owned(),
            cases => format!("{cases} cases"),
        };
        if branch.cases == 0 || asked.coverage {
            text.push_str(&format!(
                "    {how_often}: {} {} (line {})\n",
                branch.step, branch.way, branch.place.line
            ));
        }
    }
    text
}

/// How the steps of a case that failed ended.
fn ends(report: &CaseReport) -> String {
    let mut text = format!(
        "        the steps ended so{}:\n",
        match report.reason.as_str() {
            "" => String::new(),
            why => format!(" ({})", clean(why)),
        }
    );
    for step in &report.steps {
        let why = match step.reason.as_str() {
            "" => String::new(),
            why => format!(": {}", clean(why)),
        };
        text.push_str(&format!("          {} {}{why}\n", step.name, step.status));
    }
    text
}

fn shape(played: &Played<'_>) -> Value {
    let coverage = &played.coverage;
    let cases: Vec<Value> = played
        .reports
        .iter()
        .map(|(report, elapsed_us)| {
            json!({
                "name": report.name, "ok": report.findings.is_none(), "status": report.status, "reason": report.reason,
                "problems": report.findings.as_ref().map(|found| shapes(&found.list)).unwrap_or_default(),
                "took_ms": report.took_ms, "elapsed_us": elapsed_us,
                "steps": report.steps.iter().map(|step| json!({
                    "name": step.name, "status": step.status, "reason": step.reason,
                })).collect::<Vec<_>>(),
                "asked": report.asked.iter().map(|asked| json!({
                    "at_ms": asked.at_ms, "step": asked.step, "action": asked.action, "host": asked.host,
                    "item": asked.item, "attempt": asked.attempt, "parameters": asked.parameters,
                })).collect::<Vec<_>>(),
            })
        })
        .collect();
    let branches: Vec<Value> = coverage
        .branches()
        .iter()
        .map(|branch| json!({"step": branch.step, "way": branch.way, "line": branch.place.line, "cases": branch.cases}))
        .collect();
    json!({
        "playbook": played.name, "ok": played.is_good(), "cases": cases,
        "faked_only": played.suite.faked_only().iter().map(|(action, steps)| json!({
            "action": action, "steps": steps,
        })).collect::<Vec<_>>(),
        "unused": played.unused.as_ref().map(|unused| shapes(&unused.list)).unwrap_or_default(),
        "coverage": {
            "percent": coverage.percent(), "short_of_percent": played.short_of,
            "taken": coverage.total() - coverage.missed().count(), "total": coverage.total(), "branches": branches,
        },
    })
}
