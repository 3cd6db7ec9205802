//! The simulated disk as its user meets it: order, faults, space, and the trace.

use highwater_base::FilePos;
use highwater_io::{
    Buffer, Completion, ErrorKind, FileId, Io, IoError, Op, OpenHow, Outcome, Park, Prepared, Slice, Token,
    blocking,
};
use highwater_sim::{Behaviour, EIO, ENOSPC, Fault, FaultKind, Loss, SimDisk, SimIo};

fn open(io: &mut SimIo, path: &str, how: OpenHow) -> FileId {
    match blocking::run(io, Op::Open { path: path.into(), how, direct: false }).unwrap() {
        Outcome::Opened { file, .. } => file,
        other => panic!("{other:?}"),
    }
}

fn write(file: FileId, at: u64, bytes: &[u8]) -> Op {
    Op::Write { file, at: FilePos::new(at), data: Slice::from(bytes.to_vec()), durable: false }
}

fn sync(file: FileId) -> Op {
    Op::Sync { file, data_only: true, urgent: true }
}

fn token(tag: u32) -> Token {
    Token { owner: 1, tag }
}

fn kind(result: Result<Outcome, IoError>) -> ErrorKind {
    result.unwrap_err().kind
}

#[test]
fn a_sync_submitted_before_a_write_completed_does_not_cover_it() {
    for seed in 0..50 {
        let mut disk = SimDisk::new();
        disk.put("/f", &[0; 4096]);
        let mut io = SimIo::new(disk, seed);
        let file = open(&mut io, "/f", OpenHow::Write);
        io.submit(write(file, 0, &[1; 512]), token(1));
        io.submit(sync(file), token(2));
        let mut out = Vec::new();
        while out.len() < 2 {
            io.park(None, &mut out);
        }
        assert_eq!(io.disk().contents("/f").unwrap()[0], 1);
        assert_eq!(io.disk().power_cut(Loss::Unsynced, seed).contents("/f").unwrap()[0], 0);
    }
}

#[test]
fn operations_overtake_each_other() {
    let orders: std::collections::BTreeSet<Vec<u32>> = (0..50)
        .map(|seed| {
            let mut io = SimIo::new(SimDisk::new(), seed);
            let file = open(&mut io, "/f", OpenHow::CreateNew);
            (0..3).for_each(|tag| io.submit(write(file, 0, &[tag as u8; 8]), token(tag)));
            let mut out: Vec<Completion> = Vec::new();
            while io.in_flight() > 0 {
                io.park(None, &mut out);
            }
            out.iter().map(|completion| completion.token.tag).collect()
        })
        .collect();
    assert_eq!(orders.len(), 6, "three operations complete in each of six orders: {orders:?}");
}

#[test]
fn a_failed_sync_latches_the_file_and_what_it_covered_stays_unsure() {
    let mut io = SimIo::new(SimDisk::new(), 3);
    let file = open(&mut io, "/f", OpenHow::CreateNew);
    blocking::run(&mut io, Op::SyncDir { path: "/".into() }).unwrap();
    blocking::run(&mut io, write(file, 0, &[1; 64 * 512])).unwrap();
    io.inject(Fault { at: io.operations(), kind: FaultKind::Error(EIO), lasting: false });
    assert_eq!(kind(blocking::run(&mut io, sync(file))), ErrorKind::Device);
    assert_eq!(kind(blocking::run(&mut io, sync(file))), ErrorKind::Latched);
    assert_eq!(kind(blocking::run(&mut io, write(file, 0, b"x"))), ErrorKind::Latched);
    let read = Op::Read { file, at: FilePos::ZERO, buffer: Buffer::new(4096) };
    assert_eq!(kind(blocking::run(&mut io, read)), ErrorKind::Latched);
    blocking::run(&mut io, Op::Close { file }).unwrap();
    // A new handle shows the bytes and syncs without complaint, and still they are not there after a power cut.
    let file = open(&mut io, "/f", OpenHow::Write);
    blocking::run(&mut io, sync(file)).unwrap();
    assert_eq!(io.disk().contents("/f").unwrap(), [1; 64 * 512]);
    assert_ne!(io.disk().power_cut(Loss::Nothing, 1).contents("/f").unwrap(), [1; 64 * 512]);
}

#[test]
fn a_full_disk_writes_short_then_refuses_and_goes_on_when_space_returns() {
    let mut disk = SimDisk::new();
    disk.set_capacity(2 * 4096);
    let mut io = SimIo::new(disk, 1);
    let file = open(&mut io, "/f", OpenHow::CreateNew);
    let Outcome::Wrote { len } = blocking::run(&mut io, write(file, 0, &[1; 3 * 4096])).unwrap() else {
        panic!()
    };
    assert_eq!(len, 2 * 4096);
    assert_eq!(kind(blocking::run(&mut io, write(file, 2 * 4096, &[1; 4096]))), ErrorKind::NoSpace);
    let prepare = Op::Prepare { file, at: FilePos::new(2 * 4096), len: 4096, how: Prepared::Allocated };
    assert_eq!(kind(blocking::run(&mut io, prepare)), ErrorKind::NoSpace);
    blocking::run(&mut io, write(file, 0, &[2; 4096])).unwrap();
    io.disk_mut().set_capacity(3 * 4096);
    blocking::run(&mut io, write(file, 2 * 4096, &[1; 4096])).unwrap();
}

