//! The partitions of one shard: they follow the metadata, and are asked by requests of every shard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use highwater_base::{BrokerId, Mono, Now, Offset, PartitionIndex, ProducerId, TopicPartition};
use highwater_control::{Image, Topic};
use highwater_engine::layout::PartitionDir;
use highwater_engine::{Cleaner, Log as EngineLog, RecycleSpace, StoppedLog, TailSpace};
use highwater_io::{Completion, Io};
use highwater_replication::{Node, Outgoing, Partition, PartitionKey, assignment_of};

use crate::config::Settings;
use crate::log::{Level, Log};
use crate::mail::Mail;
use crate::message::ReplyTo;
use crate::slots::Slots;
use crate::storage::{CheckpointFiles, DataDir, Offsets, PartitionOffsets, Storage};

mod asked;
mod copies;
mod directories;
mod moves;
mod opening;

/// What a shard knows of a data directory.
#[derive(Clone, Debug)]
pub(crate) struct DirFacts {
    pub(crate) path: PathBuf,
    pub(crate) id: highwater_base::Uuid,
    pub(crate) clean: bool,
    /// What our files say of its logs is void: see [`highwater_engine::OpenHint::stale`].
    pub(crate) stale: bool,
    pub(crate) checkpoints: CheckpointFiles,
    /// The lines of the checkpoint files that are of no partition of ours, and are kept.
    pub(crate) others: CheckpointFiles,
    pub(crate) partitions: Vec<PartitionDir>,
    /// Shared by its logs, of every shard.
    pub(crate) recycle_space: RecycleSpace,
}

impl DirFacts {
    pub(crate) fn of(storage: &Storage, dir: &DataDir) -> DirFacts {
        DirFacts {
            path: dir.path.clone(),
            id: dir.id,
            clean: dir.clean_stop.is_some(),
            stale: storage.stale,
            checkpoints: dir.checkpoints.clone(),
            others: storage.others(dir),
            partitions: dir.partitions.clone(),
            recycle_space: RecycleSpace::default(),
        }
    }
}

/// All partitions of a shard.
///
/// Inputs: [`Partitions::follow`] with each new image, [`Partitions::complete`], [`Partitions::call`] and
/// [`Partitions::forget`]. Then [`Partitions::step`], and [`Partitions::poll_reply`] until it gives none.
pub(super) struct Partitions {
    me: BrokerId,
    settings: Arc<Settings>,
    dirs: Arc<Vec<DirFacts>>,
    node: Node,
    /// Where each partition is, by its key.
    places: BTreeMap<PartitionKey, Place>,
    next_owner: u32,
    /// Who waits for an answer, by the key that the partition was given.
    asked: Slots<asked::Asked>,
    /// The keys of those who may give up.
    waits: BTreeMap<ReplyTo, u64>,
    replies: VecDeque<(ReplyTo, crate::call::PartitionReply)>,
    /// The image that was followed last.
    followed: Option<Arc<Image>>,
    /// Partitions that are to be made once the name of their directory is free.
    wanted: Vec<Wanted>,
    /// Partitions whose directories are being removed, with the names that these had.
    leaving: BTreeMap<PartitionKey, PathBuf>,
    /// Directories of partitions that could not be removed.
    stuck: BTreeSet<PathBuf>,
    /// Partitions that were made and do not serve yet.
    making: BTreeSet<PartitionKey>,
    /// Partitions that refuse appends for want of space, by directory: each directory is told of once.
    short: BTreeMap<usize, BTreeSet<PartitionKey>>,
    /// Failures that were told.
    told: BTreeSet<PartitionKey>,
    /// Partitions whose log is in no directory that could be opened.
    lost: BTreeSet<PartitionKey>,
    /// Directories that went offline, by number.
    offline: BTreeSet<usize>,
    /// Directories in which something has failed, and of which it is not known yet whether they have.
    suspected: BTreeSet<usize>,
    /// Directories to be suspected: to be told to shard 0.
    suspects: Vec<usize>,
    /// Directories that were broken at the start.
    broken: Arc<Vec<PathBuf>>,
    moves: moves::Moves,
    tail_space: TailSpace,
    /// How many shards share what is limited for the whole broker.
    shards: usize,
    deadline: Option<Mono>,
    cleaner: Cleaner,
    closing: bool,
}

