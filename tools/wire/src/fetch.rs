//! Fetch responses, of which only the outline is encoded: record bytes are sent from where they lie.

use highwater_base::{BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerId, Uuid};

use crate::api::Api;
use crate::encode::{EncodeError, put_size, put_varint};
use crate::error_code::ErrorCode;
use crate::header::RequestHeader;

/// The answer to a Fetch, but for the record bytes, of which it knows only how many they are.
///
/// ```
/// # use bytes::Bytes;
/// use highwater_wire::{FetchAnswer, FetchPartition, FetchTopic, Piece, RequestHeader, encode_fetch};
/// # let mut frame = vec![0, 1, 0, 4, 0, 0, 0, 7, 0xff, 0xff];
/// # let header = RequestHeader::take(&mut Bytes::from(frame)).unwrap();
/// let partition = FetchPartition { records_len: 500, ..FetchPartition::default() };
/// let topic = FetchTopic { name: "t".into(), partitions: vec![partition], ..FetchTopic::default() };
/// let answer = FetchAnswer { topics: vec![topic], ..FetchAnswer::default() };
/// let pieces = encode_fetch(&header, &answer).unwrap();
/// assert!(matches!(pieces[..], [Piece::Owned(_), Piece::Records(0)]));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FetchAnswer {
    /// Error of the whole request (from version 7).
    pub error: Option<ErrorCode>,
    /// The fetch session, or 0 for none (from version 7).
    pub session_id: i32,
    /// By topic; one may come twice, with other partitions.
    pub topics: Vec<FetchTopic>,
    /// Where the leaders are that `current_leader`s name (from version 16).
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// One topic of a [`FetchAnswer`].
///
/// ```
/// assert!(highwater_wire::FetchTopic::default().partitions.is_empty());
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FetchTopic {
    /// Its name (up to version 12).
    pub name: String,
    /// Its id (from version 13).
    pub id: Uuid,
    /// By partition.
    pub partitions: Vec<FetchPartition>,
}

/// One partition of a [`FetchAnswer`].
///
/// ```
/// use highwater_base::Offset;
/// assert_eq!(highwater_wire::FetchPartition::default().high_watermark, Offset::NONE);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchPartition {
    /// Which.
    pub index: PartitionIndex,
    /// Error, or `ErrorCode::None`.
    pub error: ErrorCode,
    /// High watermark.
    pub high_watermark: Offset,
    /// Last stable offset.
    pub last_stable: Offset,
    /// Log start (from version 5).
    pub log_start: Offset,
    /// Where the client's log must be cut: epoch and end offset (from version 12).
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// The leader, where the client knows another (from version 12).
    pub current_leader: Option<(BrokerId, LeaderEpoch)>,
    /// Aborted transactions among the records; `None` (null) unless the reader asked for committed ones only.
    pub aborted: Option<Vec<(ProducerId, Offset)>>,
    /// A replica to read from instead (from version 11); `BrokerId::NONE` for none.
    pub preferred_replica: BrokerId,
    /// How many record bytes there are.
    pub records_len: usize,
}

/// Where a broker listens.
///
/// ```
/// use highwater_base::BrokerId;
/// let at = highwater_wire::NodeEndpoint { id: BrokerId::new(1), host: "localhost".into(), port: 9092, rack: None };
/// assert_eq!(at.port, 9092);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeEndpoint {
    /// Which broker.
    pub id: BrokerId,
    /// Its advertised host.
    pub host: String,
    /// Its advertised port.
    pub port: u16,
    /// Its rack.
    pub rack: Option<String>,
}

/// A run of bytes of an encoded Fetch response; they are sent in order.
///
/// ```
/// use highwater_wire::Piece;
/// assert_ne!(Piece::Records(0), Piece::Owned(vec![]));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// These bytes.
    Owned(Vec<u8>),
    /// The record bytes of the partition with this number, counted over all topics from 0: exactly its
    /// `records_len`.
    Records(usize),
}

impl Default for FetchPartition {
    fn default() -> FetchPartition {
        FetchPartition {
            index: PartitionIndex::new(0),
            error: ErrorCode::None,
            high_watermark: Offset::NONE,
            last_stable: Offset::NONE,
            log_start: Offset::NONE,
            diverging: None,
            current_leader: None,
            aborted: None,
            preferred_replica: BrokerId::NONE,
            records_len: 0,
        }
    }
}

/// Encodes a Fetch response as a whole frame (size, header, body) in the request's version, as pieces between
/// which the record bytes go.
///
/// # Errors
/// It is longer than a frame can be.
///
/// # Panics
/// `request` is no Fetch.
pub fn encode_fetch(request: &RequestHeader, answer: &FetchAnswer) -> Result<Vec<Piece>, EncodeError> {
    assert_eq!(request.api, Api::Fetch, "encode_fetch: the answer to another request");
    let flexible = request.api.is_flexible(request.version);
    let mut out = Outline { version: request.version, flexible, bytes: vec![0; 4], pieces: Vec::new() };
    request.put_response(&mut out.bytes);
    out.answer(answer);
    let Outline { bytes, mut pieces, .. } = out;
    if !bytes.is_empty() {
        pieces.push(Piece::Owned(bytes));
    }
    let owned: usize =
        pieces.iter().map(|piece| if let Piece::Owned(bytes) = piece { bytes.len() } else { 0 }).sum();
    let records: usize =
        answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.records_len).sum();
    let Some(Piece::Owned(first)) = pieces.first_mut() else { unreachable!("a frame begins with its size") };
    let elsewhere = owned - first.len() + records;
    put_size(first, elsewhere).map_err(|reason| EncodeError { request: request.clone(), reason })?;
    Ok(pieces)
}

