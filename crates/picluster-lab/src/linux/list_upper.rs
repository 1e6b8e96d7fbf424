//! Walks an overlay's upper layer.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::listing::{Entry, EntryKind};

/// Every path below `root`, sorted, as absolute paths.
pub(crate) fn list(root: &Path) -> Vec<Entry> {
    let mut all = Vec::new();
    walk(root, "", &mut all);
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

fn walk(dir: &Path, prefix: &str, all: &mut Vec<Entry>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let shown = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        let kind = match meta.file_type() {
            t if t.is_dir() => EntryKind::Directory,
            t if t.is_file() => EntryKind::File,
            t if t.is_symlink() => EntryKind::Symlink,
            // overlayfs marks a removed path with a character device 0/0.
            t if t.is_char_device() && meta.rdev() == 0 => EntryKind::Removed,
            _ => EntryKind::Other,
        };
        let sha256 = match kind {
            EntryKind::File => file_digest(&path),
            EntryKind::Symlink => fs::read_link(&path)
                .map(|t| hex(Sha256::digest(t.as_os_str().as_encoded_bytes()).as_slice()))
                .unwrap_or_default(),
            _ => String::new(),
        };
        all.push(Entry {
            path: shown.clone(),
            kind,
            inode: meta.ino(),
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            size: meta.size(),
            mtime_ns: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: nanoseconds(meta.ctime(), meta.ctime_nsec()),
            sha256,
        });
        if kind == EntryKind::Directory {
            walk(&path, &shown, all);
        }
    }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

fn file_digest(path: &Path) -> String {
    let Ok(mut file) = File::open(path) else {
        return String::new();
    };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return hex(hash.finalize().as_slice()),
            Ok(n) => hash.update(buffer.get(..n).unwrap_or_default()),
            Err(_) => return String::new(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
