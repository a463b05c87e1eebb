//! `http.call`: one request over a named connection.

use engine::command::{Outcome, OutcomeStatus};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{Connection, Connections, failed, unknown};

/// What of an answer's body is kept: with everything around it, less than a task's output may be.
const KEPT_BYTES_MAX: usize = 48 << 10;
/// A longer answer is broken off.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Sends one request and gives `{status, json | text, sha256, truncated}`.
///
/// An answer that is no success fails with `rate_limited` (429), `unavailable` (502, 503, 504), `unauthorized` (401,
/// 403), `not_found` (404) or `refused`, so that `retry.when` can tell them apart. Where no answer came, the request
/// failed as `unreachable` if nothing was sent or if doing it twice is harmless by HTTP's own rules; otherwise it
/// ends unknown, as `answer_lost`.
pub(super) async fn call(connections: &Connections, parameters: &Value, idempotency_key: &str) -> Outcome {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str).unwrap_or_default();
    let connection = match connections.get(text("connection")) {
        Ok(connection) => connection,
        Err(outcome) => return *outcome,
    };
    let method: Method = match text("method").parse() {
        Ok(method) => method,
        Err(_) => return failed("parameters", "the method cannot be used"),
    };
    let url = match beneath(&connection.url, text("path")) {
        Ok(url) => url,
        Err(why) => return failed("parameters", why),
    };
    let request = match connection.request(method.clone(), url, idempotency_key).await {
        Ok(request) => request,
        Err(outcome) => return *outcome,
    };
    let request = match parameters.get("query").and_then(Value::as_object) {
        Some(query) => request.query(&query.iter().collect::<Vec<_>>()),
        None => request,
    };
    let request = match (
        parameters.get("json"),
        parameters.get("text").and_then(Value::as_str),
    ) {
        (Some(body), _) => request.json(body),
        (None, Some(body)) => request.body(body.to_owned()),
        (None, None) => request,
    };
    let response = match answer(request, method.is_idempotent()).await {
        Ok(response) => response,
        Err(outcome) => return *outcome,
    };
    let accept: Vec<u64> = parameters
        .get("accept")
        .and_then(Value::as_array)
        .map(|all| all.iter().filter_map(Value::as_u64).collect())
        .unwrap_or_default();
    outcome(response, &accept).await
}

impl Connection {
    /// A request with what every one has.
    pub(super) async fn request(
        &self,
        method: Method,
        url: Url,
        idempotency_key: &str,
    ) -> Result<RequestBuilder, Box<Outcome>> {
        // Small, and on this machine; it changes when an administrator changes it.
        let secret = tokio::task::block_in_place(|| self.secret.header())
            .map_err(|why| Box::new(failed("no_secret", why.of(&self.name).to_string())))?;
        let mut request = self.client.request(method, url);
        if let Some((name, value)) = secret {
            request = request.header(name, value);
        }
        if let Ok(key) = HeaderValue::from_str(idempotency_key) {
            request = request.header(HeaderName::from_static("idempotency-key"), key);
        }
        Ok(request)
    }
}

/// Sends, and waits for the head of the answer.
pub(super) async fn answer(request: RequestBuilder, harmless_twice: bool) -> Result<Response, Box<Outcome>> {
    request.send().await.map_err(|error| {
        let nothing_sent = error.is_connect() || error.is_builder();
        let why = in_words(&error.without_url());
        Box::new(if nothing_sent || harmless_twice {
            failed("unreachable", why)
        } else {
            unknown(
                "answer_lost",
                format!("{why}; the other side may have done what was asked"),
            )
        })
    })
}

/// The reason behind the reason is the one that helps.
fn in_words(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// The address of a path beneath the connection's own. What is rendered into a path may come from anywhere, so it
/// cannot leave the host or what the connection's own path is.
fn beneath(base: &Url, path: &str) -> Result<Url, String> {
    if !path.starts_with('/') || path.starts_with("//") {
        return Err(format!("the path {path:?} does not begin with one /"));
    }
    if path.split('/').any(is_dots) || path.contains(['?', '#', '\\']) {
        return Err(format!("the path {path:?} has a part that leads elsewhere"));
    }
    let mut url = base.clone();
    let whole = format!("{}{path}", base.path().trim_end_matches('/'));
    url.set_path(&whole);
    if url.origin() != base.origin() {
        return Err(format!("the path {path:?} leads to another host"));
    }
    Ok(url)
}

/// `.` or `..`, also where a server would decode them first.
fn is_dots(part: &str) -> bool {
    let plain = part.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}

async fn outcome(mut response: Response, accept: &[u64]) -> Outcome {
    let status = response.status().as_u16();
    let says_json = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
        });
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .map(|text| format!(", retry after {text}"))
        .unwrap_or_default();
    let (mut hash, mut kept, mut size) = (Sha256::new(), Vec::new(), 0);
    loop {
        match response.chunk().await {
            Ok(Some(part)) => {
                size += part.len();
                if size > BODY_BYTES_MAX {
                    return failed(
                        "too_large",
                        format!("the answer is longer than {BODY_BYTES_MAX} bytes"),
                    );
                }
                hash.update(&part);
                let room = KEPT_BYTES_MAX.saturating_sub(kept.len()).min(part.len());
                kept.extend_from_slice(&part[..room]);
            }
            Ok(None) => break,
            // The head said how it went; the body is lost.
            Err(error) => {
                let why = in_words(&error.without_url());
                return unknown("answer_lost", format!("{status}, then {why}"));
            }
        }
    }
    let truncated = size > kept.len();
    let good = match accept {
        [] => (200..300).contains(&status),
        some => some.contains(&u64::from(status)),
    };
    let mut output = Map::new();
    output.insert("status".into(), status.into());
    output.insert("sha256".into(), hex::encode(hash.finalize()).into());
    let body = (says_json && !truncated).then(|| serde_json::from_slice::<Value>(&kept));
    match body {
        Some(Ok(value)) => output.insert("json".into(), value),
        _ if size > 0 => output.insert("text".into(), String::from_utf8_lossy(&kept).into()),
        _ => None,
    };
    if truncated {
        output.insert("truncated".into(), true.into());
    }
    let error = (!good).then(|| {
        let code = match status {
            401 | 403 => "unauthorized",
            404 => "not_found",
            429 => "rate_limited",
            502..=504 => "unavailable",
            _ => "refused",
        };
        engine::command::TaskError {
            code: code.to_owned(),
            message: format!("the answer was {status}{retry_after}"),
        }
    });
    Outcome {
        status: if good {
            OutcomeStatus::Succeeded
        } else {
            OutcomeStatus::Failed
        },
        output: json!(output),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_beneath_its_connection() {
        let base = Url::parse("https://switch.test:8443/api/v1/").unwrap();
        let at = |path: &str| beneath(&base, path).map(|url| url.to_string());
        assert_eq!(
            at("/hosts/a b").unwrap(),
            "https://switch.test:8443/api/v1/hosts/a%20b"
        );
        for path in [
            "hosts",
            "//evil.test/x",
            "/../../admin",
            "/a/%2e%2E/b",
            "/a/./b",
            "/a?x=1",
            "/a#b",
            "/a\\..\\b",
        ] {
            assert!(at(path).is_err(), "{path}");
        }
    }
}
