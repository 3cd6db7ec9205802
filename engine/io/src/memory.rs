//! Files in memory, without faults: for doc examples, unit tests and embedders' own tests.
//! (Being written.)
use crate::*;
/// In memory.
#[derive(Debug, Default)]
pub struct MemoryIo {}
impl MemoryIo {
    /// Empty.
    pub fn new() -> MemoryIo { MemoryIo {} }
}
impl Io for MemoryIo {
    fn submit(&mut self, _: Op, _: Token) { unimplemented!() }
    fn reap(&mut self, _: &mut Vec<Completion>) { unimplemented!() }
    fn in_flight(&self) -> usize { 0 }
    fn name(&self) -> &'static str { "memory" }
}
impl Park for MemoryIo {
    fn park(&mut self, _: Option<std::time::Duration>, _: &mut Vec<Completion>) {}
    fn waker(&self) -> Waker { Waker::new(|| ()) }
}
