//! `event send`: events of other systems, from a file or a stream on standard input.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use proto::v1::{SendEventsReply, SendEventsRequest};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    args::SendEvents,
    client::{Client, request_id},
    commands::submission,
    error::{CliError, Result},
    exit_codes,
    output::{Output, clean, tell},
};

/// Events of one request.
const BATCH_MAX: usize = 500;
/// Their text.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How long a request waits for more events once it has one.
const GATHER: Duration = Duration::from_millis(50);
/// One event, or what may become one. The cluster takes less.
const EVENT_BYTES_MAX: usize = 256 << 10;
/// A list of events, which is read whole.
const LIST_BYTES_MAX: u64 = 256 << 20;
/// The pause before events are sent again for which there was no room.
const FULL_PAUSE: Duration = Duration::from_millis(250);
/// How long there may be no room.
const FULL_PATIENCE: Duration = Duration::from_secs(600);

/// An event, and the line on which it began; or why there is none.
type Found = (u64, std::result::Result<String, String>);

#[derive(Default)]
struct Sent {
    sent: u64,
    matched: u64,
    fired: u64,
    deduplicated: u64,
    heard: u64,
    refused: Vec<(u64, String)>,
    refused_more: u64,
    notes: Vec<String>,
}

/// Refusals that are told in full; of a stream without an end there are as many as it likes.
const TOLD_MAX: usize = 1_000;
/// Notes, each once.
const NOTES_MAX: usize = 20;

pub async fn send(out: Output, client: &mut Client, args: SendEvents) -> Result<u8> {
    if let (Some(submission), Some(file)) = (&args.submission, &args.handed_in) {
        return submission::hand_in(out, client, &args, submission, file).await;
    }
    let (found, mut events) = mpsc::channel(2 * BATCH_MAX);
    let source = args.file.clone();
    // It may wait for its source for ever: nobody waits for it.
    std::thread::spawn(move || read(&source, &found));
    let mut sent = Sent::default();
    let mut batch = Vec::new();
    while let Some((line, first)) = events.recv().await {
        let mut size = 0;
        let mut take = |line: u64,
                        event: std::result::Result<String, String>,
                        batch: &mut Vec<(u64, String)>| match event {
            Ok(text) => {
                size += text.len();
                batch.push((line, text));
                size
            }
            Err(why) => {
                sent.refuse(line, why);
                size
            }
        };
        take(line, first, &mut batch);
        let until = Instant::now() + GATHER;
        while batch.len() < BATCH_MAX
            && let Ok(Some((line, event))) = timeout_at(until, events.recv()).await
        {
            if take(line, event, &mut batch) > BATCH_BYTES_MAX {
                break;
            }
        }
        if !batch.is_empty() {
            let reply = post(client, &args, &batch).await?;
            sent.count(&batch, reply);
            batch.clear();
        }
    }
    sent.tell(out)
}

