//! The records of Kafka's metadata log, as far as an [`crate::Image`] needs them.
//!
//! A value is: frame version (varint, 1), kind (varint), version of the kind (varint), then a flexible message. The
//! fields are those of the `*.json` schemas in `metadata/src/main/resources/common/metadata` of Apache Kafka.

use highwater_base::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, ProducerId, Uuid};

use super::MetadataError;
use super::cursor::Cursor;

/// One record.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Record<'a> {
    RegisterBroker(RegisteredBroker<'a>),
    UnregisterBroker {
        broker: BrokerId,
    },
    ChangeBroker {
        broker: BrokerId,
        /// -1 unfenced, 1 fenced, 0 as before.
        fenced: i8,
        directories: Option<Vec<Uuid>>,
    },
    Topic {
        name: &'a str,
        id: Uuid,
    },
    RemoveTopic {
        id: Uuid,
    },
    Partition(PartitionRecord),
    ChangePartition(PartitionChange),
    Config {
        resource: i8,
        name: &'a str,
        key: &'a str,
        value: Option<&'a str>,
    },
    Feature {
        name: &'a str,
        level: i16,
    },
    ProducerIds {
        next: ProducerId,
    },
    ClearElr {
        topic: &'a str,
    },
    Begin,
    End,
    Abort,
    /// Nothing that an image has.
    PassedOver(&'static str),
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct RegisteredBroker<'a> {
    pub(super) id: BrokerId,
    pub(super) epoch: BrokerEpoch,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) rack: Option<&'a str>,
    pub(super) fenced: bool,
    pub(super) directories: Vec<Uuid>,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct PartitionRecord {
    pub(super) topic: Uuid,
    pub(super) index: i32,
    pub(super) replicas: Vec<BrokerId>,
    pub(super) isr: Vec<BrokerId>,
    pub(super) elr: Vec<BrokerId>,
    pub(super) leader: BrokerId,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) partition_epoch: PartitionEpoch,
    pub(super) directories: Vec<Uuid>,
    pub(super) recovering: bool,
}

/// What is not said stays.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct PartitionChange {
    pub(super) topic: Uuid,
    pub(super) index: i32,
    pub(super) isr: Option<Vec<BrokerId>>,
    pub(super) leader: Option<BrokerId>,
    pub(super) replicas: Option<Vec<BrokerId>>,
    pub(super) recovering: Option<bool>,
    pub(super) elr: Option<Vec<BrokerId>>,
    pub(super) directories: Option<Vec<Uuid>>,
}

/// Kinds that an image has nothing of: their number, and what people call them. A version of them matters to nobody.
const PASSED_OVER: [(u32, &str); 13] = [
    (10, "delegation tokens"),
    (11, "SCRAM credentials"),
    (14, "client quotas"),
    (18, "access control entries"),
    (19, "access control entries"),
    (20, "no-ops"),
    (21, "ZooKeeper migration states"),
    (22, "SCRAM credentials"),
    (26, "delegation tokens"),
    (27, "controller registrations"),
    (29, "controller registrations"),
    (7, "fencing of brokers"),
    (8, "fencing of brokers"),
];

impl<'a> Record<'a> {
    /// From a record's value.
    pub(super) fn decode(value: &'a [u8]) -> Result<Record<'a>, MetadataError> {
        let mut from = Cursor::new(value);
        let frame = from.varint()?;
        if frame != 1 {
            return Err(MetadataError::Frame { found: frame });
        }
        let (kind, version) = (from.varint()?, from.varint()?);
        let newest = match kind {
            0 => 4,
            3 | 5 => 2,
            17 => 3,
            1 | 2 | 4 | 9 | 12 | 15 | 23 | 24 | 25 | 28 => 0,
            _ => {
                let known = PASSED_OVER.iter().find(|(number, _)| *number == kind);
                return known
                    .map(|(_, name)| Record::PassedOver(name))
                    .ok_or(MetadataError::Kind { found: kind });
            }
        };
        if version > newest {
            return Err(MetadataError::Version { kind, found: version, newest });
        }
        let record = match kind {
            0 => Record::RegisterBroker(register_broker(&mut from, version)?),
            1 => {
                let broker = BrokerId::new(from.i32()?);
                from.i64()?;
                from.no_tags()?;
                Record::UnregisterBroker { broker }
            }
            3 => Record::Partition(partition(&mut from, version)?),
            5 => Record::ChangePartition(change_partition(&mut from)?),
            17 => change_broker(&mut from)?,
            _ => small(&mut from, kind)?,
        };
        from.end()?;
        Ok(record)
    }
}

/// The kinds of a few fields.
fn small<'a>(from: &mut Cursor<'a>, kind: u32) -> Result<Record<'a>, MetadataError> {
    let record = match kind {
        2 => Record::Topic { name: from.text()?, id: from.id()? },
        4 => Record::Config {
            resource: from.i8()?,
            name: from.text()?,
            key: from.text()?,
            value: from.nullable_text()?,
        },
        9 => Record::RemoveTopic { id: from.id()? },
        12 => Record::Feature { name: from.text()?, level: from.i16()? },
        15 => {
            let (_broker, _epoch) = (from.i32()?, from.i64()?);
            Record::ProducerIds { next: ProducerId::new(from.i64()?) }
        }
        23 => Record::Begin,
        24 => Record::End,
        25 => Record::Abort,
        28 => Record::ClearElr { topic: from.text()? },
        other => unreachable!("kind {other} is none of the small ones"),
    };
    from.no_tags()?;
    Ok(record)
}

