//! Messages between shards, in order and without a loss: what a full mailbox does not take waits here.

use std::collections::VecDeque;

use highwater_base::{Full, PartitionIndex, Uuid};
use highwater_runtime::Sender;

use crate::message::{Message, ShardId};

/// The outgoing side of one shard, and its messages to itself.
#[derive(Debug)]
pub(crate) struct Mail {
    me: ShardId,
    /// One for each shard; that of this one is not used.
    shards: Vec<Sender<Message>>,
    /// What did not fit, by shard.
    waiting: Vec<VecDeque<Message>>,
    own: VecDeque<Message>,
}

impl Mail {
    pub(crate) fn new(me: ShardId, shards: Vec<Sender<Message>>) -> Mail {
        let waiting = shards.iter().map(|_| VecDeque::new()).collect();
        Mail { me, shards, waiting, own: VecDeque::new() }
    }

    /// Which shard this is.
    pub(crate) fn me(&self) -> ShardId {
        self.me
    }

    /// Every shard.
    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        0..self.shards.len() as ShardId
    }

    /// Sends a message; those to one shard arrive in the order sent.
    pub(crate) fn send(&mut self, to: ShardId, message: Message) {
        if to == self.me {
            return self.own.push_back(message);
        }
        let waiting = &mut self.waiting[usize::from(to)];
        if !waiting.is_empty() {
            return waiting.push_back(message);
        }
        if let Err(Full(back)) = self.shards[usize::from(to)].send(message) {
            waiting.push_back(back);
        }
    }

    /// The next message to itself.
    pub(crate) fn next_own(&mut self) -> Option<Message> {
        self.own.pop_front()
    }

    /// Whether messages to itself wait.
    pub(crate) fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// Tries again what did not fit. Says whether some still waits.
    pub(crate) fn flush(&mut self) -> bool {
        let mut waits = false;
        for (to, waiting) in self.waiting.iter_mut().enumerate() {
            while let Some(message) = waiting.pop_front() {
                if let Err(Full(back)) = self.shards[to].send(message) {
                    waiting.push_front(back);
                    waits = true;
                    break;
                }
            }
        }
        waits
    }

    /// The shard that owns a partition: always the same, for a number of shards.
    pub(crate) fn owner(&self, (topic, index): (Uuid, PartitionIndex)) -> ShardId {
        // Partitions of one topic go round the shards, from a start that its (random) id gives.
        let bytes = topic.bytes();
        let start = u64::from_be_bytes(bytes[8..].try_into().expect("8 bytes"));
        let shards = self.shards.len() as u64;
        ((start % shards + index.get().unsigned_abs() as u64 % shards) % shards) as ShardId
    }
}

#[cfg(test)]
mod tests {
    use highwater_runtime::mailbox;

    use super::*;

    #[test]
    fn what_a_full_mailbox_does_not_take_arrives_later_and_in_order() {
        let (own, _) = mailbox(1);
        let (other, inbox) = mailbox(2);
        let mut mail = Mail::new(0, vec![own, other]);
        for version in 0..5 {
            mail.send(1, Message::Caught { shard: 0, version });
        }
        let mut got = Vec::new();
        while mail.flush() || !inbox.is_empty() {
            inbox.drain(1, &mut got);
        }
        let versions: Vec<u64> =
            got.iter().map(|m| if let Message::Caught { version, .. } = m { *version } else { 99 }).collect();
        assert_eq!(versions, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn partitions_of_a_topic_are_spread_evenly_over_the_shards() {
        let shards: Vec<_> = (0..4).map(|_| mailbox(1).0).collect();
        let mail = Mail::new(0, shards);
        let topic = Uuid::from_halves(1, u64::MAX - 1);
        let mut owned = [0; 4];
        for index in 0..8 {
            owned[usize::from(mail.owner((topic, PartitionIndex::new(index))))] += 1;
        }
        assert_eq!(owned, [2; 4]);
    }
}
