//! Which implementation a program runs on.

use crate::device::Devices;
use crate::{IoError, Park, PosixIo};

/// Which implementation is wanted.
///
/// ```
/// assert_eq!("posix".parse(), Ok(highwater_io::IoChoice::Posix));
/// assert!("kqueue".parse::<highwater_io::IoChoice>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IoChoice {
    /// io_uring where it works, otherwise plain system calls.
    #[default]
    Auto,
    /// io_uring; without it, plain system calls and a warning.
    Uring,
    /// Plain system calls.
    Posix,
}

impl std::str::FromStr for IoChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<IoChoice, String> {
        match text {
            "auto" => Ok(IoChoice::Auto),
            "uring" => Ok(IoChoice::Uring),
            "posix" => Ok(IoChoice::Posix),
            other => Err(format!("expected auto, uring or posix as the kind of I/O, found {other:?}")),
        }
    }
}

/// The implementation for a shard of a program, and a line to warn with if it is not the one that was wanted.
/// To be called on the thread that will use it. Fails only if the process has no file descriptor left.
///
/// ```
/// use highwater_io::{IoChoice, production};
/// let (io, warning) = production(IoChoice::Posix, 64)?;
/// assert_eq!((io.name(), warning), ("posix", None));
/// # Ok::<(), highwater_io::IoError>(())
/// ```
pub fn production(choice: IoChoice, ring_entries: u32) -> Result<(Box<dyn Park>, Option<String>), IoError> {
    let warning = match choice {
        IoChoice::Posix => None,
        IoChoice::Auto | IoChoice::Uring => match uring(ring_entries) {
            Ok(io) => return Ok((io, None)),
            Err(why) => Some(format!("{why}; plain system calls serve instead, more slowly")),
        },
    };
    Ok((Box::new(PosixIo::new()?.with_devices(Devices::of_process())), warning))
}

#[cfg(target_os = "linux")]
fn uring(ring_entries: u32) -> Result<Box<dyn Park>, IoError> {
    Ok(Box::new(crate::UringIo::new(ring_entries)?.with_devices(Devices::of_process())))
}

#[cfg(not(target_os = "linux"))]
fn uring(_: u32) -> Result<Box<dyn Park>, IoError> {
    Err(IoError::of(crate::ErrorKind::Other, "set up", "io_uring (it is Linux's)"))
}
