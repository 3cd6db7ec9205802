//! Cluster metadata as a value, and what may change it.
#![forbid(unsafe_code)]
