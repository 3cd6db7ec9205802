//! DescribeLogDirs: the data directories, how large they are, and what lies in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_base::PartitionIndex;
use highwater_control::Topic;
use highwater_wire::ErrorCode;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::Ctx;
use super::codec::topic_name;
use super::gather::answer;
use crate::call::{Described, PartitionCall, PartitionReply};
use crate::ctx::DirSpace;
use crate::pending::{Handled, Pending, Reply};

pub(super) fn handle(ctx: &mut dyn Ctx, request: DescribeLogDirsRequest) -> Handled {
    let asked: BTreeSet<(Arc<str>, PartitionIndex)> = match request.topics {
        None => ctx.image().topics().flat_map(partitions_of).collect(),
        Some(topics) => topics
            .into_iter()
            .flat_map(|topic| {
                let name: Arc<str> = topic.topic.as_str().into();
                topic.partitions.into_iter().map(move |at| (Arc::clone(&name), PartitionIndex::new(at)))
            })
            .collect(),
    };
    let mut waiting = BTreeMap::new();
    for (name, index) in asked {
        let known = ctx.image().topic(&name).filter(|topic| topic.partition(index).is_some());
        if let Some(id) = known.map(|topic| topic.id) {
            waiting.insert(ctx.call((id, index), PartitionCall::Describe), (name, index));
        }
    }
    ctx.describe_directories();
    Handled::Pending(Box::new(Describing { waiting, found: Vec::new(), dirs: None }))
}

fn partitions_of(topic: &Arc<Topic>) -> impl Iterator<Item = (Arc<str>, PartitionIndex)> + use<> {
    let name = Arc::clone(&topic.name);
    (0..topic.partitions.len()).map(move |at| (Arc::clone(&name), PartitionIndex::new(at as i32)))
}

/// Waits for the directories, and for each partition.
struct Describing {
    waiting: BTreeMap<u32, (Arc<str>, PartitionIndex)>,
    found: Vec<(Arc<str>, PartitionIndex, Described)>,
    dirs: Option<Arc<Vec<DirSpace>>>,
}

impl Describing {
    fn finish(&mut self, dirs: &[DirSpace]) -> Handled {
        self.found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        let results = dirs.iter().enumerate().map(|(at, dir)| {
            let path = dir.path.display().to_string();
            let result = DescribeLogDirsResult::default().with_log_dir(path.into());
            let Some((total, usable)) = dir.space else {
                return result.with_error_code(ErrorCode::KafkaStorageError.code());
            };
            let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            let result = result.with_total_bytes(size(total)).with_usable_bytes(size(usable));
            result.with_topics(self.topics_in(at))
        });
        answer(DescribeLogDirsResponse::default().with_results(results.collect()))
    }

    fn topics_in(&self, dir: usize) -> Vec<DescribeLogDirsTopic> {
        let mut topics: Vec<DescribeLogDirsTopic> = Vec::new();
        for (name, index, described) in &self.found {
            let of = |bytes: u64| {
                DescribeLogDirsPartition::default()
                    .with_partition_index(index.get())
                    .with_partition_size(i64::try_from(bytes).unwrap_or(i64::MAX))
            };
            let here = (described.dir == dir).then(|| of(described.size));
            let copy = described.copied.filter(|copy| copy.dir == dir);
            let copy = copy.map(|copy| of(copy.size).with_is_future_key(true).with_offset_lag(copy.lag));
            for partition in here.into_iter().chain(copy) {
                if topics.last().is_none_or(|topic| topic.name.as_str() != &**name) {
                    topics.push(DescribeLogDirsTopic::default().with_name(topic_name(name)));
                }
                topics.last_mut().expect("one was just pushed").partitions.push(partition);
            }
        }
        topics
    }
}

impl Pending for Describing {
    fn on_reply(&mut self, _: &mut dyn Ctx, index: u32, reply: Reply) -> Option<Handled> {
        match reply {
            Reply::Directories(dirs) => self.dirs = Some(dirs),
            reply => {
                let (name, at) = self.waiting.remove(&index)?;
                // One that is offline, or has just gone, lies nowhere.
                if let Reply::Partition(PartitionReply::Described(described)) = reply {
                    self.found.push((name, at, described));
                }
            }
        }
        let dirs = self.dirs.clone().filter(|_| self.waiting.is_empty())?;
        Some(self.finish(&dirs))
    }