/// Where a partition's log is.
#[derive(Clone, Debug)]
struct Place {
    dir: usize,
    partition: TopicPartition,
}

struct Wanted {
    key: PartitionKey,
    place: Place,
}

impl Partitions {
    /// The largest producer id that the logs know.
    pub(super) fn largest_producer(&self) -> ProducerId {
        let ids = self.node.iter().map(|(_, partition)| partition.log().largest_producer_id());
        ids.max().unwrap_or(ProducerId::NONE)
    }

    /// The metadata is this from now on: makes, removes and assigns partitions.
    pub(super) fn follow(&mut self, image: &Arc<Image>, mail: &Mail, now: Now) {
        let before = self.followed.replace(Arc::clone(image));
        let others_changed = before.as_ref().is_none_or(|before| {
            !before.brokers().eq(image.brokers())
                || !before.all_broker_configs().eq(image.all_broker_configs())
        });
        for topic in image.topics() {
            let known = before.as_ref().and_then(|before| before.topic_by_id(topic.id));
            if others_changed || known.is_none_or(|known| !Arc::ptr_eq(known, topic)) {
                self.follow_topic(image, topic, mail, now);
            }
        }
        let gone: Vec<PartitionKey> =
            self.places.keys().filter(|(topic, _)| image.topic_by_id(*topic).is_none()).copied().collect();
        for key in gone {
            self.remove(key, now);
        }
        self.wanted.retain(|wanted| image.topic_by_id(wanted.key.0).is_some());
        self.lost.retain(|(topic, _)| image.topic_by_id(*topic).is_some());
        self.make_wanted(now);
    }

    fn follow_topic(&mut self, image: &Image, topic: &Topic, mail: &Mail, now: Now) {
        for (at, state) in topic.partitions.iter().enumerate() {
            let index = PartitionIndex::new(at as i32);
            let key = (topic.id, index);
            if mail.owner(key) != mail.me() || !state.replicas.contains(&self.me) {
                continue;
            }
            if !self.places.contains_key(&key) {
                let known = self.lost.contains(&key) || self.wanted.iter().any(|wanted| wanted.key == key);
                match self.dir_of(state.directory_of(self.me)) {
                    _ if known => {}
                    Some(dir) => {
                        let partition = TopicPartition::new(Arc::clone(&topic.name), index);
                        self.wanted.push(Wanted { key, place: Place { dir, partition } });
                    }
                    None => _ = self.lost.insert(key),
                }
                continue;
            }
            self.assign(image, topic, index, now);
        }
    }

    /// Tells a partition its role and its settings.
    fn assign(&mut self, image: &Image, topic: &Topic, index: PartitionIndex, now: Now) {
        let Some(partition) = self.node.get_mut((topic.id, index)) else { return };
        let (log, settings) = self.settings.of_partitions(image, &topic.name);
        partition.update_settings(now, log, settings);
        if let Some(assignment) = assignment_of(image, topic, index) {
            partition.assign(now, assignment);
        }
    }

    fn path(&self, place: &Place) -> PathBuf {
        self.dirs[place.dir].path.join(PartitionDir::current(place.partition.clone()).to_string())
    }

    fn owner(&mut self) -> u32 {
        self.next_owner += 1;
        self.next_owner - 1
    }

    /// Makes the partitions whose directory's name is free.
    fn make_wanted(&mut self, now: Now) {
        for wanted in std::mem::take(&mut self.wanted) {
            let path = self.path(&wanted.place);
            if self.stuck.contains(&path) {
                // A log that could not be removed has the name; another one's files must not get among its own.
                self.lost.insert(wanted.key);
                continue;
            }
            let taken = |(key, name): (&PartitionKey, &PathBuf)| {
                *name == path && self.node.get(*key).is_some_and(|leaving| !leaving.is_deleted())
            };
            if self.leaving.iter().any(taken) {
                self.wanted.push(wanted);
                continue;
            }
            self.make(wanted.key, wanted.place, path, now);
        }
    }

