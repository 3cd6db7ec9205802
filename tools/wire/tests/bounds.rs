//! Nothing that a frame merely claims is allocated, whatever the API and version: the check that comes before the
//! codec crate, held against that crate.

use allocation_counter::measure;
use bytes::{Bytes, BytesMut};
use highwater_base::Prng;
use highwater_wire::{APIS, Api, Request, check_bounds};
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn name() -> TopicName {
    TopicName(text("orders"))
}

/// A request with every field that its version has, with two elements in each array.
fn sample(api: Api, version: i16) -> RequestKind {
    let named = |from: i16| if version < from { name() } else { TopicName::default() };
    let tags = tags(api, version);
    match api {
        Api::Produce => {
            let partition = |i| {
                let records = (i == 0).then(|| Bytes::from_static(b"a batch, opaque"));
                PartitionProduceData::default().with_index(i).with_records(records)
            };
            let topic = TopicProduceData::default()
                .with_name(named(13))
                .with_partition_data(vec![partition(0), partition(1)])
                .with_unknown_tagged_fields(tags);
            let id = TransactionalId(text("tx"));
            RequestKind::Produce(
                ProduceRequest::default()
                    .with_transactional_id(Some(id))
                    .with_acks(-1)
                    .with_timeout_ms(30_000)
                    .with_topic_data(vec![topic.clone(), topic]),
            )
        }
        Api::Fetch => RequestKind::Fetch(fetch(version, named(13)).with_unknown_tagged_fields(tags)),
        Api::ListOffsets => {
            let partition = ListOffsetsPartition::default().with_timestamp(-1).with_partition_index(3);
            let topic = ListOffsetsTopic::default()
                .with_name(name())
                .with_partitions(vec![partition.clone(), partition])
                .with_unknown_tagged_fields(tags);
            let request = ListOffsetsRequest::default().with_topics(vec![topic.clone(), topic]);
            RequestKind::ListOffsets(if version >= 10 { request.with_timeout_ms(7) } else { request })
        }
        Api::Metadata => {
            let topic = MetadataRequestTopic::default().with_name(Some(name()));
            let topics = vec![topic.clone(), topic.with_unknown_tagged_fields(tags)];
            RequestKind::Metadata(MetadataRequest::default().with_topics(Some(topics)))
        }
        Api::ApiVersions if version < 3 => RequestKind::ApiVersions(ApiVersionsRequest::default()),
        Api::ApiVersions => RequestKind::ApiVersions(
            ApiVersionsRequest::default()
                .with_client_software_name(text("abc"))
                .with_client_software_version(text("1.0"))
                .with_unknown_tagged_fields(tags),
        ),
        _ => admin_sample(api, version),
    }
}

/// A tagged field that nobody knows, where the version has any.
fn tags(api: Api, version: i16) -> std::collections::BTreeMap<i32, Bytes> {
    let unknown = api.is_flexible(version).then(|| (9_000, Bytes::from_static(b"unknown")));
    unknown.into_iter().collect()
}

