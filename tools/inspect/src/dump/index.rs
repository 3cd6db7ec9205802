//! Offset, time and transaction indexes.

use std::path::Path;

use highwater_base::Offset;
use highwater_engine::index::{
    IndexError, OFFSET_ENTRY_BYTES, OffsetIndex, TIME_ENTRY_BYTES, TXN_ENTRY_BYTES, TimeIndex, TxnIndex,
};

use super::Dumper;
use crate::InspectError;
use crate::damage::Damage;
use crate::json::Line;

impl Dumper<'_> {
    pub(super) fn offset_index(
        &mut self,
        path: &Path,
        shown: &str,
        base: Offset,
    ) -> Result<(), InspectError> {
        let Some(bytes) = self.whole(path)? else { return Ok(()) };
        let index = OffsetIndex::new(&bytes, base);
        if self.options.json {
            let entries = index.entries().filter(|entry| self.options.wants(entry.offset, entry.offset));
            let entries = entries.map(|entry| format!("[{},{}]", entry.offset, entry.position));
            let mut line = Line::new("offset_index");
            line.string("file", shown).plain("slots", index.slots()).plain("used", index.len());
            line.array("entries", entries).write(self.out)?;
        } else {
            writeln!(self.out, "offset index {shown}: {} of {} slots used", index.len(), index.slots())?;
            for entry in index.entries().filter(|entry| self.options.wants(entry.offset, entry.offset)) {
                writeln!(self.out, "  offset {} at {}", entry.offset, entry.position)?;
            }
        }
        self.index_check(path, index.check(), OFFSET_ENTRY_BYTES)
    }

    pub(super) fn time_index(&mut self, path: &Path, shown: &str, base: Offset) -> Result<(), InspectError> {
        let Some(bytes) = self.whole(path)? else { return Ok(()) };
        let index = TimeIndex::new(&bytes, base);
        if self.options.json {
            let entries = index.entries().filter(|entry| self.options.wants(entry.offset, entry.offset));
            let entries = entries.map(|entry| format!("[{},{}]", entry.timestamp.get(), entry.offset));
            let mut line = Line::new("time_index");
            line.string("file", shown).plain("slots", index.slots()).plain("used", index.len());
            line.array("entries", entries).write(self.out)?;
        } else {
            writeln!(self.out, "time index {shown}: {} of {} slots used", index.len(), index.slots())?;
            for entry in index.entries().filter(|entry| self.options.wants(entry.offset, entry.offset)) {
                writeln!(self.out, "  time {} up to offset {}", entry.timestamp.get(), entry.offset)?;
            }
        }
        self.index_check(path, index.check(), TIME_ENTRY_BYTES)
    }

    pub(super) fn txn_index(&mut self, path: &Path, shown: &str, base: Offset) -> Result<(), InspectError> {
        let Some(bytes) = self.whole(path)? else { return Ok(()) };
        let index = TxnIndex::new(&bytes);
        let entries = index
            .entries()
            .filter(|(_, aborted)| self.options.wants(aborted.first_offset, aborted.last_offset));
        if self.options.json {
            let entries = entries.map(|(version, aborted)| {
                let mut entry = Line::nested();
                entry.plain("version", version).plain("producer_id", aborted.producer_id);
                entry.plain("first_offset", aborted.first_offset).plain("last_offset", aborted.last_offset);
                entry.plain("last_stable_offset", aborted.last_stable_offset).finish()
            });
            Line::new("txn_index").string("file", shown).array("entries", entries).write(self.out)?;
        } else {
            writeln!(self.out, "transaction index {shown}: {} aborted", index.len())?;
            for (_, aborted) in entries {
                writeln!(
                    self.out,
                    "  producer {} offsets {} to {}, last stable offset then {}",
                    aborted.producer_id,
                    aborted.first_offset,
                    aborted.last_offset,
                    aborted.last_stable_offset
                )?;
            }
        }
        self.index_check(path, index.check(base), TXN_ENTRY_BYTES)
    }

    fn index_check(
        &mut self,
        path: &Path,
        check: Result<(), IndexError>,
        entry_bytes: usize,
    ) -> Result<(), InspectError> {
        match check {
            Ok(()) => Ok(()),
            Err(error) => {
                let position = error.position(entry_bytes);
                self.damaged(path, Some(position), Damage::Index(error))
            }
        }
    }
}
