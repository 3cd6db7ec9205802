//! Who leads this partition, and what comes from other replicas.

use highwater_base::{BrokerId, LeaderEpoch, Mono, Now, Offset, PartitionEpoch, PartitionIndex};
use highwater_control::{Image, Topic};
use highwater_io::Slice;
use highwater_isr::{Assignment, Event, FetchAnswer, FollowerFetch, IsrRefusal, Peer, Replica, Standalone};

use super::Partition;
use super::view::View;
use crate::Replicator;

/// What the metadata says of one partition, as its replica on some broker needs it; none if there is no such partition.
///
/// ```
/// use highwater_base::{BrokerEpoch, BrokerId, PartitionIndex, Uuid};
/// use highwater_control::{Command, Image, NewTopic, Registration, apply};
/// use highwater_replication::assignment_of;
/// let me = BrokerId::new(1);
/// let mut image = Image::new("c");
/// for command in [
///     Command::RegisterBroker(Registration::new(me, "h", 9092)),
///     Command::UnfenceBroker { broker: me, epoch: BrokerEpoch::new(1) },
///     Command::CreateTopic(NewTopic::named("t", Uuid::from_halves(1, 1))),
/// ] {
///     image = apply(&image, &command).unwrap().0;
/// }
/// let assignment = assignment_of(&image, image.topic("t").unwrap(), PartitionIndex::new(0)).unwrap();
/// assert_eq!(assignment.leader, me);
/// ```
pub fn assignment_of(image: &Image, topic: &Topic, index: PartitionIndex) -> Option<Assignment> {
    let partition = topic.partition(index)?;
    let peer = |id: &BrokerId| {
        let broker = image.broker(*id)?;
        Some(Peer { id: *id, broker_epoch: broker.epoch, eligible: broker.state.may_lead() })
    };
    Some(Assignment {
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        replicas: partition.replicas.clone(),
        isr: partition.isr.clone(),
        peers: partition.replicas.iter().filter_map(peer).collect(),
    })
}

impl Partition {
    /// The metadata's record of this partition changed, or is told again.
    pub fn assign(&mut self, now: Now, assignment: Assignment) {
        let alone = assignment.replicas == [self.me];
        if alone != self.alone {
            self.alone = alone;
            let (high, view) = (self.high_watermark(), View(&self.log));
            self.replicator = if alone {
                Box::new(Standalone::new(self.me, high, &view))
            } else {
                Box::new(Replica::new(self.me, self.settings.replica, high, &view))
            };
        }
        let before = (self.is_leader(), self.leader_epoch());
        self.run(now, Event::Assigned(assignment));
        if self.is_leader() && before != (true, self.leader_epoch()) {
            self.acknowledged = self.log.acknowledged_end();
        }
    }

    /// Another machine decides from now on. Call it before [`Partition::assign`], which does not change it.
    pub fn set_replicator(&mut self, replicator: Box<dyn Replicator>, for_one_replica: bool) {
        self.replicator = replicator;
        self.alone = for_one_replica;
    }

    /// A follower fetches; the answer comes as [`super::Outgoing::AnswerFollower`].
    pub fn follower_fetched(&mut self, now: Now, fetch: FollowerFetch) {
        self.run(now, Event::FollowerFetched(fetch));
    }

    /// This follower's fetch was answered.
    pub fn fetch_answered(
        &mut self,
        now: Now,
        leader_epoch: LeaderEpoch,
        request: u64,
        answer: FetchAnswer,
        records: Vec<Slice>,
    ) {
        self.incoming = records;
        self.run(now, Event::FetchAnswered { leader_epoch, request, answer });
        self.incoming = Vec::new();
    }

    /// The leader pushes its high watermark.
    pub fn high_watermark_pushed(&mut self, now: Now, leader_epoch: LeaderEpoch, high_watermark: Offset) {
        self.run(now, Event::HighWatermarkPushed { leader_epoch, high_watermark });
    }

    /// The authority committed this leader's proposal.
    pub fn isr_committed(
        &mut self,
        now: Now,
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
        isr: Vec<BrokerId>,
    ) {
        self.run(now, Event::IsrCommitted { leader_epoch, partition_epoch, isr });
    }

    /// The authority did not.
    pub fn isr_refused(
        &mut self,
        now: Now,
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
        refusal: IsrRefusal,
    ) {
        self.run(now, Event::IsrRefused { leader_epoch, partition_epoch, refusal });
    }

    /// The authority vouches for this leadership until then.
    pub fn lease_extended(&mut self, now: Now, leader_epoch: LeaderEpoch, until: Mono) {
        self.run(now, Event::LeaseExtended { leader_epoch, until });
    }
}
