//! The replica state machine: high watermark, ISR, epochs; pure.
#![forbid(unsafe_code)]