    /// What this log uses up, together with others: recycled segments of its directory, memory of the shard.
    fn share_spaces(&self, log: &mut EngineLog, dir: usize) {
        log.share_recycle_space(&self.dirs[dir].recycle_space);
        log.share_tail_space(&self.tail_space);
    }

    fn make(&mut self, key: PartitionKey, place: Place, path: PathBuf, now: Now) {
        let Some(image) = self.followed.clone() else { return };
        let Some(topic) = image.topic_by_id(key.0) else { return };
        let (log, settings) = self.settings.of_partitions(&image, &topic.name);
        let mut log = EngineLog::create(now, &path, self.owner(), log, topic.id);
        self.share_spaces(&mut log, place.dir);
        self.node.insert(key, Partition::new(self.me, log, settings, Offset::ZERO));
        self.places.insert(key, place);
        self.making.insert(key);
        self.assign(&image, topic, key.1, now);
    }

    fn remove(&mut self, key: PartitionKey, now: Now) {
        let place = self.places.remove(&key);
        self.lost.remove(&key);
        self.making.remove(&key);
        self.told.remove(&key);
        self.forget_move(key);
        if let (Some(partition), Some(place)) = (self.node.get_mut(key), place) {
            partition.delete(now);
            self.leaving.insert(key, self.path(&place));
        }
    }

    /// Takes a completion with a log's owner number.
    pub(super) fn complete(&mut self, completion: Completion, now: Now, io: &mut dyn Io) {
        self.node.complete(now, completion, io);
    }

    /// Does what is due.
    pub(super) fn step(&mut self, now: Now, io: &mut dyn Io, log: &mut Log) {
        self.deadline = self.node.step(now, io);
        while let Some((_, answer)) = self.node.poll_answer() {
            self.answered(answer);
        }
        while let Some((key, outgoing)) = self.node.poll_outgoing() {
            self.tell(key, &outgoing, now, log);
        }
        if !self.leaving.is_empty() {
            self.forget_removed(now, log);
        }
        if !self.wanted.is_empty() {
            self.make_wanted(now);
        }
        if !self.making.is_empty() {
            let node = &self.node;
            self.making.retain(|key| node.get(*key).is_some_and(|made| !is_made(made)));
        }
    }

    /// What a partition has to tell people.
    fn tell(&mut self, key: PartitionKey, outgoing: &Outgoing, now: Now, log: &mut Log) {
        let name = self.places.get(&key).map_or_else(String::new, |place| place.partition.to_string());
        match outgoing {
            Outgoing::NoSpace => self.tell_space(key, now, log, "is full"),
            Outgoing::LowSpace { free, mark } => {
                let text = format!("has {free} bytes free, fewer than highwater.min.free.bytes={mark}");
                self.tell_space(key, now, log, &text);
            }
            Outgoing::Damaged(error) => {
                log.repeated(now, Level::Error, "damage", format_args!("{name}: {error}"));
            }
            Outgoing::SpaceReturned => self.space_returned(key, now, log),
            Outgoing::Failed => {
                let dir = self.node.get(key).and_then(|partition| self.dir_at(partition.log().dir()));
                self.forget_move(key);
                if let Some(dir) = dir {
                    self.suspect(dir);
                }
            }
            Outgoing::MoveCaughtUp
            | Outgoing::Moved
            | Outgoing::MoveFailed(_)
            | Outgoing::Discarded { .. } => self.hear_of_move(key, outgoing, now, log),
            Outgoing::CommittedLost { from, until } => log.line(
                now,
                Level::Error,
                format_args!("{name}: committed records were lost, offsets {from} to {until} (exclusive)"),
            ),
            other => log.repeated(
                now,
                Level::Error,
                "replication",
                format_args!("{name}: expected nothing for other brokers from a lone one, found {other:?}"),
            ),
        }
    }

