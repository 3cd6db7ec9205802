//! The ring on a file system that cannot refuse to wait (`tmpfs`; `overlayfs` is another): a plain write is done all the same.
#![cfg(target_os = "linux")]

use std::path::Path;

use highwater_base::FilePos;
use highwater_io::{Io, Op, OpenHow, Outcome, Park, Token, UringIo, blocking};

#[test]
fn plain_writes_go_on_where_none_can_be_tried_without_waiting() {
    const SIZE: usize = 64 << 10;
    let mut io = match UringIo::new(32) {
        Ok(io) => io,
        Err(why) => return println!("skipped: no io_uring ({why})"),
    };
    let shared = Path::new("/dev/shm");
    if !shared.is_dir() {
        return println!("skipped: no {}", shared.display());
    }
    let path = shared.join(format!("highwater-io-{}", std::process::id()));
    let open = Op::Open { path: path.clone(), how: OpenHow::CreateOrEmpty, direct: true };
    let Ok(Outcome::Opened { file, .. }) = blocking::run(&mut io, open) else { panic!("open") };
    // Several at once, then more: the first answer decides how the later ones go.
    for round in 0..2 {
        for n in 0..8 {
            let mut buffer = io.buffer(SIZE);
            buffer.set_len(SIZE);
            buffer.filled_mut().fill(round * 8 + n);
            let at = FilePos::new(u64::from(round * 8 + n) * SIZE as u64);
            let token = Token { owner: 0, tag: u32::from(n) };
            io.submit(Op::Write { file, at, data: buffer.freeze(), durable: false }, token);
        }
        let mut out = Vec::new();
        while io.in_flight() > 0 {
            io.park(None, &mut out);
        }
        for done in out {
            assert!(matches!(done.result, Ok(Outcome::Wrote { len: SIZE })), "{:?}", done.result);
        }
    }
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(bytes.len(), 16 * SIZE);
    assert!(bytes.chunks(SIZE).enumerate().all(|(n, piece)| piece.iter().all(|byte| *byte == n as u8)));
}
