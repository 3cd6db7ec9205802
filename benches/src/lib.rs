//! Benchmarks with raw controls in the same run.