fn register_broker<'a>(from: &mut Cursor<'a>, version: u32) -> Result<RegisteredBroker<'a>, MetadataError> {
    let id = BrokerId::new(from.i32()?);
    if version >= 2 {
        from.bool()?;
    }
    let _incarnation = from.id()?;
    let epoch = BrokerEpoch::new(from.i64()?);
    let endpoints = from.list(7, |from| {
        let (_name, host, port, _protocol) = (from.text()?, from.text()?, from.u16()?, from.i16()?);
        from.no_tags()?;
        Ok((host, port))
    })?;
    from.list(6, |from| {
        let (_name, _least, _most) = (from.text()?, from.i16()?, from.i16()?);
        from.no_tags()
    })?;
    let rack = from.nullable_text()?;
    let fenced = from.bool()?;
    if version >= 1 {
        from.bool()?;
    }
    let mut directories = Vec::new();
    from.tags(|tag, from| {
        if tag == 0 {
            directories = from.ids()?.unwrap_or_default();
        }
        Ok(())
    })?;
    let (host, port) = endpoints.and_then(|all| all.first().copied()).unwrap_or(("", 0));
    Ok(RegisteredBroker { id, epoch, host, port, rack, fenced, directories })
}

fn change_broker<'a>(from: &mut Cursor<'a>) -> Result<Record<'a>, MetadataError> {
    let broker = BrokerId::new(from.i32()?);
    from.i64()?;
    let (mut fenced, mut directories) = (0, None);
    from.tags(|tag, from| {
        match tag {
            0 => fenced = from.i8()?,
            2 => directories = from.ids()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(Record::ChangeBroker { broker, fenced, directories })
}

fn partition(from: &mut Cursor<'_>, version: u32) -> Result<PartitionRecord, MetadataError> {
    let (index, topic) = (from.i32()?, from.id()?);
    let (replicas, isr) = (from.brokers()?.unwrap_or_default(), from.brokers()?.unwrap_or_default());
    let (_removing, _adding) = (from.brokers()?, from.brokers()?);
    let leader = BrokerId::new(from.i32()?);
    let leader_epoch = LeaderEpoch::new(from.i32()?);
    let partition_epoch = PartitionEpoch::new(from.i32()?);
    let directories = if version >= 1 { from.ids()?.unwrap_or_default() } else { Vec::new() };
    let (mut recovering, mut elr) = (false, Vec::new());
    from.tags(|tag, from| {
        match tag {
            0 => recovering = from.i8()? == 1,
            1 => elr = from.brokers()?.unwrap_or_default(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(PartitionRecord {
        topic,
        index,
        replicas,
        isr,
        elr,
        leader,
        leader_epoch,
        partition_epoch,
        directories,
        recovering,
    })
}

fn change_partition(from: &mut Cursor<'_>) -> Result<PartitionChange, MetadataError> {
    /// "The leader did not change."
    const SAME_LEADER: i32 = -2;
    let (index, topic) = (from.i32()?, from.id()?);
    let mut change = PartitionChange {
        topic,
        index,
        isr: None,
        leader: None,
        replicas: None,
        recovering: None,
        elr: None,
        directories: None,
    };
    from.tags(|tag, from| {
        match tag {
            0 => change.isr = from.brokers()?,
            1 => change.leader = Some(from.i32()?).filter(|id| *id != SAME_LEADER).map(BrokerId::new),
            2 => change.replicas = from.brokers()?,
            5 => change.recovering = Some(from.i8()?).filter(|state| *state >= 0).map(|state| state == 1),
            6 => change.elr = from.brokers()?,
            8 => change.directories = from.ids()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(change)
}
