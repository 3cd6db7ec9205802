//! Small files, read and replaced as a whole. Blocking: for starts and stops.

use std::path::{Path, PathBuf};

use highwater_base::FilePos;
use highwater_io::{Buffer, ErrorKind, IoError, Op, OpenHow, Outcome, Park, Slice, blocking};

use crate::layout;

/// A whole file, or `None` if it is not there. A file above `limit` bytes is an error, and is not read.
///
/// ```
/// use highwater_io::MemoryIo;
/// assert_eq!(highwater_engine::read_file(&mut MemoryIo::new(), "/missing".as_ref(), 100)?, None);
/// # Ok::<(), highwater_io::IoError>(())
/// ```
pub fn read_file(io: &mut dyn Park, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, IoError> {
    let open = Op::Open { path: path.to_path_buf(), how: OpenHow::Read, direct: false };
    let (file, len) = match blocking::run(io, open) {
        Ok(Outcome::Opened { file, len, .. }) => (file, len),
        Ok(_) => return Ok(None),
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let result = if len > limit as u64 {
        Err(IoError::of(ErrorKind::Other, "read (larger than it can be)", path.display().to_string()))
    } else {
        loop {
            let at = FilePos::new(bytes.len() as u64);
            match blocking::run(io, Op::Read { file, at, buffer: Buffer::new(64 << 10) }) {
                Ok(Outcome::Read { buffer }) if !buffer.is_empty() => {
                    bytes.extend_from_slice(buffer.filled())
                }
                Ok(_) => break Ok(Some(bytes)),
                Err(error) => break Err(error),
            }
        }
    };
    blocking::run(io, Op::Close { file })?;
    result
}

/// Replaces a whole file by `.tmp`, sync, rename and a sync of the directory: after a crash it is old or new.
///
/// ```
/// use highwater_io::MemoryIo;
/// let mut io = MemoryIo::new();
/// highwater_engine::replace_file(&mut io, "/a".as_ref(), b"new".to_vec())?;
/// assert_eq!(highwater_engine::read_file(&mut io, "/a".as_ref(), 100)?.unwrap(), b"new");
/// # Ok::<(), highwater_io::IoError>(())
/// ```
pub fn replace_file(io: &mut dyn Park, path: &Path, bytes: Vec<u8>) -> Result<(), IoError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(layout::TMP);
    let temporary = PathBuf::from(temporary);
    let open = Op::Open { path: temporary.clone(), how: OpenHow::CreateOrEmpty, direct: false };
    let Outcome::Opened { file, .. } = blocking::run(io, open)? else {
        return Err(IoError::of(ErrorKind::Other, "open", temporary.display().to_string()));
    };
    let data = Slice::from(bytes);
    let mut done = 0;
    let written = loop {
        if done == data.len() {
            break blocking::run(io, Op::Sync { file, data_only: false, urgent: false }).map(|_| ());
        }
        let rest = data.range(done..data.len());
        match blocking::run(io, Op::Write { file, at: FilePos::new(done as u64), data: rest, durable: false })
        {
            Ok(Outcome::Wrote { len }) => done += len,
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    blocking::run(io, Op::Close { file })?;
    written?;
    blocking::run(io, Op::Rename { from: temporary, to: path.to_path_buf() })?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    blocking::run(io, Op::SyncDir { path: parent.to_path_buf() })?;
    Ok(())
}
