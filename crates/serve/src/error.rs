//! One error type for everything that a request can do wrong or meet, and its HTTP form.
//!
//! Every refusal is `{"error": "what was expected"}` with the status of its [`Kind`]. Messages are written
//! for the client: they name what was found and what would be right, never a path or another request.
//! What an operator needs to know goes to the log instead.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Map, Value};

/// What went wrong, as far as a client must tell cases apart. The statuses are those of the Open Inference
/// Protocol's reference implementation, with the more exact ones of HTTP where they exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// 400: the request can never succeed as it is.
    Invalid,
    /// 401: nobody knows who asks.
    Unauthorized,
    /// 403: the server does not let clients do that.
    Forbidden,
    /// 404: no such route, model or version.
    NotFound,
    /// 405: the route exists, the method does not.
    Method,
    /// 408: the body did not arrive in time.
    Timeout,
    /// 413: the body, or the batch in it, is larger than the server allows.
    TooLarge,
    /// 415: a content type or encoding that this route does not read.
    MediaType,
    /// 429: this client asks more often than it may.
    TooMany,
    /// 500: our fault; the log says more.
    Internal,
    /// 501: a part of the protocol that this server does not speak.
    Unsupported,
    /// 503: not now; the client may try again.
    Unavailable,
    /// 504: the request's time was up before it was computed.
    Deadline,
}

impl Kind {
    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// A refusal: a kind, a message for the client, and facts beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServeError {
    kind: Kind,
    message: String,
    details: Map<String, Value>,
    allow: Option<&'static str>,
    challenge: Option<String>,
    retry_after_s: Option<u64>,
}

/// The result of whatever answers a request.
pub type Result<T> = std::result::Result<T, ServeError>;

impl ServeError {
    /// An error of `kind` with a message for the client.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            details: Map::new(),
            allow: None,
            challenge: None,
            retry_after_s: None,
        }
    }

    /// 400.
    #[must_use]
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Kind::Invalid, message.to_string())
    }

    /// 404.
    #[must_use]
    pub fn not_found(message: impl fmt::Display) -> Self {
        Self::new(Kind::NotFound, message.to_string())
    }

    /// 503 with `Retry-After`.
    #[must_use]
    pub fn unavailable(message: impl fmt::Display) -> Self {
        Self::new(Kind::Unavailable, message.to_string())
    }

    /// 500. The cause is logged; the client is told only that it was not at fault.
    #[must_use]
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed");
        Self::new(Kind::Internal, "the server failed to answer; its log says why")
    }

    /// 405, with the methods that the route has.
    #[must_use]
    pub fn method(found: &str, allow: &'static str) -> Self {
        let mut error = Self::new(Kind::Method, format!("this route takes {allow}, not {}", shown(found)));
        error.allow = Some(allow);
        error
    }

    /// Adds a fact to the body, such as the list of models.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// Says in `WWW-Authenticate` what would let it in.
    #[must_use]
    pub fn challenge(mut self, challenge: String) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// Says in `Retry-After` when it would be let in, in whole seconds from 1 on.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.retry_after_s = Some(whole.max(1));
        self
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ServeError {}

impl ResponseError for ServeError {
    fn status_code(&self) -> StatusCode {
        self.kind.status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut body = self.details.clone();
        body.insert("error".to_owned(), Value::String(self.message.clone()));
        let mut response = HttpResponse::build(self.kind.status());
        if let Some(seconds) = self.retry_after_s {
            response.insert_header((RETRY_AFTER, seconds));
        } else if self.kind == Kind::Unavailable {
            response.insert_header((RETRY_AFTER, "1"));
        }
        if let Some(challenge) = &self.challenge {
            response.insert_header((WWW_AUTHENTICATE, challenge.as_str()));
        }
        if let Some(allow) = self.allow {
            response.insert_header((ALLOW, allow));
        }
        // A body that was refused may lie unread in the connection; the client need not send the rest.
        if matches!(self.kind, Kind::TooLarge | Kind::Timeout) {
            response.force_close();
        }
        response.json(body)
    }
}

/// What a client sent, made fit for a message: in backticks, without control characters, cut at 64.
#[must_use]
pub fn shown(found: &str) -> String {
    const LONGEST: usize = 64;
    let mut text: String = found
        .chars()
        .take(LONGEST)
        .map(|character| if character.is_control() { '\u{fffd}' } else { character })
        .collect();
    if found.chars().nth(LONGEST).is_some() {
        text.push('…');
    }
    format!("`{text}`")
}

/// `; did you mean …?` when one of `known` is close to what was found, otherwise nothing.
#[must_use]
pub fn suggestion<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // Comparing takes time that grows with the length, and no name of ours is long.
    let nearest = if found.len() > 128 { None } else { cli::nearest(found, known) };
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sent_is_shown_safely() {
        assert_eq!(shown("digits"), "`digits`");
        assert_eq!(shown("a\0b\n"), "`a\u{fffd}b\u{fffd}`");
        assert_eq!(shown(&"é".repeat(65)), format!("`{}…`", "é".repeat(64)));
    }

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["input", "inputs"];
        assert_eq!(suggestion("inptu", known), "; did you mean `input`?");
        assert_eq!(suggestion("inputz", known), "; did you mean `input`?");
        assert_eq!(suggestion("rows", known), "");
        assert_eq!(suggestion(&"input".repeat(1000), known), "");
    }
}
