//! Calls to partitions, and their replies.

use bytes::Bytes;
use highwater_base::Now;
use highwater_replication::{Answer, Outcome, PartitionError, PartitionKey, Reply};
use highwater_wire::ErrorCode;

use super::Partitions;
use crate::call::{Described, PartitionCall, PartitionReply};
use crate::errors::Refusal;
use crate::message::ReplyTo;

/// Who waits for an answer.
pub(super) struct Asked {
    to: ReplyTo,
    /// It may be given up.
    waits: bool,
    /// The partition that is appended to, of a produce.
    produce: Option<PartitionKey>,
}

impl Partitions {
    /// Does what a request asks of a partition; the reply comes out of [`Partitions::poll_reply`].
    pub(in crate::shard) fn call(
        &mut self,
        to: ReplyTo,
        partition: PartitionKey,
        call: PartitionCall,
        now: Now,
    ) {
        if let PartitionCall::MoveTo { directory } = &call {
            let reply = self.move_partition(partition, directory).unwrap_or_else(PartitionReply::Refused);
            return self.replies.push_back((to, reply));
        }
        if let Err(refusal) = self.check_online(partition) {
            return self.replies.push_back((to, PartitionReply::Refused(refusal)));
        }
        let waits = matches!(call, PartitionCall::AwaitReadable { .. } | PartitionCall::DeleteRecords { .. });
        let copied = self.copied(partition);
        let produce = matches!(call, PartitionCall::Produce { .. }).then_some(partition);
        let key = self.asked.insert(Asked { to, waits, produce });
        let key_of = partition;
        let partition = self.node.get_mut(partition).expect("a place is that of a partition of the node");
        let outcome = match call {
            PartitionCall::Produce { records, acks, deadline } => {
                map(partition.produce::<Bytes>(now, records, acks, deadline, key), PartitionReply::Produced)
            }
            PartitionCall::Read(request) => map(partition.read(now, request, key), PartitionReply::Read),
            PartitionCall::AwaitReadable { beyond, isolation, deadline } => {
                map(partition.await_readable(beyond, isolation, deadline, key), |()| PartitionReply::Readable)
            }
            PartitionCall::ListOffset { target, isolation, current } => {
                map(partition.list_offset(now, target, isolation, current, key), PartitionReply::Offset)
            }
            PartitionCall::EpochEnd { epoch, current } => {
                let found = partition.epoch_end(epoch, current);
                map(Outcome::Now(found), |found| PartitionReply::EpochEnd {
                    epoch: found.epoch,
                    end: found.end,
                })
            }
            PartitionCall::Describe => {
                let described =
                    Described { dir: self.places[&key_of].dir, size: partition.log().size_bytes(), copied };
                Outcome::Now(Ok(PartitionReply::Described(described)))
            }
            PartitionCall::MoveTo { .. } => unreachable!("answered above"),
            PartitionCall::DeleteRecords { to, deadline } => {
                let deleted = partition.delete_records(now, to, deadline, key);
                map(deleted, |low_watermark| PartitionReply::Trimmed { low_watermark })
            }
        };
        match outcome {
            Outcome::Now(result) => {
                self.asked.remove(key);
                let reply = result.unwrap_or_else(|error| self.refused(error, produce));
                self.replies.push_back((to, reply));
            }
            Outcome::Parked if waits => _ = self.waits.insert(to, key),
            Outcome::Parked => {}
        }
    }

    /// Why a partition cannot be asked anything, if it cannot.
    fn check_online(&self, partition: PartitionKey) -> Result<(), Refusal> {
        let Some(place) = self.places.get(&partition) else {
            return Err(match self.lost.contains(&partition) {
                true => Refusal::new(ErrorCode::KafkaStorageError, "its data directory is offline"),
                false => Refusal::code(ErrorCode::UnknownTopicOrPartition),
            });
        };
        if self.offline.contains(&place.dir) {
            let why = format!("its data directory {} is offline", self.dirs[place.dir].path.display());
            return Err(Refusal::new(ErrorCode::KafkaStorageError, why));
        }
        Ok(())
    }

    /// Gives up a call that may be parked.
    pub(in crate::shard) fn forget(&mut self, call: ReplyTo, partition: PartitionKey) {
        if let Some(key) = self.waits.remove(&call) {
            self.asked.remove(key);
            if let Some(partition) = self.node.get_mut(partition) {
                partition.forget(key);
            }
        }
    }

    fn refused(&self, error: PartitionError, produce: Option<PartitionKey>) -> PartitionReply {
        let refusal = Refusal::from(error);
        let partition = produce.and_then(|key| self.node.get(key));
        PartitionReply::Refused(match partition {
            Some(partition) => refusal.of_produce(partition.log().log_start()),
            None => refusal,
        })
    }

    /// The next reply.
    pub(in crate::shard) fn poll_reply(&mut self) -> Option<(ReplyTo, PartitionReply)> {
        self.replies.pop_front()
    }

    /// A late answer of a partition.
    pub(super) fn answered(&mut self, answer: Answer) {
        let Some(asked) = self.asked.remove(answer.key) else { return };
        if asked.waits {
            self.waits.remove(&asked.to);
        }
        let reply = match answer.reply {
            Ok(Reply::Produced(done)) => PartitionReply::Produced(done),
            Ok(Reply::Read(done)) => PartitionReply::Read(done),
            Ok(Reply::Readable) => PartitionReply::Readable,
            Ok(Reply::Offset(found)) => PartitionReply::Offset(found),
            Ok(Reply::Deleted { low_watermark }) => PartitionReply::Trimmed { low_watermark },
            Ok(other) => unreachable!("no call is answered with {other:?}"),
            Err(error) => self.refused(error, asked.produce),
        };
        self.replies.push_back((asked.to, reply));
    }
}

fn map<T>(outcome: Outcome<T>, reply: impl FnOnce(T) -> PartitionReply) -> Outcome<PartitionReply> {
    match outcome {
        Outcome::Now(result) => Outcome::Now(result.map(reply)),
        Outcome::Parked => Outcome::Parked,
    }
}
