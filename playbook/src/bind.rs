//! A manifest becomes a plan: inputs are bound, targets are resolved and frozen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use catalogue::parse_duration;
use serde_json::{Map, Value};

use crate::eval::{self, Scope, Shared};
use crate::manifest::{Expression, Field, Input, Manifest, TargetSource, Type};
use crate::nearest;
use crate::problem::{Place, Problem, Problems};

/// Items of one input list.
const ITEMS_MAX: usize = 200_000;
/// Unknown hosts that are named one by one.
const NAMED_MAX: usize = 20;

/// Binds what was given to the declared inputs: a JSON object with every input, defaults filled in.
///
/// # Errors
/// Every input that is missing, unknown or not of its type.
pub fn bind_inputs(manifest: &Manifest, given: &Value) -> Result<Value, Problems> {
    let empty = Map::new();
    let given = match given {
        Value::Object(given) => given,
        Value::Null => &empty,
        _ => {
            return Err(problems(vec![problem(
                "E0501",
                "inputs are a map of names".to_owned(),
                String::new(),
            )]));
        }
    };
    let mut found = Vec::new();
    let mut bound = Map::new();
    for name in given.keys().filter(|name| !manifest.inputs.contains_key(*name)) {
        let hint = nearest::hint(name, manifest.inputs.keys().map(String::as_str));
        found.push(problem(
            "E0502",
            format!("`{}` has no input `{name}`", manifest.playbook),
            hint,
        ));
    }
    for (name, input) in &manifest.inputs {
        match given.get(name).or(input.default.as_ref()) {
            None => {
                let hint = format!("give it with --input {name}=VALUE ({})", type_name(&input.kind));
                found.push(problem("E0503", format!("input `{name}` is missing"), hint));
            }
            Some(value) => match check(input, value) {
                Ok(value) => {
                    bound.insert(name.clone(), value);
                }
                Err(why) => found.push(problem(
                    "E0504",
                    format!("input `{name}`: {why}"),
                    type_name(&input.kind),
                )),
            },
        }
    }
    if found.is_empty() {
        Ok(Value::Object(bound))
    } else {
        Err(problems(found))
    }
}

/// Binds what people filled in to the fields of a form: a JSON object with every field. What they left out has its
/// rendered default.
///
/// # Errors
/// Every field that is missing, unknown or not of its type.
pub fn bind_form(form: &BTreeMap<String, Field>, defaults: &Value, given: &Value) -> Result<Value, Problems> {
    let empty = Map::new();
    let given = given.as_object().unwrap_or(&empty);
    let mut found = Vec::new();
    let mut bound = Map::new();
    for name in given.keys().filter(|name| !form.contains_key(*name)) {
        let hint = nearest::hint(name, form.keys().map(String::as_str));
        found.push(problem("E0502", format!("the form has no field `{name}`"), hint));
    }
    for (name, field) in form {
        match given.get(name).or_else(|| defaults.get(name)) {
            None => {
                let hint = format!(
                    "give it with --set {name}=VALUE ({})",
                    type_name(&field.input.kind)
                );
                found.push(problem("E0503", format!("field `{name}` is missing"), hint));
            }
            Some(value) => match check(&field.input, value) {
                Ok(value) => {
                    bound.insert(name.clone(), value);
                }
                Err(why) => found.push(problem(
                    "E0504",
                    format!("field `{name}`: {why}"),
                    type_name(&field.input.kind),
                )),
            },
        }
    }
    if found.is_empty() {
        Ok(Value::Object(bound))
    } else {
        Err(problems(found))
    }
}

/// What an event, or a group of them, gives the inputs that say `from`: to be bound like what a person gives.
///
/// # Errors
/// Every `from` that cannot be evaluated.
pub fn inputs_of_event(
    manifest: &Manifest,
    event: &Value,
    group: &Value,
    config: &Value,
) -> Result<Map<String, Value>, Problems> {
    let mut scope = Scope::new();
    scope.bind("event", event);
    scope.bind("group", group);
    scope.bind("config", config);
    let (mut given, mut found) = (Map::new(), Vec::new());
    for (name, input) in &manifest.inputs {
        let Some(from) = &input.from else { continue };
        match scope.render(from) {
            Ok(value) => {
                given.insert(name.clone(), value);
            }
            Err(why) => found.push(problem(
                "E0505",
                format!("input `{name}`: {why}"),
                "`from` reads what the event must have; `has(event.a.b)` asks for it first".to_owned(),
            )),
        }
    }
    if found.is_empty() {
        Ok(given)
    } else {
        Err(problems(found))
    }
}

