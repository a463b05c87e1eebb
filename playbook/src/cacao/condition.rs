//! CACAO's conditions: comparisons of STIX's pattern grammar over variables.

use super::id::is_variable;

/// Of one condition, in bytes.
const LENGTH_MAX: usize = 4_096;
/// Nesting of brackets.
const DEPTH_MAX: usize = 32;

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Compare(Operand, Operator, Operand),
    /// Part of the grammar, but about things that Cordon does not look at in a condition.
    Foreign,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    /// `__name__`.
    Variable(String),
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Operand>),
    /// A path into an observation, a timestamp, bytes.
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Like,
    /// `MATCHES`, `ISSUBSET`, `ISSUPERSET`: their meaning is not CEL's.
    Foreign,
}

/// Reads a condition, or says what stands against it.
pub(super) fn parse(text: &str) -> Result<Condition, String> {
    if text.len() > LENGTH_MAX {
        return Err(format!("it is longer than {LENGTH_MAX} bytes"));
    }
    let mut reader = Reader {
        tokens: tokens(text)?,
        at: 0,
    };
    let condition = reader.any(0)?;
    match reader.peek() {
        None => Ok(condition),
        Some(token) => Err(format!("{token} does not go on from there")),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Operand(Operand),
    Sign(&'static str),
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::Word(word) => write!(f, "`{word}`"),
            Token::Operand(_) => f.write_str("a value"),
            Token::Sign(sign) => write!(f, "`{sign}`"),
        }
    }
}

/// Longest first.
const SIGNS: &[&str] = &[
    "==", "!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ",",
];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            (Token::Sign(sign), sign.len())
        } else if first == '\'' {
            let (text, length) = literal(rest)?;
            (Token::Operand(Operand::Text(text)), length)
        } else if ["t'", "h'", "b'"].iter().any(|start| rest.starts_with(start)) {
            (Token::Operand(Operand::Foreign), 1 + literal(&rest[1..])?.1)
        } else if first.is_ascii_digit() || first == '-' || first == '+' {
            let length = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c))
                .unwrap_or(rest.len());
            (Token::Operand(number(&rest[..length])?), length)
        } else {
            word(rest)?
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    if tokens.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(tokens)
}

/// A word, a variable, or a path into an observation, in which quoted keys may stand.
fn word(rest: &str) -> Result<(Token, usize), String> {
    let mut length = 0;
    while let Some(c) = rest[length..].chars().next() {
        if c == '\'' && rest[..length].ends_with(['.', '[']) {
            length += literal(&rest[length..])?.1;
        } else if c == '[' && rest[..length].contains(':') {
            let end = rest[length..].find(']').ok_or("a `[` is not closed")?;
            length += end + 1;
        } else if c.is_alphanumeric() || "_-.:*".contains(c) {
            length += c.len_utf8();
        } else {
            break;
        }
    }
    if length == 0 {
        let c = rest.chars().next().unwrap_or_default();
        return Err(format!("`{}` has no meaning here", c.escape_default()));
    }
    let word = &rest[..length];
    let token = match word {
        "true" | "false" => Token::Operand(Operand::Bool(word == "true")),
        _ => match word.split_once(':') {
            Some((name, "value")) if is_variable(name) => Token::Operand(Operand::Variable(name.to_owned())),
            Some((object, path)) if !object.is_empty() && !path.is_empty() && !object.starts_with("__") => {
                Token::Operand(Operand::Foreign)
            }
            Some(_) => return Err(format!("`{word}` is no variable: write `__name__:value`")),
            None if is_variable(word) => return Err(format!("the value of a variable is `{word}:value`")),
            None => Token::Word(word.to_owned()),
        },
    };
    Ok((token, length))
}

fn number(text: &str) -> Result<Operand, String> {
    if let Ok(int) = text.parse() {
        return Ok(Operand::Int(int));
    }
    match text.parse::<f64>() {
        Ok(float) if float.is_finite() => Ok(Operand::Float(float)),
        _ => Err(format!("`{text}` is no number; texts stand in single quotes")),
    }
}

