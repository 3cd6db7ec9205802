//! The API table, for people.

use std::fmt::Write;

use crate::api::{APIS, ApiRow};

/// The text of `docs/PROTOCOL.md`, made from the API table; a test holds the file against it.
///
/// ```
/// assert!(highwater_wire::protocol_markdown().contains("| 1 | Fetch | 4-18 | 4-18 | 12 |"));
/// ```
pub fn protocol_markdown() -> String {
    let mut text = String::from(HEAD);
    for row in &APIS {
        let ApiRow { key, name, served_min, advertised_min, max, flexible_from, note, .. } = row;
        let _ = writeln!(
            text,
            "| {key} | {name} | {served_min}-{max} | {advertised_min}-{max} | {flexible_from} | {note} |"
        );
    }
    text.push_str(TAIL);
    text
}

const HEAD: &str = "\
# Protocol

What Highwater understands of Apache Kafka's wire protocol. The table is printed from the one in
`tools/wire/src/api.rs`; `tests/tests/protocol_doc.rs` holds this file against it. After changing the table, run
`HIGHWATER_BLESS=1 cargo test -p highwater-tests --test protocol_doc`.

Ranges are those of Apache Kafka 4.3. *Served* versions are answered, *listed* ones are what ApiVersions says;
from the *flexible* version on, lengths are varints and structs end with tagged fields.

| key | API | served | listed | flexible from | |
|---:|---|---|---|---|---|
";

const TAIL: &str = "
## Frames

- A frame is a size in four bytes and that many bytes, at most `socket.request.max.bytes` (100 MiB). A receive
  buffer doubles with what arrives; nothing is reserved for what a frame merely claims.
- Before a body is decoded, every count and length in it is held against the bytes that are left. A request has at
  most 262,144 array elements and 64 tagged fields that we do not know.
- A frame that is none, an API that is not listed, a version that is not served, and a body that claims what is not
  there close the connection, with one line in the log. Only ApiVersions is answered in any version.
- Responses leave in the order of their requests. `throttle_time_ms` is 0 always.

## Where this differs from Apache Kafka

| where | what |
|---|---|
| FindCoordinator, groups, transactions | not listed yet; InitProducerId with a transactional id gets INVALID_REQUEST(42), which no client retries |
| Fetch sessions | kept by the shard of the connection: over another one a reader may be told FETCH_SESSION_ID_NOT_FOUND(70), and begins anew; declined beyond 500,000 partitions in all sessions of a shard |
| Fetch from a follower (replica id of 0 or more) | CLUSTER_AUTHORIZATION_FAILED(31): there are no followers yet |
| AlterReplicaLogDirs | one partition of a shard is copied at a time; a move that the end of the process cut short is begun anew by the next start; a directory that is full ends its moves, and says so; appends to a partition wait while its copy takes its place |
| automatic creation by Metadata | waits for the topics and tells of them at once; 64 of one request, the others get LEADER_NOT_AVAILABLE(5) and are made when asked for again; never a topic of the broker's own |
| DescribeConfigs | at most 500,000 settings in one answer, then INVALID_REQUEST(42); loggers have no levels |
| Produce | a partition without records gets INVALID_RECORD(87) where Kafka closes the connection; errors come with a message |
| a transactional batch with a transactional id | INVALID_TXN_STATE(48): no transaction can be open |
| varints | longer than their value needs are refused |
| tagged fields | out of order, or with a size that is not their value's, are refused |
| `remote.storage.enable=true` | INVALID_CONFIG(40) until it is there |
| forwarding | none: the broker that is asked is the controller |
";
