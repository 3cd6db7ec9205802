//! One pass: the dirty part is mapped, then everything below is rewritten, batch by batch (kafka.md 3.8, 3.9).

use highwater_base::{Offset, WallMs};

use super::transactions::{CleanedTransactions, Part};
use super::{CompactError, KeyMap, Slice};
use crate::batch::{
    Batch, BatchError, CompressionFault, Converted, Header, RecordStream, StreamPlace, emptied_batch,
    legacy_entries, retained_batch,
};
use crate::index::AbortedTxn;
use crate::producers::{ProducerBatch, Producers};

/// Bytes that a batch may unpack to while it is rewritten. One that is larger stays as it is.
const REWRITE_BYTES: u64 = 64 << 20;

/// What a pass goes by; plain values.
///
/// ```
/// use highwater_base::{Offset, WallMs};
/// let rules = highwater_engine::compact::PassRules {
///     first_dirty: Offset::ZERO,
///     upto: Offset::new(100),
///     now: WallMs::new(1_700_000_000_000),
///     delete_retention_ms: 86_400_000,
///     keep_deletes: false,
/// };
/// assert_eq!(rules.horizon(), WallMs::new(1_700_086_400_000));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PassRules {
    /// Keys of records from here on are mapped.
    pub first_dirty: Offset,
    /// Nothing at or beyond is looked at. The batch that ends here keeps its header at least, so that readers can
    /// come to the end.
    pub upto: Offset,
    /// When the pass began.
    pub now: WallMs,
    /// `delete.retention.ms`: how long tombstones and markers stay after the first pass that met them.
    pub delete_retention_ms: u64,
    /// Tombstones and markers stay whatever their horizon: part of the log cannot be read.
    pub keep_deletes: bool,
}

impl PassRules {
    /// The delete horizon of tombstones that are met for the first time.
    pub fn horizon(&self) -> WallMs {
        WallMs::new(self.now.get().saturating_add_unsigned(self.delete_retention_ms))
    }
}

/// What becomes of a batch.
///
/// ```
/// assert_ne!(highwater_engine::compact::Rewrite::Drop, highwater_engine::compact::Rewrite::Keep);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rewrite {
    /// It goes.
    Drop,
    /// It stays byte for byte.
    Keep,
    /// These bytes take its place.
    Replace(Vec<u8>),
}

/// One pass over a log. First every batch of the dirty part goes to [`Pass::map`], in order, until it says that the map
/// is full; then every batch below [`Pass::end`], from the log's start, to [`Pass::rewrite`].
///
/// ```
/// use highwater_base::{Offset, WallMs};
/// use highwater_engine::batch::{BatchBuilder, Batches};
/// use highwater_engine::compact::{KeyMap, Pass, PassRules, Rewrite};
/// use highwater_engine::producers::Producers;
/// let at = |offset| BatchBuilder::new().base_offset(Offset::new(offset));
/// let mut log = at(0).record(1, Some(b"k"), Some(b"old")).build();
/// log.extend(at(1).record(2, Some(b"k"), Some(b"new")).build());
/// let rules = PassRules {
///     first_dirty: Offset::ZERO, upto: Offset::new(3), now: WallMs::new(9), delete_retention_ms: 0, keep_deletes: false,
/// };
/// let mut pass = Pass::new(rules, KeyMap::new(2400, [1, 2]), [].into_iter());
/// for batch in Batches::in_memory(&log) {
///     assert!(pass.map(batch.unwrap()).unwrap());
/// }
/// let (producers, mut seen) = (Producers::new(10), Vec::new());
/// for batch in Batches::in_memory(&log) {
///     seen.push(pass.rewrite(batch.unwrap(), &producers, false).unwrap());
/// }
/// assert_eq!((seen, pass.end()), (vec![Rewrite::Drop, Rewrite::Keep], Offset::new(2)));
/// ```
#[derive(Debug)]
pub struct Pass {
    rules: PassRules,
    map: KeyMap,
    /// The offset after the last batch that was mapped as a whole.
    end: Offset,
    full: bool,
    /// As mapping met them; every aborted transaction is known from the start.
    mapping: CleanedTransactions,
    rewriting: CleanedTransactions,
    /// Entries for the transaction index of what is being written.
    aborted: Vec<AbortedTxn>,
    /// Of the batch that is being rewritten.
    kept: Vec<Keep>,
    /// How far a batch is mapped or looked through of which a part is left.
    within: Option<StreamPlace>,
}

