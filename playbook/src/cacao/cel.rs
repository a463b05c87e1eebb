//! CACAO's conditions in CEL.
//!
//! Only what means exactly the same is translated. Everything else is for a person to decide.

use super::condition::{Condition, Operand, Operator};

/// What a variable is, for a translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// How it is read in CEL.
    pub cel: String,
    pub kind: Kind,
}

/// The type of a variable, as far as comparing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    Float,
    Bool,
}

/// The same in CEL, or why it cannot be said exactly. `known` tells of a variable.
pub(super) fn to_cel(
    condition: &Condition,
    known: &dyn Fn(&str) -> Result<Known, String>,
) -> Result<String, String> {
    let joined = |parts: &[Condition], by: &str| {
        let parts: Result<Vec<String>, String> = parts
            .iter()
            .map(|part| {
                let inner = to_cel(part, known)?;
                let bare = matches!(part, Condition::Compare(..));
                Ok(if bare { inner } else { format!("({inner})") })
            })
            .collect();
        Ok(parts?.join(by))
    };
    match condition {
        Condition::All(parts) => joined(parts, " && "),
        Condition::Any(parts) => joined(parts, " || "),
        Condition::Not(inner) => Ok(format!("!({})", to_cel(inner, known)?)),
        Condition::Foreign => Err("it looks at observations, not at variables".to_owned()),
        Condition::Compare(left, operator, right) => compare(left, *operator, right, known),
    }
}

fn compare(
    left: &Operand,
    operator: Operator,
    right: &Operand,
    known: &dyn Fn(&str) -> Result<Known, String>,
) -> Result<String, String> {
    let Operand::Variable(name) = left else {
        return Err("what it compares is no variable".to_owned());
    };
    let variable = known(name)?;
    let value = |operand: &Operand| value(operand, variable.kind, known);
    let ordered = matches!(variable.kind, Kind::Int | Kind::Float);
    let sign = match operator {
        Operator::Equal => "==",
        Operator::Unequal => "!=",
        Operator::In => {
            let Operand::List(items) = right else {
                return Err("`IN` takes a list".to_owned());
            };
            let items: Result<Vec<String>, String> = items.iter().map(value).collect();
            return Ok(format!("{} in [{}]", variable.cel, items?.join(", ")));
        }
        Operator::Like => return like(&variable, right),
        Operator::Foreign => return Err("this comparison means something else in CEL".to_owned()),
        _ if !ordered => {
            return Err(format!(
                "`{name}` is no number, and texts have more than one order"
            ));
        }
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Greater => ">",
        Operator::GreaterOrEqual => ">=",
    };
    Ok(format!("{} {sign} {}", variable.cel, value(right)?))
}

/// An operand as a value of this kind. CACAO writes numbers and booleans as text too.
fn value(
    operand: &Operand,
    kind: Kind,
    known: &dyn Fn(&str) -> Result<Known, String>,
) -> Result<String, String> {
    let text = match operand {
        Operand::Variable(name) => {
            let other = known(name)?;
            return if other.kind == kind {
                Ok(other.cel)
            } else {
                Err(format!("`{name}` is of another type"))
            };
        }
        Operand::Text(text) if super::id::variables(text).next().is_some() => {
            return Err("a variable within a text would have to be pasted into it".to_owned());
        }
        Operand::Text(text) => text.clone(),
        Operand::Int(int) => int.to_string(),
        Operand::Float(float) => float.to_string(),
        Operand::Bool(bool) => bool.to_string(),
        Operand::List(_) | Operand::Foreign => {
            return Err("it compares with something else than a value".to_owned());
        }
    };
    let number = matches!(operand, Operand::Int(_) | Operand::Float(_));
    match kind {
        Kind::Text if matches!(operand, Operand::Text(_)) => Ok(quoted(&text)),
        Kind::Int => text
            .parse::<i64>()
            .map(|int| int.to_string())
            .map_err(|_| format!("`{text}` is no integer")),
        Kind::Float => match text.parse::<f64>() {
            // CEL tells 1 from 1.0.
            Ok(float) if float.is_finite() => Ok(format!("{float:?}")),
            _ => Err(format!("`{text}` is no number")),
        },
        Kind::Bool if !number && (text == "true" || text == "false") => Ok(text),
        _ => Err(format!("`{text}` is of another type")),
    }
}

