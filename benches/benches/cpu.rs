//! The CPU paths.
fn main() {}
