//! Notes how each HTTP exchange with the bucket ended, beside the client that hides it.
//!
//! The note lies in a task-local of the one request under way: `object_store` calls the HTTP service in the task of its caller.

use std::cell::RefCell;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// How far a request got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Note {
    /// Nothing signed went out: no credentials yet.
    #[default]
    NotSent,
    /// No connection, so nothing happened at the store.
    NotConnected { cause: String },
    /// Sent, and no answer came: it may have happened.
    NoAnswer,
    /// `code` and `message` as in the error document, if there was one.
    Answered { status: u16, code: String, message: String },
}

tokio::task_local! {
    static NOTE: RefCell<Note>;
}

/// Runs a request, and tells with its result how the last exchange of it ended.
pub async fn noted<T>(request: impl Future<Output = T>) -> (T, Note) {
    NOTE.scope(RefCell::default(), async {
        let result = request.await;
        let note = NOTE.with(RefCell::take);
        (result, note)
    })
    .await
}

fn note(note: Note) {
    // Credentials may be refreshed outside of any request of ours; then nobody asks.
    let _outside = NOTE.try_with(|cell| cell.replace(note));
}

/// Requests to the bucket go through a client of ours, see [`super::client`]; those for credentials, which have their own settings,
/// through `object_store`'s.
#[derive(Debug)]
pub struct NotingConnector {
    bucket: HttpClient,
    credentials: ReqwestConnector,
}

impl NotingConnector {
    pub fn new(bucket: HttpClient) -> NotingConnector {
        NotingConnector { bucket, credentials: ReqwestConnector::default() }
    }
}

impl HttpConnector for NotingConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let credentials = self.credentials.connect(options)?;
        Ok(HttpClient::new(NotingService { bucket: self.bucket.clone(), credentials }))
    }
}

#[derive(Debug)]
struct NotingService {
    bucket: HttpClient,
    credentials: HttpClient,
}

#[async_trait]
impl HttpService for NotingService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Only requests to the bucket carry this; those for credentials say nothing about the object.
        let for_bucket =
            request.headers().get("authorization").is_some_and(|value| value.as_bytes().starts_with(b"AWS4-HMAC"));
        if !for_bucket {
            return self.credentials.execute(request).await;
        }
        note(Note::NoAnswer);
        let response = match self.bucket.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                if error.kind() == HttpErrorKind::Connect {
                    note(Note::NotConnected { cause: root_cause(&error) });
                }
                return Err(error);
            }
        };
        let status = response.status();
        if status.is_success() {
            note(Note::Answered { status: status.as_u16(), code: String::new(), message: String::new() });
            return Ok(response);
        }
        // Noted before the body, which may be cut off.
        note(Note::Answered { status: status.as_u16(), code: String::new(), message: String::new() });
        let (parts, body) = response.into_parts();
        let text = String::from_utf8_lossy(&body.bytes().await?).into_owned();
        let element = |name: &str| element(&text, name).unwrap_or_default().to_owned();
        note(Note::Answered { status: status.as_u16(), code: element("Code"), message: element("Message") });
        Ok(HttpResponse::from_parts(parts, text.into()))
    }
}

/// The innermost error, which says what is wrong ("connection refused", "certificate expired"); those around it do not repeat it.
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The text of the first element of this name.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_elements() {
        let xml = "<?xml?><Error><Code>NoSuchKey</Code><Message>gone</Message></Error>";
        assert_eq!(element(xml, "Code"), Some("NoSuchKey"));
        assert_eq!(element(xml, "Message"), Some("gone"));
        assert_eq!(element("<Code>cut", "Code"), None);
        assert_eq!(element("", "Code"), None);
    }
}
