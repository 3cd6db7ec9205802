//! Sessions against a reader that fetches everything every time, and against Kafka's rules.

use std::collections::BTreeMap;

use highwater_base::{LeaderEpoch, Offset, PartitionIndex};

use super::*;

fn name(partition: i32) -> PartitionName {
    (TopicName::Name("t".into()), PartitionIndex::new(partition))
}

fn wanted(from: i64) -> Wanted {
    Wanted {
        from: Offset::new(from),
        max_bytes: 100,
        current: LeaderEpoch::NONE,
        last_fetched: LeaderEpoch::NONE,
    }
}

fn told(high_watermark: i64) -> Told {
    Told {
        has_records: false,
        high_watermark: Offset::new(high_watermark),
        log_start: Offset::ZERO,
        is_error: false,
        is_directed: false,
    }
}

fn at(seconds: u64) -> Mono {
    Mono::ZERO.plus(Duration::from_secs(seconds))
}

fn of(id: i32, epoch: i32) -> SessionRequest {
    SessionRequest { id, epoch, by_id: false, privileged: false }
}

fn sessions(slots: usize) -> FetchSessions {
    FetchSessions::new(slots, 1000, Prng::new(3))
}

/// Opens a session over the first `size` partitions.
fn open(all: &mut FetchSessions, now: Mono, size: i32, privileged: bool) -> i32 {
    let request = SessionRequest { privileged, ..of(0, 0) };
    let listed: Vec<_> = (0..size).map(|index| (name(index), wanted(0))).collect();
    assert_eq!(all.begin(now, request, &listed, &[]), Ok(Begun::Opens));
    all.grant(now, request, listed.into_iter().map(|(name, wanted)| (name, wanted, told(0))))
}

/// Whether a session goes on in this epoch.
fn goes_on(all: &mut FetchSessions, now: Mono, id: i32, epoch: i32) -> bool {
    matches!(all.begin(now, of(id, epoch), &[], &[]), Ok(Begun::Continues(_)))
}

/// What a partition is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    end: i64,
    start: i64,
    error: bool,
}

/// A broker's partitions, and a reader of them.
struct World {
    prng: Prng,
    partitions: Vec<State>,
    all: FetchSessions,
    session: (i32, i32),
    /// What the reader wants, by partition, and what it knows of it.
    reads: BTreeMap<i32, i64>,
    knows: BTreeMap<i32, State>,
    now: u64,
    answered: usize,
    left_out: usize,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            prng: Prng::new(seed),
            partitions: vec![State { end: 0, start: 0, error: false }; 6],
            all: FetchSessions::new(2, 12, Prng::new(seed)),
            session: (0, 0),
            reads: BTreeMap::new(),
            knows: BTreeMap::new(),
            now: 0,
            answered: 0,
            left_out: 0,
        }
    }

    fn change(&mut self) {
        let at = self.prng.below(6) as usize;
        let state = &mut self.partitions[at];
        match self.prng.below(6) {
            0..=2 => state.end += 1,
            3 => state.start = state.end.min(state.start + 1),
            4 => state.error = !state.error,
            _ => self.now += self.prng.below(100),
        }
    }

    /// The answer to a read of a partition at an offset, with room for one answer's records.
    fn read(&self, partition: i32, from: i64, room: &mut bool) -> Told {
        let State { end, start, error } = self.partitions[partition as usize];
        if error {
            let none = Offset::NONE;
            return Told { is_error: true, log_start: none, high_watermark: none, ..told(0) };
        }
        let has_records = from < end && std::mem::take(room);
        Told { has_records, log_start: Offset::new(start), ..told(end) }
    }

    /// One fetch. What the reader does not list it must know already.
    fn fetch(&mut self) {
        let (id, epoch) = self.session;
        let (mut listed, mut forgotten) = (Vec::new(), Vec::new());
        if epoch == 0 {
            (0..6)
                .filter(|_| self.prng.below(3) > 0)
                .for_each(|index| _ = self.reads.entry(index).or_insert(0));
            listed.extend(self.reads.iter().map(|(index, from)| (name(*index), wanted(*from))));
        } else {
            let at = self.prng.below(6) as i32;
            if self.prng.one_in(5) && self.reads.remove(&at).is_some() {
                self.knows.remove(&at);
                forgotten.push(name(at));
            } else {
                // One that it read on in, or a new one.
                let from = self.reads.entry(at).or_insert(0);
                let known = self.knows.get(&at).map_or(0, |known| known.end);
                *from = known.max(*from);
                listed.push((name(at), wanted(*from)));
            }
        }
        let request = of(id, epoch);
        let partitions = match self.all.begin(at(self.now), request, &listed, &forgotten) {
            Ok(Begun::Continues(partitions)) => partitions,
            Ok(_) => listed,
            Err(_) => return self.session = (0, 0),
        };
        let mut asked: Vec<i32> = partitions.iter().map(|((_, index), _)| index.get()).collect();
        asked.sort_unstable();
        assert!(asked.iter().eq(self.reads.keys()), "{asked:?}, expected {:?}", self.reads);
        for ((_, index), wanted) in &partitions {
            assert_eq!(wanted.from.get(), self.reads[&index.get()], "an older wish was kept");
        }
        let mut room = true;
        let said: Vec<Told> = partitions
            .iter()
            .map(|((_, index), w)| self.read(index.get(), w.from.get(), &mut room))
            .collect();
        let keep = if epoch > 0 && !partitions.is_empty() {
            let pairs = partitions.iter().zip(&said).map(|((name, _), told)| (name, *told));
            self.all.prune(request, pairs).expect("no other request came in between")
        } else {
            vec![true; said.len()]
        };
        self.session = match epoch {
            0 => {
                let all = partitions.iter().zip(&said);
                let id =
                    self.all.grant(at(self.now), request, all.map(|((n, w), told)| (n.clone(), *w, *told)));
                (id, i32::from(id != 0))
            }
            _ if partitions.is_empty() => (0, 0),
            _ => (id, epoch + 1),
        };
        for ((((_, index), _), told), keep) in partitions.iter().zip(&said).zip(keep) {
            if keep {
                let state = State {
                    end: told.high_watermark.get(),
                    start: told.log_start.get(),
                    error: told.is_error,
                };
                self.knows.insert(index.get(), state);
                self.answered += 1;
            } else {
                assert!(!told.has_records && !told.is_error);
                self.left_out += 1;
            }
        }
    }

    /// What it knows is what a full fetch would say.
    fn check(&self) {
        for index in self.reads.keys() {
            let State { end, start, error } = self.partitions[*index as usize];
            let full = if error { State { end: -1, start: -1, error } } else { State { end, start, error } };
            assert_eq!(self.knows.get(index), Some(&full), "partition {index}");
        }
    }
}