#[test]
fn prepared_space_is_durable_zeros() {
    for how in [Prepared::Allocated, Prepared::Zeroed] {
        let mut io = SimIo::new(SimDisk::new(), 1);
        let file = open(&mut io, "/f", OpenHow::CreateNew);
        blocking::run(&mut io, Op::SyncDir { path: "/".into() }).unwrap();
        blocking::run(&mut io, Op::Prepare { file, at: FilePos::ZERO, len: 8192, how }).unwrap();
        blocking::run(&mut io, write(file, 0, &[1; 4096])).unwrap();
        assert_eq!(io.disk().power_cut(Loss::Unsynced, 1).contents("/f").unwrap(), [0; 8192]);
    }
}

#[test]
fn lost_and_misdirected_writes_and_lying_syncs_are_claimed() {
    let mut disk = SimDisk::new();
    disk.put("/f", &[7; 64 << 10]);
    let fault_at_next = |io: &mut SimIo, kind| io.inject(Fault { at: io.operations(), kind, lasting: false });
    let mut io = SimIo::new(disk, 1);
    let file = open(&mut io, "/f", OpenHow::Write);
    fault_at_next(&mut io, FaultKind::Lost);
    blocking::run(&mut io, write(file, 0, &[1; 4096])).unwrap();
    assert_eq!(io.disk().contents("/f").unwrap()[0], 7);
    fault_at_next(&mut io, FaultKind::Misdirected);
    blocking::run(&mut io, write(file, 0, &[2; 4096])).unwrap();
    let bytes = io.disk().contents("/f").unwrap();
    assert_eq!((bytes[0], bytes.iter().filter(|b| **b == 2).count()), (7, 4096));
    fault_at_next(&mut io, FaultKind::Lying);
    blocking::run(&mut io, sync(file)).unwrap();
    assert!(!io.disk().power_cut(Loss::Unsynced, 1).contents("/f").unwrap().contains(&2));
}

#[test]
fn a_lasting_fault_holds_for_its_kind_until_healed() {
    let mut io = SimIo::new(SimDisk::new(), 1);
    let file = open(&mut io, "/f", OpenHow::CreateNew);
    io.inject(Fault { at: io.operations(), kind: FaultKind::Error(ENOSPC), lasting: true });
    for _ in 0..3 {
        assert_eq!(kind(blocking::run(&mut io, write(file, 0, b"x"))), ErrorKind::NoSpace);
        blocking::run(&mut io, sync(file)).unwrap();
    }
    io.heal();
    blocking::run(&mut io, write(file, 0, b"x")).unwrap();
}

#[test]
fn a_close_waits_for_what_is_in_flight() {
    for seed in 0..20 {
        let mut io = SimIo::new(SimDisk::new(), seed);
        let file = open(&mut io, "/f", OpenHow::CreateNew);
        io.submit(write(file, 0, b"x"), token(1));
        io.submit(Op::Close { file }, token(2));
        io.submit(write(file, 0, b"y"), token(3));
        let mut out: Vec<Completion> = Vec::new();
        while io.in_flight() > 0 {
            io.park(None, &mut out);
        }
        let order: Vec<u32> = out.iter().map(|completion| completion.token.tag).collect();
        assert_eq!(order, [3, 1, 2]);
        assert_eq!(out[0].result.as_ref().unwrap_err().kind, ErrorKind::Cancelled);
    }
}

#[test]
#[should_panic(expected = "multiples of 4096")]
fn a_misaligned_direct_write_panics() {
    let mut io = SimIo::new(SimDisk::new(), 1);
    let op = Op::Open { path: "/f".into(), how: OpenHow::CreateNew, direct: true };
    let Outcome::Opened { file, direct: true, .. } = blocking::run(&mut io, op).unwrap() else {
        panic!("not direct")
    };
    io.submit(write(file, 0, b"x"), token(1));
}

fn rough_run(seed: u64) -> (u64, SimDisk) {
    let mut io = SimIo::new(SimDisk::new(), seed).behaving(Behaviour::ROUGH);
    let file = open(&mut io, "/f", OpenHow::CreateNew);
    let mut out = Vec::new();
    for n in 0..200u32 {
        io.submit(write(file, u64::from(n % 7) * 700, &[n as u8; 900]), token(n));
        if n % 5 == 0 {
            io.submit(sync(file), token(n));
        }
        io.advance(&mut out);
    }
    let disk = io.disk().clone();
    (io.trace(), disk)
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let ((a, disk_a), (b, disk_b)) = (rough_run(9), rough_run(9));
    assert_eq!(a, b);
    assert_eq!(disk_a.image(), disk_b.image());
    assert_ne!(a, rough_run(10).0);
}
