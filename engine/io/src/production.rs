//! Which implementation a program runs on.

use crate::{Park, PosixIo};

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

/// The implementation for a shard of a program, and a line to warn with if it is not the best one. To be called
/// on the thread that will use it. Panics only if the process has no file descriptor left.
///
/// ```
/// use highwater_io::{IoChoice, production};
/// let (io, warning) = production(64, IoChoice::Posix);
/// assert_eq!((io.name(), warning), ("posix", None));
/// ```
pub fn production(ring_entries: u32, choice: IoChoice) -> (Box<dyn Park>, Option<String>) {
    let posix = || -> Box<dyn Park> {
        Box::new(PosixIo::new().unwrap_or_else(|error| panic!("cannot start: {error}")))
    };
    match choice {
        IoChoice::Posix => (posix(), None),
        IoChoice::Auto | IoChoice::Uring => match uring(ring_entries) {
            Ok(io) => (io, None),
            Err(why) => (posix(), Some(format!("{why}; plain system calls serve instead, more slowly"))),
        },
    }
}

#[cfg(target_os = "linux")]
fn uring(ring_entries: u32) -> Result<Box<dyn Park>, crate::IoError> {
    Ok(Box::new(crate::UringIo::new(ring_entries)?))
}

#[cfg(not(target_os = "linux"))]
fn uring(_: u32) -> Result<Box<dyn Park>, crate::IoError> {
    Err(crate::IoError::of(crate::ErrorKind::Other, "set up", "io_uring (it is Linux's)"))
}
