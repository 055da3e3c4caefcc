//! What the S3 adapter makes of each answer on the wire, from a server that says what it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alluvium::store::s3::profile::Keys;
use alluvium::store::s3::{S3Config, S3Store};
use alluvium::store::{ReadRange, Store, StoreError};
use bytes::Bytes;

/// What the server does with every request.
#[derive(Clone)]
enum Script {
    Answer(String),
    /// Answers at once with so much of it, then with a byte every 100 ms.
    Trickle(String, usize),
    /// Reads the request and closes the connection.
    Close,
    /// Reads the request and never answers.
    Hang,
}

struct Server {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn start(script: Script) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (script, count) = (script.clone(), Arc::clone(&count));
                std::thread::spawn(move || serve(stream, &script, &count));
            }
        });
        Server { address, requests }
    }

    fn store(&self) -> S3Store {
        S3Store::open(S3Config {
            bucket: "bucket".to_owned(),
            endpoint: Some(format!("http://{}", self.address)),
            credentials: Some(Keys { id: "key".to_owned(), secret: "secret".to_owned(), token: None }),
            attempt_timeout: Some(Duration::from_secs(1)),
            ..S3Config::default()
        })
        .expect("a client")
    }
}

fn serve(mut stream: std::net::TcpStream, script: &Script, count: &AtomicUsize) {
    let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    count.fetch_add(1, Ordering::SeqCst);
    match script {
        Script::Answer(answer) => stream.write_all(answer.as_bytes()).expect("answered"),
        Script::Trickle(answer, at_once) => {
            let (first, rest) = answer.as_bytes().split_at(*at_once);
            stream.write_all(first).expect("answered");
            for byte in rest {
                std::thread::sleep(Duration::from_millis(100));
                // Whoever has waited long enough is gone.
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
            }
        }
        Script::Close => {}
        Script::Hang => std::thread::sleep(Duration::from_secs(5)),
    }
}

fn answer(status: u16, body: &str) -> Script {
    let length = body.len();
    Script::Answer(format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nETag: \"e\"\r\nConnection: close\r\n\r\n{body}"
    ))
}

fn error(status: u16, code: &str) -> Script {
    answer(status, &format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>words</Message></Error>"))
}

/// The kind, and for a refusal a word of its reason.
fn shown<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(StoreError::Taken { .. }) => "taken".to_owned(),
        Err(StoreError::NotFound { .. }) => "not found".to_owned(),
        Err(StoreError::Permanent { reason, .. }) => format!("permanent: {reason}"),
        Err(StoreError::Busy { reason, .. }) => format!("busy: {reason}"),
        Err(StoreError::Maybe { reason, .. }) => format!("maybe: {reason}"),
    }
}

#[tokio::test]
async fn a_create_is_one_request_and_its_answer_is_told_apart() {
    for (script, expected, word) in [
        (answer(200, ""), "ok", ""),
        (error(412, "PreconditionFailed"), "taken", ""),
        (error(409, "ConditionalRequestConflict"), "busy", "409"),
        (error(429, "TooManyRequests"), "busy", "429"),
        (error(503, "SlowDown"), "busy", "SlowDown"),
        (error(500, "InternalError"), "maybe", "500"),
        (error(403, "AccessDenied"), "permanent", "policy"),
        (error(400, "ExpiredToken"), "permanent", "renew"),
        (error(403, "RequestTimeTooSkewed"), "permanent", "clock"),
        (error(404, "NoSuchBucket"), "permanent", "create the bucket"),
        (error(301, "PermanentRedirect"), "permanent", "AWS_REGION"),
        (error(501, "NotImplemented"), "permanent", "cannot do"),
        (Script::Close, "maybe", ""),
        (Script::Hang, "maybe", "within"),
    ] {
        let server = Server::start(script);
        let result = shown(server.store().create("segments/s/0", Bytes::from_static(b"body")).await);
        assert!(result.starts_with(expected) && result.contains(word), "{expected} {word}: {result}");
        assert_eq!(server.requests.load(Ordering::SeqCst), 1, "{result}");
    }
}

#[tokio::test]
async fn nobody_there_means_nothing_happened() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let server = Server { address: port, requests: Arc::default() };
    let result = shown(server.store().create("segments/s/0", Bytes::from_static(b"body")).await);
    assert!(result.starts_with("busy: no connection: Connection refused"), "{result}");
}

