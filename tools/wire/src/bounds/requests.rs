//! The layouts of the requests that are served (kafka.md 7.5). A test holds them against the codec crate in every
//! version.

use super::schema::{
    Field, I8, I16, I32, I64, Kind, NULLABLE_TEXT, Struct, TEXT, Tag, UUID, array, field, values,
};
use crate::api::Api;

/// The layout of an API's request.
pub(super) fn schema(api: Api) -> &'static Struct {
    match api {
        Api::Produce => &PRODUCE,
        Api::Fetch => &FETCH,
        Api::ListOffsets => &LIST_OFFSETS,
        Api::Metadata => &METADATA,
        Api::ApiVersions => &API_VERSIONS,
        Api::CreateTopics => &CREATE_TOPICS,
        Api::DeleteTopics => &DELETE_TOPICS,
        Api::DeleteRecords => &DELETE_RECORDS,
        Api::InitProducerId => &INIT_PRODUCER_ID,
        Api::OffsetForLeaderEpoch => &OFFSET_FOR_LEADER_EPOCH,
        Api::DescribeConfigs => &DESCRIBE_CONFIGS,
        Api::AlterReplicaLogDirs => &ALTER_REPLICA_LOG_DIRS,
        Api::DescribeLogDirs => &DESCRIBE_LOG_DIRS,
        Api::CreatePartitions => &CREATE_PARTITIONS,
        Api::IncrementalAlterConfigs => &INCREMENTAL_ALTER_CONFIGS,
        Api::DescribeCluster => &DESCRIBE_CLUSTER,
    }
}

static PRODUCE: Struct = Struct::of(&[
    field("transactional_id", NULLABLE_TEXT),
    field("acks", I16),
    field("timeout_ms", I32),
    field(
        "topic_data",
        array(&Struct::of(&[
            field("name", TEXT).to(12),
            field("topic_id", UUID).from(13),
            field(
                "partition_data",
                array(&Struct::of(&[field("index", I32), field("records", Kind::Bytes)])),
            ),
        ])),
    ),
]);

static FETCH: Struct = Struct {
    fields: &[
        field("replica_id", I32).to(14),
        field("max_wait_ms", I32),
        field("min_bytes", I32),
        field("max_bytes", I32),
        field("isolation_level", I8),
        field("session_id", I32).from(7),
        field("session_epoch", I32).from(7),
        field("topics", array(&FETCH_TOPIC)),
        field("forgotten_topics_data", array(&FORGOTTEN_TOPIC)).from(7),
        field("rack_id", TEXT).from(11),
    ],
    tags: &[
        Tag { tag: 0, field: field("cluster_id", NULLABLE_TEXT) },
        Tag {
            tag: 1,
            field: field(
                "replica_state",
                Kind::Struct(&Struct::of(&[field("replica_id", I32), field("replica_epoch", I64)])),
            )
            .from(15),
        },
    ],
};

static FETCH_TOPIC: Struct = Struct::of(&[
    TOPIC_NAME_TO_12,
    TOPIC_ID_FROM_13,
    field(
        "partitions",
        array(&Struct {
            fields: &[
                field("partition", I32),
                field("current_leader_epoch", I32).from(9),
                field("fetch_offset", I64),
                field("last_fetched_epoch", I32).from(12),
                field("log_start_offset", I64).from(5),
                field("partition_max_bytes", I32),
            ],
            tags: &[
                Tag { tag: 0, field: field("replica_directory_id", UUID).from(17) },
                Tag { tag: 1, field: field("high_watermark", I64).from(18) },
            ],
        }),
    ),
]);

static FORGOTTEN_TOPIC: Struct =
    Struct::of(&[TOPIC_NAME_TO_12, TOPIC_ID_FROM_13, field("partitions", values(&I32))]);

const TOPIC_NAME_TO_12: Field = field("topic", TEXT).to(12);
const TOPIC_ID_FROM_13: Field = field("topic_id", UUID).from(13);

static LIST_OFFSETS: Struct = Struct::of(&[
    field("replica_id", I32),
    field("isolation_level", I8).from(2),
    field(
        "topics",
        array(&Struct::of(&[
            field("name", TEXT),
            field(
                "partitions",
                array(&Struct::of(&[
                    field("partition_index", I32),
                    field("current_leader_epoch", I32).from(4),
                    field("timestamp", I64),
                ])),
            ),
        ])),
    ),
    field("timeout_ms", I32).from(10),
]);

