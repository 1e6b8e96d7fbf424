//! Refusals, as `metav1.Status` (apimachinery/pkg/api/errors).

use serde_json::{Value, json};

/// Why a request was not carried out.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    details: Value,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Value::Null,
        }
    }

    fn about(mut self, group: &str, resource: &str, name: &str) -> Self {
        let mut details = serde_json::Map::new();
        if !name.is_empty() {
            details.insert("name".into(), name.into());
        }
        if !group.is_empty() {
            details.insert("group".into(), group.into());
        }
        details.insert("kind".into(), resource.into());
        self.details = Value::Object(details);
        self
    }

    pub(crate) fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let full = qualified(group, resource);
        Self::new(404, "NotFound", format!("{full} \"{name}\" not found"))
            .about(group, resource, name)
    }

    pub(crate) fn no_such_path() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    pub(crate) fn exists(group: &str, resource: &str, name: &str) -> Self {
        let full = qualified(group, resource);
        Self::new(
            409,
            "AlreadyExists",
            format!("{full} \"{name}\" already exists"),
        )
        .about(group, resource, name)
    }

    pub(crate) fn conflict(group: &str, resource: &str, name: &str) -> Self {
        let full = qualified(group, resource);
        Self::new(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {full} \"{name}\": the object has been modified; please apply your changes to the latest version and try again"
            ),
        )
        .about(group, resource, name)
    }

    /// `causes` are `field: text`.
    pub(crate) fn invalid(group: &str, kind: &str, name: &str, causes: &[String]) -> Self {
        let full = qualified(group, kind);
        let what = match causes {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        Self::new(
            422,
            "Invalid",
            format!("{full} \"{name}\" is invalid: {what}"),
        )
        .about(group, kind, name)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, "Unauthorized", message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    pub(crate) fn unsupported_media(kind: &str) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml: {kind}"
            ),
        )
    }

    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
    }

    /// 500 in somebody's own words.
    pub(crate) fn internal_as_is(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message)
    }

    /// 429, with its cause.
    pub(crate) fn too_many_requests(
        message: impl Into<String>,
        reason: &str,
        cause: String,
    ) -> Self {
        Self {
            details: json!({"causes": [{"reason": reason, "message": cause}]}),
            ..Self::new(429, "TooManyRequests", message)
        }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    pub(crate) fn expired() -> Self {
        Self::new(
            410,
            "Expired",
            "The resourceVersion for the provided watch is too old.",
        )
    }

    /// What another API server refused.
    pub(crate) fn passed_on(code: u16, message: String) -> Self {
        let reason = match code {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            422 => "Invalid",
            429 => "TooManyRequests",
            503 => "ServiceUnavailable",
            _ => "InternalError",
        };
        Self::new(code, reason, message)
    }

    /// The body of the answer.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status["code"] = self.code.into();
        status
    }
}

/// `nodes`, or `deployments.apps`.
pub(crate) fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}
