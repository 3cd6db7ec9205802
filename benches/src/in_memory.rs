//! A log on memory, for what an append and a fetch cost the processor alone.

use highwater_base::{LeaderEpoch, Mono, Now, Uuid, WallMs};
use highwater_engine::{Durability, Log, LogEvent, LogSettings, Origin, RecordCheck};
use highwater_io::{Io, MemoryDisk, MemoryIo};

/// The one time of such a log.
pub const NOW: Now = Now { mono: Mono::from_nanos(1), wall: WallMs::new(1_700_000_000_000) };

/// Who appends.
pub const CLIENT: Origin = Origin::Client { leader_epoch: LeaderEpoch::ZERO };

/// A log with `bytes` appended `times` times, all of it staged. Header and checksum of what is appended are looked at.
///
/// ```
/// use highwater_benches::{driver::batch, in_memory::filled};
/// let (log, _io) = filled(&batch(1024, 940), 3);
/// assert_eq!(log.log_end().get(), 3);
/// ```
pub fn filled(bytes: &[u8], times: usize) -> (Log, MemoryIo) {
    let mut io = MemoryIo::on(MemoryDisk::new());
    let settings =
        LogSettings { durability: Durability::Os, records: RecordCheck::Header, ..LogSettings::default() };
    let mut log = Log::create(NOW, "/log-0".as_ref(), 1, settings, Uuid::ZERO);
    pump(&mut log, &mut io, |event| matches!(event, LogEvent::Ready));
    for _ in 0..times {
        log.append(NOW, bytes, CLIENT).expect("append");
    }
    (log, io)
}

/// The same, written and synced, and still in the tail as far as that reaches.
pub fn settled(bytes: &[u8], times: usize) -> (Log, MemoryIo) {
    let (mut log, mut io) = filled(bytes, times);
    let end = log.log_end();
    log.want_synced(end);
    pump(&mut log, &mut io, |event| matches!(event, LogEvent::Synced(upto) if *upto == end));
    (log, io)
}

fn pump(log: &mut Log, io: &mut MemoryIo, mut until: impl FnMut(&LogEvent) -> bool) {
    let mut completions = Vec::new();
    loop {
        log.step(NOW, io);
        io.reap(&mut completions);
        for completion in completions.drain(..) {
            log.complete(NOW, completion, io);
        }
        while let Some(event) = log.poll_event() {
            if until(&event) {
                return;
            }
        }
    }
}