/// Sends one batch, until there is room for it. Nothing of what found no room was taken: it is sent again in halves, for
/// many triggers may fire at each event.
async fn post(client: &mut Client, args: &SendEvents, batch: &[(u64, String)]) -> Result<SendEventsReply> {
    let mut all = SendEventsReply::default();
    let mut rest = batch;
    let mut many = batch.len();
    let mut id = request_id();
    let mut give_up = Instant::now() + FULL_PATIENCE;
    while !rest.is_empty() {
        let now = &rest[..many.min(rest.len())];
        let request = SendEventsRequest {
            events: now.iter().map(|(_, text)| text.clone()).collect(),
            class: args.class.clone().unwrap_or_default(),
            webhook: args.webhook.clone().unwrap_or_default(),
            request_id: id.clone(),
        };
        match client
            .call(async |mut api| api.send_events(request.clone()).await)
            .await
        {
            Ok(reply) => {
                all.fired += reply.fired;
                all.deduplicated += reply.deduplicated;
                all.heard += reply.heard;
                all.events.extend(reply.events);
                rest = &rest[now.len()..];
                (id, give_up) = (request_id(), Instant::now() + FULL_PATIENCE);
            }
            Err(error) if error.server_code.as_deref() == Some("full") && Instant::now() < give_up => {
                if now.len() > 1 {
                    (many, id) = (now.len().div_ceil(2), request_id());
                }
                sleep(FULL_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

impl Sent {
    fn refuse(&mut self, line: u64, why: String) {
        tell(format_args!("line {line}: {}", clean(&why)));
        if self.refused.len() < TOLD_MAX {
            self.refused.push((line, why));
        } else {
            self.refused_more += 1;
        }
    }

    fn count(&mut self, batch: &[(u64, String)], reply: SendEventsReply) {
        self.sent += batch.len() as u64;
        self.fired += u64::from(reply.fired);
        self.deduplicated += u64::from(reply.deduplicated);
        self.heard += u64::from(reply.heard);
        for ((line, _), event) in batch.iter().zip(reply.events) {
            if !event.problem.is_empty() {
                self.sent -= 1;
                self.refuse(*line, event.problem);
                continue;
            }
            self.matched += u64::from(event.triggers + event.waits > 0);
            for note in event.notes {
                if self.notes.len() < NOTES_MAX && !self.notes.contains(&note) {
                    tell(format_args!("line {line}: {}", clean(&note)));
                    self.notes.push(note);
                }
            }
        }
    }

    fn tell(mut self, out: Output) -> Result<u8> {
        self.refused.sort_by_key(|(line, _)| *line);
        let refused = self.refused.len() as u64 + self.refused_more;
        let text = format!(
            "{} events taken, {refused} refused: {} matched, {} to become runs, {} seen before, {} waiting steps went on\n",
            self.sent, self.matched, self.fired, self.deduplicated, self.heard
        );
        let problems: Vec<Value> = self
            .refused
            .iter()
            .map(|(line, problem)| json!({"line": line, "problem": problem}))
            .collect();
        out.one(
            &text,
            &json!({
                "taken": self.sent, "refused": refused, "matched": self.matched, "fired": self.fired,
                "deduplicated": self.deduplicated, "heard": self.heard, "problems": problems, "notes": self.notes,
            }),
        )?;
        Ok(if refused == 0 {
            exit_codes::OK
        } else {
            exit_codes::INVALID
        })
    }
}

/// Reads events until the source ends or nobody takes them: objects one after another, each on as many lines as it
/// likes, or a list of them.
fn read(source: &Path, found: &mpsc::Sender<Found>) {
    let input: Box<dyn io::Read> = match source.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => match File::open(source) {
            Ok(file) => Box::new(file),
            Err(error) => {
                let why = CliError::file("read", &PathBuf::from(source), &error).what;
                // Who takes them is gone.
                let _ = found.blocking_send((0, Err(why)));
                return;
            }
        },
    };
    let mut input = BufReader::new(input);
    match begins_a_list(&mut input) {
        Ok((true, _)) => read_list(input, found),
        Ok((false, lines)) => read_stream(input, found, lines + 1),
        Err(error) => {
            let _ = found.blocking_send((1, Err(format!("cannot be read: {error}"))));
        }
    }
}

/// The first character that is not white is a bracket. Takes a byte order mark and the white space, and how many lines
/// that were.
fn begins_a_list(input: &mut impl BufRead) -> io::Result<(bool, u64)> {
    let mut lines = 0;
    if input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
        input.consume(3);
    }
    loop {
        let bytes = input.fill_buf()?;
        let white = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        lines += newlines(&bytes[..white]);
        if white < bytes.len() || bytes.is_empty() {
            let is_list = bytes.get(white) == Some(&b'[');
            input.consume(white);
            return Ok((is_list, lines));
        }
        input.consume(white);
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn read_list(input: impl BufRead, found: &mpsc::Sender<Found>) {
    let mut text = String::new();
    let list = input
        .take(LIST_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())
        .and_then(|_| match text.len() as u64 > LIST_BYTES_MAX {
            true => Err(format!(
                "a list of more than {LIST_BYTES_MAX} bytes: send its events line by line"
            )),
            false => serde_json::from_str::<Vec<Value>>(&text)
                .map_err(|error| format!("not a list of events: {error}")),
        });
    match list {
        Ok(events) => {
            for (number, event) in (1..).zip(events) {
                if found.blocking_send((number, Ok(event.to_string()))).is_err() {
                    return;
                }
            }
        }
        Err(why) => {
            let _ = found.blocking_send((1, Err(why)));
        }
    }
}

/// `line`: on which the input begins.
fn read_stream(mut input: impl BufRead, found: &mpsc::Sender<Found>, mut line: u64) {
    let mut text = Vec::new();
    loop {
        let room = (EVENT_BYTES_MAX + 1).saturating_sub(text.len()) as u64;
        let over = match input.by_ref().take(room).read_until(b'\n', &mut text) {
            Ok(count) => count == 0,
            Err(error) => {
                let _ = found.blocking_send((line, Err(format!("cannot be read: {error}"))));
                return;
            }
        };
        if take_events(&mut text, &mut line, over, found).is_none() {
            return;
        }
        // What is left of a line that was too long is no event either.
        if text.len() > EVENT_BYTES_MAX {
            text.clear();
            line += 1;
            if input.skip_until(b'\n').is_err() {
                return;
            }
        }
        if over {
            return;
        }
    }
}

/// Hands on every event that is whole, and every line that can be none; what may become one stays. None: nobody takes them.
fn take_events(text: &mut Vec<u8>, line: &mut u64, over: bool, found: &mpsc::Sender<Found>) -> Option<()> {
    loop {
        let white = text.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        *line += newlines(&text[..white]);
        text.drain(..white);
        let mut values = serde_json::Deserializer::from_slice(text).into_iter::<serde::de::IgnoredAny>();
        let (end, event) = match values.next() {
            None => return Some(()),
            Some(Ok(_)) => {
                let end = values.byte_offset();
                let event = std::str::from_utf8(&text[..end]).map(str::to_owned);
                (end, event.map_err(|_| "it is not UTF-8 text".to_owned()))
            }
            Some(Err(error)) if error.is_eof() && !over && text.len() <= EVENT_BYTES_MAX => return Some(()),
            Some(Err(error)) => {
                // Only the line on which it began is lost: what stands on the next ones may be events.
                let Some(end) = text.iter().position(|byte| *byte == b'\n') else {
                    let why = match text.len() > EVENT_BYTES_MAX {
                        true => {
                            format!("more than {EVENT_BYTES_MAX} bytes without an end: no event is so large")
                        }
                        false => format!("not JSON: {error}"),
                    };
                    found.blocking_send((*line, Err(why))).ok()?;
                    if text.len() <= EVENT_BYTES_MAX {
                        text.clear();
                    }
                    return Some(());
                };
                (end, Err(format!("not JSON: {error}")))
            }
        };
        found.blocking_send((*line, event)).ok()?;
        *line += newlines(&text[..end]);
        text.drain(..end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Found> {
        let (found, mut events) = mpsc::channel(1_000);
        let mut input = BufReader::new(text.as_bytes());
        match begins_a_list(&mut input).expect("memory is read") {
            (true, _) => read_list(input, &found),
            (false, lines) => read_stream(input, &found, lines + 1),
        }
        drop(found);
        std::iter::from_fn(|| events.try_recv().ok()).collect()
    }

    fn good(line: u64, text: &str) -> Found {
        (line, Ok(text.to_owned()))
    }

    #[test]
    fn events_are_found_however_they_are_written() {
        assert_eq!(
            all("{\"a\":1}\n\n{\"b\":2}"),
            [good(1, "{\"a\":1}"), good(3, "{\"b\":2}")]
        );
        assert_eq!(
            all("{\n \"a\": 1\n}\n{}\n"),
            [good(1, "{\n \"a\": 1\n}"), good(4, "{}")]
        );
        assert_eq!(all("  [{\"a\":1}, 7]"), [good(1, "{\"a\":1}"), good(2, "7")]);
        assert_eq!(all(""), []);
        assert_eq!(all("\n \n"), []);
        assert_eq!(
            all("{\"a\":1} {\"b\":2}{}"),
            [good(1, "{\"a\":1}"), good(1, "{\"b\":2}"), good(1, "{}")]
        );
        assert_eq!(
            all("{\n \"a\":1\n}{\n \"b\":2\n}"),
            [good(1, "{\n \"a\":1\n}"), good(3, "{\n \"b\":2\n}")]
        );
        assert_eq!(all("\u{feff}\n\n[{\"a\":1}]"), [good(1, "{\"a\":1}")]);
        assert_eq!(all("\u{feff}{}"), [good(1, "{}")]);
    }

    #[test]
    fn what_is_no_event_is_said_with_its_line_and_the_others_are_taken() {
        let long = format!("\"{}\n{{}}\n", "x".repeat(2 * EVENT_BYTES_MAX));
        for (text, line, why, others) in [
            ("{}\nnonsense\n{}\n", 2, "not JSON", 2),
            ("{}\n{\"a\":\n", 2, "not JSON", 1),
            ("{\"a\":1,\"b\":\n{\"c\":2}\n{\"d\":3}\n", 1, "not JSON", 2),
            ("[{}, ", 1, "not a list", 0),
            (long.as_str(), 1, "without an end", 1),
        ] {
            let found = all(text);
            let bad: Vec<_> = found.iter().filter(|(_, event)| event.is_err()).collect();
            assert_eq!(bad.len(), 1, "{found:?}");
            assert_eq!(bad[0].0, line, "{found:?}");
            assert!(
                bad[0].1.as_ref().is_err_and(|said| said.contains(why)),
                "{found:?}"
            );
            assert_eq!(found.len() - 1, others, "{found:?}");
        }
    }
}