/// The value as it is bound to an input or a field.
///
/// # Errors
/// Why it is not of its type, or not within its bounds.
pub fn check_value(input: &Input, value: &Value) -> Result<Value, String> {
    check(input, value)
}

/// Resolves every target set: sorted, distinct agent ids. `agents` are maps `{id, online, labels, facts, version,
/// peers}`; without a set that selects, `{id}` is enough.
///
/// # Errors
/// Unknown hosts, an empty set without `allow_empty`, more hosts than a `max` allows.
pub fn resolve_targets(
    manifest: &Manifest,
    inputs: &Value,
    config: &Value,
    agents: &[Value],
) -> Result<BTreeMap<String, Vec<String>>, Problems> {
    let scope = base(inputs, config);
    let known: BTreeSet<&str> = agents.iter().filter_map(|a| a.get("id")?.as_str()).collect();
    let mut found = Vec::new();
    let mut sets = BTreeMap::new();
    let mut all = BTreeSet::new();
    for (name, set) in &manifest.targets {
        let hosts = match &set.source {
            TargetSource::Hosts(template) => listed(&scope, template, &known),
            TargetSource::Select(condition) => selected(&scope, condition, agents),
        };
        let hosts = match hosts {
            Ok(hosts) => hosts,
            Err(why) => {
                found.push(problem(
                    "E0511",
                    format!("target set `{name}`: {why}"),
                    "see `cordon agent list`".to_owned(),
                ));
                continue;
            }
        };
        if hosts.is_empty() && !set.allow_empty {
            let hint =
                "choose other hosts, or write `allow_empty: true` if nothing to do is a success".to_owned();
            found.push(problem("E0512", format!("target set `{name}` has no host"), hint));
        }
        if let Some(max) = set.max.filter(|&max| hosts.len() > max as usize) {
            let message = format!(
                "target set `{name}` has {} hosts, more than its `max` of {max}",
                hosts.len()
            );
            found.push(problem(
                "E0513",
                message,
                "narrow it, or raise the limit in a new version".to_owned(),
            ));
        }
        all.extend(hosts.iter().cloned());
        sets.insert(name.clone(), hosts.into_iter().collect());
    }
    if let Some(max) = manifest
        .limits
        .max_targets
        .filter(|&max| all.len() > max as usize)
    {
        let message = format!(
            "the plan has {} hosts, more than `limits.max_targets` of {max}",
            all.len()
        );
        found.push(problem(
            "E0513",
            message,
            "narrow the targets, or raise the limit in a new version".to_owned(),
        ));
    }
    if found.is_empty() {
        Ok(sets)
    } else {
        Err(problems(found))
    }
}

