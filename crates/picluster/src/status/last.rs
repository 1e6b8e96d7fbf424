//! What this controller's journals tell of the last apply on each node.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use picluster_engine::{Event, EventKind, NodeEnd};
use picluster_model::NodeName;

/// How many journals are read at most, newest first: what lies further back is asked of the node.
const JOURNALS: usize = 20;

/// The last run that worked on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// When it ended there, in seconds since the epoch by the controller's clock.
    pub at: i64,
    /// The run.
    pub run: String,
    /// How it ended there.
    pub end: NodeEnd,
}

/// The last run on each node, out of a folder of journals. What cannot be read tells nothing.
#[must_use]
pub fn applied(runs: &Path) -> BTreeMap<NodeName, Applied> {
    let mut journals: Vec<(SystemTime, PathBuf)> = fs::read_dir(runs)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .collect();
    journals.sort();
    let mut found = BTreeMap::new();
    for (_, path) in journals.iter().rev().take(JOURNALS) {
        let Some(run) = path.file_stem().and_then(|s| s.to_str()) else {
            continue;
        };
        for (node, at, end) in ends(path) {
            // Whoever was not worked on has an earlier run.
            if matches!(
                end,
                NodeEnd::Done | NodeEnd::Incomplete | NodeEnd::Failed { .. } | NodeEnd::Interrupted
            ) {
                found.entry(node).or_insert_with(|| Applied {
                    at,
                    run: run.to_owned(),
                    end,
                });
            }
        }
    }
    found
}

/// The ends of nodes in one journal.
fn ends(path: &Path) -> Vec<(NodeName, i64, NodeEnd)> {
    let Ok(file) = fs::File::open(path) else {
        return Vec::new();
    };
    BufReader::new(file)
        .lines()
        .map_while(Result::ok)
        // Most lines are others, and some are large.
        .filter(|line| line.contains("\"node_finished\""))
        .filter_map(|line| serde_json::from_str::<Event>(&line).ok())
        .filter_map(|event| match event.event {
            EventKind::NodeFinished { node, end, .. } => {
                Some((node, event.at.div_euclid(1000), end))
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use picluster_engine::Journal;
    use picluster_engine::report::Counts;

    use super::*;

    #[test]
    fn the_newest_run_that_worked_on_a_node_counts() {
        let dir = tempfile::tempdir().unwrap();
        let node = |n: &str| NodeName::new(n).unwrap();
        let journal = |run: &str, at: i64, ends: &[(&str, NodeEnd)]| {
            let mut journal = Journal::create(dir.path(), run).unwrap();
            for (n, end) in ends {
                let event = EventKind::NodeFinished {
                    node: node(n),
                    end: end.clone(),
                    counts: Counts::default(),
                };
                journal.write(&Event::new(at * 1000 + 7, event)).unwrap();
            }
            let file = fs::File::options().append(true).open(journal.path());
            let seconds = Duration::from_secs(u64::try_from(at).unwrap());
            file.unwrap()
                .set_modified(SystemTime::UNIX_EPOCH + seconds)
                .unwrap();
        };
        let away = NodeEnd::Unreachable {
            reason: "no".into(),
        };
        // The later run has the name that sorts first.
        journal(
            "b",
            1000,
            &[("rpi01", NodeEnd::Done), ("rpi02", NodeEnd::Incomplete)],
        );
        journal(
            "a",
            2000,
            &[
                ("rpi01", NodeEnd::Incomplete),
                ("rpi02", away),
                ("rpi03", NodeEnd::Idle),
            ],
        );
        fs::write(dir.path().join("c.jsonl"), "{\"torn").unwrap();
        fs::write(dir.path().join("notes.txt"), "x").unwrap();
        let found = applied(dir.path());
        let of = |n: &str| found.get(&node(n)).cloned();
        let run = |at, run: &str, end| {
            let run = run.to_owned();
            Some(Applied { at, run, end })
        };
        assert_eq!(of("rpi01"), run(2000, "a", NodeEnd::Incomplete));
        assert_eq!(of("rpi02"), run(1000, "b", NodeEnd::Incomplete));
        assert_eq!(of("rpi03"), None);
        assert_eq!(applied(&dir.path().join("none")), BTreeMap::new());
    }
}
