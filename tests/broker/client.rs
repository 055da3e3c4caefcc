//! A small Kafka client for tests: one connection, requests and answers as the crate encodes them, pipelining on demand.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub struct Client<S> {
    stream: S,
    next: i32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Client<S> {
        Client { stream, next: 0 }
    }

    /// Sends a request and returns its correlation id.
    pub async fn send<Q>(&mut self, key: ApiKey, version: i16, request: &Q) -> std::io::Result<i32>
    where
        Q: Encodable + HeaderVersion,
    {
        self.next += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.next)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header.encode(&mut frame, Q::header_version(version)).expect("header");
        request.encode(&mut frame, version).expect("request");
        let length = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).await?;
        Ok(self.next)
    }

    /// Receives the next answer, which must bear this correlation id.
    pub async fn receive<A>(&mut self, id: i32, version: i16) -> std::io::Result<A>
    where
        A: Decodable + HeaderVersion,
    {
        let length = self.stream.read_i32().await?;
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await?;
        let mut frame = Bytes::from(frame);
        let header = ResponseHeader::decode(&mut frame, A::header_version(version)).expect("response header");
        assert_eq!(header.correlation_id, id, "answers come in the order of the requests");
        let answer = A::decode(&mut frame, version).expect("response");
        assert!(frame.is_empty(), "nothing stands behind the answer");
        Ok(answer)
    }

    pub async fn call<Q, A>(&mut self, key: ApiKey, version: i16, request: &Q) -> std::io::Result<A>
    where
        Q: Encodable + HeaderVersion,
        A: Decodable + HeaderVersion,
    {
        let id = self.send(key, version, request).await?;
        self.receive(id, version).await
    }

    /// Sends bytes as they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Whether the broker has closed the connection; waits for it or for an answer.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.stream.read(&mut byte).await, Ok(0) | Err(_))
    }
}
