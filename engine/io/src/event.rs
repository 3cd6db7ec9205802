//! What a waker writes and a parked thread reads.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Waker, sys};

/// The reading end; see [`Event::waker`].
pub(crate) struct Event {
    pub(crate) reader: File,
    shared: Arc<Shared>,
}

struct Shared {
    writer: File,
    /// A wake was written and not noticed yet: more of them need no system call.
    written: AtomicBool,
}

impl Event {
    pub(crate) fn new() -> io::Result<Event> {
        let (reader, writer) = sys::event()?;
        Ok(Event { reader, shared: Arc::new(Shared { writer, written: AtomicBool::new(false) }) })
    }

    pub(crate) fn waker(&self) -> Waker {
        let shared = Arc::clone(&self.shared);
        Waker::new(move || {
            if !shared.written.swap(true, Ordering::AcqRel) {
                // A full pipe wakes just as well.
                let _ = (&shared.writer).write(&1u64.to_ne_bytes());
            }
        })
    }

    /// To be called between reading the wake and looking for its cause: whoever wakes after this writes again,
    /// and what was done before any earlier wake is visible now.
    pub(crate) fn noticed(&self) {
        self.shared.written.swap(false, Ordering::AcqRel);
    }

    /// Reads the wake that a poll has announced.
    pub(crate) fn read(&mut self) {
        let mut count = [0; 8];
        let _ = self.reader.read(&mut count);
        self.noticed();
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Event")
    }
}
