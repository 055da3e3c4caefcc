//! What an S3 answer proves. Pure. What is not in the table may have happened.

use super::super::StoreError;
use super::http::Note;

/// What the request wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    Create,
    Read,
    Delete,
    List,
}

/// The error that a failed request is. `text` is what the client says, for people.
pub fn verdict(key: &str, intent: Intent, note: &Note, text: &str) -> StoreError {
    let (status, code, message) = match note {
        Note::NotSent => {
            let advice = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role";
            return StoreError::busy(key, format!("no credentials: {text}; {advice}"));
        }
        Note::NotConnected { cause } => return StoreError::busy(key, format!("no connection: {cause}; {text}")),
        Note::NoAnswer => return StoreError::maybe(key, text),
        Note::Answered { status, code, message } => (*status, code.as_str(), message.as_str()),
    };
    let reason = || {
        let said = if code.is_empty() { text.to_owned() } else { format!("{code}: {message}") };
        format!("HTTP {status}: {said}")
    };
    let advised = |advice: &str| StoreError::permanent(key, format!("{}; {advice}", reason()));
    match (status, code) {
        (_, "ExpiredToken" | "TokenRefreshRequired") => advised("the credentials have expired: renew them"),
        (_, "RequestTimeTooSkewed") => advised("set this machine's clock"),
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken") => {
            advised("check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN")
        }
        (_, "NoSuchBucket") => advised("create the bucket, or check its name in the store's URL"),
        (_, "SlowDown" | "SlowDownRead" | "SlowDownWrite") => StoreError::busy(key, reason()),
        (_, "RequestTimeout") => StoreError::maybe(key, reason()),
        // Bytes were lost or changed on the way: the store refused them, another try may bring them through.
        (400, "BadDigest" | "IncompleteBody" | "XAmzContentChecksumMismatch" | "InvalidDigest") => {
            StoreError::busy(key, reason())
        }
        (304 | 412, _) if intent == Intent::Create => StoreError::taken(key),
        // What S3 says of its own buckets is plain.
        (301 | 307 | 308, "PermanentRedirect" | "TemporaryRedirect" | "Redirect") => {
            advised("redirects are not followed: the bucket is elsewhere, set AWS_REGION or the endpoint")
        }
        // Whoever answers so may be no store, or one that has done what was asked (303).
        (300..=303 | 305..=399, _) => {
            let advice = "redirects are not followed: check the endpoint, AWS_REGION, and what stands before the store";
            StoreError::maybe(key, format!("{}; {advice}", reason()))
        }
        (401 | 403, _) => advised("the credentials may not do this to the bucket: check its policy"),
        (404, _) if matches!(intent, Intent::Read | Intent::Delete) => StoreError::not_found(key),
        (409 | 429 | 503, _) => StoreError::busy(key, reason()),
        (416, _) => StoreError::permanent(key, reason()),
        (507, _) => advised("the store is full"),
        (405 | 501, _) => advised("this store cannot do what Alluvium needs"),
        (400 | 404 | 411 | 413 | 414 | 431, _) => StoreError::permanent(key, reason()),
        _ => StoreError::maybe(key, reason()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: &StoreError) -> &'static str {
        match error {
            StoreError::Taken { .. } => "taken",
            StoreError::NotFound { .. } => "not found",
            StoreError::Permanent { .. } => "permanent",
            StoreError::Busy { .. } => "busy",
            StoreError::Maybe { .. } => "maybe",
        }
    }

    #[test]
    fn each_answer_proves_what_it_should() {
        for (intent, status, code, expected) in [
            (Intent::Create, 412, "PreconditionFailed", "taken"),
            (Intent::Create, 304, "", "taken"),
            (Intent::Create, 301, "", "maybe"),
            (Intent::Create, 303, "", "maybe"),
            (Intent::Create, 307, "TemporaryRedirect", "permanent"),
            (Intent::Create, 409, "ConditionalRequestConflict", "busy"),
            (Intent::Create, 403, "AccessDenied", "permanent"),
            (Intent::Create, 400, "ExpiredToken", "permanent"),
            (Intent::Create, 400, "RequestTimeout", "maybe"),
            (Intent::Create, 400, "BadDigest", "busy"),
            (Intent::Create, 404, "NoSuchBucket", "permanent"),
            (Intent::Create, 500, "InternalError", "maybe"),
            (Intent::Create, 502, "", "maybe"),
            (Intent::Create, 503, "SlowDown", "busy"),
            (Intent::Create, 429, "", "busy"),
            (Intent::Create, 501, "NotImplemented", "permanent"),
            (Intent::Create, 507, "XMinioStorageFull", "permanent"),
            (Intent::Create, 200, "", "maybe"),
            (Intent::Read, 404, "NoSuchKey", "not found"),
            (Intent::Read, 404, "NoSuchBucket", "permanent"),
            (Intent::Read, 416, "InvalidRange", "permanent"),
            (Intent::Read, 206, "", "maybe"),
            (Intent::Read, 302, "", "maybe"),
            (Intent::Read, 304, "", "maybe"),
            (Intent::Delete, 404, "NoSuchKey", "not found"),
            (Intent::List, 404, "", "permanent"),
            (Intent::List, 301, "PermanentRedirect", "permanent"),
        ] {
            let note = Note::Answered { status, code: code.to_owned(), message: String::new() };
            assert_eq!(kind(&verdict("k", intent, &note, "text")), expected, "{intent:?} {status} {code}");
        }
        assert_eq!(kind(&verdict("k", Intent::Create, &Note::NoAnswer, "reset")), "maybe");
        assert_eq!(
            kind(&verdict("k", Intent::Create, &Note::NotConnected { cause: String::new() }, "refused")),
            "busy"
        );
        assert_eq!(kind(&verdict("k", Intent::Create, &Note::NotSent, "")), "busy");
    }
}
