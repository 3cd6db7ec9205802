//! A simulated disk, network, clock and scheduler.
#![forbid(unsafe_code)]