/// What became of a batch that is mapped slice by slice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mapped {
    /// The slice is over before the batch.
    Partly,
    /// All of it, and there is room for more.
    Wholly,
    /// The map is full.
    Full,
}

/// What becomes of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Keep {
    No,
    Value,
    Tombstone,
}

/// So many keys are looked up together.
const TOGETHER: usize = 32;

/// Notes the offsets of keys, until there is no room for one: false.
fn put_all(map: &mut KeyMap, seen: &mut Vec<(u128, Offset)>) -> bool {
    map.approach(seen.iter().map(|seen| seen.0));
    let room = seen.iter().all(|&(hash, offset)| map.put_hash(hash, offset));
    seen.clear();
    room
}

impl Pass {
    /// A pass with an empty map; `aborted`: every aborted transaction that the log knows.
    pub fn new(rules: PassRules, map: KeyMap, aborted: impl Iterator<Item = AbortedTxn>) -> Pass {
        let transactions = CleanedTransactions::new(aborted);
        Pass {
            rules,
            map,
            end: rules.first_dirty,
            full: false,
            mapping: transactions.clone(),
            rewriting: transactions,
            aborted: Vec::new(),
            kept: Vec::new(),
            within: None,
        }
    }

    /// What it goes by.
    pub fn rules(&self) -> &PassRules {
        &self.rules
    }

    /// Everything below is cleaned by this pass; what lies beyond stays as it is.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The map of keys.
    pub fn keys(&self) -> &KeyMap {
        &self.map
    }

    /// Gives back at most `bytes` of the map, when nothing is left to rewrite; says whether there is more.
    pub(crate) fn dissolve(&mut self, bytes: usize) -> bool {
        self.map.dissolve(bytes)
    }

    /// Notes the keys of a batch of the dirty part. False if the map is full: the pass ends before this batch, unless it
    /// is the first one, whose end is then the pass's end, whatever found no room.
    pub fn map(&mut self, batch: Batch<'_>) -> Result<bool, CompactError> {
        Ok(self.map_some(batch, &mut Slice::endless())? == Mapped::Wholly)
    }

    /// Like [`Pass::map`], as far as the slice goes; the next call goes on with the same batch.
    pub(crate) fn map_some(&mut self, batch: Batch<'_>, slice: &mut Slice) -> Result<Mapped, CompactError> {
        if self.full {
            return Ok(Mapped::Full);
        }
        let last = batch.last_offset();
        let data = self.within.is_some() || self.part(batch, true) == Part::Data;
        if data {
            match self.map_records(batch, slice)? {
                Mapped::Partly => return Ok(Mapped::Partly),
                Mapped::Wholly => {}
                Mapped::Full => {
                    self.full = true;
                    if self.end > self.rules.first_dirty {
                        return Ok(Mapped::Full);
                    }
                }
            }
        }
        if last >= self.rules.first_dirty {
            self.end = last.plus(1);
        }
        Ok(if self.full { Mapped::Full } else { Mapped::Wholly })
    }

    /// Whether a part of a batch is left.
    pub(crate) fn is_within(&self) -> bool {
        self.within.is_some()
    }

    /// A segment of the dirty part was mapped to its end: offsets up to the next one's base are clean.
    pub fn mapped_to(&mut self, end: Offset) {
        if !self.full {
            self.end = self.end.max(end);
        }
    }

    fn map_records(&mut self, batch: Batch<'_>, slice: &mut Slice) -> Result<Mapped, CompactError> {
        let (map, first) = (&mut self.map, self.rules.first_dirty);
        let (mut room, mut seen) = (true, Vec::with_capacity(TOGETHER));
        let mut see = |offset: Offset, key: Option<&[u8]>| {
            if let Some(key) = key
                && offset >= first
                && room
            {
                seen.push((map.hash(key), offset));
                room = seen.len() < TOGETHER || put_all(map, &mut seen);
            }
            room
        };
        match batch.header() {
            None => {
                legacy_entries(batch, u64::MAX, |entry| {
                    see(entry.offset, entry.key);
                })?;
            }
            Some(header) => {
                let mut records = RecordStream::new(batch.bytes(), u64::MAX)?;
                self.within.take().into_iter().for_each(|place| records.go_on(place));
                while let Some(record) = records.next()? {
                    if !see(record.offset(header), record.key) {
                        break;
                    }
                    slice.spend_record();
                    if slice.is_over() {
                        self.within = records.place();
                        if self.within.is_some() {
                            break;
                        }
                    }
                }
            }
        }
        Ok(match room && put_all(map, &mut seen) {
            true if self.within.is_some() => Mapped::Partly,
            true => Mapped::Wholly,
            false => {
                self.within = None;
                Mapped::Full
            }
        })
    }