/// `%` at the ends only: then it is one of CEL's functions.
fn like(variable: &Known, right: &Operand) -> Result<String, String> {
    let (Operand::Text(pattern), Kind::Text) = (right, variable.kind) else {
        return Err("`LIKE` compares texts".to_owned());
    };
    let (front, rest) = match pattern.strip_prefix('%') {
        Some(rest) => (true, rest),
        None => (false, pattern.as_str()),
    };
    let (back, inner) = match rest.strip_suffix('%') {
        Some(inner) => (true, inner),
        None => (false, rest),
    };
    if inner.contains(['%', '_', '\\']) || super::id::variables(inner).next().is_some() {
        return Err("this `LIKE` is no plain search".to_owned());
    }
    let (cel, inner) = (&variable.cel, quoted(inner));
    Ok(match (front, back) {
        (false, false) => format!("{cel} == {inner}"),
        (false, true) => format!("{cel}.startsWith({inner})"),
        (true, false) => format!("{cel}.endsWith({inner})"),
        (true, true) => format!("{cel}.contains({inner})"),
    })
}

/// A text literal of CEL.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::super::condition::parse;
    use super::*;

    fn cel(text: &str) -> Result<String, String> {
        to_cel(&parse(text)?, &|name| {
            let kind = match name {
                "__n__" => Kind::Int,
                "__f__" => Kind::Float,
                "__b__" => Kind::Bool,
                "__s__" => Kind::Text,
                other => return Err(format!("`{other}` is not known")),
            };
            let cel = format!("inputs.{}", name.trim_matches('_'));
            Ok(Known { cel, kind })
        })
    }

    #[test]
    fn what_means_the_same_is_translated() {
        for (text, expected) in [
            ("__n__:value >= 70", "inputs.n >= 70"),
            ("__n__:value = '10'", "inputs.n == 10"),
            ("__f__:value < 1", "inputs.f < 1.0"),
            ("__b__:value == true", "inputs.b == true"),
            ("__b__:value != 'false'", "inputs.b != false"),
            ("__s__:value = 'a \"b\" ${c}'", r#"inputs.s == "a \"b\" ${c}""#),
            ("__s__:value NOT IN ('a', 'b')", r#"!(inputs.s in ["a", "b"])"#),
            ("__s__:value LIKE 'db%'", r#"inputs.s.startsWith("db")"#),
            ("__s__:value LIKE '%db%'", r#"inputs.s.contains("db")"#),
            (
                "__n__:value > 1 AND __b__:value = true OR NOT (__s__:value = 'x')",
                r#"(inputs.n > 1 && inputs.b == true) || (!(inputs.s == "x"))"#,
            ),
            ("__s__:value <> __s__:value", "inputs.s != inputs.s"),
        ] {
            match cel(text) {
                Ok(found) => assert_eq!(found, expected, "{text}"),
                Err(why) => assert_eq!(expected, "", "{text}: {why}"),
            }
        }
    }

    #[test]
    fn what_does_not_is_not() {
        for text in [
            "[ipv4-addr:value = '10.0.0.1']",
            "ipv4-addr:value = '10.0.0.1'",
            "file:hashes.'SHA-256' = 'ab' AND __n__:value = 1",
            "[a:b = 1] FOLLOWEDBY [c:d = 2] WITHIN 5 SECONDS",
            "__s__:value MATCHES 'a+'",
            "__s__:value LIKE 'a_b'",
            "__s__:value > 'a'",
            "__s__:value = '__n__:value'",
            "__s__:value = 1",
            "__b__:value = 1",
            "__n__:value = 'ten'",
            "__n__:value = __s__:value",
            "__other__:value = 1",
            "EXISTS __s__:value",
            "__s__:value = t'2024-01-01T00:00:00Z'",
        ] {
            parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert!(cel(text).is_err(), "{text}");
        }
    }
}