static METADATA: Struct = Struct::of(&[
    field(
        "topics",
        Kind::Array {
            of: &Struct::of(&[field("topic_id", UUID).from(10), field("name", Kind::Text { null_from: 10 })]),
            null_from: 1,
        },
    ),
    field("allow_auto_topic_creation", I8).from(4),
    field("include_cluster_authorized_operations", I8).from(8).to(10),
    field("include_topic_authorized_operations", I8).from(8),
]);

static API_VERSIONS: Struct = Struct::of(&[
    field("client_software_name", TEXT).from(3),
    field("client_software_version", TEXT).from(3),
]);

static CREATE_TOPICS: Struct = Struct::of(&[
    field(
        "topics",
        array(&Struct::of(&[
            field("name", TEXT),
            field("num_partitions", I32),
            field("replication_factor", I16),
            field(
                "assignments",
                array(&Struct::of(&[field("partition_index", I32), field("broker_ids", values(&I32))])),
            ),
            field("configs", array(&Struct::of(&[field("name", TEXT), field("value", NULLABLE_TEXT)]))),
        ])),
    ),
    field("timeout_ms", I32),
    field("validate_only", I8),
]);

static DELETE_TOPICS: Struct = Struct::of(&[
    field("topics", array(&Struct::of(&[field("name", NULLABLE_TEXT), field("topic_id", UUID)]))).from(6),
    field("topic_names", values(&TEXT)).to(5),
    field("timeout_ms", I32),
]);

static DELETE_RECORDS: Struct = Struct::of(&[
    field(
        "topics",
        array(&Struct::of(&[
            field("name", TEXT),
            field("partitions", array(&Struct::of(&[field("partition_index", I32), field("offset", I64)]))),
        ])),
    ),
    field("timeout_ms", I32),
]);

static INIT_PRODUCER_ID: Struct = Struct::of(&[
    field("transactional_id", NULLABLE_TEXT),
    field("transaction_timeout_ms", I32),
    field("producer_id", I64).from(3),
    field("producer_epoch", I16).from(3),
]);

static OFFSET_FOR_LEADER_EPOCH: Struct = Struct::of(&[
    field("replica_id", I32).from(3),
    field(
        "topics",
        array(&Struct::of(&[
            field("topic", TEXT),
            field(
                "partitions",
                array(&Struct::of(&[
                    field("partition", I32),
                    field("current_leader_epoch", I32),
                    field("leader_epoch", I32),
                ])),
            ),
        ])),
    ),
]);

static DESCRIBE_CONFIGS: Struct = Struct::of(&[
    field(
        "resources",
        array(&Struct::of(&[
            field("resource_type", I8),
            field("resource_name", TEXT),
            field("configuration_keys", Kind::Values { of: &TEXT, null_from: 0 }),
        ])),
    ),
    field("include_synonyms", I8),
    field("include_documentation", I8).from(3),
]);

static ALTER_REPLICA_LOG_DIRS: Struct = Struct::of(&[field(
    "dirs",
    array(&Struct::of(&[
        field("path", TEXT),
        field("topics", array(&Struct::of(&[field("name", TEXT), field("partitions", values(&I32))]))),
    ])),
)]);

static DESCRIBE_LOG_DIRS: Struct = Struct::of(&[field(
    "topics",
    Kind::Array { of: &Struct::of(&[field("topic", TEXT), field("partitions", values(&I32))]), null_from: 0 },
)]);

static CREATE_PARTITIONS: Struct = Struct::of(&[
    field(
        "topics",
        array(&Struct::of(&[
            field("name", TEXT),
            field("count", I32),
            field(
                "assignments",
                Kind::Array { of: &Struct::of(&[field("broker_ids", values(&I32))]), null_from: 0 },
            ),
        ])),
    ),
    field("timeout_ms", I32),
    field("validate_only", I8),
]);

static INCREMENTAL_ALTER_CONFIGS: Struct = Struct::of(&[
    field(
        "resources",
        array(&Struct::of(&[
            field("resource_type", I8),
            field("resource_name", TEXT),
            field(
                "configs",
                array(&Struct::of(&[
                    field("name", TEXT),
                    field("config_operation", I8),
                    field("value", NULLABLE_TEXT),
                ])),
            ),
        ])),
    ),
    field("validate_only", I8),
]);

static DESCRIBE_CLUSTER: Struct = Struct::of(&[
    field("include_cluster_authorized_operations", I8),
    field("endpoint_type", I8).from(1),
    field("include_fenced_brokers", I8).from(2),
]);
