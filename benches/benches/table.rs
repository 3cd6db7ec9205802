//! Measures raw controls.
use highwater_benches::{raw, scratch::Scratch};
fn main() {
    let dir = Scratch::new("table");
    let total = 2u64 << 30;
    for round in 0..3 {
        let p = dir.join("grow");
        println!("round {round} growing 64K {:.2}", raw::growing(&p, 65536, total).rate());
        std::fs::remove_file(&p).unwrap();
        let w = dir.join("written");
        raw::write_zeros(&w, total);
        for (size, depth) in [(65536, 8), (1 << 20, 1), (1 << 20, 2), (1 << 20, 4), (1 << 20, 8), (256 << 10, 4), (256<<10, 8), (512<<10, 4)] {
            let t = raw::direct(&w, size, depth, total, None);
            println!("  written {}K d{depth}: {:.2} GB/s {:.3} cpu/GB", size >> 10, t.rate(), t.cpu_per_gb());
        }
        let d = raw::durable(&w, 65536, 2000);
        println!("  durable 64K p50 {} p99 {}", d.value_at_quantile(0.5) / 1000, d.value_at_quantile(0.99) / 1000);
        for (size, depth) in [(1 << 20, 1), (1 << 20, 4), (1 << 20, 8), (256 << 10, 8)] {
            std::fs::remove_file(&w).unwrap();
            let f = std::fs::File::create(&w).unwrap();
            raw::allocate(&f, total);
            f.sync_all().unwrap();
            let t = raw::direct(&w, size, depth, total, None);
            println!("  allocated {}K d{depth}: {:.2} GB/s {:.3} cpu/GB workers {}", size >> 10, t.rate(), t.cpu_per_gb(), highwater_benches::threads::ring_workers());
        }
        std::fs::remove_file(&w).unwrap();
    }
}
