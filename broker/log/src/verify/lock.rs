//! Keeps a folder from being opened by a broker while it is checked, without writing to it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// RocksDB's lock file: a broker has a write lock on it.
const FILE: &str = "LOCK";

/// As long as it lives no broker can open the database. (A read lock of POSIX: any number of them go
/// together, and none with a write lock.)
pub struct Held {
    _file: Option<File>,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("a broker has it open (process {0})")]
    InUse(i32),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Takes the lock, or says who has it. A copy of a folder may be without the file.
pub fn hold(database: &Path) -> Result<Held, LockError> {
    let path = database.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Held { _file: None }),
        Err(source) => return Err(LockError::Io { path, source }),
    };
    let failed = |e: Errno| LockError::Io {
        path: path.clone(),
        source: e.into(),
    };
    match fcntl(&file, FcntlArg::F_SETLK(&whole_file(libc::F_RDLCK))) {
        Ok(_) => Ok(Held { _file: Some(file) }),
        Err(Errno::EAGAIN | Errno::EACCES) => {
            let mut holder = whole_file(libc::F_RDLCK);
            fcntl(&file, FcntlArg::F_GETLK(&mut holder)).map_err(failed)?;
            Err(LockError::InUse(holder.l_pid))
        }
        // File systems without locks: RocksDB could not lock it either.
        Err(Errno::ENOLCK | Errno::ENOSYS | Errno::EOPNOTSUPP) => Ok(Held { _file: None }),
        Err(error) => Err(failed(error)),
    }
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}
