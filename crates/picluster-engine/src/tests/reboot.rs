//! Reboots: the kernel's boot id and `systemctl` are files of the test.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use picluster_plan::{Cause, Plan, Step, Work};
use picluster_resource::Change;

use super::kit::{Rig, node};
use crate::event::EventKind;
use crate::exit_code::ExitCode;
use crate::report::Outcome;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A node whose `systemctl reboot` does `body`. `$D` is the test's directory.
fn rig(body: &str) -> Rig {
    // The stand-in's path has to be as long as the kernel's.
    let dir = tempfile::Builder::new()
        .prefix("b")
        .rand_bytes(BOOT_ID.len() - "/tmp/b/id".len())
        .tempdir_in("/tmp")
        .unwrap();
    let id = format!("{}/id", dir.path().display());
    assert_eq!(id.len(), BOOT_ID.len());
    std::fs::write(&id, "first\n").unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for (name, text) in [
        (
            "systemctl",
            format!(
                "#!/bin/sh\nD={}\ncase \"$*\" in *reboot*|*poweroff*) {body};; is-system-running) cat $D/state 2>/dev/null || echo running;; esac\n",
                dir.path().display()
            ),
        ),
        ("sync", "#!/bin/sh\n".into()),
        ("shutdown", "#!/bin/sh\nexit 1\n".into()),
    ] {
        std::fs::write(bin.join(name), text).unwrap();
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    Rig::at(dir, |c, s| {
        c.away = Some(bin.parent().unwrap().to_owned());
        c.bin = Some(bin);
        c.replace.push((BOOT_ID.into(), id));
        // Any directory of that length: systemd need not run where the tests run.
        c.replace
            .push(("/run/systemd/system".into(), "/usr/../usr/../usr/".into()));
        s.reboot_timeout = Duration::from_secs(2);
        s.power_off_timeout = Duration::from_secs(2);
    })
}

/// A plan that reboots for the sake of a file that is not as it should be: its absence stands for
/// an effect that only a reboot brings.
async fn plan(rig: &Rig) -> Plan {
    let wanted = rig.file("effect", "on");
    let mut plan = rig.plan(&[("pi", vec![wanted.clone()])]).await;
    let step = plan.steps[0].clone();
    let mut addr = step.addr.clone();
    addr.kind = "reboot".into();
    addr.key = "pi".into();
    let work = Work::Reboot {
        verify: vec![wanted],
    };
    let change = Change::new(picluster_resource::Action::Run);
    plan.steps = vec![Step::new(addr, work, change, Cause::Follows)];
    plan
}

/// What a boot does to the file: the content, mode and owner that were asked for.
const EFFECT: &str = "printf on > $D/effect; chmod 0640 $D/effect; echo second > $D/id";

#[tokio::test]
async fn a_reboot_is_proven_by_another_boot_id_and_verified_afterwards() {
    for end in ["", "; kill -9 $(ps -o ppid= -p $PPID)"] {
        let rig = rig(&format!("{EFFECT}; echo 3 > $D/pi.away{end}"));
        let plan = plan(&rig).await;
        let (report, events) = rig.apply(&plan).await;
        assert_eq!(report.exit_code(), ExitCode::Done, "{events:?}");
        assert_eq!(report.counts().changed, 1);
        assert!(
            events
                .iter()
                .any(|e| matches!(e, EventKind::NodeRebooting { .. }))
        );
        assert!(
            events
                .iter()
                .any(|e| matches!(e, EventKind::NodeBack { .. }))
        );
        // Nothing pending any more: no second reboot.
        let (report, _) = rig.apply(&plan).await;
        assert_eq!(report.counts().unchanged, 1);
        assert_eq!(rig.read("pi.away").as_deref().map(str::trim), Some("0"));
    }
}

fn why(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed(failure) => failure.what.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reboot_that_does_not_help_does_not_happen_or_does_not_end_is_a_failure_each_its_own() {
    for (body, words) in [
        ("echo second > $D/id", "it has rebooted, but still"),
        ("echo 'no' >&2; exit 1", "refused to reboot"),
        (":", "the boot it was told to leave still answers"),
        (
            "echo second > $D/id; echo 1000000 > $D/pi.away",
            "it is away",
        ),
        (
            "echo second > $D/id; echo starting > $D/state",
            "it was starting up",
        ),
    ] {
        let rig = rig(body);
        let plan = plan(&rig).await;
        let (report, _) = rig.apply(&plan).await;
        assert_eq!(report.exit_code(), ExitCode::NodeFailed, "{body}");
        let what = why(&report.nodes[&node("pi")].steps[0].outcome);
        assert!(what.contains(words), "{body}: {what}");
    }
}

/// The same plan with another step: the node is switched off.
async fn off(rig: &Rig) -> Plan {
    let mut plan = plan(rig).await;
    plan.steps[0].addr.kind = "power_off".into();
    plan.steps[0].work = Work::PowerOff;
    plan
}

#[tokio::test]
async fn a_node_is_off_when_nobody_answers_any_more() {
    // It answers once more on its way down.
    for end in ["", "; kill -9 $(ps -o ppid= -p $PPID)"] {
        let rig = rig(&format!("echo 1000000 > $D/pi.away{end}"));
        let plan = off(&rig).await;
        let (report, events) = rig.apply(&plan).await;
        assert_eq!(report.exit_code(), ExitCode::Done, "{events:?}");
        assert_eq!(report.counts().changed, 1);
        let place = |wanted: fn(&EventKind) -> bool| events.iter().position(wanted).unwrap();
        let told = place(|e| matches!(e, EventKind::NodePoweringOff { .. }));
        assert!(told < place(|e| matches!(e, EventKind::NodeOff { .. })));
    }
}

#[tokio::test]
async fn a_node_that_refuses_stays_on_or_starts_again_is_not_off() {
    for (body, words) in [
        ("echo 'no' >&2; exit 1", "refused to switch itself off"),
        (":", "it goes on answering"),
        // A single frame that is lost is no proof.
        ("echo 1 > $D/pi.away", "it goes on answering"),
        ("echo second > $D/id", "has started again"),
    ] {
        let rig = rig(body);
        let plan = off(&rig).await;
        let (report, _) = rig.apply(&plan).await;
        assert_eq!(report.exit_code(), ExitCode::NodeFailed, "{body}");
        let what = why(&report.nodes[&node("pi")].steps[0].outcome);
        assert!(what.contains(words), "{body}: {what}");
    }
}
