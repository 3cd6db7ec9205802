//! One thread per core: shards, mailboxes, timers.