    /// Up to which version of the metadata every log is made and every name is free; `None` while some are not.
    pub(super) fn caught_up(&self) -> Option<u64> {
        // One whose removal has failed is waited for no longer: its name stays taken, which `make_wanted` knows.
        let free = |key: &PartitionKey| {
            self.node.get(*key).is_none_or(|leaving| leaving.is_deleted() || leaving.failure().is_some())
        };
        let done = self.wanted.is_empty() && self.making.is_empty() && self.leaving.keys().all(free);
        self.followed.as_ref().filter(|_| done).map(|image| image.version())
    }

    /// What the checkpoint files are to say.
    pub(super) fn offsets(&self) -> Vec<PartitionOffsets> {
        let told = |(key, place): (&PartitionKey, &Place)| {
            if self.offline.contains(&place.dir) {
                return None;
            }
            let partition = self.node.get(*key)?;
            let log = partition.log();
            let offsets = Offsets {
                recovery_point: log.synced_end(),
                log_start: Some(log.log_start()).filter(|start| *start > Offset::ZERO),
                high_watermark: partition.high_watermark(),
                cleaned_to: Some(log.cleaned_to()).filter(|offset| offset.is_some()),
            };
            Some(PartitionOffsets { dir: place.dir, partition: place.partition.clone(), offsets })
        };
        self.places.iter().filter_map(told).collect()
    }

    /// What the manifests shall say, each of its directory's number.
    pub(super) fn stopped(&self) -> Vec<(usize, StoppedLog)> {
        let online = self.places.iter().filter(|(_, place)| !self.offline.contains(&place.dir));
        online.filter_map(|(key, place)| Some((place.dir, self.node.get(*key)?.log().stopped()?))).collect()
    }

    /// Lets the cleaner look at the logs, if that is due.
    pub(super) fn clean(&mut self, now: Now) {
        if !self.closing {
            self.node.clean(now, &mut self.cleaner);
        }
    }

    /// When the cleaner wants to look again.
    pub(super) fn cleaner_deadline(&self) -> Option<Mono> {
        self.cleaner.deadline().filter(|_| !self.closing)
    }

    /// When [`Partitions::step`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.deadline
    }

    /// Closes every log.
    pub(super) fn close(&mut self, now: Now) {
        self.closing = true;
        self.wanted.clear();
        for key in self.node.keys() {
            if let Some(partition) = self.node.get_mut(key) {
                partition.close(now);
            }
        }
    }

    /// Whether every log is closed, or has failed. One that is being removed need not be.
    pub(super) fn is_closed(&self) -> bool {
        let closed = |partition: &Partition| partition.is_closed() || partition.failure().is_some();
        self.closing && self.online_keys().all(|key| self.node.get(*key).is_none_or(closed))
    }

    /// The directories whose lack of space is all that keeps the logs from being closed; none if something else does.
    pub(super) fn full_directories(&self) -> BTreeSet<usize> {
        let mut full = BTreeSet::new();
        for key in self.online_keys() {
            match self.node.get(*key) {
                Some(open) if !open.is_closed() && open.failure().is_none() => {
                    if !open.log().lacks_space() {
                        return BTreeSet::new();
                    }
                    full.extend(self.places.get(key).map(|place| place.dir));
                }
                _ => {}
            }
        }
        full
    }

    /// Whether every log was closed as it should.
    pub(super) fn closed_cleanly(&self) -> bool {
        self.online_keys().all(|key| self.node.get(*key).is_some_and(Partition::is_closed))
    }

    /// Partitions whose directory is not offline.
    fn online_keys(&self) -> impl Iterator<Item = &PartitionKey> {
        self.places.iter().filter(|(_, place)| !self.offline.contains(&place.dir)).map(|(key, _)| key)
    }
}

/// Whether a partition that is being made can be forgotten as such: its log is there, or never will be.
fn is_made(partition: &Partition) -> bool {
    partition.log().is_ready() || partition.failure().is_some()
}
