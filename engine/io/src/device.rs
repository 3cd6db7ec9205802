//! Devices whose cache one flush empties for all files on them.
//!
//! The kernel tells of a failed flush once, to whoever asked for it. The bytes that it lost may be any file's, so a device
//! counts its failures, and a file remembers the count at its first write that no sync has covered: if it has moved
//! by the time of a sync, that sync proves nothing.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use crate::sys;

/// One device, as the threads that share it see it.
#[derive(Debug)]
pub(crate) struct Device {
    /// Its number, as `stat` says it.
    number: u64,
    failures: AtomicU64,
}

impl Device {
    /// How many shared flushes of it have failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Acquire)
    }

    /// A shared flush of it has failed.
    pub(crate) fn fail(&self) {
        self.failures.fetch_add(1, Ordering::AcqRel);
    }
}

/// The devices that some threads share. The default is a set of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Devices(Arc<Mutex<Vec<Arc<Device>>>>);

impl Devices {
    /// Those of the whole process.
    pub(crate) fn of_process() -> Devices {
        static ALL: LazyLock<Devices> = LazyLock::new(Devices::default);
        ALL.clone()
    }

    /// The device of a direct file, if a flush of it covers the file's settled blocks.
    pub(crate) fn of(&self, file: &File) -> Option<Arc<Device>> {
        sys::flushed_device(file).map(|number| self.numbered(number))
    }

    pub(crate) fn numbered(&self, number: u64) -> Arc<Device> {
        let mut devices = self.0.lock();
        if let Some(known) = devices.iter().find(|device| device.number == number) {
            return Arc::clone(known);
        }
        let device = Arc::new(Device { number, failures: AtomicU64::new(0) });
        devices.push(Arc::clone(&device));
        device
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_seen_by_all_who_share_the_device_and_by_no_others() {
        let (here, there, elsewhere) = (Devices::default(), Devices::default(), Devices::default());
        let there = Devices(Arc::clone(&here.0)).numbered(7).failures() + there.numbered(7).failures();
        assert_eq!(there, 0);
        here.numbered(7).fail();
        assert_eq!((here.numbered(7).failures(), here.numbered(8).failures()), (1, 0));
        assert_eq!(elsewhere.numbered(7).failures(), 0);
    }
}
