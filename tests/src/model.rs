//! The naive model of one log: what was appended, what was promised, and what may be found after a crash.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::rewritten::{Kept, records, state};

/// A batch as it must be served, and the offset after it.
///
/// ```
/// use highwater_engine::batch::BatchBuilder;
/// use highwater_tests::model::frames;
/// let bytes = BatchBuilder::new().record(1, None, Some(b"x")).record(2, None, None).build();
/// assert_eq!(frames(&bytes)?.len(), 1);
/// assert_eq!(frames(&bytes)?[0].end, 2);
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The offset of its first record.
    pub first: i64,
    /// The offset after its last.
    pub end: i64,
    /// All of it.
    pub bytes: &'a [u8],
}

/// Cuts whole batches apart. Written without the engine's own code, to judge that.
pub fn frames(mut bytes: &[u8]) -> Result<Vec<Frame<'_>>, String> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        if bytes.len() < 61 {
            return Err(format!("{} bytes are no batch", bytes.len()));
        }
        let first = i64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"));
        let len = 12 + i32::from_be_bytes(bytes[8..12].try_into().expect("four bytes")) as usize;
        let last = i32::from_be_bytes(bytes[23..27].try_into().expect("four bytes"));
        if len < 61 || len > bytes.len() {
            return Err(format!("a batch of {len} bytes in {} bytes", bytes.len()));
        }
        frames.push(Frame { first, end: first + i64::from(last) + 1, bytes: &bytes[..len] });
        bytes = &bytes[len..];
    }
    Ok(frames)
}

/// Producer id, epoch and base sequence of a batch.
pub fn producer(bytes: &[u8]) -> (i64, i16, i32) {
    (
        i64::from_be_bytes(bytes[43..51].try_into().expect("eight bytes")),
        i16::from_be_bytes(bytes[51..53].try_into().expect("two bytes")),
        i32::from_be_bytes(bytes[53..57].try_into().expect("four bytes")),
    )
}

/// What the log is being cut to.
///
/// ```
/// assert_ne!(highwater_tests::model::Cut::Truncate(3), highwater_tests::model::Cut::Restart(3));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Everything from here on is going.
    Truncate(i64),
    /// Everything is going, and this will be the only offset.
    Restart(i64),
}

/// What one log must and may hold.
///
/// ```
/// let mut model = highwater_tests::model::Model::default();
/// model.append(0, 3, b"a batch of three records".as_slice().into());
/// model.promise(3, 3);
/// assert_eq!(model.required(false), 3);
/// assert_eq!(model.log_end, 3);
/// ```
#[derive(Clone, Default, Debug)]
pub struct Model {
    /// Batches by their first offset, with the offset after the last record.
    pub batches: BTreeMap<i64, (i64, Arc<[u8]>)>,
    /// The first offset that must still be there: everything below may be gone.
    pub log_start: i64,
    /// The offset after the last batch.
    pub log_end: i64,
    /// Everything below was said to survive a power cut.
    pub synced: i64,
    /// Everything below was said to survive the end of the process.
    pub written: i64,
    /// Below this, compaction may have dropped what a later record of the same key replaced.
    pub compacted: i64,
    /// A restart dropped a part, from the end, and a crash came: what replaced a record may be gone.
    pub half_dropped: bool,
    /// A cut is under way: what is going may still be there.
    pub cut: Option<Cut>,
    /// The log was said to be durably there.
    pub ready: bool,
    /// It was said to be closed, and has not been opened since.
    pub closed: bool,
}

impl Model {
    /// A batch was appended.
    pub fn append(&mut self, first: i64, end: i64, bytes: Arc<[u8]>) {
        assert_eq!(first, self.log_end, "an append must follow the log's end");
        assert!(self.cut.is_none(), "no appends during a cut");
        self.batches.insert(first, (end, bytes));
        self.log_end = end;
    }

    /// The log says that this much is durable, and this much written.
    pub fn promise(&mut self, synced: i64, written: i64) {
        let most = match self.cut {
            Some(Cut::Truncate(to)) => to,
            Some(Cut::Restart(_)) => 0,
            None => i64::MAX,
        };
        self.synced = self.synced.max(synced.min(most));
        self.written = self.written.max(written.min(most));
    }

    /// A cut begins. Says where a truncation to `to` really cuts: at the batch that holds it.
    pub fn begin_truncation(&mut self, to: i64) -> i64 {
        let holds = self.batches.iter().find(|(_, (end, _))| *end > to).map(|(first, _)| *first);
        let cut = holds.unwrap_or(self.log_end).min(self.log_end);
        self.cut = Some(Cut::Truncate(cut));
        self.synced = self.synced.min(cut);
        self.written = self.written.min(cut);
        cut
    }

    /// Everything is about to be dropped.
    pub fn begin_restart(&mut self, at: i64) {
        self.cut = Some(Cut::Restart(at));
        (self.synced, self.written) = (0, 0);
    }

    /// The cut is durably done.
    pub fn end_cut(&mut self) {
        match self.cut.take() {
            Some(Cut::Truncate(to)) => self.set_end(to),
            Some(Cut::Restart(at)) => {
                self.batches.clear();
                (self.compacted, self.half_dropped) = (0, false);
                (self.log_start, self.log_end, self.synced, self.written) = (at, at, at, at);
            }
            None => {}
        }
    }

    /// The log now ends here, for good.
    pub fn set_end(&mut self, end: i64) {
        self.batches.split_off(&end);
        self.log_end = end;
        self.log_start = self.log_start.min(end);
    }

    /// Everything below this offset must be found after a kill, or after a power cut.
    pub fn required(&self, kill: bool) -> i64 {
        if kill { self.written.max(self.synced) } else { self.synced }
    }

