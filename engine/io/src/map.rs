//! Read-only mappings, for tools and embedders who ask. A page fault would block a shard: it reads instead.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Advice, Mmap};

use crate::IoError;

/// A file's bytes, as they were long when it was mapped.
///
/// **The file must not be cut while it is mapped.** Touching bytes that are no longer there ends the process
/// with `SIGBUS`, and bytes that change while they are looked at may be seen half changed. So map only what
/// nobody writes: sealed segments, or a directory whose lock ([`FileLock`](crate::FileLock)) is held or whose
/// broker is stopped.
///
/// ```
/// # let path = std::env::temp_dir().join(format!("highwater-mapping-{}", std::process::id()));
/// # std::fs::write(&path, b"batches").unwrap();
/// let mapping = highwater_io::Mapping::open(&path)?;
/// assert_eq!(&mapping[..], b"batches");
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), highwater_io::IoError>(())
/// ```
#[derive(Debug)]
pub struct Mapping {
    /// Nothing can be mapped of an empty file.
    map: Option<Mmap>,
}

impl Mapping {
    /// Maps the file at `path`, to be read from front to back.
    pub fn open(path: &Path) -> Result<Mapping, IoError> {
        let mapped = File::open(path).and_then(|file| {
            if file.metadata()?.len() == 0 {
                return Ok(None);
            }
            // SAFETY: that nobody cuts or writes the file meanwhile is the caller's part, as documented above.
            unsafe { Mmap::map(&file) }.map(Some)
        });
        let map = mapped.map_err(|error| IoError::from_std(&error, "map", path.display().to_string()))?;
        if let Some(map) = &map {
            // Read-ahead only; without it everything works.
            let _ = map.advise(Advice::Sequential);
        }
        Ok(Mapping { map })
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_an_empty_mapping() {
        let path = std::env::temp_dir().join(format!("highwater-io-map-{}", std::process::id()));
        std::fs::write(&path, b"").unwrap();
        assert!(Mapping::open(&path).unwrap().is_empty());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Mapping::open(&path).unwrap_err().kind, crate::ErrorKind::NotFound);
    }
}
