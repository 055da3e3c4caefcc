//! A bucket in this process that speaks as much of S3 as the broker does, and that a test can make slow, hang or refuse.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// What happens to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Works,
    /// Creates of segments take so long.
    Slow(Duration),
    /// Creates of segments wait until the mode changes. Then they take effect, if the name is still free.
    Hangs,
    /// No request is answered until the mode changes.
    Silent,
    Denied,
    /// Reads are fine, creates are denied.
    ReadOnly,
    /// There is no such bucket.
    Missing,
    /// Creates find the store full.
    Full,
}

pub struct Bucket {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    mode: Mutex<Mode>,
    changed: Condvar,
    waiting: AtomicUsize,
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Headers of the newest request.
    headers: Mutex<BTreeMap<String, String>>,
}

struct Request {
    method: String,
    /// Without the bucket's name.
    key: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Bucket {
    pub fn start(mode: Mode) -> Bucket {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            mode: Mutex::new(mode),
            changed: Condvar::new(),
            waiting: AtomicUsize::new(0),
            objects: Mutex::default(),
            headers: Mutex::default(),
        });
        let served = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), shared) = (stream, served.clone()) else { return };
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Bucket { address, shared }
    }

    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock() = mode;
        self.shared.changed.notify_all();
    }

    /// Requests that have come and are not answered, because of the mode.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::SeqCst)
    }

    /// A header of the newest request.
    pub fn header(&self, name: &str) -> Option<String> {
        self.shared.headers.lock().get(name).cloned()
    }

    pub fn keys(&self) -> Vec<String> {
        self.shared.objects.lock().keys().cloned().collect()
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = receive(&mut reader) {
        // The client may be gone.
        if stream.write_all(&shared.answer(&request)).is_err() {
            return;
        }
    }
}

fn receive(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = query.map(|(name, value)| (name.to_owned(), decoded(value))).collect();
    let key = decoded(path).splitn(3, '/').nth(2).unwrap_or_default().to_owned();
    Some(Request { method, key, query, headers, body })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| std::str::from_utf8(&after[..2]).unwrap());
        bytes.push(hex.map_or(*first, |hex| u8::from_str_radix(hex, 16).unwrap()));
        rest = &after[if hex.is_some() { 2 } else { 0 }..];
    }
    String::from_utf8(bytes).unwrap()
}

impl Shared {
    fn answer(&self, request: &Request) -> Vec<u8> {
        self.headers.lock().clone_from(&request.headers);
        let creates_segment = request.method == "PUT" && request.key.contains("segments/");
        match self.mode_when_not(|mode| mode == Mode::Silent || creates_segment && mode == Mode::Hangs) {
            Mode::Slow(delay) if creates_segment => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(delay);
                self.waiting.fetch_sub(1, Ordering::SeqCst);
            }
            Mode::Denied => return error(403, "AccessDenied"),
            Mode::ReadOnly if request.method != "GET" => return error(403, "AccessDenied"),
            Mode::Missing => return error(404, "NoSuchBucket"),
            Mode::Full if request.method == "PUT" => return error(507, "XMinioStorageFull"),
            _ => {}
        }
        let mut objects = self.objects.lock();
        match request.method.as_str() {
            "PUT" if request.headers.get("if-none-match").map(String::as_str) != Some("*") => {
                error(400, "NotCreateOnly")
            }
            "PUT" if objects.contains_key(&request.key) => error(412, "PreconditionFailed"),
            "PUT" => {
                objects.insert(request.key.clone(), request.body.clone());
                answer("200 OK", "", b"")
            }
            "DELETE" => {
                objects.remove(&request.key);
                answer("204 No Content", "", b"")
            }
            _ if request.query.contains_key("list-type") => list(&objects, &request.query),
            _ => objects.get(&request.key).map_or_else(|| error(404, "NoSuchKey"), |body| read(body, request)),
        }
    }

    /// The mode, once it does not mean waiting.
    fn mode_when_not(&self, waits: impl Fn(Mode) -> bool) -> Mode {
        let mut mode = self.mode.lock();
        if !waits(*mode) {
            return *mode;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while waits(*mode) {
            self.changed.wait(&mut mode);
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        *mode
    }
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"e\"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn error(status: u16, code: &str) -> Vec<u8> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>words</Message></Error>");
    answer(&format!("{status} No"), "", body.as_bytes())
}

fn read(body: &[u8], request: &Request) -> Vec<u8> {
    let Some(range) = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")) else {
        return answer("200 OK", "", body);
    };
    let (first, last) = range.split_once('-').unwrap();
    let (start, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => (first, body.len().min(last + 1)),
        (Ok(first), Err(_)) => (first, body.len()),
        (Err(_), length) => (body.len().saturating_sub(length.unwrap()), body.len()),
    };
    if start >= end {
        return error(416, "InvalidRange");
    }
    let range = format!("Content-Range: bytes {start}-{}/{}\r\n", end - 1, body.len());
    answer("206 Partial Content", &range, &body[start..end])
}

/// One page with everything.
fn list(objects: &BTreeMap<String, Vec<u8>>, query: &BTreeMap<String, String>) -> Vec<u8> {
    let word = |name: &str| query.get(name).map_or("", String::as_str);
    let (prefix, after, delimiter) = (word("prefix"), word("start-after"), word("delimiter"));
    let mut folders = std::collections::BTreeSet::new();
    let mut text = String::new();
    for (key, body) in objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after) {
        match key[prefix.len()..].split_once(delimiter).filter(|_| !delimiter.is_empty()) {
            Some((folder, _)) => drop(folders.insert(format!("{prefix}{folder}{delimiter}"))),
            None => {
                let size = body.len();
                text += &format!(
                    "<Contents><Key>{key}</Key><LastModified>2015-10-21T07:28:00.000Z</LastModified><ETag>\"e\"</ETag><Size>{size}</Size></Contents>"
                );
            }
        }
    }
    for folder in folders {
        text += &format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>");
    }
    let body =
        format!("<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated>{text}</ListBucketResult>");
    answer("200 OK", "", body.as_bytes())
}