    /// What a log that was found may hold, judged by its ends.
    pub fn judge_ends(&self, start: i64, end: i64, kill: bool) -> Result<(), Violation> {
        if let Some(Cut::Restart(at)) = self.cut
            && (start, end) == (at, at)
        {
            return Ok(());
        }
        let required = self.required(kill);
        if end < required {
            return Err(Violation::Lost(format!(
                "the log ends at {end}, everything below {required} was acknowledged"
            )));
        }
        if end > self.log_end {
            return Err(Violation::Bad(format!("the log ends at {end}, only {} was appended", self.log_end)));
        }
        if start > self.log_start && !matches!(self.cut, Some(Cut::Restart(_))) {
            let what = format!("the log starts at {start}, it must start at {} at most", self.log_start);
            return Err(if required > self.log_start {
                Violation::Lost(what)
            } else {
                Violation::Hole(what)
            });
        }
        Ok(())
    }

    /// What was read from `start` up to `end`: every batch is what was appended there, and none is missing. Below
    /// [`Model::compacted`] batches may be missing or have lost records, see [`Model::judge_keys`].
    pub fn judge_bytes(&self, start: i64, end: i64, bytes: &[u8]) -> Result<(), Violation> {
        let frames = frames(bytes).map_err(Violation::Bad)?;
        let mut next = None;
        for frame in &frames {
            if let Some(expected) = next
                && frame.first != expected
                && (frame.first < expected || frame.first > self.compacted)
            {
                return Err(Violation::Hole(format!(
                    "a batch at {} follows one that ends at {expected}",
                    frame.first
                )));
            }
            match self.batches.get(&frame.first) {
                Some((_, appended)) if **appended == *frame.bytes => {}
                _ if frame.first < self.compacted => self.judge_rewritten(frame)?,
                Some(_) => {
                    return Err(Violation::Bad(format!(
                        "the batch at {} is not what was appended",
                        frame.first
                    )));
                }
                None => return Err(Violation::Bad(format!("no batch was appended at {}", frame.first))),
            }
            next = Some(frame.end);
        }
        let first = frames.first().map(|frame| frame.first);
        if first.is_some_and(|first| first > start && first > self.compacted) {
            return Err(Violation::Hole(format!(
                "the first batch is at {first:?}, the log starts at {start}"
            )));
        }
        let last = next.unwrap_or(start);
        if last != end && (last > end || end > self.compacted) {
            return Err(Violation::Hole(format!("batches end at {next:?}, the log ends at {end}")));
        }
        Ok(())
    }

    /// A batch that compaction has rewritten: each record that it still has was appended there.
    fn judge_rewritten(&self, frame: &Frame<'_>) -> Result<(), Violation> {
        let mut appended = BTreeMap::new();
        for (_, bytes) in self.batches.range(..frame.end).rev().take(1).map(|(_, batch)| batch) {
            appended = records(bytes).map_err(Violation::Bad)?;
        }
        for (offset, record) in records(frame.bytes).map_err(Violation::Bad)? {
            if appended.get(&offset) != Some(&record) {
                return Err(Violation::Bad(format!("the record at {offset} is not what was appended")));
            }
        }
        Ok(())
    }

    /// All that was read from `start` up to `end`: each key has the value that it would have had without compaction.
    pub fn judge_keys(&self, start: i64, end: i64, bytes: &[u8]) -> Result<(), Violation> {
        // A restart drops everything, from the end: what replaced a record may be gone before the record would be.
        if self.compacted <= start || self.half_dropped || matches!(self.cut, Some(Cut::Restart(_))) {
            return Ok(());
        }
        let gather = |batches: &mut dyn Iterator<Item = &[u8]>| -> Result<BTreeMap<i64, Kept>, Violation> {
            let mut all = BTreeMap::new();
            for batch in batches {
                all.append(&mut records(batch).map_err(Violation::Bad)?);
            }
            Ok(all.split_off(&start))
        };
        let frames = frames(bytes).map_err(Violation::Bad)?;
        let found = gather(&mut frames.iter().map(|frame| frame.bytes))?;
        let appended = gather(&mut self.batches.range(..end).map(|(_, (_, bytes))| &**bytes))?;
        let (found, expected) = (state(&found), state(&appended));
        for (key, offset) in &expected {
            if found.get(key) != Some(offset) {
                let (key, found) = (String::from_utf8_lossy(key), found.get(key));
                return Err(Violation::Lost(format!(
                    "key {key} has its value at {found:?}, not at {offset}, in {start}..{end}"
                )));
            }
        }
        match found.keys().find(|key| !expected.contains_key(*key)) {
            Some(key) => {
                let key = String::from_utf8_lossy(key);
                Err(Violation::Bad(format!(
                    "key {key} was removed, and is back at {}",
                    found[key.as_bytes()]
                )))
            }
            None => Ok(()),
        }
    }
}

/// Something that must not be.
///
/// ```
/// use highwater_tests::model::Violation;
/// assert!(Violation::Lost("offset 3".into()).to_string().contains("lost"));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// Something acknowledged is gone.
    Lost(String),
    /// Offsets are missing between others.
    Hole(String),
    /// Something was served that was never appended there, or the log is in a state that it must not be in.
    Bad(String),
    /// A second recovery changed something.
    Changed(String),
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Violation::Lost(what) => write!(f, "lost: {what}"),
            Violation::Hole(what) => write!(f, "hole: {what}"),
            Violation::Bad(what) => write!(f, "bad: {what}"),
            Violation::Changed(what) => write!(f, "a second recovery changed something: {what}"),
        }
    }
}
