//! An embeddable segmented log in Apache Kafka's format.
#![forbid(unsafe_code)]
