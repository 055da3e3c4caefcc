//! The network: connections between hosts whose bytes arrive in order, later, or not at all.
//!
//! What is sent is a parcel, due at its receiver's a fraction of a millisecond to six later, and never before what the same end sent
//! before it. A way that is cut loses what is on it, and nobody sends it again: nothing that the same end sends later arrives, and both
//! ends wait until they give up. A way that is held keeps its parcels until it is open again. Who asks a host that does not
//! listen is refused; a host that dies closes its connections.
//!
//! All hosts live on one thread; the lock is there because the broker's ports must be `Send`.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::world::Dice;

/// The slowest parcel, and what all take.
const SLOWEST: Duration = Duration::from_micros(6_000);
const LEAST_MICROS: u64 = 200;

/// Each host listens on one port.
const PORT: u16 = 9092;

type Host = &'static str;

/// One end of a connection.
type End = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Cut,
    Held,
}

enum What {
    /// Wants a connection.
    Ask,
    /// The other end of it.
    Yes(End),
    Data(Bytes),
    /// Nothing more comes.
    Last,
    /// There is no such end, or nobody listens.
    No,
}

struct Parcel {
    from: (Host, End),
    to: (Host, Option<End>),
    what: What,
}

struct Socket {
    host: Host,
    peer: (Host, Option<End>),
    arrived: VecDeque<Bytes>,
    /// The peer sends no more.
    closed: bool,
    /// The peer is not there.
    reset: bool,
    /// Something that was sent is lost: what follows it never arrives.
    torn: bool,
    newest: Duration,
    waits: Option<Waker>,
}

#[derive(Default)]
struct Door {
    asked: VecDeque<End>,
    waits: Option<Waker>,
}

struct Inner {
    now: Duration,
    dice: Dice,
    /// Ways that are not open.
    ways: BTreeMap<(Host, Host), State>,
    /// What is on its way, by when it is due, and in the order in which it was sent.
    due: BTreeMap<(Duration, u64), Parcel>,
    held: BTreeMap<u64, Parcel>,
    sent: u64,
    doors: BTreeMap<Host, Door>,
    sockets: BTreeMap<End, Socket>,
    ends: End,
}

pub struct Net(Mutex<Inner>);

impl Net {
    pub fn new(dice: Dice) -> Arc<Net> {
        Arc::new(Net(Mutex::new(Inner {
            now: Duration::ZERO,
            dice,
            ways: BTreeMap::new(),
            due: BTreeMap::new(),
            held: BTreeMap::new(),
            sent: 0,
            doors: BTreeMap::new(),
            sockets: BTreeMap::new(),
            ends: 0,
        })))
    }

    /// Hands over what is due.
    pub fn deliver(&self, now: Duration) {
        let mut inner = self.0.lock();
        inner.now = now;
        while let Some(first) = inner.due.first_entry().filter(|first| first.key().0 <= now) {
            let parcel = first.remove();
            inner.arrive(parcel);
        }
    }

    /// What is sent from one to the other, and what is on its way, is lost.
    pub fn cut(&self, from: Host, to: Host) {
        let mut inner = self.0.lock();
        inner.ways.insert((from, to), State::Cut);
        let lost = |parcel: &Parcel| parcel.from.0 == from && parcel.to.0 == to;
        let ends =
            inner.due.values().chain(inner.held.values()).filter(|parcel| lost(parcel)).map(|parcel| parcel.from.1);
        let ends: Vec<End> = ends.collect();
        inner.due.retain(|_, parcel| !lost(parcel));
        inner.held.retain(|_, parcel| !lost(parcel));
        for end in ends {
            if let Some(socket) = inner.sockets.get_mut(&end) {
                socket.torn = true;
            }
        }
    }

    /// What is sent between the two, and what is on its way, waits.
    pub fn hold(&self, one: Host, other: Host) {
        let mut inner = self.0.lock();
        for way in [(one, other), (other, one)] {
            inner.ways.insert(way, State::Held);
        }
        let waits: Vec<_> =
            inner.due.iter().filter(|(_, parcel)| is_between(parcel, one, other)).map(|(at, _)| *at).collect();
        for at in waits {
            let parcel = inner.due.remove(&at).expect("just seen");
            inner.held.insert(at.1, parcel);
        }
    }

