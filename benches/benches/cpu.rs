//! The CPU paths of an append and a fetch, without a disk: parse, check, stamp, stage, slice.
//!
//! Wall time on a shared virtual machine is a trend, not a gate: compare within one run.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use highwater_base::Offset;
use highwater_benches::driver::batch;
use highwater_benches::in_memory::{CLIENT, NOW, filled, settled};
use highwater_engine::Read;
use highwater_engine::batch::{Batches, Header, Rules, arrival, crc32c};

fn checks(c: &mut Criterion) {
    for (name, bytes) in [
        ("1 KiB", batch(1024, 940)),
        ("64 KiB of 1 KiB", batch(64 << 10, 1024)),
        ("64 KiB of 100 B", batch(64 << 10, 100)),
    ] {
        let mut group = c.benchmark_group(format!("batch of {name}"));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("crc32c", |b| b.iter(|| crc32c(black_box(&bytes))));
        group.bench_function("header", |b| {
            b.iter(|| Header::decode(black_box(&bytes)).map(Header::last_offset))
        });
        for (what, check_records) in [("arrival, header and CRC", false), ("arrival, records too", true)] {
            let rules = Rules { check_records, ..Rules::default() };
            group.bench_function(what, |b| b.iter(|| arrival(black_box(&bytes), &rules, NOW.wall).is_ok()));
        }
        group.bench_function("frame", |b| b.iter(|| Batches::in_memory(black_box(&bytes)).count()));
        group.finish();
    }
}

fn stage(c: &mut Criterion) {
    for (name, bytes) in [("1 KiB", batch(1024, 940)), ("64 KiB", batch(64 << 10, 1024))] {
        let mut group = c.benchmark_group(format!("append of {name}, staged"));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("check, stamp, copy, index", |b| {
            b.iter_batched_ref(
                || filled(&bytes, 1),
                |(log, _)| black_box(log.append(NOW, &bytes, CLIENT).is_ok()),
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

fn slice(c: &mut Criterion) {
    let bytes = batch(16 << 10, 1024);
    let (mut log, _io) = settled(&bytes, 400);
    let end = log.log_end();
    let from = Offset::new(end.get() - 1000);
    let mut group = c.benchmark_group("hot fetch");
    group.throughput(Throughput::Bytes(64 << 10));
    group.bench_function("64 KiB from the tail", |b| {
        b.iter(|| match log.read(NOW, black_box(from), end, 64 << 10) {
            Ok(Read::Ready(fetched)) => fetched.data.len(),
            other => panic!("a hot read went to the disk: {other:?}"),
        });
    });
    group.finish();
}

criterion_group! {
    name = cpu;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = checks, stage, slice
}
criterion_main!(cpu);
