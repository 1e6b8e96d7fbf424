//! A restart that is owed is never forgotten: `systemctl` is a file of the test, and what it "starts"
//! remembers what its file said then.

use std::os::unix::fs::PermissionsExt as _;

use picluster_plan::Plan;
use picluster_resource::Resource;
use picluster_resource::program::PENDING_DIR;
use tempfile::TempDir;

use super::kit::Rig;
use crate::exit_code::ExitCode;
use crate::report::Outcome;

const UNIT: &str = "x.service";

const SYSTEMCTL: &str = r#"#!/bin/sh
case "$*" in
  *"-p LoadState"*) printf '%s\n' LoadState=loaded ActiveState=active SubState=running UnitFileState=enabled NeedDaemonReload=no Result=success TriggeredBy= ;;
  *"-p Type"*) printf "%s\n" Type=notify ActiveState=active ;;
  restart*) [ ! -e @/refuse ] || { echo refused >&2; exit 1; }; cp @/conf @/taken ;;
  is-system-running) echo running ;;
esac
"#;

/// A node with a service that read `old` when it started.
fn directory() -> TempDir {
    // The stand-in for the directory of marks has to be as long as that.
    let dir = tempfile::Builder::new()
        .prefix("m")
        .rand_bytes(PENDING_DIR.len() - "/tmp/m/p".len())
        .tempdir_in("/tmp")
        .unwrap();
    let at = dir.path().display().to_string();
    std::fs::create_dir(dir.path().join("bin")).unwrap();
    let systemctl = dir.path().join("bin/systemctl");
    std::fs::write(&systemctl, SYSTEMCTL.replace('@', &at)).unwrap();
    std::fs::set_permissions(&systemctl, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(dir.path().join("conf"), "old").unwrap();
    std::fs::write(dir.path().join("taken"), "old").unwrap();
    dir
}

fn rig(dir: TempDir) -> Rig {
    let (bin, marks) = (
        dir.path().join("bin"),
        dir.path().join("p").display().to_string(),
    );
    assert_eq!(marks.len(), PENDING_DIR.len());
    Rig::at(dir, |c, _| {
        c.bin = Some(bin);
        c.replace.push((PENDING_DIR.into(), marks));
    })
}

/// The service's file, and the service. The check of the new text is part of the file's operation: it
/// finds the mark there already.
fn resources(rig: &Rig) -> Vec<Resource> {
    let Resource::File(file) = rig.file("conf", "new") else {
        panic!()
    };
    let mark = rig.path("p").join(UNIT);
    let validate = Some(format!("test -e {} -a -e {{}}", mark.display()));
    let unit = serde_json::json!({"unit": {
        "name": UNIT, "active": true, "restart_on": [rig.path("conf").display().to_string()]
    }});
    vec![
        Resource::File(picluster_resource::kinds::file::File { validate, ..file }),
        serde_json::from_value(unit).unwrap(),
    ]
}

async fn plan(rig: &Rig) -> Plan {
    rig.plan(&[("pi", resources(rig))]).await
}

fn settled(rig: &Rig, when: &str) {
    assert_eq!(rig.read("conf").as_deref(), Some("new"), "{when}");
    assert_eq!(
        rig.read("taken").as_deref(),
        Some("new"),
        "{when}: the restart was lost"
    );
    let left: Vec<_> = std::fs::read_dir(rig.path("p"))
        .unwrap()
        .flatten()
        .collect();
    assert!(left.is_empty(), "{when}: {left:?}");
}

#[tokio::test]
async fn killing_the_controller_at_any_point_loses_no_restart() {
    let mut at = 1;
    loop {
        let rig_now = rig(directory());
        let first = plan(&rig_now).await;
        assert_eq!(first.steps.len(), 2);
        let finished = rig_now.killed_at(at, &first).await;
        let Rig { dir, engine, .. } = rig_now;
        drop(engine);
        let next = rig(dir);
        let when = format!("killed at event {at}");
        // What the killed run left running may end between this plan and its apply, which is refused then.
        for attempt in 1.. {
            let rest = plan(&next).await;
            let (report, _) = next.apply(&rest).await;
            match report.exit_code() {
                ExitCode::Done => break,
                ExitCode::Stale if attempt < 3 => {}
                _ => panic!("{when}: {report:?}"),
            }
        }
        settled(&next, &when);
        assert!(plan(&next).await.is_empty(), "{when}");
        if finished {
            break;
        }
        at += 1;
    }
    assert!(at > 6, "only {at} events");
}

#[tokio::test]
async fn a_restart_that_went_wrong_is_owed_until_one_goes_well() {
    let rig = rig(directory());
    std::fs::write(rig.path("refuse"), "").unwrap();
    let first = plan(&rig).await;
    let (report, _) = rig.apply(&first).await;
    let steps = &report.nodes.values().next().unwrap().steps;
    assert_eq!(steps[0].outcome, Outcome::Changed);
    assert!(
        matches!(&steps[1].outcome, Outcome::Failed(f) if f.output.contains("refused")),
        "{steps:?}"
    );
    // Another controller, which knows nothing: only the node can tell.
    std::fs::remove_file(rig.path("refuse")).unwrap();
    let again = plan(&rig).await;
    assert_eq!(again.steps.len(), 1, "{:?}", again.steps);
    let (report, _) = rig.apply(&again).await;
    assert_eq!(report.exit_code(), ExitCode::Done, "{report:?}");
    settled(&rig, "after a refusal");
}