fn admin_sample(api: Api, version: i16) -> RequestKind {
    let tags = tags(api, version);
    match api {
        Api::CreateTopics => {
            let config = |i| {
                let value = (i == 0).then(|| text("1"));
                CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(value)
            };
            let assignment =
                CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
            let topic = CreatableTopic::default()
                .with_name(name())
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_assignments(vec![assignment.clone(), assignment])
                .with_configs((0..2).map(config).collect())
                .with_unknown_tagged_fields(tags);
            RequestKind::CreateTopics(CreateTopicsRequest::default().with_topics(vec![topic.clone(), topic]))
        }
        Api::DeleteTopics if version < 6 => {
            RequestKind::DeleteTopics(DeleteTopicsRequest::default().with_topic_names(vec![name(), name()]))
        }
        Api::DeleteTopics => {
            let topics = [Some(name()), None].map(|name| DeleteTopicState::default().with_name(name));
            RequestKind::DeleteTopics(
                DeleteTopicsRequest::default().with_topics(topics.to_vec()).with_unknown_tagged_fields(tags),
            )
        }
        Api::DeleteRecords => {
            let partitions = vec![DeleteRecordsPartition::default(); 2];
            let topic = DeleteRecordsTopic::default().with_name(name()).with_partitions(partitions);
            let topics = vec![topic.clone(), topic.with_unknown_tagged_fields(tags)];
            RequestKind::DeleteRecords(DeleteRecordsRequest::default().with_topics(topics))
        }
        Api::InitProducerId => RequestKind::InitProducerId(
            InitProducerIdRequest::default()
                .with_transactional_id(Some(TransactionalId(text("tx"))))
                .with_unknown_tagged_fields(tags),
        ),
        Api::OffsetForLeaderEpoch => {
            let partitions = vec![OffsetForLeaderPartition::default(); 2];
            let topic = OffsetForLeaderTopic::default().with_topic(name()).with_partitions(partitions);
            let topics = vec![topic.clone(), topic.with_unknown_tagged_fields(tags)];
            RequestKind::OffsetForLeaderEpoch(OffsetForLeaderEpochRequest::default().with_topics(topics))
        }
        Api::DescribeConfigs => {
            let resource = DescribeConfigsResource::default().with_resource_name(text("orders"));
            let keyed = resource.clone().with_configuration_keys(Some(vec![text("a"), text("b")]));
            let all = resource.with_configuration_keys(None).with_unknown_tagged_fields(tags);
            RequestKind::DescribeConfigs(DescribeConfigsRequest::default().with_resources(vec![keyed, all]))
        }
        Api::AlterReplicaLogDirs => {
            let topic = AlterReplicaLogDirTopic::default().with_name(name()).with_partitions(vec![1, 2]);
            let dir =
                AlterReplicaLogDir::default().with_path(text("/a")).with_topics(vec![topic.clone(), topic]);
            let dirs = vec![dir.clone(), dir.with_unknown_tagged_fields(tags)];
            RequestKind::AlterReplicaLogDirs(AlterReplicaLogDirsRequest::default().with_dirs(dirs))
        }
        Api::DescribeLogDirs => {
            let topic = DescribableLogDirTopic::default().with_topic(name()).with_partitions(vec![1, 2]);
            let topics = vec![topic.clone(), topic.with_unknown_tagged_fields(tags)];
            RequestKind::DescribeLogDirs(DescribeLogDirsRequest::default().with_topics(Some(topics)))
        }
        Api::CreatePartitions => {
            let brokers =
                CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
            let topic = CreatePartitionsTopic::default().with_name(name()).with_assignments(None);
            let placed = topic.clone().with_assignments(Some(vec![brokers.clone(), brokers]));
            let topics = vec![placed, topic.with_unknown_tagged_fields(tags)];
            RequestKind::CreatePartitions(CreatePartitionsRequest::default().with_topics(topics))
        }
        Api::IncrementalAlterConfigs => {
            let config = AlterableConfig::default().with_name(text("retention.ms"));
            let configs = vec![config.clone().with_value(Some(text("1"))), config.with_value(None)];
            let resource =
                AlterConfigsResource::default().with_resource_name(text("orders")).with_configs(configs);
            let resources = vec![resource.clone(), resource.with_unknown_tagged_fields(tags)];
            RequestKind::IncrementalAlterConfigs(
                IncrementalAlterConfigsRequest::default().with_resources(resources),
            )
        }
        Api::DescribeCluster => {
            RequestKind::DescribeCluster(DescribeClusterRequest::default().with_unknown_tagged_fields(tags))
        }
        other => panic!("no sample for {other:?}"),
    }
}

fn fetch(version: i16, name: TopicName) -> FetchRequest {
    let mut partition = FetchPartition::default().with_partition(2).with_fetch_offset(10);
    if version >= 17 {
        partition.replica_directory_id = "c81f2d9e-6d5b-4f4a-9f0e-6d9c3a1b2c3d".parse().expect("a UUID");
    }
    if version >= 18 {
        partition.high_watermark = 10;
    }
    let partitions = vec![partition.clone(), partition];
    let topic = FetchTopic::default().with_topic(name.clone()).with_partitions(partitions);
    let mut request = FetchRequest::default().with_max_wait_ms(500).with_topics(vec![topic.clone(), topic]);
    if version >= 7 {
        let forgotten = ForgottenTopic::default().with_topic(name).with_partitions(vec![1, 2]);
        request.forgotten_topics_data = vec![forgotten.clone(), forgotten];
    }
    if version >= 11 {
        request.rack_id = text("rack");
    }
    if version >= 12 {
        request.cluster_id = Some(text("cluster"));
    }
    if version >= 15 {
        request.replica_state = ReplicaState::default().with_replica_id(BrokerId(-2)).with_replica_epoch(4);
    }
    request
}

