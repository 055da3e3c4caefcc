//! What happens to a folder before its first read: lock, checks, sweep, fsync, probes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::files::{Direct, Linking, write_temporary};
use super::folders::{TemporaryFolder, open_folder};
use super::reserve::Reserve;
use super::{LocalError, listing};

const LOCK_FILE: &str = ".lock";
const TEMPORARY_FOLDER: &str = ".tmp";

pub struct Started {
    pub root: PathBuf,
    pub root_fd: (File, TemporaryFolder),
    pub lock: File,
    pub reserve: Reserve,
    pub direct: Direct,
    pub linking: Linking,
}

pub fn start(root: &Path) -> Result<Started, LocalError> {
    let unusable = |what: &'static str| {
        let folder = root.display().to_string();
        move |error: io::Error| LocalError::Unusable { folder, what, error }
    };
    make_folder(root).map_err(unusable("making it"))?;
    let root = root.canonicalize().map_err(unusable("finding it"))?;
    check_file_system(&root)?;
    let lock = take_lock(&root)?;
    let temporary = open_temporary(&root).map_err(unusable("sweeping temporary files"))?;
    sync_folders(&root).map_err(unusable("syncing its folders"))?;
    let reserve = Reserve::new(&root);
    let direct = probe_direct(&temporary).map_err(unusable("writing to it"))?;
    let linking = probe_linking(&temporary).map_err(unusable("naming files create-only (hard link, rename)"))?;
    let root_fd = open_folder(&root).map_err(unusable("opening it"))?;
    Ok(Started { root, root_fd: (root_fd, temporary), lock, reserve, direct, linking })
}

/// Makes the folder durably: a new folder's name lies in its parent.
fn make_folder(root: &Path) -> io::Result<()> {
    if root.is_dir() {
        return Ok(());
    }
    let parent = match root.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_folder(parent)?;
    match fs::create_dir(root) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    open_folder(parent)?.sync_all()
}