#[test]
fn what_incremental_answers_add_up_to_is_what_full_ones_say() {
    let (mut answered, mut left_out, mut sessions) = (0, 0, 0);
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..60 {
            for _ in 0..world.prng.below(4) {
                world.change();
            }
            if world.prng.one_in(20) {
                // Somebody else's sessions take the slots.
                open(&mut world.all, at(world.now), 1 + (seed % 3) as i32, seed % 2 == 0);
            }
            if world.prng.one_in(25) {
                world.session.1 = 0;
            }
            let before = world.session;
            world.fetch();
            if world.session != (0, 0) || before.1 == 0 {
                world.check();
            }
            sessions += usize::from(before.1 > 0);
        }
        answered += world.answered;
        left_out += world.left_out;
    }
    println!("figure: fetch_sessions incremental={sessions} partitions_told={answered} left_out={left_out}");
    assert!(sessions > 1000 && left_out > 1000 && answered > 1000);
}

#[test]
fn partitions_with_records_take_turns_and_none_starves() {
    let mut all = sessions(1);
    let id = open(&mut all, at(0), 5, false);
    let mut turns = Vec::new();
    for epoch in 1..=10 {
        let Ok(Begun::Continues(order)) = all.begin(at(0), of(id, epoch), &[], &[]) else { panic!() };
        // All have records always, and the room is for those of one.
        let mut room = true;
        let said =
            order.iter().map(|(name, _)| (name, Told { has_records: std::mem::take(&mut room), ..told(9) }));
        all.prune(of(id, epoch), said).unwrap();
        turns.push(order[0].0.1.get());
    }
    assert_eq!(turns, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
}

#[test]
fn only_what_is_new_is_said() {
    let mut all = sessions(1);
    let id = open(&mut all, at(0), 1, false);
    let none = Offset::NONE;
    let error = Told { is_error: true, high_watermark: none, log_start: none, ..told(0) };
    for (epoch, (say, said)) in (1..).zip([
        (told(0), false),
        (told(1), true),
        (told(1), false),
        (Told { log_start: Offset::new(1), ..told(1) }, true),
        (Told { log_start: Offset::new(1), has_records: true, ..told(1) }, true),
        (Told { log_start: Offset::new(1), ..told(1) }, false),
        (Told { log_start: Offset::new(1), is_directed: true, ..told(1) }, true),
        (error, true),
        (error, true),
        (Told { log_start: Offset::new(1), ..told(1) }, true),
        (Told { log_start: Offset::new(1), ..told(1) }, false),
    ]) {
        assert!(goes_on(&mut all, at(0), id, epoch));
        assert_eq!(all.prune(of(id, epoch), [(&name(0), say)].into_iter()), Ok(vec![said]), "{epoch}");
    }
}

#[test]
fn epochs_ids_and_the_way_of_naming_must_fit() {
    let mut all = sessions(10);
    let id = open(&mut all, at(0), 2, false);
    let mut begin = |id, epoch| all.begin(at(1), of(id, epoch), &[], &[]);
    assert_eq!(begin(id, 2), Err(ErrorCode::InvalidFetchSessionEpoch));
    assert_eq!(begin(id, -7), Err(ErrorCode::InvalidFetchSessionEpoch));
    assert_eq!(begin(id ^ 1, 1), Err(ErrorCode::FetchSessionIdNotFound));
    assert_eq!(begin(0, 5), Err(ErrorCode::FetchSessionIdNotFound));
    assert!(matches!(begin(id, 1), Ok(Begun::Continues(_))));
    assert_eq!(begin(id, 1), Err(ErrorCode::InvalidFetchSessionEpoch), "a request that was sent again");
    let by_id = SessionRequest { by_id: true, ..of(id, 2) };
    assert_eq!(all.begin(at(1), by_id, &[], &[]), Err(ErrorCode::FetchSessionTopicIdError));
    assert!(goes_on(&mut all, at(1), id, 2), "an error leaves the session as it was");
    // A later request has come before this one's answer: the reader has given this one up.
    assert!(goes_on(&mut all, at(1), id, 3));
    assert_eq!(all.prune(of(id, 2), [].into_iter()), Err(ErrorCode::InvalidFetchSessionEpoch));
    assert_eq!(all.begin(at(1), of(id, -1), &[], &[]), Ok(Begun::Alone), "the final epoch closes it");
    assert!(!goes_on(&mut all, at(1), id, 4));
    let id = open(&mut all, at(0), 1, false);
    assert_eq!(
        all.begin(at(1), of(id, 1), &[], &[name(0)]),
        Ok(Begun::Alone),
        "so does forgetting all of it"
    );
    assert!(!goes_on(&mut all, at(1), id, 2));
    assert_eq!((next_epoch(1), next_epoch(i32::MAX)), (2, 1));
}

#[test]
fn a_full_cache_gives_way_only_to_what_is_worth_more() {
    // The oldest goes once nobody has used it for two minutes.
    let mut all = sessions(2);
    let (first, second) = (open(&mut all, at(0), 5, false), open(&mut all, at(1), 5, false));
    assert_eq!(open(&mut all, at(120), 900, false), 0, "it is not that old yet");
    assert!(goes_on(&mut all, at(121), first, 1));
    assert_ne!(open(&mut all, at(122), 1, false), 0);
    assert!(goes_on(&mut all, at(122), first, 2) && !goes_on(&mut all, at(122), second, 1));

    // A smaller one that is older than two minutes goes for a larger one; one as large does not.
    let mut all = sessions(1);
    let small = open(&mut all, at(0), 5, false);
    for (seconds, epoch) in [(100, 1), (200, 2)] {
        assert!(goes_on(&mut all, at(seconds), small, epoch));
    }
    assert_eq!(open(&mut all, at(201), 5, false), 0);
    assert_ne!(open(&mut all, at(201), 6, false), 0);
    assert!(!goes_on(&mut all, at(201), small, 3));

    // A broker's goes before a client's, however large and young that is; never the other way round.
    let mut all = sessions(1);
    let client = open(&mut all, at(0), 9, false);
    let broker = open(&mut all, at(0), 1, true);
    assert!(broker != 0 && !goes_on(&mut all, at(0), client, 1));
    assert_eq!(open(&mut all, at(0), 90, false), 0);
    assert_eq!(open(&mut all, at(0), 90, true), 0, "nor one broker's for another's, while it is young");
}

#[test]
fn sessions_and_their_partitions_are_bounded() {
    let mut all = FetchSessions::new(3, 10, Prng::new(1));
    assert_ne!(open(&mut all, at(0), 4, false), 0);
    let id = open(&mut all, at(0), 4, false);
    assert_eq!(open(&mut all, at(0), 4, false), 0, "12 partitions are too many");
    let two: Vec<_> = (4..6).map(|index| (name(index), wanted(0))).collect();
    assert!(all.begin(at(0), of(id, 1), &two, &[]).is_ok());
    let one_more = [(name(6), wanted(0))];
    assert_eq!(all.begin(at(0), of(id, 2), &one_more, &[]), Err(ErrorCode::FetchSessionIdNotFound));
    assert_eq!(all.partitions, 4);
    for _ in 0..1000 {
        open(&mut all, at(0), 1, false);
    }
    assert_eq!((all.sessions.len(), all.partitions), (3, 6));
    assert_eq!(open(&mut FetchSessions::new(0, 10, Prng::new(1)), at(0), 1, true), 0);
}