fn encoded(api: Api, version: i16) -> Vec<u8> {
    // The newest that the codec crate knows; the next one has the same layout.
    let known = match api {
        Api::ListOffsets => version.min(10),
        Api::DescribeLogDirs => version.min(4),
        _ => version,
    };
    let mut body = BytesMut::new();
    sample(api, version).encode(&mut body, known).unwrap_or_else(|e| panic!("{api:?} {version}: {e:?}"));
    body.to_vec()
}

fn frame(api: Api, version: i16, body: &[u8]) -> Bytes {
    let mut frame = api.key().to_be_bytes().to_vec();
    frame.extend(version.to_be_bytes());
    frame.extend([0, 0, 0, 7, 0, 2, b'c', b'l']);
    frame.extend(if api.is_flexible(version) { &[0][..] } else { &[] });
    frame.extend(body);
    frame.into()
}

fn every_version() -> impl Iterator<Item = (Api, i16)> {
    APIS.iter().flat_map(|row| (row.served_min..=row.max).map(|version| (row.api, version)))
}

/// What decoding may allocate at most for a frame of this length: an element of two bytes becomes one of about a
/// hundred, and an error has a text.
fn allowance(len: usize) -> u64 {
    len as u64 * 64 + 4096
}

#[test]
fn every_version_of_every_request_passes_and_decodes_to_what_was_sent() {
    for (api, version) in every_version() {
        let body = encoded(api, version);
        check_bounds(api, version, &body).unwrap_or_else(|e| panic!("{api:?} {version}: {e}"));
        let request = Request::decode(frame(api, version, &body)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((request.header.api, request.header.version), (api, version));
        assert_eq!(request.body, sample(api, version), "{api:?} {version}");
    }
}

#[test]
fn every_truncation_is_refused_without_allocating() {
    for (api, version) in every_version() {
        let body = encoded(api, version);
        for len in 0..body.len() {
            let mut refused = false;
            let info = measure(|| refused = check_bounds(api, version, &body[..len]).is_err());
            assert!(refused, "{api:?} {version} cut to {len} of {}", body.len());
            assert_eq!(info.count_total, 0, "{api:?} {version} cut to {len}");
        }
    }
}

#[test]
fn every_length_replaced_by_a_huge_one_is_refused_or_harmless() {
    let huge: [&[u8]; 8] = [
        &i32::MAX.to_be_bytes(),
        &i32::MIN.to_be_bytes(),
        &100_000_000_i32.to_be_bytes(),
        &(-2_i32).to_be_bytes(),
        &i16::MAX.to_be_bytes(),
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0x7f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    ];
    for (api, version) in every_version() {
        let body = encoded(api, version);
        for at in 0..=body.len() {
            for value in huge {
                // In place of as many bytes, and pushed in before them, so that varints are replaced too.
                for replaced in [value.len(), 1, 0] {
                    let rest = &body[(at + replaced).min(body.len())..];
                    let damaged = [&body[..at], value, rest].concat();
                    bounded(api, version, &damaged, &format!("{value:x?} at {at}"));
                }
            }
        }
    }
}

#[test]
fn ten_thousand_seeded_mutations_of_each_request_stay_bounded() {
    let mut prng = Prng::new(0x5eed);
    for row in &APIS {
        for _ in 0..10_000 {
            let versions = (row.max - row.served_min + 1) as u64;
            let version = row.served_min + prng.below(versions) as i16;
            let mut body = encoded(row.api, version);
            for _ in 0..=prng.below(4) {
                let at = prng.below(body.len() as u64 + 1) as usize;
                match prng.below(4) {
                    0 => body.truncate(at),
                    1 => body.insert(at, prng.next_u64() as u8),
                    2 if at < body.len() => body[at] = [0, 0x7f, 0x80, 0xff][prng.below(4) as usize],
                    _ if at < body.len() => body[at] ^= 1 << prng.below(8),
                    _ => {}
                }
                if body.is_empty() {
                    break;
                }
            }
            bounded(row.api, version, &body, "a mutation");
        }
    }
}

/// Whatever this body is, decoding it allocates in proportion to it and does not panic.
fn bounded(api: Api, version: i16, body: &[u8], what: &str) {
    let frame = frame(api, version, body);
    let allowance = allowance(frame.len());
    let info = measure(|| drop(Request::decode(frame.clone())));
    assert!(
        info.bytes_max <= allowance,
        "{api:?} {version}, {what}: {} bytes for {}",
        info.bytes_max,
        frame.len()
    );
}

#[test]
fn more_unknown_tags_or_elements_than_a_request_may_have_are_refused() {
    // ApiVersions 3: two texts, then tags in ascending order, each of no bytes.
    let tagged = |count: u8| {
        [&b"\x04abc\x041.0"[..], &[count], &(0..count).flat_map(|tag| [tag, 0]).collect::<Vec<_>>()].concat()
    };
    assert!(check_bounds(Api::ApiVersions, 3, &tagged(64)).is_ok());
    assert!(check_bounds(Api::ApiVersions, 3, &tagged(65)).is_err());
    for tags in [&[2, 5, 0, 5, 0][..], &[2, 5, 0, 4, 0], &[1, 5, 1], &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
        assert!(check_bounds(Api::ApiVersions, 3, &[b"\x04abc\x041.0", tags].concat()).is_err(), "{tags:x?}");
    }
    let topics = |count: usize| {
        let mut body = (count as i32).to_be_bytes().to_vec();
        body.resize(4 + 2 * count, 0);
        body
    };
    assert!(check_bounds(Api::Metadata, 1, &topics(1 << 18)).is_ok());
    assert!(check_bounds(Api::Metadata, 1, &topics((1 << 18) + 1)).is_err());
}

#[test]
fn a_known_tag_whose_size_is_not_that_of_its_value_is_refused() {
    let body = encoded(Api::Fetch, 12);
    let at = body.windows(8).position(|w| w == b"\x08cluster").expect("cluster_id") - 1;
    assert_eq!(body[at], 8);
    for size in [7, 9, 0] {
        let mut damaged = body.clone();
        damaged[at] = size;
        assert!(check_bounds(Api::Fetch, 12, &damaged).is_err(), "{size}");
    }
}

#[test]
fn random_frames_stay_bounded_in_the_header_too() {
    let mut prng = Prng::new(0xf4a3);
    for _ in 0..100_000 {
        let mut frame = vec![0; prng.below(64) as usize];
        prng.fill(&mut frame);
        if frame.len() > 4 {
            // A key and version that are known often enough to get past them.
            let row = APIS[prng.below(APIS.len() as u64) as usize];
            frame[..2].copy_from_slice(&row.key.to_be_bytes());
            frame[2..4].copy_from_slice(&(prng.below(20) as i16 - 1).to_be_bytes());
        }
        let frame = Bytes::from(frame);
        let allowance = allowance(frame.len());
        let info = measure(|| drop(Request::decode(frame.clone())));
        assert!(info.bytes_max <= allowance, "{} bytes for {:x?}", info.bytes_max, &frame[..]);
    }
}

/// kafka.md 10.6: requests as Apache Kafka's own classes wrote them.
#[test]
fn requests_that_kafka_wrote_are_understood() {
    let samples = [
        ("0012 0000 00000007 0002 636c", Api::ApiVersions, 0),
        ("0012 0003 00000007 0002 636c 00  04 616263  04 312e30  00", Api::ApiVersions, 3),
        ("0003 0001 00000007 0002 636c ffffffff", Api::Metadata, 1),
        (
            "0003 000c 00000007 0002 636c 00  02 00000000000000000000000000000000 02 74 00  00 00 00",
            Api::Metadata,
            12,
        ),
        (
            "0000 0003 00000007 0002 636c ffff ffff 00007530 00000001 0001 74 00000001 00000000 00000003 010203",
            Api::Produce,
            3,
        ),
        ("0000 0009 00000007 0002 636c 00  00 ffff 00007530 02 02 74 02 00000000 04 010203 00 00 00", Api::Produce, 9),
        (
            "0001 000c 00000007 0002 636c 00  ffffffff 000001f4 00000001 03200000 01 00000000 ffffffff
             02 02 74 02 00000000 00000007 000000000000000a 00000007 ffffffffffffffff 00100000 00 00  01  01  00",
            Api::Fetch,
            12,
        ),
    ];
    for (hex, api, version) in samples {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
        let request = Request::decode(bytes.into()).unwrap_or_else(|error| panic!("{hex}: {error}"));
        let header = request.header;
        assert_eq!((header.api, header.version, header.correlation_id), (api, version, 7));
        assert_eq!(header.client_id.as_deref(), Some("cl"));
        if let RequestKind::Fetch(fetch) = request.body {
            let partition = &fetch.topics[0].partitions[0];
            assert_eq!((fetch.max_bytes, fetch.isolation_level, fetch.session_epoch), (52_428_800, 1, -1));
            assert_eq!((partition.current_leader_epoch, partition.fetch_offset), (7, 10));
            assert_eq!((partition.last_fetched_epoch, partition.partition_max_bytes), (7, 1 << 20));
        }
    }
}