/// Locks and fsyncs of network file systems are promises that somebody else may break.
fn check_file_system(root: &Path) -> Result<(), LocalError> {
    let folder = root.display().to_string();
    let stat = rustix::fs::statfs(root).map_err(|error| LocalError::Unusable {
        folder: folder.clone(),
        what: "asking for its file system",
        error: error.into(),
    })?;
    match file_system(u32::try_from(stat.f_type & 0xffff_ffff).unwrap_or(0)) {
        FileSystem::Network(kind) => Err(LocalError::NetworkFileSystem { folder, kind }),
        FileSystem::Unsure(kind) => {
            tracing::warn!(folder, kind, "this file system may not keep what it says is synced");
            Ok(())
        }
        FileSystem::Volatile => {
            tracing::warn!(folder, "this folder lies in memory: nothing survives a restart of the machine");
            Ok(())
        }
        FileSystem::Local => Ok(()),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum FileSystem {
    Local,
    Volatile,
    Unsure(&'static str),
    Network(&'static str),
}

/// By the magic numbers of `statfs(2)`.
fn file_system(magic: u32) -> FileSystem {
    match magic {
        0x6969 => FileSystem::Network("NFS"),
        0x517b => FileSystem::Network("SMB"),
        0xff53_4d42 => FileSystem::Network("CIFS"),
        0xfe53_4d42 => FileSystem::Network("SMB2"),
        0x5346_414f | 0x6b41_4653 => FileSystem::Network("AFS"),
        0x00c3_6400 => FileSystem::Network("Ceph"),
        0x7375_7245 => FileSystem::Network("Coda"),
        0x0bd0_0bd0 => FileSystem::Network("Lustre"),
        0x0102_1997 => FileSystem::Unsure("9P"),
        0x6573_5546 => FileSystem::Unsure("FUSE"),
        0x0102_1994 | 0x8584_58f6 => FileSystem::Volatile,
        _ => FileSystem::Local,
    }
}

fn take_lock(root: &Path) -> Result<File, LocalError> {
    let folder = || root.display().to_string();
    let unusable = |error| LocalError::Unusable { folder: folder(), what: "locking it", error };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(root.join(LOCK_FILE))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let holder = match file.read_to_string(&mut pid) {
                Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
                _ => "another process".to_owned(),
            };
            return Err(LocalError::InUse { folder: folder(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    let write_pid = |file: &mut File| {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        writeln!(file, "{}", std::process::id())
    };
    if let Err(error) = write_pid(&mut file) {
        // The lock holds without it; a full disk must not keep the broker down.
        tracing::warn!(%error, "the lock file does not name this process");
    }
    Ok(file)
}

/// The folder of temporary names, emptied.
fn open_temporary(root: &Path) -> io::Result<TemporaryFolder> {
    let path = root.join(TEMPORARY_FOLDER);
    match fs::create_dir(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut swept = 0;
    for entry in fs::read_dir(&path)? {
        fs::remove_file(entry?.path())?;
        swept += 1;
    }
    if swept > 0 {
        tracing::info!(swept, "removed files that were being written when the last process ended");
    }
    let fd = open_folder(&path)?.into();
    Ok(TemporaryFolder { path, fd })
}

/// A name that the last process linked and did not live to sync is visible now, and must be durable before anybody acts on it.
/// Folders that deletions have emptied go away; whether they are empty is the answer.
fn sync_folders(folder: &Path) -> io::Result<bool> {
    let mut empty = true;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let ours = entry.file_name().to_str().is_some_and(listing::is_ours);
        if ours && entry.file_type()?.is_dir() && sync_folders(&entry.path())? {
            fs::remove_dir(entry.path())?;
        } else {
            empty = false;
        }
    }
    if !empty {
        open_folder(folder)?.sync_all()?;
    }
    Ok(empty)
}

fn probe_direct(temporary: &TemporaryFolder) -> io::Result<Direct> {
    let body = Bytes::from_static(&[1; 5000]);
    match write_temporary(temporary, &body, Direct::Yes) {
        Ok(_) => Ok(Direct::Yes),
        // On a full disk the answer is not known; direct is what nearly all have.
        Err(error) if super::reserve::is_full(&error) => Ok(Direct::Yes),
        Err(error) => {
            tracing::warn!(%error, "no direct I/O here: writes go through the page cache, which costs CPU");
            write_temporary(temporary, &body, Direct::No).map(|_| Direct::No)
        }
    }
}

fn probe_linking(temporary: &TemporaryFolder) -> io::Result<Linking> {
    match probe_create_only(temporary, Linking::HardLink) {
        Ok(()) => Ok(Linking::HardLink),
        Err(error) if super::reserve::is_full(&error) => Ok(Linking::HardLink),
        Err(error) => {
            tracing::warn!(%error, "no hard links here: files are named by rename without replacing");
            probe_create_only(temporary, Linking::RenameNoReplace).map(|()| Linking::RenameNoReplace)
        }
    }
}

/// Names two files alike: the second must be refused.
fn probe_create_only(temporary: &TemporaryFolder, linking: Linking) -> io::Result<()> {
    use rustix::fd::AsFd;
    let name = "probe";
    let write = || write_temporary(temporary, &Bytes::from_static(b"probe"), Direct::No);
    let first = write()?.link(temporary.fd.as_fd(), name, linking);
    let second = match first {
        Ok(()) => write()?.link(temporary.fd.as_fd(), name, linking),
        Err(error) => return Err(error),
    };
    fs::remove_file(temporary.path.join(name))?;
    match second {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(io::Error::other("the file system gives one name to two files")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_file_systems_apart() {
        assert_eq!(file_system(0x6969), FileSystem::Network("NFS"));
        assert_eq!(file_system(0xff53_4d42), FileSystem::Network("CIFS"));
        assert_eq!(file_system(0xef53), FileSystem::Local);
        assert_eq!(file_system(0x0102_1994), FileSystem::Volatile);
    }
}
