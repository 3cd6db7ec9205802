//! The APIs that are served, in one table: everything about versions is read from here.

use kafka_protocol::messages::ApiKey;

/// An API that the broker serves.
///
/// ```
/// use highwater_wire::Api;
/// assert_eq!(Api::from_key(1), Some(Api::Fetch));
/// assert_eq!(Api::from_key(10), None); // FindCoordinator: groups come later
/// assert!(Api::Produce.serves(3) && !Api::Produce.serves(2));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Api {
    /// Writes record batches.
    Produce,
    /// Reads record batches.
    Fetch,
    /// Finds offsets by time.
    ListOffsets,
    /// Brokers, topics and partitions.
    Metadata,
    /// What the broker serves.
    ApiVersions,
    /// Creates topics.
    CreateTopics,
    /// Deletes topics.
    DeleteTopics,
    /// Forgets records below an offset.
    DeleteRecords,
    /// Gives an idempotent producer its id.
    InitProducerId,
    /// Where a leader epoch ends.
    OffsetForLeaderEpoch,
    /// Settings of topics and brokers.
    DescribeConfigs,
    /// Moves replicas between data directories.
    AlterReplicaLogDirs,
    /// Data directories and what lies in them.
    DescribeLogDirs,
    /// Adds partitions.
    CreatePartitions,
    /// Changes settings one by one.
    IncrementalAlterConfigs,
    /// The cluster's id, controller and brokers.
    DescribeCluster,
}

/// One row of the table.
///
/// ```
/// use highwater_wire::Api;
/// let row = Api::Produce.row();
/// // librdkafka compresses only if Produce is listed from 0 (KAFKA-18659), though 0-2 are refused.
/// assert_eq!((row.advertised_min, row.served_min, row.max), (0, 3, 13));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApiRow {
    /// Which API.
    pub api: Api,
    /// Its key on the wire.
    pub key: i16,
    /// Its name in Kafka.
    pub name: &'static str,
    /// The oldest version that is served.
    pub served_min: i16,
    /// The oldest version that ApiVersions lists; not above `served_min`.
    pub advertised_min: i16,
    /// The newest version, served and listed.
    pub max: i16,
    /// From this version on, lengths are varints and structs end with tagged fields.
    pub flexible_from: i16,
    /// The newest version whose layout the codec crate knows; later ones up to `max` have the same layout, but for one
    /// field of a DescribeLogDirs answer.
    codec_max: i16,
    /// What there is to say about the range.
    pub note: &'static str,
}

const fn row(api: Api, key: i16, name: &'static str, versions: (i16, i16), flexible_from: i16) -> ApiRow {
    ApiRow {
        api,
        key,
        name,
        served_min: versions.0,
        advertised_min: versions.0,
        max: versions.1,
        flexible_from,
        codec_max: versions.1,
        note: "",
    }
}

/// Every API, by key, with the ranges of Apache Kafka 4.3.
///
/// ```
/// assert!(highwater_wire::APIS.is_sorted_by_key(|row| row.key));
/// ```
pub const APIS: [ApiRow; 16] = [
    ApiRow {
        advertised_min: 0,
        note: "listed from 0, though 0-2 are refused: librdkafka compresses only if it is (KAFKA-18659)",
        ..row(Api::Produce, 0, "Produce", (3, 13), 9)
    },
    row(Api::Fetch, 1, "Fetch", (4, 18), 12),
    ApiRow {
        codec_max: 10,
        note: "no tiered storage: timestamps -5 and -6 find nothing",
        ..row(Api::ListOffsets, 2, "ListOffsets", (1, 11), 6)
    },
    row(Api::Metadata, 3, "Metadata", (0, 13), 9),
    ApiRow {
        note: "a newer version is answered with error 35 in a version 0 body; the response header is version 0 always",
        ..row(Api::ApiVersions, 18, "ApiVersions", (0, 4), 3)
    },
    row(Api::CreateTopics, 19, "CreateTopics", (2, 7), 5),
    row(Api::DeleteTopics, 20, "DeleteTopics", (1, 6), 4),
    row(Api::DeleteRecords, 21, "DeleteRecords", (0, 2), 2),
    ApiRow {
        note: "a transactional id is refused: there is no transaction coordinator yet",
        ..row(Api::InitProducerId, 22, "InitProducerId", (0, 5), 2)
    },
    row(Api::OffsetForLeaderEpoch, 23, "OffsetForLeaderEpoch", (2, 4), 4),
    row(Api::DescribeConfigs, 32, "DescribeConfigs", (1, 4), 4),
    row(Api::AlterReplicaLogDirs, 34, "AlterReplicaLogDirs", (1, 2), 2),
    ApiRow { codec_max: 4, ..row(Api::DescribeLogDirs, 35, "DescribeLogDirs", (1, 5), 2) },
    ApiRow {
        note: "grow only: fewer partitions than there are is INVALID_PARTITIONS",
        ..row(Api::CreatePartitions, 37, "CreatePartitions", (0, 3), 2)
    },
    row(Api::IncrementalAlterConfigs, 44, "IncrementalAlterConfigs", (0, 1), 1),
    row(Api::DescribeCluster, 60, "DescribeCluster", (0, 2), 0),
];

