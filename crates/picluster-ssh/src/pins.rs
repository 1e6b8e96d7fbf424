//! The cluster's own store of host keys: one line per node and algorithm.
//!
//! ```text
//! rpi01 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI… # first seen 2026-03-01T09:30:00Z at 192.168.2.1:22
//! ```
//!
//! The first three words are those of sshd(8)'s known_hosts, so `ssh -o UserKnownHostsFile=…
//! -o HostKeyAlias=rpi01` can read it. Keys belong to names, not addresses: a DHCP lease that moves
//! must not look like an attack, nor hide one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use russh::keys::{HashAlg, PublicKey};

use crate::PinName;

const FILE: &str = "host_keys";
const LOCK: &str = "host_keys.lock";

/// A host key and what was noted beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The key itself.
    pub key: PublicKey,
    /// When and where it came from, for people.
    pub note: String,
}

impl Pin {
    /// The key's SHA-256 fingerprint as OpenSSH prints it (`SHA256:…`).
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.key)
    }
}

/// The SHA-256 fingerprint of a key as OpenSSH prints it.
pub(crate) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// A line is not a pin. The store is never repaired silently: a lost pin would make the next
    /// key, whoever's it is, a first contact.
    #[error("{}:{line}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// A line of the file: what is not a pin is kept as it stands.
#[derive(Debug, Clone)]
enum Line {
    Pin(PinName, Pin),
    Other(String),
}

/// The store. Reads come from memory; every change is made under a lock on the file as it then is,
/// so several runs can pin at the same time.
#[derive(Debug)]
pub struct PinStore {
    dir: PathBuf,
    pins: Mutex<BTreeMap<PinName, Vec<Pin>>>,
}

/// What [`PinStore::add_first`] found.
#[derive(Debug)]
pub(crate) enum First {
    /// It was the first key under that name, or the very same one.
    Pinned,
    /// Someone else pinned another key of the same name in the meantime.
    Other(Vec<Pin>),
}

impl PinStore {
    /// Opens the store in `dir`: the file `host_keys` there, made with the first pin.
    ///
    /// # Errors
    /// [`PinError`] when the file exists and cannot be read or understood.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, PinError> {
        let store = Self {
            dir: dir.into(),
            pins: Mutex::default(),
        };
        store.refresh()?;
        Ok(store)
    }

    /// The file the pins stand in.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// The pins of one name, in the order they were made; empty when there are none.
    #[must_use]
    pub fn get(&self, name: &PinName) -> Vec<Pin> {
        self.lock().get(name).cloned().unwrap_or_default()
    }

    /// Every name that has pins.
    #[must_use]
    pub fn names(&self) -> Vec<PinName> {
        self.lock().keys().cloned().collect()
    }

    /// Reads the file again, to see what other runs have pinned.
    ///
    /// # Errors
    /// [`PinError`] when it cannot be read or understood.
    pub fn refresh(&self) -> Result<(), PinError> {
        let lines = self.read()?;
        *self.lock() = index(&lines);
        Ok(())
    }

    /// Adds a key to those of `name`. A key that is already there stays as it is.
    ///
    /// # Errors
    /// [`PinError`] when the file cannot be read or written.
    pub fn add(&self, name: &PinName, key: &PublicKey, note: &str) -> Result<(), PinError> {
        self.edit(|lines| {
            let there = keys_of(lines, name).any(|pin| same(&pin.key, key));
            if there {
                return false;
            }
            lines.push(Line::Pin(name.clone(), pin(key, note)));
            true
        })
    }

    /// Makes `key` the only one of `name`: what `replace` does when a card was changed knowingly.
    ///
    /// # Errors
    /// [`PinError`] when the file cannot be read or written.
    pub fn replace(&self, name: &PinName, key: &PublicKey, note: &str) -> Result<(), PinError> {
        self.edit(|lines| {
            lines.retain(|line| !is_of(line, name));
            lines.push(Line::Pin(name.clone(), pin(key, note)));
            true
        })
    }

    /// Forgets every key of `name`.
    ///
    /// # Errors
    /// [`PinError`] when the file cannot be read or written.
    pub fn remove(&self, name: &PinName) -> Result<(), PinError> {
        self.edit(|lines| {
            let before = lines.len();
            lines.retain(|line| !is_of(line, name));
            lines.len() != before
        })
    }

    /// Pins `key` unless `name` has another one by now: two runs that meet a node at the same time
    /// must not pin two answers.
    pub(crate) fn add_first(
        &self,
        name: &PinName,
        key: &PublicKey,
        note: &str,
    ) -> Result<First, PinError> {
        let mut first = First::Pinned;
        self.edit(|lines| {
            let known: Vec<Pin> = keys_of(lines, name).cloned().collect();
            if known.is_empty() {
                lines.push(Line::Pin(name.clone(), pin(key, note)));
                return true;
            }
            if !known.iter().any(|pin| same(&pin.key, key)) {
                first = First::Other(known);
            }
            false
        })?;
        Ok(first)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PinName, Vec<Pin>>> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the file under its lock. `change` says whether there is anything to write.
    fn edit(&self, change: impl FnOnce(&mut Vec<Line>) -> bool) -> Result<(), PinError> {
        fs::create_dir_all(&self.dir).map_err(|error| failed(&self.dir, error))?;
        let lock_path = self.dir.join(LOCK);
        // The lock is a file of its own: the store itself is replaced with every change.
        let lock = open_private(&lock_path).map_err(|error| failed(&lock_path, error))?;
        lock.lock().map_err(|error| failed(&lock_path, error))?;
        let mut lines = self.read()?;
        if change(&mut lines) {
            self.write(&lines)
                .map_err(|error| failed(&self.path(), error))?;
        }
        *self.lock() = index(&lines);
        Ok(())
    }

    fn read(&self) -> Result<Vec<Line>, PinError> {
        let path = self.path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&path, error)),
        };
        text.lines()
            .enumerate()
            .map(|(number, line)| {
                parse(line).map_err(|reason| PinError::Damaged {
                    path: path.clone(),
                    line: number + 1,
                    reason,
                })
            })
            .collect()
    }

    /// Whole or not at all: temporary file, fsync, rename, fsync of the directory.
    fn write(&self, lines: &[Line]) -> io::Result<()> {
        let mut text = String::new();
        for line in lines {
            match line {
                Line::Pin(name, pin) => text.push_str(&render(name, pin)?),
                Line::Other(line) => text.push_str(line),
            }
            text.push('\n');
        }
        // The lock is held: nobody else writes this name.
        let temporary = self.dir.join(format!(".{FILE}.new"));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = open_private(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, self.path())?;
        File::open(&self.dir)?.sync_all()
    }
}

