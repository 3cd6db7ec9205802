//! An instance that goes leaves nothing open, whatever was in flight.
#![cfg(target_os = "linux")]

use highwater_io::{Buffer, IoChoice, Op, OpenHow, Outcome, Slice, Token, blocking, production};

fn entries(of: &str) -> usize {
    std::fs::read_dir(of).unwrap().count()
}

/// Descriptors of this process but for those of the directory being listed.
fn descriptors() -> usize {
    entries("/proc/self/fd")
}

/// Threads of this process but for the kernel's workers, which stay for some seconds.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| !name.starts_with("iou-"))
        .count()
}

fn use_and_drop(choice: IoChoice, path: &std::path::Path) {
    let (mut io, _) = production(choice, 8).unwrap();
    let open = Op::Open { path: path.to_owned(), how: OpenHow::CreateOrWrite, direct: true };
    let Ok(Outcome::Opened { .. }) = blocking::run(&mut *io, open) else { panic!("open") };
    let listen = Op::Listen { address: "127.0.0.1:0".parse().unwrap(), shared: false };
    let Ok(Outcome::Listening { listener, address }) = blocking::run(&mut *io, listen) else {
        panic!("listen")
    };
    let token = Token { owner: 1, tag: 1 };
    // One connection accepted, one still waiting in the listener, one accept without a connection.
    io.submit(Op::Accept { listener }, token);
    io.submit(Op::Connect { address }, token);
    let (mut out, mut conns) = (Vec::new(), Vec::new());
    while conns.len() < 2 {
        io.park(None, &mut out);
        for completion in out.drain(..) {
            match completion.result.unwrap() {
                Outcome::Accepted { conn, .. } | Outcome::Connected { conn } => conns.push(conn),
                other => panic!("{other:?}"),
            }
        }
    }
    io.submit(Op::Accept { listener }, token);
    io.submit(Op::Receive { conn: conns[0], buffer: Buffer::new(4096) }, token);
    io.submit(Op::Send { conn: conns[0], data: vec![Slice::from(vec![0; 1 << 20]); 16] }, token);
    io.submit(Op::Stat { path: path.to_owned() }, token);
    io.reap(&mut Vec::new());
    io.submit(Op::Connect { address }, token);
}

#[test]
fn a_dropped_instance_leaves_no_descriptor_and_no_thread() {
    let path = std::env::temp_dir().join(format!("highwater-io-leaves-{}", std::process::id()));
    for choice in [IoChoice::Posix, IoChoice::Uring] {
        use_and_drop(choice, &path);
        let before = (descriptors(), threads());
        for _ in 0..20 {
            use_and_drop(choice, &path);
        }
        assert_eq!((descriptors(), threads()), before, "{choice:?}");
    }
    std::fs::remove_file(&path).unwrap();
}
