//! The HTTP client for the bucket: it follows no redirect.
//!
//! Followed, a PUT that is answered 303 becomes a GET without a body, and whatever is found there counts as the store's yes: a segment that
//! does not exist would be acknowledged. A GET that a gateway sends to its login page would give that page as the object. The client
//! that `object_store` makes follows ten and can't be told otherwise, so this one is made here, in all else like that one: HTTP/1 only,
//! bodies as they are stored, another address of the store each time.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use object_store::client::HttpClient;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// Makes the client; nothing is sent yet. A connection must stand within `connect_timeout`, and is closed when it was not used for
/// `pool_idle_timeout`. A request has no limit here: whoever sends it has one.
///
/// # Errors
/// What is wrong with TLS or with the proxy that the environment names.
pub fn bucket_client(connect_timeout: Duration, pool_idle_timeout: Duration) -> Result<HttpClient, reqwest::Error> {
    let client = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(pool_idle_timeout)
        .http1_only()
        // Lengths are those of the objects.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .dns_resolver(InTurn::default())
        .build()?;
    Ok(HttpClient::new(client))
}

/// Finds the addresses of a host and begins with another one each time, so that connections spread over the servers of the store.
#[derive(Debug, Default)]
struct InTurn {
    turn: AtomicUsize,
}

impl Resolve for InTurn {
    fn resolve(&self, name: Name) -> Resolving {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Box::pin(addresses(name.as_str().to_owned(), turn))
    }
}

async fn addresses(host: String, turn: usize) -> Result<Addrs, Box<dyn Error + Send + Sync>> {
    // Port 0 stands for that of the URL.
    let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
    let first = turn % addresses.len().max(1);
    addresses.rotate_left(first);
    Ok(Box::new(addresses.into_iter()))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::profile::Keys;
    use super::super::{S3Config, S3Store};
    use super::*;
    use crate::store::{ReadRange, Store, StoreError};

    /// Sends everybody elsewhere, and tells whoever comes there what a store says when all is well. Gives its address and the number
    /// of requests that came.
    fn gateway(status: u16) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                serve(stream, status, &count);
            }
        });
        (address, requests)
    }

    /// One request a connection.
    fn serve(mut stream: TcpStream, status: u16, count: &AtomicUsize) {
        let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            lines.push(line.to_ascii_lowercase());
        }
        let length = lines.iter().find_map(|line| line.strip_prefix("content-length:"));
        let mut body = vec![0; length.map_or(0, |length| length.trim().parse().expect("a number"))];
        reader.read_exact(&mut body).expect("a body");
        count.fetch_add(1, Ordering::SeqCst);
        let answer = if lines.iter().any(|line| line.contains(" /elsewhere ")) {
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: \"e\"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\
             Connection: close\r\n\r\npage"
                .to_owned()
        } else {
            format!("HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngone")
        };
        // Whoever has heard enough is gone.
        let _gone = stream.write_all(answer.as_bytes());
    }

    #[tokio::test]
    async fn no_redirect_is_followed() {
        for status in [300, 301, 302, 303, 307, 308] {
            let (address, requests) = gateway(status);
            let store = S3Store::open(S3Config {
                bucket: "bucket".to_owned(),
                endpoint: Some(format!("http://{address}")),
                credentials: Some(Keys { id: "key".to_owned(), secret: "secret".to_owned(), token: None }),
                ..S3Config::default()
            })
            .expect("a client");
            let key = "segments/s/0";
            let results = [
                store.create(key, Bytes::from_static(b"body")).await,
                store.read(key, ReadRange::Full).await.map(drop),
                store.read(key, ReadRange::Suffix(2)).await.map(drop),
                store.read_blocks(key, 0..4).await.map(drop),
                store.delete(key).await,
                store.list("segments/", None, 10).await.map(drop),
            ];
            let sent = results.len();
            for (at, result) in results.into_iter().enumerate() {
                let error = result.expect_err("nobody did what was asked");
                let text = error.to_string();
                assert!(matches!(error, StoreError::Maybe { .. }), "{status}, call {at}: {text}");
                let told = text.contains(&format!("HTTP {status}")) && text.contains("redirects are not followed");
                assert!(told, "{status}, call {at}: {text}");
            }
            assert_eq!(requests.load(Ordering::SeqCst), sent, "{status}: each once, and nowhere else");
        }
    }

    #[tokio::test]
    async fn addresses_come_in_turn() {
        let found = |turn| async move { addresses("localhost".to_owned(), turn).await.expect("it has some") };
        let all: Vec<_> = found(0).await.collect();
        let (again, next): (Vec<_>, Vec<_>) = (found(all.len()).await.collect(), found(1).await.collect());
        assert_eq!(again, all);
        assert_eq!(next.first(), all.get(1 % all.len()));
    }
}
