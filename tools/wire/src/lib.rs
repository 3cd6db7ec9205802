//! Kafka's wire protocol: frames, versions, bounds.
#![forbid(unsafe_code)]
