//! Kafka's small text files: offset checkpoints, `partition.metadata`, `meta.properties`, the clean-shutdown marker.
//! Text in, text out; who writes a file does it by `.tmp`, sync, rename and a sync of the directory.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use highwater_base::{BrokerId, Offset, PartitionIndex, TopicPartition, Uuid};

/// The text of one of these files, without a copy: empty if it is no UTF-8, which none of them may be.
pub(crate) fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Why one of these files cannot be read.
///
/// ```
/// use highwater_engine::checkpoint_file::OffsetCheckpoint;
/// let error = OffsetCheckpoint::decode("0\n1\norders 0\n").unwrap_err();
/// assert_eq!(error.line, 3);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextError {
    /// Which line, from 1.
    pub line: usize,
    /// What was expected there.
    pub expected: String,
    /// What was found, cut to 80 characters.
    pub found: String,
}

impl TextError {
    fn new(line: usize, expected: impl Into<String>, found: &str) -> TextError {
        TextError { line, expected: expected.into(), found: found.chars().take(80).collect() }
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected {}, found {:?}", self.line, self.expected, self.found)
    }
}

impl std::error::Error for TextError {}

/// An offset for each of some partitions: `recovery-point-offset-checkpoint` and its sisters.
///
/// ```
/// use highwater_base::{Offset, PartitionIndex, TopicPartition};
/// use highwater_engine::checkpoint_file::OffsetCheckpoint;
/// let mut checkpoint = OffsetCheckpoint::default();
/// checkpoint.offsets.insert(TopicPartition::new("orders", PartitionIndex::new(0)), Offset::new(12));
/// assert_eq!(checkpoint.encode(), "0\n1\norders 0 12\n");
/// assert_eq!(OffsetCheckpoint::decode("0\n1\norders 0 12\n").unwrap(), checkpoint);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OffsetCheckpoint {
    /// By topic and partition.
    pub offsets: BTreeMap<TopicPartition, Offset>,
}

impl OffsetCheckpoint {
    /// The file's text.
    pub fn encode(&self) -> String {
        let mut out = format!("0\n{}\n", self.offsets.len());
        for (partition, offset) in &self.offsets {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{} {} {offset}", partition.topic, partition.partition);
        }
        out
    }

    /// From the file's text. A partition that stands there twice has the later offset, as in Kafka.
    pub fn decode(text: &str) -> Result<OffsetCheckpoint, TextError> {
        // Nothing is kept of a text before all of it was read.
        offset_lines(text)?.try_for_each(|line| line.map(drop))?;
        let offsets = offset_lines(text)?.collect::<Result<_, _>>()?;
        Ok(OffsetCheckpoint { offsets })
    }
}

/// The lines of an offset checkpoint, in file order.
pub fn offset_lines(
    text: &str,
) -> Result<impl Iterator<Item = Result<(TopicPartition, Offset), TextError>> + '_, TextError> {
    Ok(counted_lines(text)?.map(|(number, line)| {
        let mut words = line.split(' ');
        let parsed = (|| {
            let topic = words.next().filter(|topic| !topic.is_empty())?;
            let partition = words.next()?.parse().ok()?;
            let offset = words.next()?.parse().ok()?;
            let partition = TopicPartition::new(topic, PartitionIndex::new(partition));
            words.next().is_none().then_some((partition, Offset::new(offset)))
        })();
        parsed.ok_or_else(|| TextError::new(number, "a topic, a partition and an offset", line))
    }))
}

/// A text of version 0 with a count in its second line: the entries' lines, each with its number. A count that is
/// wrong is an error before the first. A text without any line has none: Kafka makes its files empty, and writes them later.
pub(crate) fn counted_lines(text: &str) -> Result<impl Iterator<Item = (usize, &str)>, TextError> {
    let mut lines = text.lines();
    if !text.is_empty() {
        let version = lines.next().unwrap_or_default();
        if version != "0" {
            return Err(TextError::new(1, "version 0", version));
        }
        let count = lines.next().unwrap_or_default();
        let expected = count.parse::<usize>().map_err(|_| TextError::new(2, "a count of entries", count))?;
        let found = lines.clone().count();
        if found != expected {
            let line = found.min(expected) + 3;
            return Err(TextError::new(line, format!("{expected} entries"), &format!("{found} entries")));
        }
    }
    Ok(lines.enumerate().map(|(i, line)| (i + 3, line)))
}

