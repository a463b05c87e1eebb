//! Files that are handed in: kept as evidence first, then weighed as an event.

use bytes::Bytes;
use engine::command::HandedIn;
use engine::events::{Event, Source, read_any};
use engine::id::{Digest, RequestId};
use mail_parser::{Address, HeaderName, MessageParser};
use proto::v1;
use serde_json::{Map, Value, json};
use tonic::{Status, Streaming};

use super::plans::apart;
use super::{Operators, request};
use crate::api::error::ApiError;
use crate::clock;
use crate::evidence::handed_in::{Handed, Handing};

/// The largest file that can be handed in.
const FILE_BYTES_MAX: u64 = 100 << 20;
/// One chunk of it.
const CHUNK_BYTES_MAX: usize = 256 << 10;
/// The media type of a mail.
const MAIL: &str = "message/rfc822";
/// So much of a mail is read for its headers.
const MAIL_HEADERS_BYTES_MAX: u64 = 256 << 10;
/// Addresses of one header that the event has.
const ADDRESSES_MAX: usize = 50;
/// Characters of a header that the event has.
const HEADER_CHARS_MAX: usize = 1_000;

fn invalid(field: &'static str, problem: impl Into<String>) -> ApiError {
    ApiError::Invalid {
        field,
        problem: problem.into(),
    }
}

impl Operators {
    pub(super) async fn take_submission(
        &self,
        operator: String,
        mut chunks: Streaming<v1::SubmitChunk>,
    ) -> Result<v1::SubmitReply, Status> {
        let first = chunks.message().await?;
        let first = first.ok_or_else(|| invalid("header", "nothing was sent"))?;
        let header = first
            .header
            .ok_or_else(|| invalid("header", "the first message has none"))?;
        let fields = fields(&header.json)?;
        let id = request(&header.request_id)?.unwrap_or_else(|| RequestId(uuid::Uuid::now_v7()));
        if header.size_bytes > FILE_BYTES_MAX {
            return Err(invalid(
                "file",
                format!("it has {} bytes, of at most {FILE_BYTES_MAX}", header.size_bytes),
            )
            .into());
        }
        let mut handing = self
            .evidence
            .begin_handing_in(FILE_BYTES_MAX)
            .await
            .map_err(ApiError::from)?;
        if let Err(error) = receive(&mut handing, first.data, &mut chunks).await {
            if let Err(left) = handing.give_up().await {
                tracing::warn!(error = %left, "a file that was not handed in whole is left over");
            }
            return Err(error);
        }
        let handed = handing.finish().await.map_err(ApiError::from)?;
        let event = match told(&header, fields, &handed).await {
            Ok(event) => event,
            Err(error) => {
                if let Err(left) = handed.give_up().await {
                    tracing::warn!(error = %left, "a file that was refused is left over");
                }
                return Err(error.into());
            }
        };
        let (sha256, size_bytes) = (handed.sha256, handed.size_bytes);
        let record = HandedIn {
            sha256,
            size_bytes,
            operator: operator.clone(),
            submission: header.submission,
            media: header.media,
            file: header.file,
            received_at: clock::now(),
            nodes: Vec::new(),
        };
        let copies = handed.keep(record).await.map_err(ApiError::from)?;
        let (matched, came) = self.take(operator, id, vec![event]).await?;
        let events = matched.into_iter().map(super::events::taken).collect();
        Ok(v1::SubmitReply {
            sha256: sha256.to_string(),
            size_bytes,
            copies,
            event: Some(v1::SendEventsReply { events, ..came }),
        })
    }
}

async fn receive(
    handing: &mut Handing,
    first: Bytes,
    chunks: &mut Streaming<v1::SubmitChunk>,
) -> Result<(), Status> {
    let mut next = Some(first);
    while let Some(data) = next {
        if data.len() > CHUNK_BYTES_MAX {
            return Err(invalid("data", format!("a chunk has more than {CHUNK_BYTES_MAX} bytes")).into());
        }
        handing.append(data).await.map_err(ApiError::from)?;
        next = chunks.message().await?.map(|chunk| chunk.data);
    }
    Ok(())
}

