//! AlterReplicaLogDirs: moves replicas between this broker's data directories. It is answered when the moves are taken on;
//! DescribeLogDirs tells how far they have come.

use std::collections::BTreeMap;
use std::path::PathBuf;

use highwater_base::PartitionIndex;
use highwater_wire::ErrorCode;
use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};

use super::Ctx;
use super::gather::{Entry, Gather, Response, answer};
use super::lookup::{Target, topic_by_name};
use crate::call::{PartitionCall, PartitionReply};
use crate::errors::Refusal;
use crate::pending::{Handled, Reply};

pub(super) fn handle(ctx: &mut dyn Ctx, request: AlterReplicaLogDirsRequest) -> Handled {
    let mut response = AlterReplicaLogDirsResponse::default();
    let mut waiting = BTreeMap::new();
    for dir in request.dirs {
        let directory = PathBuf::from(dir.path.as_str());
        for topic in dir.topics {
            let t = response.results.iter().position(|result| result.topic_name == topic.name);
            let t = t.unwrap_or_else(|| {
                let result = AlterReplicaLogDirTopicResult::default().with_topic_name(topic.name.clone());
                response.results.push(result);
                response.results.len() - 1
            });
            for index in topic.partitions {
                let mut result = AlterReplicaLogDirPartitionResult::default().with_partition_index(index);
                match target(ctx, &topic.name, index) {
                    Ok(at) => {
                        let call = PartitionCall::MoveTo { directory: directory.clone() };
                        waiting.insert(ctx.call(at, call), (t, response.results[t].partitions.len()));
                    }
                    Err(refusal) => result.error_code = refusal.code.code(),
                }
                response.results[t].partitions.push(result);
            }
        }
    }
    Gather::start(ctx, Altered(response), waiting)
}

/// A partition of which this broker has a replica.
fn target(ctx: &dyn Ctx, name: &str, index: i32) -> Result<Target, Refusal> {
    let topic = topic_by_name(ctx, name)?;
    if ctx.image().borrowed().is_some() {
        let why = "Another directory of a replica is not possible while the metadata are Apache Kafka's.";
        return Err(Refusal::new(ErrorCode::PolicyViolation, why));
    }
    let index = PartitionIndex::new(index);
    let state = topic.partition(index).ok_or_else(|| Refusal::code(ErrorCode::UnknownTopicOrPartition))?;
    if !state.replicas.contains(&ctx.node().id) {
        return Err(Refusal::code(ErrorCode::ReplicaNotAvailable));
    }
    Ok((topic.id, index))
}

struct Altered(AlterReplicaLogDirsResponse);

impl Response for Altered {
    fn fill(&mut self, _: &dyn Ctx, (t, p): Entry, reply: Result<Reply, Refusal>) {
        self.0.results[t].partitions[p].error_code = match reply {
            Ok(Reply::Partition(PartitionReply::Moving)) => ErrorCode::None.code(),
            Ok(Reply::Partition(PartitionReply::Refused(refusal))) | Err(refusal) => refusal.code.code(),
            Ok(_) => ErrorCode::UnknownServerError.code(),
        };
    }

    fn finish(self: Box<Self>, _: &dyn Ctx) -> Handled {
        answer(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::topic_name;
    use super::super::fake::{Fake, body, header};
    use super::*;
    use highwater_wire::Api;
    use kafka_protocol::messages::ResponseKind;
    use kafka_protocol::messages::alter_replica_log_dirs_request::{
        AlterReplicaLogDir, AlterReplicaLogDirTopic,
    };

    #[test]
    fn each_partition_is_answered_by_its_shard_or_for_what_is_not_there() {
        let mut fake = Fake::with_topic("t", 2);
        let topic = |name, partitions| {
            AlterReplicaLogDirTopic::default().with_name(topic_name(name)).with_partitions(partitions)
        };
        let dir = |path: &str, topics| {
            AlterReplicaLogDir::default().with_path(path.to_owned().into()).with_topics(topics)
        };
        let dirs = vec![
            dir("/a", vec![topic("t", vec![0, 7])]),
            dir("/b", vec![topic("t", vec![1]), topic("u", vec![0])]),
        ];
        let request = AlterReplicaLogDirsRequest::default().with_dirs(dirs);
        let mut handled = fake.handle(&header(Api::AlterReplicaLogDirs, 2), request.into());
        let calls = fake.take_calls();
        assert_eq!(calls.len(), 2);
        for call in calls {
            let PartitionCall::MoveTo { directory } = &call.call else { panic!("another call") };
            let reply = match directory.to_str() {
                Some("/a") => PartitionReply::Moving,
                _ => PartitionReply::Refused(Refusal::code(ErrorCode::LogDirNotFound)),
            };
            handled = fake.reply(handled, call.index, reply);
        }
        let ResponseKind::AlterReplicaLogDirs(response) = body(handled) else { panic!("another response") };
        let told: Vec<(String, i32, i16)> = response
            .results
            .iter()
            .flat_map(|result| {
                let name = result.topic_name.to_string();
                result.partitions.iter().map(move |p| (name.clone(), p.partition_index, p.error_code))
            })
            .collect();
        let expected = [("t", 0, 0), ("t", 7, 3), ("t", 1, 57), ("u", 0, 3)];
        assert_eq!(told, expected.map(|(name, index, code)| (name.to_owned(), index, code)));
    }
}
