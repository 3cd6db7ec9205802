//! The system calls that the standard library does not have, each behind a safe function.

use std::fs::File;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What a system call returned: a count, or the error that `errno` holds.
fn checked(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Calls again while a signal interrupts.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Makes an open file bypass the page cache; says whether it does now.
///
/// Set on the open file rather than asked for when opening: an `open` that creates a file and then finds
/// that its file system has no direct I/O fails *and leaves the file behind*.
#[cfg(target_os = "linux")]
pub(crate) fn set_direct(file: &File) -> bool {
    if !direct_alignment_fits(file) {
        return false;
    }
    // SAFETY: the descriptor is open; these commands take and give integers.
    unsafe {
        let flags = libc::fcntl(file.as_raw_fd(), libc::F_GETFL);
        flags >= 0 && libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_DIRECT) == 0
    }
}

/// Elsewhere files stay in the page cache.
#[cfg(not(target_os = "linux"))]
pub(crate) fn set_direct(_: &File) -> bool {
    false
}

/// Whether the device is content with our block; unknown counts as yes (kernels before 6.1 do not say).
#[cfg(target_os = "linux")]
fn direct_alignment_fits(file: &File) -> bool {
    let block = highwater_base::BLOCK as u32;
    direct_facts(file).is_none_or(|facts| {
        facts.stx_mask & libc::STATX_DIOALIGN == 0
            || (facts.stx_dio_offset_align != 0
                && facts.stx_dio_offset_align <= block
                && facts.stx_dio_mem_align <= block)
    })
}

/// What `statx` says of a file's device and of direct I/O on it.
#[cfg(target_os = "linux")]
fn direct_facts(file: &File) -> Option<libc::statx> {
    // SAFETY: all zeros is a valid `statx`.
    let mut facts: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, the path is an empty C string, `facts` is ours to be written.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC,
            libc::STATX_DIOALIGN,
            &mut facts,
        )
    };
    (result == 0).then_some(facts)
}

/// The device that holds a direct file, if any flush of it makes durable what was written to blocks of the file that had
/// been written and synced before.
///
/// That is so on ext4 and XFS, whose `fdatasync` of any file ends with a flush of the device unless a commit of the
/// journal has done so meanwhile. Not where "direct" is only said: with journalled data, inline data or verity, which
/// `statx` tells of since Linux 6.1; nor on the second device of an XFS with a realtime part.
#[cfg(target_os = "linux")]
pub(crate) fn flushed_device(file: &File) -> Option<u64> {
    let facts = direct_facts(file)?;
    if facts.stx_mask & libc::STATX_DIOALIGN == 0 || facts.stx_dio_offset_align == 0 {
        return None;
    }
    // SAFETY: all zeros is a valid `statfs`.
    let mut system: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, `system` is ours to be written.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &mut system) } != 0 {
        return None;
    }
    match system.f_type {
        libc::EXT4_SUPER_MAGIC => {}
        libc::XFS_SUPER_MAGIC if !is_realtime(file) => {}
        _ => return None,
    }
    Some(u64::from(facts.stx_dev_major) << 32 | u64::from(facts.stx_dev_minor))
}

/// Elsewhere each file is synced by itself.
#[cfg(not(target_os = "linux"))]
pub(crate) fn flushed_device(_: &File) -> Option<u64> {
    None
}

/// Whether a file of an XFS lies on its realtime device, or that cannot be found out.
#[cfg(target_os = "linux")]
fn is_realtime(file: &File) -> bool {
    /// `struct fsxattr`: flags first.
    #[repr(C)]
    struct Attributes {
        flags: u32,
        rest: [u32; 6],
    }
    /// `FS_IOC_FSGETXATTR`.
    const GET: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
    /// `FS_XFLAG_REALTIME`.
    const REALTIME: u32 = 1;
    let mut attributes = Attributes { flags: 0, rest: [0; 6] };
    // SAFETY: the descriptor is open, the structure is as long as the command says and ours to be written.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), GET, &raw mut attributes) };
    let Attributes { flags, rest: _ } = attributes;
    result != 0 || flags & REALTIME != 0
}

