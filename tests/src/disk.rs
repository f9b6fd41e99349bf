//! A disk that fails: `tests/faults/disk.c`, loaded into a process and controlled through a file that
//! both map. And small disks of their own: ext4 in a file on a loop device, where this is root.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::network::is_root;

/// Kinds of files, as bits.
pub mod kind {
    pub const LOG: u32 = 1;
    pub const SST: u32 = 2;
    pub const BLOB: u32 = 4;
    pub const MANIFEST: u32 = 8;
    pub const OTHER: u32 = 16;
    pub const FOLDER: u32 = 32;
    pub const ALL: u32 = 63;
}

/// Exit status of a process whose power was lost.
pub const POWER_LOST: i32 = 75;

/// Fields of the control file, by their place; see the struct in `disk.c`.
mod field {
    pub const LOSE_POWER: u64 = 0;
    pub const CAN_LOSE: u64 = 4;
    pub const SYNC_ERRNO: u64 = 8;
    pub const SYNC_KINDS: u64 = 12;
    pub const SYNC_FAILS: u64 = 16;
    pub const WRITE_ERRNO: u64 = 20;
    pub const WRITE_KINDS: u64 = 24;
    pub const WRITE_FAILS: u64 = 28;
    pub const SYNC_DELAY_US: u64 = 32;
    pub const TORN: u64 = 36;
    pub const QUOTA_BYTES: u64 = 40;
    pub const USED_BYTES: u64 = 48;
    pub const FAILED_SYNCS: u64 = 56;
    pub const FAILED_WRITES: u64 = 60;
    pub const FORGET_SYNCS: u64 = 64;
    pub const BYTES: u64 = 72;
}

/// Faults for the files below one folder.
pub struct Disk {
    control: File,
    folder: tempfile::TempDir,
    root: PathBuf,
}

impl Disk {
    /// A good disk, until told otherwise.
    pub fn new(root: &Path) -> Disk {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let control = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(folder.path().join("control"))
            .expect("the control file is made");
        control.set_len(field::BYTES).expect("a length");
        Disk {
            control,
            folder,
            root: root.to_owned(),
        }
    }

    /// What a process is started with.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD", text(library())),
            (
                "OTTLA_DISK_CONTROL",
                text(&self.folder.path().join("control")),
            ),
            ("OTTLA_DISK_ROOT", text(&self.root)),
        ]
    }

    fn put(&self, at: u64, value: u32) {
        self.control
            .write_all_at(&value.to_ne_bytes(), at)
            .expect("the control file is written");
    }

    fn get(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.control
            .read_exact_at(&mut bytes, at)
            .expect("the control file is read");
        u32::from_ne_bytes(bytes)
    }

    /// The next `times` syncs of these kinds of files fail; `u32::MAX`: all.
    pub fn fail_syncs(&self, kinds: u32, errno: nix::errno::Errno, times: u32) {
        self.put(field::SYNC_KINDS, kinds);
        self.put(field::SYNC_FAILS, times);
        self.put(field::SYNC_ERRNO, errno as u32);
    }

    pub fn fail_writes(&self, kinds: u32, errno: nix::errno::Errno, times: u32) {
        self.put(field::WRITE_KINDS, kinds);
        self.put(field::WRITE_FAILS, times);
        self.put(field::WRITE_ERRNO, errno as u32);
    }

    /// Ends every failure.
    pub fn heal(&self) {
        self.put(field::SYNC_ERRNO, 0);
        self.put(field::WRITE_ERRNO, 0);
        self.put(field::SYNC_DELAY_US, 0);
        self.set_quota(0);
    }

    pub fn slow_syncs(&self, delay_us: u32) {
        self.put(field::SYNC_DELAY_US, delay_us);
    }

    /// Files may take this much in all; 0: as much as there is.
    pub fn set_quota(&self, bytes: u64) {
        self.control
            .write_all_at(&bytes.to_ne_bytes(), field::QUOTA_BYTES)
            .expect("the control file is written");
    }

    pub fn used_bytes(&self) -> u64 {
        let mut bytes = [0; 8];
        self.control
            .read_exact_at(&mut bytes, field::USED_BYTES)
            .expect("the control file is read");
        u64::from_ne_bytes(bytes)
    }

    /// From now on a loss of power undoes what is not synced. To be set before the process starts.
    pub fn can_lose_power(&self) {
        self.put(field::CAN_LOSE, 1);
    }

    /// From now on syncs are answered and do nothing: a loss of power undoes what they were for.
    pub fn forget_syncs(&self) {
        self.put(field::FORGET_SYNCS, 1);
    }

    /// Undoes all that is not synced and ends the process with [`POWER_LOST`]. Of each file's newest
    /// unsynced write `torn` bytes stay.
    pub fn lose_power(&self, torn: u32) {
        self.put(field::TORN, torn);
        self.put(field::LOSE_POWER, 1);
    }

    /// To be called before the next start.
    pub fn power_is_back(&self) {
        self.put(field::LOSE_POWER, 0);
    }

    pub fn failed_syncs(&self) -> u32 {
        self.get(field::FAILED_SYNCS)
    }

    pub fn failed_writes(&self) -> u32 {
        self.get(field::FAILED_WRITES)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut graves = self.root.clone().into_os_string();
        graves.push(".graves");
        let _ = fs::remove_dir_all(graves);
    }
}

/// Compiles a C source of `tests/faults/`, once per process.
pub(crate) fn compiled(source: &str, output: &str, flags: &[&str]) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("ottla-faults-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for what is compiled");
    let output = folder.join(output);
    // As cargo says when it runs the test: one target directory may serve several checkouts.
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("run by cargo");
    let source = Path::new(&package).join("faults").join(source);
    let done = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-o"])
        .arg(&output)
        .args(flags)
        .arg(&source)
        .args(["-ldl", "-lpthread"])
        .output()
        .expect("cc runs: the build needs it, too");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {errors}", source.display());
    output
}

fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| compiled("disk.c", "disk.so", &["-shared", "-fPIC"]))
}

/// The program that does what it is told with files.
pub fn probe() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| compiled("probe.c", "probe", &[]))
}

/// An ext4 file system in a file, mounted; it goes away with this.
pub struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None`, with a line that says so, where this is not root and may not mount.
    pub fn mount(bytes: u64) -> Option<SmallDisk> {
        if !is_root() {
            println!("not tried: file systems are mounted by root");
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("ottla-disk-")
            .tempdir()
            .expect("a temporary folder");
        let image = folder.path().join("image");
        let file = File::create(&image).expect("an image");
        file.set_len(bytes).expect("a length");
        let disk = SmallDisk { folder };
        fs::create_dir(disk.path()).expect("a mount point");
        let image = image.display().to_string();
        let mount = disk.path().display().to_string();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &image]).expect("a file system");
        run("mount", &["-o", "loop", &image, &mount]).expect("root may mount");
        Some(disk)
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mount = self.path().display().to_string();
        if run("umount", &[&mount]).is_err() {
            let _ = run("umount", &["-l", &mount]);
        }
    }
}

/// What went wrong, in the program's own words.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let done = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}
