//! One handler a file, one file an API. No I/O, no clock: everything comes through [`Ctx`].

mod alter_replica_log_dirs;
mod api_versions;
mod codec;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_log_dirs;
mod fetch;
mod gather;
mod incremental_alter_configs;
mod init_producer_id;
mod list_offsets;
mod lookup;
mod metadata;
mod offset_for_leader_epoch;
mod produce;

#[cfg(test)]
mod fake;

use highwater_wire::RequestHeader;
use kafka_protocol::messages::RequestKind;

pub(crate) use crate::ctx::Ctx;
use crate::pending::Handled;
use crate::session::Session;

/// Handles a request: answers it, or asks partitions and the authority for what the answer needs.
pub(crate) fn handle(
    ctx: &mut dyn Ctx,
    _session: &Session,
    header: &RequestHeader,
    body: RequestKind,
) -> Handled {
    let version = header.version;
    match body {
        RequestKind::Produce(request) => produce::handle(ctx, header, request),
        RequestKind::Fetch(request) => fetch::handle(ctx, version, request),
        RequestKind::ListOffsets(request) => list_offsets::handle(ctx, version, request),
        RequestKind::Metadata(request) => metadata::handle(ctx, version, request),
        RequestKind::ApiVersions(request) => api_versions::handle(header, &request),
        RequestKind::CreateTopics(request) => create_topics::handle(ctx, version, request),
        RequestKind::DeleteTopics(request) => delete_topics::handle(ctx, version, request),
        RequestKind::DeleteRecords(request) => delete_records::handle(ctx, request),
        RequestKind::InitProducerId(request) => init_producer_id::handle(ctx, &request),
        RequestKind::OffsetForLeaderEpoch(request) => offset_for_leader_epoch::handle(ctx, request),
        RequestKind::DescribeConfigs(request) => describe_configs::handle(ctx, version, &request),
        RequestKind::AlterReplicaLogDirs(request) => alter_replica_log_dirs::handle(ctx, request),
        RequestKind::DescribeLogDirs(request) => describe_log_dirs::handle(ctx, request),
        RequestKind::CreatePartitions(request) => create_partitions::handle(ctx, request),
        RequestKind::IncrementalAlterConfigs(request) => incremental_alter_configs::handle(ctx, request),
        RequestKind::DescribeCluster(request) => describe_cluster::handle(ctx, version, &request),
        _ => Handled::Close(format!("{} is decoded, and nobody handles it", header.api.name())),
    }
}