/// The hosts that the target sets name, where no set selects among all agents. None: one does, or a list cannot
/// be evaluated, which [`resolve_targets`] tells.
pub fn named_hosts(manifest: &Manifest, inputs: &Value, config: &Value) -> Option<BTreeSet<String>> {
    let scope = base(inputs, config);
    let mut named = BTreeSet::new();
    for set in manifest.targets.values() {
        let TargetSource::Hosts(template) = &set.source else {
            return None;
        };
        let Ok(Value::Array(hosts)) = scope.render(template) else {
            return None;
        };
        named.extend(hosts.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    Some(named)
}

/// What the target sets see, and nothing that a run has found.
fn base(inputs: &Value, config: &Value) -> Scope<'static> {
    let mut scope = Scope::new();
    scope.bind("inputs", inputs);
    scope.bind("config", config);
    scope
}

/// Whether a condition on agents reads what hosts say of themselves.
pub fn reads_facts(condition: &Expression) -> bool {
    // One that does not parse is taken to read everything.
    eval::parse(&condition.0).map_or(true, |parsed| {
        parsed.paths.iter().any(|p| {
            p[0] == "agent"
                && p.get(1)
                    .is_none_or(|field| !["id", "labels", "online"].contains(&field.as_str()))
        })
    })
}

fn listed(
    scope: &Scope<'_>,
    template: &crate::manifest::Template,
    known: &BTreeSet<&str>,
) -> Result<BTreeSet<String>, String> {
    let value = scope.render(template).map_err(|error| error.to_string())?;
    let Value::Array(items) = value else {
        return Err("`hosts` is a list of agent ids".to_owned());
    };
    let mut hosts = BTreeSet::new();
    let mut unknown = Vec::new();
    for item in items {
        match item {
            Value::String(id) if known.contains(id.as_str()) => {
                hosts.insert(id);
            }
            other => unknown.push(other.to_string()),
        }
    }
    if unknown.is_empty() {
        return Ok(hosts);
    }
    let more = unknown.len().saturating_sub(NAMED_MAX);
    unknown.truncate(NAMED_MAX);
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Err(format!("there is no agent {}{rest}", unknown.join(", ")))
}

fn selected(scope: &Scope<'_>, condition: &Expression, agents: &[Value]) -> Result<BTreeSet<String>, String> {
    let mut hosts = BTreeSet::new();
    for agent in agents {
        let mut inner = scope.child();
        inner.bind_shared("agent", &Shared::new(agent));
        if inner.test(condition).map_err(|error| error.to_string())? {
            hosts.extend(agent.get("id").and_then(Value::as_str).map(str::to_owned));
        }
    }
    Ok(hosts)
}

/// `string`, `list<ip>`, ...; None: no type.
pub(crate) fn parse_type(text: &str) -> Option<Type> {
    let text = text.trim();
    let inner = |prefix: &str| text.strip_prefix(prefix)?.strip_suffix('>').map(str::trim);
    if let Some(inner) = inner("list<") {
        return Some(Type::List(Box::new(parse_type(inner)?)));
    }
    if let Some(inner) = inner("map<") {
        return Some(Type::Map(Box::new(parse_type(inner)?)));
    }
    serde_json::from_value(Value::String(text.to_owned())).ok()
}

/// Memory of one compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A regular expression that the whole text must match. Matching takes linear time.
pub(crate) fn pattern(pattern: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| {
            error
                .to_string()
                .lines()
                .last()
                .unwrap_or("not a regular expression")
                .to_owned()
        })
}

/// The value as it is bound, or why it is not of the input's type.
pub(crate) fn check(input: &Input, value: &Value) -> Result<Value, String> {
    let mut value = match (&input.kind, value) {
        (Type::Artifact, Value::Object(about)) => artifact(input, about)?,
        _ => typed(&input.kind, value)?,
    };
    if let (true, Value::Array(items)) = (input.distinct, &mut value) {
        let mut seen = BTreeSet::new();
        items.retain(|item| seen.insert(item.to_string()));
    }
    let size = match &value {
        Value::Array(items) => Some(items.len() as f64),
        Value::Object(entries) => Some(entries.len() as f64),
        Value::String(text) => Some(text.chars().count() as f64),
        Value::Number(number) => number.as_f64(),
        _ => None,
    };
    let what = if value.is_number() {
        "the value"
    } else {
        "the length"
    };
    if let (Some(size), Some(min)) = (size, input.min)
        && size < min
    {
        return Err(format!("{what} {size} is less than the least, {min}"));
    }
    if let (Some(size), Some(max)) = (size, input.max)
        && size > max
    {
        return Err(format!("{what} {size} is more than the most, {max}"));
    }
    if let (Some(pattern), Value::String(text)) = (&input.pattern, &value)
        && !self::pattern(pattern)?.is_match(text)
    {
        return Err(format!("{text:?} does not match {pattern}"));
    }
    Ok(value)
}