#[tokio::test]
async fn reads_are_told_apart_and_never_short() {
    let head = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nETag: \"e\"\r\nConnection: close\r\n\r\n";
    let full = |length: usize, body: &str| {
        Script::Answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{head}{body}"))
    };
    for (script, expected, word) in [
        (full(4, "body"), "ok", ""),
        (full(100, "body, cut off"), "maybe", ""),
        (error(404, "NoSuchKey"), "not found", ""),
        (error(404, "NoSuchBucket"), "permanent", "bucket"),
        (error(403, "AccessDenied"), "permanent", "policy"),
        (error(503, "SlowDown"), "busy", ""),
        (error(500, "InternalError"), "maybe", ""),
        (Script::Close, "maybe", ""),
        (Script::Hang, "maybe", ""),
    ] {
        let server = Server::start(script);
        let result = shown(server.store().read("segments/s/0", ReadRange::Full).await);
        assert!(result.starts_with(expected) && result.contains(word), "{expected} {word}: {result}");
        assert_eq!(server.requests.load(Ordering::SeqCst), 1, "{result}");
    }
}

/// The limit is for the whole answer, not for the time between two bytes.
#[tokio::test]
async fn slow_bodies_end_with_the_attempt() {
    let head = |length: usize| {
        let range = format!("Content-Range: bytes 0-{}/1000\r\nContent-Length: {length}\r\n", length - 1);
        format!("HTTP/1.1 206 X\r\n{range}Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nETag: \"e\"\r\n\r\n")
    };
    let whole = head(5).len();
    for (length, at_once, expected) in [(5, whole, "ok"), (100, whole, "maybe: no answer"), (5, 20, "maybe: no answer")]
    {
        let server = Server::start(Script::Trickle(head(length) + &"x".repeat(length), at_once));
        let begun = std::time::Instant::now();
        let result = shown(server.store().read("segments/s/0", ReadRange::Range(0..length as u64)).await);
        assert!(result.starts_with(expected), "{length} {at_once}: {result}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());

        let server = Server::start(Script::Trickle(head(length) + &"x".repeat(length), at_once));
        let result = shown(server.store().read_blocks("segments/s/0", 0..length as u64).await);
        assert!(result.starts_with(expected), "blocks {length} {at_once}: {result}");
    }
}

/// What a server sends past the range that was asked for is not taken; what it holds back is no block.
#[tokio::test]
async fn blocks_are_what_was_asked_for() {
    let answer = |sent: usize, promised: usize| {
        let range = format!("Content-Range: bytes 0-{}/1000\r\nContent-Length: {promised}\r\n", promised - 1);
        let head = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nETag: \"e\"\r\nConnection: close\r\n\r\n";
        Script::Answer(format!("HTTP/1.1 206 X\r\n{range}{head}{}", "x".repeat(sent)))
    };
    for (sent, promised, expected) in [(10, 10, Some(10)), (5, 10, None), (50, 50, Some(10))] {
        let server = Server::start(answer(sent, promised));
        match server.store().read_blocks("segments/s/0", 0..10).await {
            Ok(read) => assert_eq!(Some(read.blocks.concat().len()), expected, "{sent} {promised}"),
            Err(error) => {
                assert!(expected != Some(sent) && error.is_passing() || sent > 10, "{sent} {promised}: {error}")
            }
        }
    }
}

#[tokio::test]
async fn deletes_and_lists_are_told_apart() {
    for (script, expected) in [
        (answer(204, ""), "ok"),
        (error(404, "NoSuchKey"), "ok"),
        (error(404, "NoSuchBucket"), "permanent"),
        (error(403, "AccessDenied"), "permanent"),
        (error(503, "SlowDown"), "busy"),
        (Script::Close, "maybe"),
    ] {
        let server = Server::start(script);
        let result = shown(server.store().delete("segments/s/0").await);
        assert!(result.starts_with(expected), "{expected}: {result}");
    }
    for (script, expected) in
        [(error(404, "NoSuchBucket"), "permanent"), (error(503, "SlowDown"), "busy"), (Script::Close, "maybe")]
    {
        let server = Server::start(script);
        let result = shown(server.store().list("segments/", None, 10).await);
        assert!(result.starts_with(expected), "{expected}: {result}");
        let result = shown(server.store().list_folders("segments/").await);
        assert!(result.starts_with(expected), "{expected}: {result}");
    }
}