    fn on_deadline(&mut self, _: &mut dyn Ctx) -> Option<Handled> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::topic_name;
    use super::super::fake::{Fake, body, header};
    use super::*;
    use crate::call::Copied;
    use highwater_wire::Api;
    use kafka_protocol::messages::ResponseKind;
    use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;

    fn dirs() -> Reply {
        let dir = |path: &str, space| DirSpace { path: path.into(), space };
        Reply::Directories(Arc::new(vec![
            dir("/a", Some((100, 40))),
            dir("/b", Some((9, 9))),
            dir("/c", None),
        ]))
    }

    /// What each directory is said to hold: error, partitions with their sizes, total and usable bytes.
    fn told(handled: Handled) -> Vec<(i16, Vec<String>, i64, i64)> {
        let ResponseKind::DescribeLogDirs(response) = body(handled) else { panic!("another response") };
        let of = |dir: &DescribeLogDirsResult| {
            let partitions = dir.topics.iter().flat_map(|topic| {
                let name = topic.name.to_string();
                topic
                    .partitions
                    .iter()
                    .map(move |p| format!("{name}-{}: {}", p.partition_index, p.partition_size))
            });
            (dir.error_code, partitions.collect(), dir.total_bytes, dir.usable_bytes)
        };
        response.results.iter().map(of).collect()
    }

    #[test]
    fn each_directory_tells_its_space_and_what_lies_in_it() {
        let mut fake = Fake::with_topic("t", 3);
        let mut handled = fake.handle(
            &header(Api::DescribeLogDirs, 4),
            DescribeLogDirsRequest::default().with_topics(None).into(),
        );
        for call in fake.take_calls() {
            assert!(matches!(call.call, PartitionCall::Describe));
            let (at, size) = (call.partition.get() as usize, 10 + call.partition.get() as u64);
            let reply = match at {
                2 => PartitionReply::Refused(crate::errors::Refusal::code(ErrorCode::KafkaStorageError)),
                at => PartitionReply::Described(Described { dir: 1 - at, size, copied: None }),
            };
            handled = fake.reply(handled, call.index, reply);
        }
        let handled = fake.directories(handled, dirs());
        let t = |at, size| vec![format!("t-{at}: {size}")];
        let nothing = (ErrorCode::KafkaStorageError.code(), vec![], -1, -1);
        assert_eq!(told(handled), [(0, t(1, 11), 100, 40), (0, t(0, 10), 9, 9), nothing]);
    }

    #[test]
    fn only_partitions_that_are_asked_for_and_are_there_are_told_and_each_once() {
        let mut fake = Fake::with_topic("t", 3);
        let topic = |name, partitions| {
            DescribableLogDirTopic::default().with_topic(topic_name(name)).with_partitions(partitions)
        };
        let topics = vec![topic("t", vec![1, 1, 7]), topic("u", vec![0]), topic("t", vec![1])];
        let request = DescribeLogDirsRequest::default().with_topics(Some(topics));
        let handled = fake.handle(&header(Api::DescribeLogDirs, 1), request.into());
        let handled = fake.directories(handled, dirs());
        let calls = fake.take_calls();
        assert_eq!(calls.iter().map(|call| call.partition.get()).collect::<Vec<_>>(), [1]);
        let handled = fake.reply(
            handled,
            calls[0].index,
            PartitionReply::Described(Described { dir: 0, size: 5, copied: None }),
        );
        assert_eq!(told(handled)[0].1, ["t-1: 5"]);
    }

    #[test]
    fn the_copy_of_a_partition_that_moves_is_told_where_it_grows() {
        let mut fake = Fake::with_topic("t", 1);
        let request = DescribeLogDirsRequest::default().with_topics(None);
        let handled = fake.handle(&header(Api::DescribeLogDirs, 4), request.into());
        let handled = fake.directories(handled, dirs());
        let calls = fake.take_calls();
        let copied = Some(Copied { dir: 1, size: 3, lag: 40 });
        let described = Described { dir: 0, size: 5, copied };
        let handled = fake.reply(handled, calls[0].index, PartitionReply::Described(described));
        let ResponseKind::DescribeLogDirs(response) = body(handled) else { panic!("another response") };
        let told = |at: usize| {
            let partition = &response.results[at].topics[0].partitions[0];
            (partition.partition_size, partition.offset_lag, partition.is_future_key)
        };
        assert_eq!((told(0), told(1)), ((5, 0, false), (3, 40, true)));
    }
}