fn failed(path: &Path, error: io::Error) -> PinError {
    PinError::Io {
        path: path.to_owned(),
        error,
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}

fn pin(key: &PublicKey, note: &str) -> Pin {
    // A note is one line, whatever it was given.
    let note = note.split_whitespace().collect::<Vec<_>>().join(" ");
    Pin {
        key: key.clone(),
        note,
    }
}

fn same(one: &PublicKey, other: &PublicKey) -> bool {
    one.key_data() == other.key_data()
}

fn is_of(line: &Line, name: &PinName) -> bool {
    matches!(line, Line::Pin(of, _) if of == name)
}

fn keys_of<'a>(lines: &'a [Line], name: &'a PinName) -> impl Iterator<Item = &'a Pin> {
    lines.iter().filter_map(move |line| match line {
        Line::Pin(of, pin) if of == name => Some(pin),
        _ => None,
    })
}

fn index(lines: &[Line]) -> BTreeMap<PinName, Vec<Pin>> {
    let mut pins: BTreeMap<PinName, Vec<Pin>> = BTreeMap::new();
    for line in lines {
        if let Line::Pin(name, pin) = line {
            pins.entry(name.clone()).or_default().push(pin.clone());
        }
    }
    pins
}

fn parse(line: &str) -> Result<Line, String> {
    let trimmed = line.trim();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Ok(Line::Other(line.to_owned()));
    }
    let (name, rest) = trimmed
        .split_once(char::is_whitespace)
        .ok_or("expected `NAME ALGORITHM KEY`")?;
    let name = PinName::parse(name).map_err(|error| error.to_string())?;
    let rest = rest.trim_start();
    let mut words = rest.splitn(3, char::is_whitespace);
    let (Some(algorithm), Some(blob)) = (words.next(), words.next()) else {
        return Err("expected `NAME ALGORITHM KEY`".into());
    };
    let key = PublicKey::from_openssh(&format!("{algorithm} {blob}"))
        .map_err(|error| format!("not a public key: {error}"))?;
    let note = words.next().unwrap_or("").trim();
    let note = note.strip_prefix('#').unwrap_or(note).trim().to_owned();
    Ok(Line::Pin(name, Pin { key, note }))
}

fn render(name: &PinName, pin: &Pin) -> io::Result<String> {
    let bare = PublicKey::new(pin.key.key_data().clone(), "");
    let key = bare.to_openssh().map_err(io::Error::other)?;
    let key = key.trim_end();
    Ok(if pin.note.is_empty() {
        format!("{name} {key}")
    } else {
        format!("{name} {key} # {}", pin.note)
    })
}

/// `first seen 2026-03-01T09:30:00Z at 192.168.2.1:22`
pub(crate) fn first_seen(address: &str) -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    format!("first seen {} at {address}", timestamp(seconds))
}

/// Seconds since 1970 as RFC 3339 in UTC (the proleptic Gregorian calendar by eras of 400 years).
fn timestamp(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        time / 3_600,
        time / 60 % 60,
        time % 60
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
