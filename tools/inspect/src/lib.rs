//! Looks inside Kafka-format log directories: dump, verify.
#![forbid(unsafe_code)]