/// The text of `partition.metadata`.
///
/// ```
/// use highwater_base::Uuid;
/// use highwater_engine::checkpoint_file::{encode_partition_metadata, decode_partition_metadata};
/// let text = encode_partition_metadata(Uuid::from_halves(1, 2));
/// assert_eq!(text.len(), 43);
/// assert_eq!(decode_partition_metadata(&text).unwrap(), Uuid::from_halves(1, 2));
/// ```
pub fn encode_partition_metadata(topic_id: Uuid) -> String {
    format!("version: 0\ntopic_id: {topic_id}")
}

/// The topic's id from the text of `partition.metadata`.
pub fn decode_partition_metadata(text: &str) -> Result<Uuid, TextError> {
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default();
    if version.strip_prefix("version:").map(str::trim) != Some("0") {
        return Err(TextError::new(1, "`version: 0`", version));
    }
    let id = lines.next().unwrap_or_default();
    id.strip_prefix("topic_id:")
        .and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| TextError::new(2, "`topic_id: ` and a Kafka UUID", id))
}

/// The text of `highwater.moved`: which data directory a complete copy came from.
pub(crate) fn encode_moved(from: Uuid) -> Vec<u8> {
    format!("version: 0\nfrom: {from}\n").into_bytes()
}

/// The data directory that [`encode_moved`] named; none if the text is torn.
pub(crate) fn decode_moved(bytes: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.strip_prefix("version: 0\nfrom: ")?.strip_suffix('\n')?.parse().ok()
}

/// What `meta.properties` says of a data directory.
///
/// ```
/// use highwater_base::{BrokerId, Uuid};
/// use highwater_engine::checkpoint_file::MetaProperties;
/// let meta = MetaProperties {
///     version: 1,
///     cluster_id: Some("abc".into()),
///     node_id: Some(BrokerId::new(1)),
///     directory_id: Some(Uuid::from_halves(0, 500)),
///     others: Default::default(),
/// };
/// assert_eq!(MetaProperties::decode(&meta.encode()).unwrap(), meta);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MetaProperties {
    /// 1 in KRaft times, 0 before.
    pub version: i32,
    /// The cluster.
    pub cluster_id: Option<String>,
    /// The node (in version 0 `broker.id`).
    pub node_id: Option<BrokerId>,
    /// This directory.
    pub directory_id: Option<Uuid>,
    /// Keys that are not known here, kept.
    pub others: BTreeMap<String, String>,
}

impl MetaProperties {
    /// The file's text.
    pub fn encode(&self) -> String {
        let mut out = String::from("#\n#written by highwater\n");
        let mut put = |key: &str, value: &str| {
            let _ = writeln!(out, "{key}={}", escape(value)); // Writing to a String cannot fail.
        };
        if let Some(id) = self.node_id {
            put(if self.version == 0 { "broker.id" } else { "node.id" }, &id.to_string());
        }
        if let Some(id) = self.directory_id {
            put("directory.id", &id.to_string());
        }
        put("version", &self.version.to_string());
        if let Some(id) = &self.cluster_id {
            put("cluster.id", id);
        }
        for (key, value) in &self.others {
            put(key, value);
        }
        out
    }

    /// From the file's text.
    pub fn decode(text: &str) -> Result<MetaProperties, TextError> {
        let mut meta = MetaProperties::default();
        let known = ["version", "cluster.id", "node.id", "broker.id", "directory.id"];
        for (i, line, key, value) in properties(text) {
            let error = |expected: &str| TextError::new(i, expected, line);
            match key.as_str() {
                "version" => meta.version = value.parse().map_err(|_| error("a version number"))?,
                "cluster.id" => meta.cluster_id = Some(value),
                "node.id" | "broker.id" => {
                    let id = value.parse().map_err(|_| error("a node's number"))?;
                    meta.node_id = Some(BrokerId::new(id));
                }
                "directory.id" => meta.directory_id = Some(value.parse().map_err(|_| error("a Kafka UUID"))?),
                _ => {}
            }
        }
        if !(0..=1).contains(&meta.version) {
            return Err(TextError::new(1, "version 0 or 1", &meta.version.to_string()));
        }
        // Nothing more is kept of a text before all of it was read.
        let others = properties(text).filter(|(_, _, key, _)| !known.contains(&key.as_str()));
        meta.others = others.map(|(_, _, key, value)| (key, value)).collect();
        Ok(meta)
    }
}

