//! The words of an explanation: spans of time, and texts from elsewhere made harmless.

use crate::time::Timestamp;

/// Of a text that is not ours, in a sentence: characters.
const TEXT_SHOWN: usize = 200;

/// A text from a host, a person or a playbook, on one line: cut, with what a terminal would act on escaped.
pub(super) fn shown(text: &str) -> String {
    let mut clean = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == TEXT_SHOWN {
            clean.push('…');
            break;
        }
        let hidden = matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
        if c.is_control() || hidden {
            clean.extend(c.escape_unicode());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// A span of time in one unit, rounded down: nobody plans by the seconds of an hour.
pub(super) fn span(ms: u64) -> String {
    match ms {
        0..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

/// How long ago it was.
pub(super) fn ago(now: Timestamp, at: Timestamp) -> String {
    format!("{} ago", span(now.0.saturating_sub(at.0)))
}

/// When it will be; a deadline that has passed is acted on with the next entry.
pub(super) fn within(now: Timestamp, at: Timestamp) -> String {
    match at.0.checked_sub(now.0) {
        None | Some(0) => "now".to_owned(),
        Some(ms) => format!("in {}", span(ms)),
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn either<T: AsRef<str>>(names: &[T]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => one.as_ref().to_owned(),
        [all @ .., last] => {
            let all: Vec<_> = all.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", all.join(", "), last.as_ref())
        }
    }
}

/// The word for so many.
pub(super) fn plural(count: u32, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_drives_a_terminal_is_in_a_sentence_and_nothing_is_endless() {
        assert_eq!(shown("a\x1b[2J\u{202e}\nü"), "a\\u{1b}[2J\\u{202e}\\u{a}ü");
        let long = shown(&"x".repeat(10_000));
        assert_eq!(long.chars().count(), TEXT_SHOWN + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn times_are_said_in_one_unit() {
        let said: Vec<_> = [0, 1_999, 119_999, 120_000, 7_200_000, 172_800_000]
            .map(span)
            .into();
        assert_eq!(said, ["0 s", "1 s", "119 s", "2 min", "2 h", "2 days"]);
        assert_eq!(within(Timestamp(5), Timestamp(5)), "now");
        assert_eq!(within(Timestamp(5), Timestamp(3_005)), "in 3 s");
        assert_eq!(ago(Timestamp(9_000), Timestamp(5_000)), "4 s ago");
        assert_eq!(ago(Timestamp(5), Timestamp(9_000)), "0 s ago", "clocks differ");
    }

    #[test]
    fn lists_are_read_aloud() {
        assert_eq!(either::<&str>(&[]), "nobody");
        assert_eq!(either(&["a", "b", "c"]), "a, b or c");
        assert_eq!(
            (plural(1, "task"), plural(2, "task")),
            ("1 task".into(), "2 tasks".into())
        );
    }
}
