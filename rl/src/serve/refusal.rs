//! Why a request is not answered, as OpenAI's servers say it.

use serde_json::{Value, json};

/// A reply other than 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
    /// The field at fault.
    pub(super) field: Option<String>,
    /// Whether the connection cannot be used further: what is left of the request has not been read.
    pub(super) close: bool,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), field: None, close: false }
    }

    /// A field that cannot be used.
    pub(super) fn field(field: &str, what: impl std::fmt::Display) -> Self {
        Self { field: Some(field.to_owned()), ..Self::new(400, format!("`{field}` {what}")) }
    }

    pub(super) fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    pub(super) fn body(&self) -> Value {
        let kind = match self.status {
            401 => "AuthenticationError",
            404 => "NotFoundError",
            429 => "RateLimitError",
            503 => "ServiceUnavailableError",
            500.. => "InternalServerError",
            _ => "BadRequestError",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.field, "code": self.status}})
    }

    /// The reason behind the number of a status.
    pub(super) fn reason(status: u16) -> &'static str {
        match status {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            413 => "Content Too Large",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            505 => "HTTP Version Not Supported",
            _ => "Internal Server Error",
        }
    }
}
