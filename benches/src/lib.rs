//! What every benchmark needs: raw controls that move the same bytes without the engine, process CPU time,
//! histograms, a scratch directory that removes itself, and rows that print a ratio with its bound.
//!
//! A figure without its raw control in the same run is not a figure: absolute rates on a shared virtual
//! machine differ by a factor of two from one minute to the next.

pub mod counted;
pub mod cpu_time;
pub mod driver;
pub mod fleet;
pub mod in_memory;
pub mod raw;
pub mod row;
pub mod scratch;
pub mod threads;