/// `pwritev2` with `RWF_DSYNC`: written and durable in one call. `None` if the kernel cannot.
#[cfg(target_os = "linux")]
pub(crate) fn write_durably(file: &File, bytes: &[u8], at: u64) -> Option<io::Result<usize>> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let result = uninterrupted(|| {
        // SAFETY: `part` names `bytes`, which are only read and outlive the call.
        checked(unsafe { libc::pwritev2(file.as_raw_fd(), &part, 1, at as libc::off_t, libc::RWF_DSYNC) })
    });
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => None,
        other => Some(other),
    }
}

/// Elsewhere there is no such call.
#[cfg(not(target_os = "linux"))]
pub(crate) fn write_durably(_: &File, _: &[u8], _: u64) -> Option<io::Result<usize>> {
    None
}

/// How [`fallocate`] reserves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Allocate {
    /// Unwritten blocks, which read as zeros.
    Unwritten,
    /// Written zeros, where the device makes them for nothing (Linux 6.17).
    Zeroed,
}

/// Reserves blocks and extends the file over them. `None` if the file system cannot.
#[cfg(target_os = "linux")]
pub(crate) fn fallocate(file: &File, how: Allocate, at: u64, len: u64) -> Option<io::Result<()>> {
    /// `FALLOC_FL_WRITE_ZEROES`.
    const WRITE_ZEROES: libc::c_int = 0x80;
    let mode = match how {
        Allocate::Unwritten => 0,
        Allocate::Zeroed => WRITE_ZEROES,
    };
    let result = uninterrupted(|| {
        // SAFETY: the descriptor is open and the rest are integers.
        checked(unsafe { libc::fallocate(file.as_raw_fd(), mode, at as libc::off_t, len as libc::off_t) } as _)
    });
    match result {
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)) =>
        {
            None
        }
        other => Some(other.map(|_| ())),
    }
}

/// Elsewhere zeros are written instead.
#[cfg(not(target_os = "linux"))]
pub(crate) fn fallocate(_: &File, _: Allocate, _: u64, _: u64) -> Option<io::Result<()>> {
    None
}

/// A descriptor that was just made, or the error.
fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system has just given us this descriptor, so it is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An event counter: (what is read and polled, what is written).
#[cfg(target_os = "linux")]
pub(crate) fn event() -> io::Result<(File, File)> {
    // SAFETY: no pointers.
    let fd = owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
    let reader = File::from(fd);
    let writer = reader.try_clone()?;
    Ok((reader, writer))
}

/// Elsewhere a pipe, whose ends do not block.
#[cfg(not(target_os = "linux"))]
pub(crate) fn event() -> io::Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    checked(unsafe { libc::pipe(ends.as_mut_ptr()) } as _)?;
    let (reader, writer) = (owned(ends[0])?, owned(ends[1])?);
    for end in [&reader, &writer] {
        // SAFETY: the descriptor is open; these commands take integers.
        unsafe {
            libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK);
            libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
    Ok((File::from(reader), File::from(writer)))
}

/// A TCP socket for the family of `address`.
pub(crate) fn tcp_socket(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    #[cfg(target_os = "linux")]
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let kind = libc::SOCK_STREAM;
    // SAFETY: no pointers.
    owned(unsafe { libc::socket(family, kind, 0) })
}

/// Switches a socket option on.
pub(crate) fn switch_on(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `on` outlives the call and its size is the one given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    checked(result as _).map(|_| ())
}

/// A listening socket, blocking, with `backlog` connections at most waiting to be accepted.
pub(crate) fn listen(address: SocketAddr, shared: bool, backlog: i32) -> io::Result<OwnedFd> {
    let socket = tcp_socket(&address)?;
    switch_on(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    if shared {
        switch_on(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT)?;
    }
    let raw = RawAddress::from(address);
    // SAFETY: `raw` holds an address of that length and outlives the call.
    checked(unsafe { libc::bind(socket.as_raw_fd(), raw.as_ptr(), raw.len) } as _)?;
    // SAFETY: no pointers.
    checked(unsafe { libc::listen(socket.as_raw_fd(), backlog) } as _)?;
    Ok(socket)
}

/// Whether a failed accept says only that the connection which was to be accepted is gone already.
pub(crate) fn accept_goes_on(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNABORTED | libc::EPROTO | libc::ENETDOWN | libc::EHOSTUNREACH | libc::ENETUNREACH
    )
}