    fn part(&mut self, batch: Batch<'_>, mapping: bool) -> Part {
        let transactions = if mapping { &mut self.mapping } else { &mut self.rewriting };
        let Some(header) = batch.header() else { return Part::Data };
        let attributes = header.attributes();
        if attributes.is_control() {
            let marker = ProducerBatch::of(batch);
            return transactions.control(marker.as_ref(), header.record_count() == 0, header.last_offset());
        }
        let transactional = attributes.is_transactional();
        transactions.data(header.producer_id(), transactional, header.base_offset(), header.last_offset())
    }

    /// Decides what becomes of a batch below the end. Of an older format, tombstones stay if `keep_legacy_deletes`.
    pub fn rewrite(
        &mut self,
        batch: Batch<'_>,
        producers: &Producers,
        keep_legacy_deletes: bool,
    ) -> Result<Rewrite, CompactError> {
        let mut endless = Slice::endless();
        loop {
            let rewrite = self.rewrite_some(batch, producers, keep_legacy_deletes, &mut endless)?;
            if let Some(rewrite) = rewrite {
                return Ok(rewrite);
            }
        }
    }

    /// Like [`Pass::rewrite`], as far as the slice goes: none if it is over before the batch, with which the next call goes on.
    pub(crate) fn rewrite_some(
        &mut self,
        batch: Batch<'_>,
        producers: &Producers,
        keep_legacy_deletes: bool,
        slice: &mut Slice,
    ) -> Result<Option<Rewrite>, CompactError> {
        let part = if self.within.is_some() { Part::Data } else { self.part(batch, false) };
        let Some(header) = batch.header() else {
            return self.rewrite_legacy(batch, keep_legacy_deletes || self.rules.keep_deletes).map(Some);
        };
        let rewrite = match part {
            Part::AbortedData => Rewrite::Drop,
            Part::OtherControl => Rewrite::Keep,
            Part::NeededMarker(aborted) => {
                self.aborted.extend(aborted);
                Rewrite::Keep
            }
            Part::IdleMarker => self.rewrite_idle_marker(header, batch)?,
            Part::Data => match self.look_through(header, batch, slice) {
                Ok(false) => return Ok(None),
                Ok(true) => self.rewrite_data(header, batch)?,
                Err(error) if is_limit(&error) => Rewrite::Keep,
                Err(error) => return Err(error.into()),
            },
        };
        Ok(Some(match rewrite {
            Rewrite::Drop if self.keeps_header(header, producers) => match header.record_count() {
                0 => Rewrite::Keep,
                _ => Rewrite::Replace(emptied_batch(header, batch.bytes())),
            },
            rewrite => rewrite,
        }))
    }

    /// Entries for the transaction index of what was rewritten since the last call.
    pub fn take_aborted(&mut self) -> Vec<AbortedTxn> {
        std::mem::take(&mut self.aborted)
    }

    fn has_passed(&self, horizon: WallMs) -> bool {
        !self.rules.keep_deletes && horizon <= self.rules.now
    }

    /// Whether a batch without a record keeps its header: a producer's last one, so that its epoch and its sequence are
    /// known after every restart, or the one before the end.
    fn keeps_header(&self, header: Header<'_>, producers: &Producers) -> bool {
        if header.last_offset().plus(1) == self.rules.upto {
            return true;
        }
        let Some(producer) = producers.get(header.producer_id()) else { return false };
        match producer.batches().last() {
            Some(last) => header.last_offset() == last.last_offset,
            None => header.attributes().is_control() && header.producer_epoch() == producer.epoch(),
        }
    }

    /// Whether a record is the latest of its key, or lies beyond what was mapped.
    fn is_latest(&self, offset: Offset, key: Option<&[u8]>) -> bool {
        offset >= self.end || key.is_some_and(|key| self.is_latest_of(self.map.hash(key), offset))
    }

    fn is_latest_of(&self, hash: u128, offset: Offset) -> bool {
        self.map.get_hash(hash).is_none_or(|latest| offset >= latest)
    }