/// The response under construction.
struct Outline {
    version: i16,
    flexible: bool,
    /// Since the last record bytes.
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Outline {
    fn answer(&mut self, answer: &FetchAnswer) {
        self.i32(0); // throttle_time_ms
        if self.version >= 7 {
            self.i16(answer.error.unwrap_or(ErrorCode::None).code());
            self.i32(answer.session_id);
        }
        self.length(Some(answer.topics.len()));
        let mut number = 0;
        for topic in &answer.topics {
            self.topic(topic, &mut number);
        }
        if self.flexible {
            self.end_tags(answer);
        }
    }

    fn topic(&mut self, topic: &FetchTopic, number: &mut usize) {
        if self.version >= 13 {
            self.bytes.extend_from_slice(&topic.id.bytes());
        } else {
            self.text(Some(&topic.name));
        }
        self.length(Some(topic.partitions.len()));
        for partition in &topic.partitions {
            self.partition(partition, *number);
            *number += 1;
        }
        self.no_tags();
    }

    fn partition(&mut self, partition: &FetchPartition, number: usize) {
        self.i32(partition.index.get());
        self.i16(partition.error.code());
        self.i64(partition.high_watermark.get());
        self.i64(partition.last_stable.get());
        if self.version >= 5 {
            self.i64(partition.log_start.get());
        }
        self.length(partition.aborted.as_ref().map(Vec::len));
        for (producer, first) in partition.aborted.iter().flatten() {
            self.i64(producer.get());
            self.i64(first.get());
            self.no_tags();
        }
        if self.version >= 11 {
            self.i32(partition.preferred_replica.get());
        }
        self.length(Some(partition.records_len));
        if partition.records_len > 0 {
            self.pieces.push(Piece::Owned(std::mem::take(&mut self.bytes)));
            self.pieces.push(Piece::Records(number));
        }
        if self.flexible {
            self.partition_tags(partition);
        }
    }

    fn partition_tags(&mut self, partition: &FetchPartition) {
        let tags =
            usize::from(partition.diverging.is_some()) + usize::from(partition.current_leader.is_some());
        self.varint(tags);
        if let Some((epoch, end)) = partition.diverging {
            self.bytes.extend_from_slice(&[0, 13]); // tag 0 of 4 + 8 + 1 bytes
            self.i32(epoch.get());
            self.i64(end.get());
            self.no_tags();
        }
        if let Some((leader, epoch)) = partition.current_leader {
            self.bytes.extend_from_slice(&[1, 9]); // tag 1 of 4 + 4 + 1 bytes
            self.i32(leader.get());
            self.i32(epoch.get());
            self.no_tags();
        }
    }

    fn end_tags(&mut self, answer: &FetchAnswer) {
        if self.version < 16 || answer.node_endpoints.is_empty() {
            return self.no_tags();
        }
        let mut value =
            Outline { version: self.version, flexible: true, bytes: Vec::new(), pieces: Vec::new() };
        value.length(Some(answer.node_endpoints.len()));
        for node in &answer.node_endpoints {
            value.i32(node.id.get());
            value.text(Some(&node.host));
            value.i32(node.port.into());
            value.text(node.rack.as_deref());
            value.no_tags();
        }
        self.bytes.extend_from_slice(&[1, 0]); // one tag: 0
        self.varint(value.bytes.len());
        self.bytes.append(&mut value.bytes);
    }

    fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Of arrays and records; `None` is null. One that does not fit makes a frame that does not either, which
    /// `put_size` refuses.
    fn length(&mut self, len: Option<usize>) {
        match (self.flexible, len) {
            (true, len) => self.varint(len.map_or(0, |len| len + 1)),
            (false, len) => self.i32(len.map_or(-1, |len| i32::try_from(len).unwrap_or(i32::MAX))),
        }
    }

    fn text(&mut self, text: Option<&str>) {
        // A topic's name has at most 249 characters, a host 255, a rack what the operator wrote.
        let text = text.map(|text| &text.as_bytes()[..text.len().min(i16::MAX as usize)]);
        match (self.flexible, text) {
            (true, text) => self.varint(text.map_or(0, |text| text.len() + 1)),
            (false, text) => self.i16(text.map_or(-1, |text| text.len() as i16)),
        }
        self.bytes.extend_from_slice(text.unwrap_or_default());
    }

    fn varint(&mut self, value: usize) {
        put_varint(&mut self.bytes, value);
    }

    fn no_tags(&mut self) {
        if self.flexible {
            self.bytes.push(0);
        }
    }
}