/// What the sender says besides. It cannot say what the file is.
fn fields(text: &str) -> Result<Map<String, Value>, ApiError> {
    if text.is_empty() {
        return Ok(Map::new());
    }
    let fields: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| invalid("json", format!("it is no JSON object: {error}")))?;
    match ["raw", "email"].iter().find(|name| fields.contains_key(**name)) {
        Some(name) => Err(invalid(
            "json",
            format!("`{name}` is told of the file itself: leave it out"),
        )),
        None => Ok(fields),
    }
}

/// The event that a file is.
async fn told(
    header: &v1::SubmitHeader,
    mut fields: Map<String, Value>,
    handed: &Handed,
) -> Result<Event, ApiError> {
    if handed.size_bytes != header.size_bytes {
        return Err(invalid(
            "file",
            format!(
                "{} bytes came, of {} that were announced: send it again",
                handed.size_bytes, header.size_bytes
            ),
        ));
    }
    if header.submission.is_empty() {
        return Err(invalid(
            "submission",
            "it has no name: say the one that triggers have",
        ));
    }
    let raw = json!({
        "sha256": handed.sha256, "size_bytes": handed.size_bytes, "media": header.media, "name": header.file,
    });
    fields.insert("raw".to_owned(), raw);
    if header.media.eq_ignore_ascii_case(MAIL) {
        let beginning = handed.beginning(MAIL_HEADERS_BYTES_MAX).await?;
        let email = apart(move || {
            email(&beginning).ok_or_else(|| {
                invalid(
                    "file",
                    "it is no mail (message/rfc822): its beginning has no From, Date, Subject or Message-ID; name what it is \
                     with --media",
                )
            })
        });
        fields.insert("email".to_owned(), email.await?);
    }
    let text = Value::Object(fields).to_string();
    let source = Source::Submission(header.submission.clone());
    let event = read_any(&text, source).map_err(|problem| invalid("json", problem.to_string()))?;
    // What came in is the file.
    let sha256: Digest = handed.sha256;
    Ok(Event { sha256, ..event })
}

/// The headers of a mail that tell it from others. None: there are none.
fn email(bytes: &[u8]) -> Option<Value> {
    let message = MessageParser::new()
        .with_minimal_headers()
        .with_message_ids()
        .parse_headers(bytes)?;
    let known = [
        HeaderName::From,
        HeaderName::Date,
        HeaderName::Subject,
        HeaderName::MessageId,
    ];
    if !known.into_iter().any(|name| message.header(name).is_some()) {
        return None;
    }
    let from = addresses(message.from());
    let mut email = json!({
        "from": from.first(), "to": addresses(message.to()), "subject": message.subject().map(cut),
    });
    // A condition can ask for these with has().
    if let Some(id) = message.message_id() {
        email["message_uid"] = cut(id).into();
    }
    if let Some(date) = message.date() {
        email["date"] = date.to_rfc3339().into();
    }
    Some(email)
}

fn addresses(header: Option<&Address<'_>>) -> Vec<String> {
    let all = header.into_iter().flat_map(Address::iter);
    all.filter_map(|address| address.address())
        .take(ADDRESSES_MAX)
        .map(cut)
        .collect()
}

fn cut(text: &str) -> String {
    text.chars().take(HEADER_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_told_by_its_headers() {
        let mail = b"From: Anna <anna@example.org>\r\nTo: b@example.org, c@example.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
            Message-ID: <1@example.org>\r\nDate: Tue, 24 Nov 2026 10:00:00 +0100\r\n\r\nhello\r\n";
        assert_eq!(
            email(mail).expect("a mail"),
            json!({
                "from": "anna@example.org", "to": ["b@example.org", "c@example.org"], "subject": "Gr\u{fc}\u{df}e",
                "message_uid": "1@example.org", "date": "2026-11-24T10:00:00+01:00",
            })
        );
    }

    #[test]
    fn what_is_no_mail_is_told_from_one() {
        for text in [&b""[..], b"\x7fELF\x02\x01", b"{\"a\": 1}", b"just words\r\n\r\n"] {
            assert_eq!(email(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_sender_cannot_say_what_the_file_is() {
        assert!(fields("{\"reporter\": \"a@example.org\"}").is_ok());
        for (text, why) in [
            ("[]", "no JSON object"),
            ("{\"raw\": 1}", "`raw`"),
            ("{\"email\": 1}", "`email`"),
        ] {
            let said = fields(text).expect_err("it is refused").to_string();
            assert!(said.contains(why), "{said}");
        }
    }
}