/// Starts to connect a socket that does not block: `false` means that it is under way.
pub(crate) fn start_connect(socket: BorrowedFd<'_>, address: SocketAddr) -> io::Result<bool> {
    let raw = RawAddress::from(address);
    // SAFETY: `raw` holds an address of that length and outlives the call.
    match checked(unsafe { libc::connect(socket.as_raw_fd(), raw.as_ptr(), raw.len) } as _) {
        Ok(_) => Ok(true),
        // An interrupted connect goes on by itself.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sends `parts` one after another, as much as the socket takes; no `SIGPIPE`.
pub(crate) fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all zeros is a valid `msghdr`.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    // An `IoSlice` is an `iovec` on Unix; that is promised. The parts are only read.
    header.msg_iov = parts.as_ptr().cast_mut().cast();
    header.msg_iovlen = parts.len() as _;
    uninterrupted(|| {
        // SAFETY: the header names `parts`, and those name bytes; all outlive the call.
        checked(unsafe { libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_NOSIGNAL) })
    })
}

/// Waits until one of `polled` is ready; `None` waits for ever. An interruption counts as nothing ready.
pub(crate) fn poll(polled: &mut [libc::pollfd], timeout: Option<std::time::Duration>) -> io::Result<usize> {
    // Up to the next millisecond, so that a short wait does not become a busy one.
    let timeout_ms = timeout.map_or(-1, |timeout| {
        libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: the pointer and the length are of one exclusive slice.
    match checked(unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout_ms) } as _) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        other => other,
    }
}

/// A socket address as the system keeps it.
#[derive(Clone, Copy)]
pub(crate) struct RawAddress {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl RawAddress {
    /// Room for the system to write an address into.
    pub(crate) fn room() -> RawAddress {
        // SAFETY: all zeros is a valid `sockaddr_storage`.
        let storage = unsafe { std::mem::zeroed() };
        RawAddress { storage, len: size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        std::ptr::from_ref(&self.storage).cast()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        std::ptr::from_mut(&mut self.storage).cast()
    }

    pub(crate) fn len(&self) -> libc::socklen_t {
        self.len
    }

    pub(crate) fn len_mut(&mut self) -> *mut libc::socklen_t {
        &mut self.len
    }

    /// The address, if it is of the internet.
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        match libc::c_int::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says which struct lies here; the storage is large and aligned enough.
                let v4 = unsafe { &*self.as_ptr().cast::<libc::sockaddr_in>() };
                let ip = u32::from_be(v4.sin_addr.s_addr).into();
                Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))))
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let v6 = unsafe { &*self.as_ptr().cast::<libc::sockaddr_in6>() };
                let ip = v6.sin6_addr.s6_addr.into();
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddr::V6(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id)))
            }
            _ => None,
        }
    }
}

impl std::fmt::Debug for RawAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawAddress({:?})", self.get())
    }
}

impl From<SocketAddr> for RawAddress {
    fn from(address: SocketAddr) -> RawAddress {
        let mut raw = RawAddress::room();
        match address {
            SocketAddr::V4(v4) => {
                // SAFETY: the storage is zeroed, and large and aligned enough for this struct.
                let at = unsafe { &mut *raw.as_mut_ptr().cast::<libc::sockaddr_in>() };
                at.sin_family = libc::AF_INET as libc::sa_family_t;
                at.sin_port = v4.port().to_be();
                at.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
                raw.len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                // SAFETY: as above.
                let at = unsafe { &mut *raw.as_mut_ptr().cast::<libc::sockaddr_in6>() };
                at.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                at.sin6_port = v6.port().to_be();
                at.sin6_addr.s6_addr = v6.ip().octets();
                at.sin6_flowinfo = v6.flowinfo();
                at.sin6_scope_id = v6.scope_id();
                raw.len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_system_form() {
        for text in ["127.0.0.1:9092", "[::1]:9093", "[fe80::1%3]:1", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddress::from(address).get(), Some(address));
        }
        assert_eq!(RawAddress::room().get(), None);
    }

    #[test]
    fn an_event_wakes_a_poll() {
        use std::io::Write;
        let (reader, mut writer) = event().unwrap();
        let interest = || [libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        assert_eq!(poll(&mut interest(), Some(std::time::Duration::ZERO)).unwrap(), 0);
        writer.write_all(&1u64.to_ne_bytes()).unwrap();
        assert_eq!(poll(&mut interest(), None).unwrap(), 1);
    }
}
