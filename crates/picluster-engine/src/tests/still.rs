//! Looking changes nothing: the tree of a "node" before and after plan and apply, to the inode.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use picluster_resource::Resource;

use super::kit::{Rig, whoami};
use crate::exit_code::ExitCode;

/// Inode, mode, owner, size and both times of everything below a directory, but for what lives in /run
/// on a real node: the session's own directory and the lock.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (u64, u32, u32, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let m = path.symlink_metadata().unwrap();
            if folder == dir && ["run", "lock"].iter().any(|name| path.ends_with(name)) {
                continue;
            }
            if m.is_dir() {
                folders.push(path.clone());
            }
            let nanoseconds = |s: i64, n: i64| s * 1_000_000_000 + n;
            let changed = nanoseconds(m.ctime(), m.ctime_nsec());
            let modified = nanoseconds(m.mtime(), m.mtime_nsec());
            found.insert(
                path,
                (m.ino(), m.mode(), m.uid(), m.size(), modified, changed),
            );
        }
    }
    found
}

/// One of every kind that can live in a directory.
fn resources(rig: &Rig) -> Vec<Resource> {
    let (owner, group) = whoami();
    let at = |name: &str| rig.path(name).display().to_string();
    let of = |json: serde_json::Value| -> Resource { serde_json::from_value(json).unwrap() };
    vec![
        of(serde_json::json!({"directory": {"path": at("d"), "owner": owner, "group": group}})),
        rig.file("d/f", "text\n"),
        of(serde_json::json!({"link": {"path": at("l"), "target": at("d/f")}})),
        of(serde_json::json!({"line": {"path": at("lines"), "line": "one"}})),
        of(
            serde_json::json!({"ini": {"path": at("ini"), "section": "S", "key": "k", "value": "v"}}),
        ),
        of(serde_json::json!({"block": {"path": at("lines"), "name": "b", "content": "two\n"}})),
        of(
            serde_json::json!({"command": {"run": format!("touch {}", at("ran")), "creates": at("ran")}}),
        ),
        of(
            serde_json::json!({"command": {"name": "asks", "run": format!("echo yes > {}", at("answer")), "probe": format!("grep -q yes {}", at("answer"))}}),
        ),
    ]
}

#[tokio::test]
async fn a_plan_and_an_apply_of_what_is_as_desired_change_no_inode() {
    let rig = Rig::new();
    for name in ["lines", "ini"] {
        std::fs::write(rig.path(name), "").unwrap();
    }
    let first = rig.plan(&[("pi", resources(&rig))]).await;
    assert_eq!(first.steps.len(), 8);
    let (report, _) = rig.apply(&first).await;
    assert_eq!(report.exit_code(), ExitCode::Done, "{report:?}");
    // A time stamp that is written again shows only once the clock has moved on.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;

    let before = tree(rig.dir.path());
    assert!(before.len() > 8, "{before:?}");
    let again = rig.plan(&[("pi", resources(&rig))]).await;
    assert_eq!(tree(rig.dir.path()), before, "a plan has changed something");
    assert!(again.is_empty(), "{:?}", again.steps);
    let (report, _) = rig.apply(&again).await;
    assert_eq!(report.exit_code(), ExitCode::Done);
    assert_eq!(
        tree(rig.dir.path()),
        before,
        "an apply without a step has changed something"
    );
    // The plan of the blank node once more: every step finds its work done.
    let (report, _) = rig.apply(&first).await;
    assert_eq!(report.counts().unchanged, 8, "{report:?}");
    assert_eq!(
        tree(rig.dir.path()),
        before,
        "an apply that found all as desired has changed something"
    );
}
