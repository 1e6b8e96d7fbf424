//! A copy of the checkout in which things may be broken.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, machine};

/// Which state of the checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The files as they stand, also those git does not know yet.
    Working,
    /// The last commit.
    Committed,
}

/// Brings `target/red/` up to date and returns it. Files that are as they should be are left alone, so
/// that cargo sees only what changed.
pub(crate) fn prepare(state: State) -> Outcome<PathBuf> {
    let root = machine::workspace();
    let copy = root.join("target/red");
    let (source, names) = match state {
        State::Working => {
            let words = [
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ];
            (root.clone(), git(&root, &words)?)
        }
        State::Committed => {
            let source = root.join("target/red-commit");
            let _ = fs::remove_dir_all(&source);
            fs::create_dir_all(&source).map_err(|e| said(&source, &e))?;
            let archive = source.join(".tar");
            let out = format!("--output={}", archive.display());
            git(&root, &["archive", "--format=tar", &out, "HEAD"])?;
            let unpacked = Command::new("tar")
                .arg("-xf")
                .arg(&archive)
                .current_dir(&source)
                .status();
            if !unpacked.is_ok_and(|s| s.success()) {
                return Err(format!("cannot unpack {}", archive.display()));
            }
            (
                source,
                git(&root, &["ls-tree", "-r", "-z", "--name-only", "HEAD"])?,
            )
        }
    };
    let mut wanted = BTreeSet::new();
    for name in names.split('\0').filter(|n| !n.is_empty()) {
        // Tracked and deleted in the working tree: not there.
        if bring(&source.join(name), &copy.join(name))? {
            wanted.insert(copy.join(name));
        }
    }
    sweep(&copy, &wanted)?;
    Ok(copy)
}

/// Copies a file unless it is the same already; false where there is none.
fn bring(from: &Path, to: &Path) -> Outcome<bool> {
    let Ok(kind) = fs::symlink_metadata(from) else {
        return Ok(false);
    };
    let parent = to.parent().unwrap_or(to);
    fs::create_dir_all(parent).map_err(|e| said(parent, &e))?;
    if kind.is_symlink() {
        let target = fs::read_link(from).map_err(|e| said(from, &e))?;
        if fs::read_link(to).ok().as_ref() != Some(&target) {
            let _ = fs::remove_file(to);
            std::os::unix::fs::symlink(&target, to).map_err(|e| said(to, &e))?;
        }
        return Ok(true);
    }
    let wanted = fs::read(from).map_err(|e| said(from, &e))?;
    if fs::read(to).ok().as_ref() != Some(&wanted) {
        // With its permissions, but with a new time: cargo looks at nothing else.
        fs::copy(from, to).map_err(|e| said(to, &e))?;
    }
    Ok(true)
}

/// Takes away what is no longer wanted.
fn sweep(dir: &Path, wanted: &BTreeSet<PathBuf>) -> Outcome {
    for entry in fs::read_dir(dir).map_err(|e| said(dir, &e))?.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            // What tests of an earlier run left there is theirs.
            if path.file_name().is_none_or(|n| n != "target") {
                sweep(&path, wanted)?;
            }
        } else if !wanted.contains(&path) && path.file_name().is_none_or(|n| n != "Cargo.lock") {
            fs::remove_file(&path).map_err(|e| said(&path, &e))?;
        }
    }
    Ok(())
}

fn git(root: &Path, words: &[&str]) -> Outcome<String> {
    let output = Command::new("git")
        .args(words)
        .current_dir(root)
        .output()
        .map_err(|e| format!("cannot run git: {e}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "git {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

fn said(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// A file with a change in it; as it was again when this goes.
pub(crate) struct Broken {
    path: PathBuf,
    before: String,
}

impl Broken {
    /// Makes the change. What is to be replaced has to stand there exactly once.
    pub(crate) fn new(root: &Path, file: &str, find: &str, replace: &str) -> Outcome<Self> {
        let path = root.join(file);
        let before = fs::read_to_string(&path).map_err(|e| said(&path, &e))?;
        once(&before, find).map_err(|e| format!("{file}: {e}"))?;
        let after = before.replacen(find, replace, 1);
        fs::write(&path, after).map_err(|e| said(&path, &e))?;
        Ok(Self { path, before })
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        // With a new time: what was built from the broken file must not pass for built from this one.
        if let Err(e) = fs::write(&self.path, &self.before) {
            eprintln!("xtask: {} is still broken: {e}", self.path.display());
        }
    }
}

/// Whether a text stands in another exactly once.
pub(crate) fn once(text: &str, find: &str) -> Outcome {
    match text.matches(find).count() {
        1 => Ok(()),
        n => Err(format!("this stands there {n} times, not once:\n{find}")),
    }
}