    /// What waited arrives now, and all that is sent from now on in its time.
    pub fn open(&self, one: Host, other: Host) {
        let mut inner = self.0.lock();
        for way in [(one, other), (other, one)] {
            inner.ways.remove(&way);
        }
        let now = inner.now;
        let waited: Vec<_> =
            inner.held.iter().filter(|(_, parcel)| is_between(parcel, one, other)).map(|(at, _)| *at).collect();
        for at in waited {
            let parcel = inner.held.remove(&at).expect("just seen");
            inner.due.insert((now, at), parcel);
        }
    }

    pub fn listen(self: &Arc<Net>, host: Host) -> Listening {
        self.0.lock().doors.insert(host, Door::default());
        Listening { net: self.clone(), host }
    }

    pub async fn connect(self: &Arc<Net>, from: Host, to: Host) -> io::Result<Stream> {
        let end = self.0.lock().socket(from, (to, None));
        let stream = Stream { net: self.clone(), end };
        self.0.lock().send(end, What::Ask);
        poll_fn(|context| {
            let mut inner = self.0.lock();
            let socket = inner.sockets.get_mut(&end).expect("it is there until its stream is dropped");
            if socket.reset {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionRefused)));
            }
            if socket.peer.1.is_some() {
                return Poll::Ready(Ok(()));
            }
            socket.waits = Some(context.waker().clone());
            Poll::Pending
        })
        .await?;
        Ok(stream)
    }
}

fn is_between(parcel: &Parcel, one: Host, other: Host) -> bool {
    let hosts = (parcel.from.0, parcel.to.0);
    hosts == (one, other) || hosts == (other, one)
}

impl Inner {
    fn socket(&mut self, host: Host, peer: (Host, Option<End>)) -> End {
        self.ends += 1;
        let socket = Socket {
            host,
            peer,
            arrived: VecDeque::new(),
            closed: false,
            reset: false,
            torn: false,
            newest: Duration::ZERO,
            waits: None,
        };
        self.sockets.insert(self.ends, socket);
        self.ends
    }

    fn send(&mut self, end: End, what: What) {
        let at = self.now + self.latency();
        let way = |socket: &Socket| (socket.host, socket.peer.0);
        let Some(socket) = self.sockets.get_mut(&end).filter(|socket| !socket.torn) else { return };
        socket.newest = socket.newest.max(at);
        let (at, parcel) = (socket.newest, Parcel { from: (socket.host, end), to: socket.peer, what });
        self.sent += 1;
        match self.ways.get(&way(socket)) {
            None => drop(self.due.insert((at, self.sent), parcel)),
            Some(State::Held) => drop(self.held.insert(self.sent, parcel)),
            Some(State::Cut) => socket.torn = true,
        }
    }

    /// Most take about a millisecond, few several.
    fn latency(&self) -> Duration {
        let dice = &self.dice;
        let mut micros = LEAST_MICROS + dice.below(1_000);
        for percent in [30, 10] {
            if dice.chance(percent) {
                micros += dice.below(3_000);
            }
        }
        Duration::from_micros(micros).min(SLOWEST)
    }

    fn arrive(&mut self, parcel: Parcel) {
        let Parcel { from, to, what } = parcel;
        if let What::Ask = what {
            return self.asked(from, to.0);
        }
        let Some(socket) = to.1.and_then(|end| self.sockets.get_mut(&end)) else {
            if !matches!(what, What::No) {
                self.refuse(to.0, from);
            }
            return;
        };
        match what {
            What::Yes(end) => socket.peer.1 = Some(end),
            What::Data(bytes) => socket.arrived.push_back(bytes),
            What::Last => socket.closed = true,
            What::No => socket.reset = true,
            What::Ask => {}
        }
        if let Some(waits) = socket.waits.take() {
            waits.wake();
        }
    }