    /// Strikes out those of `seen` that are not the latest of their keys.
    fn strike(&self, seen: &mut Vec<(u128, Offset, usize)>, kept: &mut [Keep]) {
        self.map.approach(seen.iter().map(|seen| seen.0));
        for (hash, offset, number) in seen.drain(..) {
            if !self.is_latest_of(hash, offset) {
                kept[number] = Keep::No;
            }
        }
    }

    /// A marker before which nothing of its transaction is left: from now on its horizon counts.
    fn rewrite_idle_marker(&self, header: Header<'_>, batch: Batch<'_>) -> Result<Rewrite, BatchError> {
        Ok(match header.delete_horizon() {
            _ if header.record_count() == 0 => Rewrite::Drop,
            Some(horizon) if self.has_passed(horizon) => Rewrite::Drop,
            Some(_) => Rewrite::Keep,
            None => {
                let horizon = Some(self.rules.horizon());
                Rewrite::Replace(retained_batch(batch.bytes(), horizon, REWRITE_BYTES, |_| true)?)
            }
        })
    }

    /// Which records of a batch stay, as far as the slice goes; false if that is not to its end.
    fn look_through(
        &mut self,
        header: Header<'_>,
        batch: Batch<'_>,
        slice: &mut Slice,
    ) -> Result<bool, BatchError> {
        let deletes = header.delete_horizon().is_some_and(|horizon| self.has_passed(horizon));
        let (mut kept, mut seen) = (std::mem::take(&mut self.kept), Vec::with_capacity(TOGETHER));
        let mut records = RecordStream::new(batch.bytes(), REWRITE_BYTES)?;
        match self.within.take() {
            Some(place) => records.go_on(place),
            None => kept.clear(),
        }
        while let Some(record) = records.next()? {
            let offset = record.offset(header);
            let if_latest = match record.value {
                Some(_) => Keep::Value,
                None if deletes && offset < self.end => Keep::No,
                None => Keep::Tombstone,
            };
            match record.key {
                None if offset < self.end => kept.push(Keep::No),
                Some(key) if offset < self.end && if_latest != Keep::No => {
                    seen.push((self.map.hash(key), offset, kept.len()));
                    kept.push(if_latest);
                }
                _ => kept.push(if_latest),
            }
            if seen.len() == TOGETHER {
                self.strike(&mut seen, &mut kept);
            }
            slice.spend_record();
            if slice.is_over() {
                self.within = records.place();
                if self.within.is_some() {
                    break;
                }
            }
        }
        self.strike(&mut seen, &mut kept);
        self.kept = kept;
        Ok(self.within.is_none())
    }

    /// What becomes of a batch whose records were looked through.
    fn rewrite_data(&self, header: Header<'_>, batch: Batch<'_>) -> Result<Rewrite, CompactError> {
        let kept = &self.kept;
        let any = kept.iter().any(|keep| *keep != Keep::No);
        let all = !kept.contains(&Keep::No);
        let begins = kept.contains(&Keep::Tombstone) && header.delete_horizon().is_none();
        Ok(if !any {
            Rewrite::Drop
        } else if all && !begins {
            Rewrite::Keep
        } else {
            let horizon = if begins { Some(self.rules.horizon()) } else { header.delete_horizon() };
            let keep = |number: usize| kept[number] != Keep::No;
            match retained_batch(batch.bytes(), horizon, REWRITE_BYTES, keep) {
                Err(error) if is_limit(&error) => Rewrite::Keep,
                bytes => Rewrite::Replace(bytes?),
            }
        })
    }

    fn rewrite_legacy(&self, batch: Batch<'_>, keep_deletes: bool) -> Result<Rewrite, CompactError> {
        let attributes = batch.attributes();
        let codec = attributes.codec().unwrap_or_default();
        let mut converted = Converted::new(codec, attributes.timestamp_type());
        let mut all = true;
        legacy_entries(batch, REWRITE_BYTES, |entry| {
            let keep = self.is_latest(entry.offset, entry.key) && (entry.value.is_some() || keep_deletes);
            if keep {
                converted.push(entry.offset, entry.timestamp, entry.key, entry.value);
            }
            all &= keep;
        })?;
        match converted.finish() {
            _ if all => Ok(Rewrite::Keep),
            None => Ok(Rewrite::Drop),
            Some(bytes) => Ok(Rewrite::Replace(bytes?)),
        }
    }
}

/// Whether a batch unpacks to more than what is rewritten.
fn is_limit(error: &BatchError) -> bool {
    matches!(error, BatchError::Compression(error) if matches!(error.fault, CompressionFault::Limit { .. }))
}
