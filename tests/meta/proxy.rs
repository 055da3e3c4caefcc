//! Networks between a table and its server that misbehave: for bytes (PostgreSQL), and for DynamoDB's requests.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a link does to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Works,
    /// Requests arrive; the first answer ends the connection instead.
    LosesAnswers,
    /// Nothing gets through, and nobody is told.
    Silent,
    /// The connections of this moment are silent for ever: what comes is swallowed, and none is closed. New ones work.
    Forgets,
    /// Connections are refused, those that were there are closed.
    Cut,
}

/// A link to a server that a test can break.
pub struct TcpProxy {
    pub address: SocketAddr,
    link: watch::Sender<Link>,
}

impl TcpProxy {
    pub async fn to(server: SocketAddr) -> TcpProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let (link, state) = watch::channel(Link::Works);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, state.clone()));
            }
        });
        TcpProxy { address, link }
    }

    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, mut link: watch::Receiver<Link>) {
    if *link.borrow() == Link::Cut {
        return;
    }
    let Ok(mut upstream) = TcpStream::connect(server).await else { return };
    let (mut up, mut down) = ([0; 16384], [0; 16384]);
    let mut now = *link.borrow_and_update();
    while now != Link::Cut {
        tokio::select! {
            biased;
            changed = link.changed() => {
                if changed.is_err() { return }
                now = *link.borrow_and_update();
                if now == Link::Forgets { return swallow(client, upstream).await }
            }
            read = client.read(&mut up), if now != Link::Silent => match read {
                Ok(length) if length > 0 => if upstream.write_all(&up[..length]).await.is_err() { return },
                _ => return,
            },
            read = upstream.read(&mut down), if now != Link::Silent => match read {
                Ok(length) if length > 0 && now != Link::LosesAnswers => {
                    if client.write_all(&down[..length]).await.is_err() { return }
                }
                _ => return,
            },
        }
    }
}

/// The server's end stays open as well.
async fn swallow(mut client: TcpStream, _upstream: TcpStream) {
    let mut bytes = [0; 16384];
    while client.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
}

/// What happens to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Lost,
    RequestLost,
    /// It is done twice; the second answer comes back.
    Twice,
    /// Nothing is done, and no answer comes; nor is the connection closed.
    Hang,
    /// It is done, and no answer comes.
    HangAfter,
    /// DynamoDB's error of this name, without its doing.
    Error(u16, &'static str),
}

/// A server that passes DynamoDB's requests on, unless its script says otherwise, and writes them down.
pub struct HttpProxy {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    script: VecDeque<(&'static str, Answer)>,
    seen: Vec<(String, String)>,
}

impl HttpProxy {
    /// `server`: `http://host:port`.
    pub async fn to(server: &str) -> HttpProxy {
        let server: SocketAddr = server.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = shared.clone();
                tokio::spawn(async move {
                    let _client_or_server_gone = serve(client, server, state).await;
                });
            }
        });
        HttpProxy { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers of the next requests of an operation (`PutItem`), in order.
    pub fn script(&self, operation: &'static str, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().script.extend(answers.into_iter().map(|answer| (operation, answer)));
    }

    /// (operation, body) of all requests so far.
    pub fn seen(&self) -> Vec<(String, String)> {
        self.state.lock().seen.clone()
    }

    /// Whether the script is done.
    pub fn is_done(&self) -> bool {
        self.state.lock().script.is_empty()
    }
}

async fn serve(mut client: TcpStream, server: SocketAddr, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let request = read_request(&mut client).await?;
    let text = String::from_utf8_lossy(&request).into_owned();
    let target = text.lines().find(|line| line.to_ascii_lowercase().starts_with("x-amz-target"));
    let operation = target.and_then(|line| line.rsplit('.').next()).unwrap_or_default().trim().to_owned();
    let answer = {
        let mut state = state.lock();
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
        state.seen.push((operation.clone(), body));
        let scripted = state.script.iter().position(|(name, _)| *name == operation);
        scripted.and_then(|at| state.script.remove(at)).map(|(_, answer)| answer)
    };
    let response = match answer {
        None => pass(server, &request).await?,
        Some(Answer::RequestLost) => return Ok(()),
        Some(Answer::Lost) => return pass(server, &request).await.map(drop),
        Some(Answer::Twice) => {
            pass(server, &request).await?;
            pass(server, &request).await?
        }
        Some(Answer::Hang) => return silence(&mut client).await,
        Some(Answer::HangAfter) => {
            pass(server, &request).await?;
            return silence(&mut client).await;
        }
        Some(Answer::Error(status, name)) => {
            let body = format!("{{\"__type\":\"com.amazonaws.dynamodb.v20120810#{name}\",\"message\":\"injected\"}}");
            let head =
                format!("HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.0\r\nConnection: close\r\n");
            format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        }
    };
    client.write_all(&response).await
}

/// Until the client gives up.
async fn silence(client: &mut TcpStream) -> std::io::Result<()> {
    client.read(&mut [0]).await.map(drop)
}

/// Head and body of one request.
async fn read_request(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut piece = [0; 16384];
    loop {
        let length = client.read(&mut piece).await?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&piece[..length]);
        let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        if request.len() >= end + 4 + length.unwrap_or(0) {
            return Ok(request);
        }
    }
}

/// The server's whole answer. Each request has a connection of its own, whose end is the answer's.
async fn pass(server: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut upstream = TcpStream::connect(server).await?;
    let line = request.windows(2).position(|bytes| bytes == b"\r\n").unwrap_or(0) + 2;
    upstream.write_all(&[&request[..line], b"Connection: close\r\n", &request[line..]].concat()).await?;
    let mut response = Vec::new();
    upstream.read_to_end(&mut response).await?;
    Ok(response)
}