    fn asked(&mut self, from: (Host, End), host: Host) {
        if !self.doors.contains_key(host) {
            return self.refuse(host, from);
        }
        let end = self.socket(host, (from.0, Some(from.1)));
        self.send(end, What::Yes(end));
        let door = self.doors.get_mut(host).expect("just seen");
        door.asked.push_back(end);
        if let Some(waits) = door.waits.take() {
            waits.wake();
        }
    }

    /// Says at once, from an end that is not there, that it is not.
    fn refuse(&mut self, host: Host, to: (Host, End)) {
        let end = self.socket(host, (to.0, Some(to.1)));
        self.send(end, What::No);
        self.sockets.remove(&end);
    }

    fn close(&mut self, end: End) {
        self.send(end, What::Last);
        self.sockets.remove(&end);
    }
}

/// Takes the connections of one host, until it is dropped.
pub struct Listening {
    net: Arc<Net>,
    host: Host,
}

impl Listening {
    pub async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        let end = poll_fn(|context| {
            let mut inner = self.net.0.lock();
            let door = inner.doors.get_mut(self.host).expect("it is there until this is dropped");
            match door.asked.pop_front() {
                Some(end) => Poll::Ready(end),
                None => {
                    door.waits = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        Ok((Stream { net: self.net.clone(), end }, SocketAddr::from(([10, 0, 0, 1], PORT))))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut inner = self.net.0.lock();
        let door = inner.doors.remove(self.host).unwrap_or_default();
        door.asked.into_iter().for_each(|end| inner.close(end));
    }
}

/// One end of a connection, until it is dropped.
pub struct Stream {
    net: Arc<Net>,
    end: End,
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.net.0.lock();
        let socket = inner.sockets.get_mut(&self.end).expect("it is there until this is dropped");
        let Some(first) = socket.arrived.front_mut() else {
            if socket.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if socket.closed {
                return Poll::Ready(Ok(()));
            }
            socket.waits = Some(context.waker().clone());
            return Poll::Pending;
        };
        let length = first.len().min(into.remaining());
        into.put_slice(&first[..length]);
        first.advance(length);
        if first.is_empty() {
            socket.arrived.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream {
    fn write(&self, bytes: Bytes) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut inner = self.net.0.lock();
        if inner.sockets.get(&self.end).is_none_or(|socket| socket.reset) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let length = bytes.len();
        inner.send(self.end, What::Data(bytes));
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(Bytes::copy_from_slice(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = BytesMut::with_capacity(slices.iter().map(|slice| slice.len()).sum());
        slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
        self.write(bytes.freeze())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.net.0.lock().send(self.end, What::Last);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.net.0.lock().close(self.end);
    }
}

#[cfg(test)]
mod tests {
    use alluvium::types::env::testing::SeededEntropy;
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A connection from "a" to "b", both ends, and the second at which it was made.
    fn connected(net: &Arc<Net>, seconds: u32) -> (Stream, Stream) {
        let mut door = net.listen("b");
        let mut asking = Box::pin(net.connect("a", "b"));
        for round in 0..3 {
            assert!(round == 2 || (&mut asking).now_or_never().is_none(), "it takes a way there and a way back");
            net.deliver(SECOND * seconds + SLOWEST * round);
        }
        let one = asking.now_or_never().expect("answered").expect("connected");
        (one, door.accept().now_or_never().expect("asked").expect("accepted").0)
    }

    fn write(stream: &mut Stream, text: &str) {
        stream.write_all(text.as_bytes()).now_or_never().expect("nothing waits").expect("written");
    }

    /// All that has arrived; "…" for what may follow, "." for the end, "!" for a reset.
    fn read(stream: &mut Stream) -> String {
        let (mut text, mut bytes) = (String::new(), [0; 3]);
        loop {
            match stream.read(&mut bytes).now_or_never() {
                None => return text + "…",
                Some(Ok(0)) => return text + ".",
                Some(Ok(length)) => text.push_str(std::str::from_utf8(&bytes[..length]).expect("ascii")),
                Some(Err(_)) => return text + "!",
            }
        }
    }

    fn net(seed: u64) -> Arc<Net> {
        Net::new(Dice::new(Arc::new(SeededEntropy::new(seed))))
    }

    #[test]
    fn what_is_sent_arrives_in_order_and_not_at_once() {
        for seed in 0..50 {
            let net = net(seed);
            let (mut one, mut other) = connected(&net, 0);
            ["one ", "two ", "three"].into_iter().for_each(|text| write(&mut one, text));
            write(&mut other, "back");
            assert_eq!((read(&mut one), read(&mut other)), ("…".to_owned(), "…".to_owned()));
            let mut so_far = String::new();
            for step in 0..60 {
                net.deliver(SLOWEST * 2 + Duration::from_micros(100) * step);
                so_far = so_far.trim_end_matches('…').to_owned() + &read(&mut other);
                assert!("one two three".starts_with(so_far.trim_end_matches('…')), "{so_far}");
            }
            net.deliver(SLOWEST * 3);
            so_far = so_far.trim_end_matches('…').to_owned() + &read(&mut other);
            assert_eq!((so_far.as_str(), read(&mut one).as_str()), ("one two three…", "back…"));
            write(&mut one, "last");
            drop(one);
            net.deliver(SLOWEST * 9);
            assert_eq!(read(&mut other), "last.");
            write(&mut other, "nobody hears");
            net.deliver(SLOWEST * 10);
            net.deliver(SLOWEST * 11);
            assert_eq!(read(&mut other), "!");
        }
    }

    #[test]
    fn what_is_cut_is_lost_with_all_that_follows() {
        for (before, others) in [(true, "…"), (false, "back…")] {
            let net = net(1);
            let (mut one, mut other) = connected(&net, 0);
            if before {
                write(&mut one, "lost");
            }
            net.cut("a", "b");
            if !before {
                write(&mut other, "back");
            }
            write(&mut one, "lost, too");
            net.open("a", "b");
            write(&mut one, "late");
            net.deliver(SECOND);
            assert_eq!((read(&mut one).as_str(), read(&mut other).as_str()), (others, "…"));
            let (mut one, mut other) = connected(&net, 2);
            write(&mut one, "anew");
            net.deliver(SECOND * 3);
            assert_eq!(read(&mut other), "anew…");
        }
    }

    #[test]
    fn what_is_held_arrives_when_the_way_is_open() {
        let net = net(2);
        let (mut one, mut other) = connected(&net, 0);
        write(&mut one, "first ");
        net.hold("b", "a");
        write(&mut one, "second ");
        write(&mut other, "back");
        net.deliver(SECOND);
        assert_eq!((read(&mut one), read(&mut other)), ("…".to_owned(), "…".to_owned()));
        net.open("a", "b");
        write(&mut one, "third");
        net.deliver(SECOND * 2);
        assert_eq!((read(&mut one).as_str(), read(&mut other).as_str()), ("back…", "first second third…"));
    }

    #[test]
    fn who_does_not_listen_is_not_reached() {
        let net = net(3);
        let mut asking = Box::pin(net.connect("a", "b"));
        for round in 0..2 {
            assert!((&mut asking).now_or_never().is_none());
            net.deliver(SECOND * round + SLOWEST);
        }
        let refused = asking.now_or_never().expect("answered").map(|_| ()).expect_err("refused");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        // One that asks and goes away leaves nothing behind.
        let mut door = net.listen("b");
        drop(Box::pin(net.connect("a", "b")).now_or_never());
        (2..6).for_each(|second| net.deliver(SECOND * second));
        let (mut accepted, _) = door.accept().now_or_never().expect("asked").expect("accepted");
        assert_eq!(read(&mut accepted), "!");
        drop((accepted, door));
        let inner = net.0.lock();
        assert!(inner.sockets.is_empty() && inner.doors.is_empty());
    }
}
