//! A network in memory, for brokers of one process: the twin of TCP for tests that let time jump. Nothing is ever lost there.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::Listener;
use crate::links::{Dial, Stream};

/// Connections that may wait to be accepted, and bytes that one holds.
const BACKLOG: usize = 16;
const PIPE_BYTES: usize = 64 << 10;

#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<Hosts>>);

/// Where they accept, by name and port.
type Hosts = BTreeMap<(String, u16), mpsc::Sender<DuplexStream>>;

impl Network {
    /// Takes the place of who listened there before.
    pub fn listen(&self, host: &str, port: u16) -> MemoryListener {
        let (connect, accepted) = mpsc::channel(BACKLOG);
        self.0.lock().insert((host.to_owned(), port), connect);
        MemoryListener(accepted)
    }

    pub async fn connect(&self, host: &str, port: u16) -> io::Result<DuplexStream> {
        let listener = self.0.lock().get(&(host.to_owned(), port)).cloned();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        listener.ok_or_else(refused)?.send(far).await.map_err(|_| refused())?;
        Ok(near)
    }
}

#[async_trait]
impl Dial for Network {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.connect(host, port).await?))
    }
}

pub struct MemoryListener(mpsc::Receiver<DuplexStream>);

impl Listener for MemoryListener {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.recv().await {
            Some(stream) => Ok((stream, SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000)))),
            None => std::future::pending().await,
        }
    }
}