/// The pairs of a Java properties text: line number, line, key, value. Escapes of one character are undone.
pub fn properties(text: &str) -> impl Iterator<Item = (usize, &str, String, String)> {
    text.lines().enumerate().filter_map(|(i, line)| {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', '!']) {
            return None;
        }
        let (key, value) = trimmed.split_once('=').unwrap_or((trimmed, ""));
        Some((i + 1, line, unescape(key.trim_end()), unescape(value.trim_start())))
    })
}

/// The text of `.kafka_cleanshutdown`.
///
/// ```
/// use highwater_engine::checkpoint_file::{decode_clean_shutdown, encode_clean_shutdown};
/// assert_eq!(encode_clean_shutdown(303), r#"{"version":0,"brokerEpoch":303}"#);
/// assert_eq!(decode_clean_shutdown(r#"{"version":0,"brokerEpoch":303}"#).unwrap(), 303);
/// ```
pub fn encode_clean_shutdown(broker_epoch: i64) -> String {
    format!(r#"{{"version":0,"brokerEpoch":{broker_epoch}}}"#)
}

/// The broker epoch from the text of `.kafka_cleanshutdown`; -1 from the empty file that old versions wrote.
pub fn decode_clean_shutdown(text: &str) -> Result<i64, TextError> {
    if text.trim().is_empty() {
        return Ok(-1);
    }
    let error = || TextError::new(1, r#"{"version":0,"brokerEpoch":...}"#, text);
    let body = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(error)?;
    let (mut version, mut epoch) = (None, None);
    for pair in body.split(',') {
        let (key, value) = pair.split_once(':').ok_or_else(error)?;
        let value = value.trim().parse::<i64>().map_err(|_| error())?;
        match key.trim() {
            r#""version""# => version = Some(value),
            r#""brokerEpoch""# => epoch = Some(value),
            _ => return Err(error()),
        }
    }
    epoch.filter(|_| version == Some(0)).ok_or_else(error)
}

fn escape(value: &str) -> String {
    let mut out = String::new();
    for c in value.chars() {
        if matches!(c, '\\' | ':' | '=' | '#' | '!') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_mark_of_a_complete_copy_is_none() {
        let from = Uuid::from_halves(3, 4);
        let whole = encode_moved(from);
        assert_eq!(decode_moved(&whole), Some(from));
        for len in 0..whole.len() {
            assert_eq!(decode_moved(&whole[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn damaged_checkpoints_are_refused_with_their_line() {
        for (text, line) in [
            ("\n", 1),
            ("1\n0\n", 1),
            ("0\n-1\n", 2),
            ("0\n1000000000\n", 3),
            ("0\n0\norders 0 1\n", 3),
            ("0\n1\norders 0 1 2\n", 3),
            ("0\n1\norders zero 1\n", 3),
            ("0\n2\na 0 1\n 0 1\n", 4),
        ] {
            assert_eq!(OffsetCheckpoint::decode(text).unwrap_err().line, line, "{text:?}");
        }
        // As Kafka makes it, and leaves it until there is something to say.
        assert_eq!(OffsetCheckpoint::decode(""), Ok(OffsetCheckpoint::default()));
    }

    #[test]
    fn partition_metadata_of_another_version_is_refused() {
        assert_eq!(
            decode_partition_metadata("version: 1\ntopic_id: AAECAwQFRgeICQoLDA0ODw").unwrap_err().line,
            1
        );
        assert_eq!(decode_partition_metadata("version: 0\ntopic_id: x").unwrap_err().line, 2);
        assert_eq!(decode_partition_metadata("version: 0\n").unwrap_err().line, 2);
    }

    #[test]
    fn kafka_s_meta_properties_are_read() {
        let text = "#\n#Tue Nov 24 10:00:00 UTC 2026\nnode.id=1\ndirectory.id=AAECAwQFRgeICQoLDA0ODw\nversion=1\n\
                    cluster.id=x\\:y\n";
        let meta = MetaProperties::decode(text).unwrap();
        assert_eq!(meta.cluster_id.as_deref(), Some("x:y"));
        assert_eq!(meta.node_id, Some(BrokerId::new(1)));
        assert_eq!(MetaProperties::decode(&meta.encode()), Ok(meta));
        assert!(MetaProperties::decode("version=2\n").is_err());
    }

    #[test]
    fn a_damaged_clean_shutdown_marker_is_refused() {
        assert_eq!(decode_clean_shutdown(""), Ok(-1));
        for text in ["{", "{}", r#"{"version":1,"brokerEpoch":3}"#, r#"{"version":0}"#, "x"] {
            assert!(decode_clean_shutdown(text).is_err(), "{text}");
        }
    }
}
