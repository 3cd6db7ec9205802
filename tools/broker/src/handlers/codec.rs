//! Between our words and those of the codec crate.

use highwater_base::{BrokerId, Uuid};
use highwater_wire::ErrorCode;
use kafka_protocol::messages::{self, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::errors::Refusal;

pub(super) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

pub(super) fn broker_id(id: BrokerId) -> messages::BrokerId {
    messages::BrokerId(id.get())
}

pub(super) fn broker_ids(ids: &[BrokerId]) -> Vec<messages::BrokerId> {
    ids.iter().copied().map(broker_id).collect()
}

pub(super) fn from_broker_ids(ids: &[messages::BrokerId]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId::new(id.0)).collect()
}

pub(super) fn uuid(id: Uuid) -> uuid::Uuid {
    uuid::Uuid::from_bytes(id.bytes())
}

pub(super) fn from_uuid(id: uuid::Uuid) -> Uuid {
    Uuid::from_bytes(id.into_bytes())
}

/// Code and message of what became of something.
pub(super) fn outcome<T>(result: &Result<T, Refusal>) -> (i16, Option<StrBytes>) {
    match result {
        Ok(_) => (ErrorCode::None.code(), None),
        Err(refusal) => (refusal.code.code(), refusal.message.clone().map(text)),
    }
}

/// The bits of operations on a topic: all that Kafka has, because nobody is refused any yet.
pub(super) const TOPIC_OPERATIONS: i32 = 3576;

/// The same for the cluster.
pub(super) const CLUSTER_OPERATIONS: i32 = 8096;
