//! The record of a run: JSON lines, one file a run, flushed as events come.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use picluster_plan::StepAddr;

use crate::event::{Event, EventKind};

/// Writes one run's events.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Creates `DIR/RUN.jsonl`, readable by its owner only. The directory must exist.
    ///
    /// # Errors
    /// As the file system says; also when the run already has a journal.
    pub fn create(dir: &Path, run: &str) -> io::Result<Self> {
        let path = dir.join(format!("{run}.jsonl"));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self { file, path })
    }

    /// Appends an event: one line, one write, so a line is whole or missing after a crash.
    ///
    /// # Errors
    /// As the file system says.
    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a journal. Lines that cannot be read (a torn last one, another version) are skipped.
    ///
    /// # Errors
    /// As the file system says.
    pub fn read(path: &Path) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        for line in BufReader::new(File::open(path)?).split(b'\n') {
            if let Ok(event) = serde_json::from_slice(&line?) {
                events.push(event);
            }
        }
        Ok(events)
    }

    /// How long each changed step took, for estimates.
    #[must_use]
    pub fn durations(events: &[Event]) -> BTreeMap<StepAddr, f64> {
        events
            .iter()
            .filter_map(|event| match &event.event {
                EventKind::StepFinished {
                    addr,
                    outcome: crate::report::Outcome::Changed,
                    seconds,
                    ..
                } => Some((addr.clone(), *seconds)),
                _ => None,
            })
            .collect()
    }
}
