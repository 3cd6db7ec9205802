//! A small synchronous client: one connection, one request at a time.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use bytes::Bytes;
use highwater_broker::HostPort;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// A connection to a broker.
pub(crate) struct Client {
    stream: TcpStream,
    at: HostPort,
    next_id: i32,
    /// Key, smallest and largest version of what the broker serves.
    served: Vec<(i16, i16, i16)>,
}

/// Why a request got no answer.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// The broker cannot be reached, or went away.
    Connection(HostPort, std::io::Error),
    /// The broker does not serve this API in a version that is known here.
    NotServed(HostPort, ApiKey),
    /// The broker answered what is no answer.
    Answer(HostPort, String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Connection(at, error) => {
                write!(
                    f,
                    "no connection to {at}: {error}; is a broker running there? (--bootstrap HOST:PORT)"
                )
            }
            ClientError::NotServed(at, api) => {
                write!(f, "the broker at {at} does not serve {api:?} in a known version")
            }
            ClientError::Answer(at, why) => {
                write!(f, "{at} answered what is no answer: {why}; is it a Kafka broker?")
            }
        }
    }
}

const TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer that is taken; what is here is metadata, not records.
const ANSWER_BYTES: u32 = 256 << 20;

impl Client {
    /// Connects, and asks what the broker serves.
    pub(crate) fn connect(at: &HostPort) -> Result<Client, ClientError> {
        let failed = |error| ClientError::Connection(at.clone(), error);
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        let mut connected = None;
        for address in (at.host.as_str(), at.port).to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    connected = Some(stream);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let stream = connected.ok_or(last).map_err(failed)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut client = Client { stream, at: at.clone(), next_id: 1, served: Vec::new() };
        let answer = client.call_in::<ApiVersionsRequest>(&ApiVersionsRequest::default(), 0)?;
        client.served =
            answer.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
        Ok(client)
    }

    /// Asks in the newest version up to `newest` that the broker serves; gives the answer and the version.
    pub(crate) fn call<R: Request>(
        &mut self,
        body: &R,
        newest: i16,
    ) -> Result<(R::Response, i16), ClientError> {
        let served = self.served.iter().find(|(key, ..)| *key == R::KEY);
        let version =
            served.map(|(_, _, max)| newest.min(*max)).filter(|v| served.is_some_and(|(_, min, _)| v >= min));
        match version {
            Some(version) => Ok((self.call_in(body, version)?, version)),
            None => Err(ClientError::NotServed(
                self.at.clone(),
                ApiKey::try_from(R::KEY).unwrap_or(ApiKey::Metadata),
            )),
        }
    }

    fn call_in<R: Request>(&mut self, body: &R, version: i16) -> Result<R::Response, ClientError> {
        let at = self.at.clone();
        let answer = |why: String| ClientError::Answer(at.clone(), why);
        let id = self.next_id;
        self.next_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(id)
            .with_client_id(Some(StrBytes::from_static_str("highwater")));
        let mut frame = vec![0; 4];
        header.encode(&mut frame, R::header_version(version)).map_err(|e| answer(e.to_string()))?;
        body.encode(&mut frame, version).map_err(|e| answer(e.to_string()))?;
        let size = u32::try_from(frame.len() - 4).map_err(|e| answer(e.to_string()))?;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        let received = self.exchange(&frame).map_err(|e| ClientError::Connection(at.clone(), e))?;
        let mut received = Bytes::from(received);
        let header = ResponseHeader::decode(&mut received, R::Response::header_version(version))
            .map_err(|e| answer(e.to_string()))?;
        if header.correlation_id != id {
            return Err(answer(format!(
                "expected the answer to request {id}, found {}",
                header.correlation_id
            )));
        }
        R::Response::decode(&mut received, version).map_err(|e| answer(e.to_string()))
    }

    fn exchange(&mut self, frame: &[u8]) -> std::io::Result<Vec<u8>> {
        self.stream.write_all(frame)?;
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = u32::from_be_bytes(size);
        if size > ANSWER_BYTES {
            return Err(std::io::Error::other(format!(
                "an answer of {size} bytes is no answer of a Kafka broker"
            )));
        }
        let mut received = Vec::new();
        (&mut self.stream).take(u64::from(size)).read_to_end(&mut received)?;
        if received.len() < size as usize {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(received)
    }
}