/// A text in single quotes, and its length with them.
fn literal(rest: &str) -> Result<(String, usize), String> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => return Ok((text, at + 1)),
            '\\' => match chars.next() {
                Some((_, c @ ('\'' | '\\'))) => text.push(c),
                _ => return Err("a `\\` stands before something else than `'` or `\\`".to_owned()),
            },
            c => text.push(c),
        }
    }
    Err("a `'` is not closed".to_owned())
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Result<Token, String> {
        let token = self.tokens.get(self.at).cloned().ok_or("it ends too early")?;
        self.at += 1;
        Ok(token)
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(word)) if word == wanted);
        self.at += usize::from(found);
        found
    }

    fn take_sign(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(sign)) if *sign == wanted);
        self.at += usize::from(found);
        found
    }

    /// `OR` binds least, then `FOLLOWEDBY`, then `AND`.
    fn any(&mut self, depth: usize) -> Result<Condition, String> {
        let mut parts = vec![self.all(depth)?];
        while self.take_word("OR") {
            parts.push(self.all(depth)?);
        }
        Ok(one_or(parts, Condition::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Condition, String> {
        let mut parts = vec![self.single(depth)?];
        loop {
            if self.take_word("AND") {
                parts.push(self.single(depth)?);
            } else if self.take_word("FOLLOWEDBY") {
                self.single(depth)?;
                parts = vec![Condition::Foreign];
            } else {
                return Ok(one_or(parts, Condition::All));
            }
        }
    }

    fn single(&mut self, depth: usize) -> Result<Condition, String> {
        if depth > DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX}"));
        }
        let mut condition = if self.take_sign("(") {
            let inner = self.any(depth + 1)?;
            self.close(")")?;
            inner
        } else if self.take_sign("[") {
            self.any(depth + 1)?;
            self.close("]")?;
            Condition::Foreign
        } else if self.take_word("NOT") {
            Condition::Not(Box::new(self.single(depth + 1)?))
        } else if self.take_word("EXISTS") {
            match self.next()? {
                Token::Operand(Operand::Foreign | Operand::Variable(_)) => Condition::Foreign,
                token => return Err(format!("`EXISTS` asks for a path, not {token}")),
            }
        } else {
            self.comparison()?
        };
        // Qualifiers of observations.
        while let Some(Token::Word(word)) = self.peek() {
            let length = match word.as_str() {
                "WITHIN" => 3,
                "REPEATS" => 3,
                "START" => 4,
                _ => break,
            };
            if self.at + length > self.tokens.len() {
                return Err(format!("`{word}` says too little"));
            }
            self.at += length;
            condition = Condition::Foreign;
        }
        Ok(condition)
    }

    fn close(&mut self, sign: &str) -> Result<(), String> {
        if self.take_sign(sign) {
            Ok(())
        } else {
            Err(format!("a bracket is not closed: `{sign}` is missing"))
        }
    }

    fn comparison(&mut self) -> Result<Condition, String> {
        let left = match self.next()? {
            Token::Operand(operand) => operand,
            token => {
                return Err(format!(
                    "{token} is nothing that can be compared; texts stand in single quotes"
                ));
            }
        };
        let negated = self.take_word("NOT");
        let operator = match self.next() {
            Ok(Token::Sign("=" | "==")) => Operator::Equal,
            Ok(Token::Sign("!=" | "<>")) => Operator::Unequal,
            Ok(Token::Sign("<")) => Operator::Less,
            Ok(Token::Sign("<=")) => Operator::LessOrEqual,
            Ok(Token::Sign(">")) => Operator::Greater,
            Ok(Token::Sign(">=")) => Operator::GreaterOrEqual,
            Ok(Token::Word(word)) => match word.as_str() {
                "IN" => Operator::In,
                "LIKE" => Operator::Like,
                "MATCHES" | "ISSUBSET" | "ISSUPERSET" => Operator::Foreign,
                _ => return Err(format!("`{word}` is no comparison")),
            },
            Ok(token) => return Err(format!("{token} is no comparison")),
            Err(_) => return Err("a value alone compares nothing".to_owned()),
        };
        let right = if operator == Operator::In {
            self.list()?
        } else {
            match self.next()? {
                Token::Operand(operand) => operand,
                token => return Err(format!("{token} is no value; texts stand in single quotes")),
            }
        };
        let compare = Condition::Compare(left, operator, right);
        Ok(if negated {
            Condition::Not(Box::new(compare))
        } else {
            compare
        })
    }

    fn list(&mut self) -> Result<Operand, String> {
        if !self.take_sign("(") {
            return Err("`IN` is followed by a list in round brackets".to_owned());
        }
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Token::Operand(operand) => items.push(operand),
                token => return Err(format!("{token} is no value; texts stand in single quotes")),
            }
            if !self.take_sign(",") {
                self.close(")")?;
                return Ok(Operand::List(items));
            }
        }
    }
}

fn one_or(mut parts: Vec<Condition>, many: fn(Vec<Condition>) -> Condition) -> Condition {
    match parts.len() {
        1 => parts.remove(0),
        _ => many(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_comparison_is_refused() {
        for text in [
            "",
            "  ",
            "__b__:value",
            "__n__ = 1",
            "__n__:value = ",
            "__n__:value = ten",
            "__n__:value ~ 1",
            "__n__:value = 1 AND",
            "__n__:value = 1 __n__:value = 2",
            "(__n__:value = 1",
            "[__n__:value = 1",
            "__s__:value = 'a",
            "__s__:value IN 'a'",
            "__s__:value = 'a\\n'",
            "__1__:value = 1",
            "system('x')",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
        assert!(parse(&"(".repeat(4_000)).is_err());
        assert!(parse(&"NOT ".repeat(1_000)).is_err());
    }
}