impl Api {
    /// The API with this key, if it is served.
    pub fn from_key(key: i16) -> Option<Api> {
        APIS.iter().find(|row| row.key == key).map(|row| row.api)
    }

    /// Its row.
    pub fn row(self) -> &'static ApiRow {
        APIS.iter().find(|row| row.api == self).expect("every Api has a row: see the test")
    }

    /// Its key on the wire.
    pub fn key(self) -> i16 {
        self.row().key
    }

    /// Its name in Kafka.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Whether this version is served.
    pub fn serves(self, version: i16) -> bool {
        let row = self.row();
        (row.served_min..=row.max).contains(&version)
    }

    /// Whether this version has varint lengths and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.row().flexible_from
    }

    /// The version in whose layout the codec crate reads and writes `version`.
    pub(crate) fn codec_version(self, version: i16) -> i16 {
        version.min(self.row().codec_max)
    }

    pub(crate) fn codec_key(self) -> ApiKey {
        match self {
            Api::Produce => ApiKey::Produce,
            Api::Fetch => ApiKey::Fetch,
            Api::ListOffsets => ApiKey::ListOffsets,
            Api::Metadata => ApiKey::Metadata,
            Api::ApiVersions => ApiKey::ApiVersions,
            Api::CreateTopics => ApiKey::CreateTopics,
            Api::DeleteTopics => ApiKey::DeleteTopics,
            Api::DeleteRecords => ApiKey::DeleteRecords,
            Api::InitProducerId => ApiKey::InitProducerId,
            Api::OffsetForLeaderEpoch => ApiKey::OffsetForLeaderEpoch,
            Api::DescribeConfigs => ApiKey::DescribeConfigs,
            Api::AlterReplicaLogDirs => ApiKey::AlterReplicaLogDirs,
            Api::DescribeLogDirs => ApiKey::DescribeLogDirs,
            Api::CreatePartitions => ApiKey::CreatePartitions,
            Api::IncrementalAlterConfigs => ApiKey::IncrementalAlterConfigs,
            Api::DescribeCluster => ApiKey::DescribeCluster,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_agrees_with_the_codec_and_with_itself() {
        for row in &APIS {
            assert_eq!(row.api.row(), row, "two rows for {}", row.name);
            assert_eq!(Api::from_key(row.key), Some(row.api));
            let key = row.api.codec_key();
            assert_eq!(key as i16, row.key, "{}", row.name);
            assert!(row.advertised_min <= row.served_min && row.served_min <= row.codec_max, "{}", row.name);
            assert!(row.codec_max <= row.max, "{}", row.name);
            let known = key.valid_versions();
            assert!(known.min <= row.served_min && row.codec_max <= known.max, "{}: {known:?}", row.name);
            for version in row.served_min..=row.codec_max {
                let flexible = key.request_header_version(version) >= 2;
                assert_eq!(row.api.is_flexible(version), flexible, "{} {version}", row.name);
            }
        }
    }

    #[test]
    fn groups_and_telemetry_are_not_listed() {
        for key in [8, 9, 10, 11, 12, 13, 14, 71, 72, -1, i16::MAX, i16::MIN] {
            assert_eq!(Api::from_key(key), None);
        }
    }
}
