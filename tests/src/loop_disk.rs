//! Real file systems in files of this machine: made, mounted, cut off, given back. Needs root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a program that must succeed; its standard output.
pub fn run(program: &str, args: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{program} {}: {}, {said}", args.join(" "), output.status)))
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&dirs).any(|dir| dir.join(program).is_file())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of this test is text")
}

/// A directory for disks, removed at the end.
///
/// ```
/// let scratch = highwater_tests::loop_disk::Scratch::new(&std::env::temp_dir(), "doc").unwrap();
/// assert!(scratch.path().is_dir());
/// ```
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in `parent`, empty.
    pub fn new(parent: &Path, name: &str) -> io::Result<Scratch> {
        let path = parent.join(format!("{name}-{}", std::process::id()));
        let _leftover = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _already_gone = fs::remove_dir_all(&self.0);
    }
}

/// A kind of file system.
///
/// ```
/// use highwater_tests::loop_disk::Kind;
/// assert_eq!(Kind::Xfs.maker(), "mkfs.xfs");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// ext4 with its defaults and blocks of 4 KiB.
    Ext4,
    /// XFS with its defaults.
    Xfs,
}

impl Kind {
    /// The program that makes one.
    pub fn maker(self) -> &'static str {
        match self {
            Kind::Ext4 => "mkfs.ext4",
            Kind::Xfs => "mkfs.xfs",
        }
    }

    /// Makes one in a new file of so many bytes.
    pub fn make(self, image: &Path, bytes: u64) -> io::Result<()> {
        fs::File::create(image)?.set_len(bytes)?;
        match self {
            Kind::Ext4 => run(self.maker(), &["-q", "-b", "4096", text(image)]),
            Kind::Xfs => run(self.maker(), &["-q", text(image)]),
        }
        .map(drop)
    }
}

/// How the shutdown call treats what the file system's own log holds in memory.
///
/// ```
/// use highwater_tests::loop_disk::CutOff;
/// assert_ne!(CutOff::LogLost, CutOff::LogKept);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CutOff {
    /// It is written first (flag 1).
    LogKept,
    /// It is lost (flag 2).
    LogLost,
}

/// A mounted file system; unmounted when dropped, which frees its loop device.
pub struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// Mounts a file or a loop device at `at`, which is made if missing.
    pub fn new(what: &Path, at: &Path) -> io::Result<Mounted> {
        fs::create_dir_all(at)?;
        let is_device = what.starts_with("/dev");
        let option: &[&str] = if is_device { &[] } else { &["-o", "loop"] };
        run("mount", &[option, &[text(what), text(at)]].concat())?;
        Ok(Mounted { at: at.to_path_buf() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Cuts the file system off from its disk: `_IOR('X', 125, u32)`, by Perl, which can without a compiler.
    pub fn cut(&self, how: CutOff) -> io::Result<()> {
        let flag = match how {
            CutOff::LogKept => "1",
            CutOff::LogLost => "2",
        };
        let call =
            r#"open(my $d, "<", $ARGV[0]) or die $!; ioctl($d, 0x8004587d, pack("L", $ARGV[1])) or die $!"#;
        run("perl", &["-e", call, text(&self.at), flag]).map(drop)
    }

    /// Unmounts it, and says if that did not work. The files of a killed process are closed a little after its end if
    /// it had a ring, so this asks again for a while.
    pub fn unmount(self) -> io::Result<()> {
        let at = text(&self.at).to_owned();
        let mut asked = run("umount", &[&at]);
        for _ in 0..10_000 {
            if asked.is_ok() {
                std::mem::forget(self);
                break;
            }
            asked = run("umount", &[&at]);
        }
        asked.map(drop)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _tried = run("umount", &["-l", text(&self.at)]);
    }
}

/// A disk whose writes and flushes are recorded in their order, in the format of dm-log-writes: a file served by
/// `qemu-storage-daemon`, and a loop device on it.
pub struct RecordedDisk {
    /// The daemon's process id.
    daemon: String,
    file: PathBuf,
    device: Option<PathBuf>,
}

impl RecordedDisk {
    /// Serves the disk `image` in `dir`, recording to `record`.
    pub fn serve(image: &Path, record: &Path, dir: &Path) -> io::Result<RecordedDisk> {
        let (file, ready) = (dir.join("served"), dir.join("daemon.pid"));
        fs::File::create(&file)?;
        fs::File::create(record)?;
        let _leftover = fs::remove_file(&ready);
        // It comes back once everything is served, and leaves a process behind.
        run(
            "qemu-storage-daemon",
            &[
                "--blockdev",
                &format!("driver=file,node-name=disk,filename={}", text(image)),
                "--blockdev",
                &format!("driver=file,node-name=log,filename={}", text(record)),
                "--blockdev",
                "driver=blklogwrites,node-name=recorded,file=disk,log=log,log-sector-size=512",
                "--export",
                &format!("type=fuse,id=served,node-name=recorded,mountpoint={},writable=on", text(&file)),
                "--pidfile",
                text(&ready),
                "--daemonize",
            ],
        )?;
        let daemon = fs::read_to_string(&ready)?.trim().to_owned();
        let mut disk = RecordedDisk { daemon, file, device: None };
        disk.device = Some(PathBuf::from(run("losetup", &["--find", "--show", text(&disk.file)])?));
        Ok(disk)
    }

    /// The loop device.
    pub fn device(&self) -> &Path {
        self.device.as_deref().expect("it has one until it is dropped")
    }
}

impl Drop for RecordedDisk {
    fn drop(&mut self) {
        if let Some(device) = self.device.take() {
            let _tried = run("losetup", &["--detach", text(&device)]);
        }
        let _tried = run("kill", &["-TERM", &self.daemon]);
        // Not a child of this process: `tail` waits for its end, after which the record is whole.
        let _waited = run("tail", &["-f", "-s", "0.01", "--pid", &self.daemon, "/dev/null"]);
        let _tried = run("umount", &["-q", text(&self.file)]);
    }
}
