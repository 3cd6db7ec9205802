//! Leader/follower replication of engine logs by an ISR state machine.
#![forbid(unsafe_code)]