/// What was handed in, as `event.raw` tells it, becomes its SHA-256: by that, evidence is named.
fn artifact(input: &Input, about: &serde_json::Map<String, Value>) -> Result<Value, String> {
    let sha256 = about
        .get("sha256")
        .ok_or("an artifact has a `sha256`; `event.raw` is one")?;
    let sha256 = typed(&Type::Sha256, sha256)?;
    if let Some(wanted) = &input.media {
        match about.get("media").and_then(Value::as_str) {
            Some(media) if media.eq_ignore_ascii_case(wanted) => {}
            Some(media) => return Err(format!("the artifact is {media:?}, not {wanted}")),
            None => return Err(format!("it is not said that the artifact is {wanted}")),
        }
    }
    if let Some(most) = input.bytes_max {
        match about.get("size_bytes").and_then(Value::as_u64) {
            Some(size) if size <= most => {}
            Some(size) => return Err(format!("the artifact has {size} bytes, of at most {most}")),
            None => return Err("it is not said how large the artifact is".to_owned()),
        }
    }
    Ok(sha256)
}

fn typed(kind: &Type, value: &Value) -> Result<Value, String> {
    let wrong = || Err(format!("{} is no {}", brief(value), type_name(kind)));
    let text = value.as_str();
    let holds = match kind {
        Type::Json => true,
        Type::String => text.is_some(),
        Type::Bool => value.is_boolean(),
        Type::Int => value.is_i64(),
        Type::Float => value.is_number(),
        Type::Timestamp => text.is_some_and(|t| t.parse::<jiff::Timestamp>().is_ok()),
        Type::Duration => text.is_some_and(|t| parse_duration(t).is_ok()),
        Type::Ip => text.is_some_and(|t| t.parse::<IpAddr>().is_ok()),
        Type::Cidr => text.is_some_and(is_cidr),
        Type::Url => text.is_some_and(is_url),
        Type::Email => text.is_some_and(is_email),
        Type::Host => text.is_some_and(is_id),
        Type::Sha256 => text.is_some_and(|t| {
            t.len() == 64
                && t.bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        }),
        Type::Path => text.is_some_and(|t| {
            t.starts_with('/') && !t.contains('\0') && !t.split('/').any(|part| part == "..")
        }),
        Type::Artifact => text.is_some_and(|t| !t.is_empty()),
        Type::Enum(names) => text.is_some_and(|t| names.iter().any(|n| n == t)),
        Type::List(inner) => {
            let Value::Array(items) = value else {
                return wrong();
            };
            if items.len() > ITEMS_MAX {
                return Err(format!("a list of {} is longer than {ITEMS_MAX}", items.len()));
            }
            return items
                .iter()
                .map(|item| typed(inner, item))
                .collect::<Result<_, _>>()
                .map(Value::Array);
        }
        Type::Map(inner) => {
            let Value::Object(entries) = value else {
                return wrong();
            };
            let mut map = Map::new();
            for (name, item) in entries {
                map.insert(name.clone(), typed(inner, item)?);
            }
            return Ok(Value::Object(map));
        }
    };
    if holds { Ok(value.clone()) } else { wrong() }
}

fn is_id(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_cidr(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else {
        return false;
    };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    prefix
        .parse::<u8>()
        .is_ok_and(|p| p <= most && !prefix.starts_with('+'))
}

fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let scheme_holds = scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    scheme_holds
        && !rest.is_empty()
        && !rest.starts_with('/')
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    !local.is_empty()
        && domain.contains('.')
        && !text
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '<' || c == '>')
}

/// A type, in the words of the language.
pub fn type_name(kind: &Type) -> String {
    match kind {
        Type::List(inner) => format!("list<{}>", type_name(inner)),
        Type::Map(inner) => format!("map<{}>", type_name(inner)),
        Type::Enum(names) => format!("one of {}", names.join(", ")),
        simple => serde_json::to_value(simple)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default(),
    }
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 {
        text
    } else {
        text.chars().take(57).chain("...".chars()).collect()
    }
}

fn problem(code: &'static str, message: String, hint: String) -> Problem {
    Problem {
        code,
        place: Place::default(),
        message,
        hint,
    }
}

fn problems(list: Vec<Problem>) -> Problems {
    Problems::new(list, "")
}
