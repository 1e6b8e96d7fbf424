//! What was waited for and has gone again by the time it is looked at: it is waited for once more. `systemctl` and `kubectl` are
//! files of the test.

use std::os::unix::fs::PermissionsExt as _;

use picluster_resource::Resource;

use super::kit::{Rig, node};
use crate::exit_code::ExitCode;
use crate::report::Outcome;

/// The directory of a node that picluster writes to; the test's own is as long.
const RUN: &str = "/run/picluster";

/// Ready to whoever waits. To whoever looks: what the next line of `says` has, the last one for ever.
const KUBECTL: &str = r#"#!/bin/sh
case "$*" in
  *jsonpath*) echo waited >> @/asked; echo True 2100-01-01T00:00:00Z v1 ;;
  *) read -r ready < @/says
    if [ "$(grep -c . @/says)" -gt 1 ]; then sed -i 1d @/says; fi
    echo "looked $ready" >> @/asked
    echo '{"kind":"Node","metadata":{"name":"pi"},"status":{"conditions":[{"type":"Ready","status":"'$ready'"}],"nodeInfo":{"kubeletVersion":"v1"}}}' ;;
esac
"#;

const SYSTEMCTL: &str = r#"#!/bin/sh
case "$*" in
  *"-p LoadState"*) printf '%s\n' LoadState=loaded ActiveState=active SubState=running UnitFileState=enabled NeedDaemonReload=no Result=success TriggeredBy= ;;
  *ExecMainStart*) echo 0 ;;
  *ActiveState*) echo active ;;
esac
"#;

fn rig(says: &str) -> (Rig, Resource) {
    let dir = tempfile::Builder::new()
        .prefix("w")
        .rand_bytes(RUN.len() - "/tmp/w".len())
        .tempdir_in("/tmp")
        .unwrap();
    let at = dir.path().display().to_string();
    assert_eq!(at.len(), RUN.len());
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for (name, text) in [
        ("kubectl", KUBECTL),
        ("systemctl", SYSTEMCTL),
        ("journalctl", "#!/bin/sh\n"),
    ] {
        let file = bin.join(name);
        std::fs::write(&file, text.replace('@', &at)).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(dir.path().join("says"), says.replace(' ', "\n") + "\n").unwrap();
    std::fs::write(dir.path().join("kubeconfig"), "there is one\n").unwrap();
    let resource = serde_json::json!({"cluster_node": {
        "name": "pi", "unit": "k3s-agent.service", "version": "v1", "timeout": 60,
        "kubeconfig": format!("{at}/kubeconfig"), "kubectl": [format!("{at}/bin/kubectl")],
    }});
    let rig = Rig::at(dir, |c, _| {
        c.bin = Some(bin);
        c.replace.push((RUN.into(), at));
    });
    (rig, serde_json::from_value(resource).unwrap())
}

async fn outcome(says: &str) -> (ExitCode, Outcome, usize) {
    let (rig, resource) = rig(says);
    let plan = rig.plan(&[("pi", vec![resource])]).await;
    let (report, _) = rig.apply(&plan).await;
    let asked = rig.read("asked").unwrap();
    // Each wait asks twice before it believes.
    let waits = asked.lines().filter(|l| *l == "waited").count() / 2;
    let outcome = report.nodes[&node("pi")].steps[0].outcome.clone();
    (report.exit_code(), outcome, waits)
}

#[tokio::test]
async fn a_node_that_is_lost_sight_of_behind_its_wait_is_waited_for_again() {
    // The plan's look, the one before the step, the one behind it and the one that makes sure.
    let (code, outcome, waits) = outcome("False False Unknown Unknown True").await;
    assert_eq!((code, waits), (ExitCode::Done, 2), "{outcome:?}");
    assert_eq!(outcome, Outcome::Changed);
}

#[tokio::test]
async fn what_no_waiting_brings_back_is_said_at_once() {
    let (rig, resource) = rig("False");
    let other = std::fs::read_to_string(rig.path("bin/kubectl"))
        .unwrap()
        .replace("kubeletVersion\":\"v1\"", "kubeletVersion\":\"v0\"");
    std::fs::write(rig.path("bin/kubectl"), other).unwrap();
    let plan = rig.plan(&[("pi", vec![resource])]).await;
    let (report, _) = rig.apply(&plan).await;
    assert_eq!(report.exit_code(), ExitCode::NodeFailed, "{report:?}");
    let waits = rig.read("asked").unwrap().matches("waited").count() / 2;
    assert_eq!(
        waits, 1,
        "another version is there: it does not go by itself"
    );
    let Outcome::Failed(failure) = &report.nodes[&node("pi")].steps[0].outcome else {
        panic!("{report:?}");
    };
    assert!(failure.what.contains("NotReady, v0"), "{failure:?}");
}

/// Labels of nodes are files. It does not answer the first question after every change, nor the first after the plan.
const LABELLER: &str = r#"#!/bin/sh
while [ "$1" != get ] && [ "$1" != patch ]; do shift; done
if [ "$1" = patch ]; then : > @/label-$3; : > @/silent; exit 0; fi
echo looked >> @/asked
if [ -e @/silent ]; then rm @/silent; echo 'Unable to connect to the server: EOF' >&2; exit 1; fi
shift 2; items=
for n; do case $n in -o) break;; esac
  l='{}'; if [ -e @/label-$n ]; then l='{"disk":"nvme"}'; fi
  a='{}'; if [ -e @/label-$n ]; then a='{"picluster/owned":"{\"labels\":[\"disk\"],\"taints\":[]}"}'; fi
  items="$items${items:+,}{\"kind\":\"Node\",\"metadata\":{\"name\":\"$n\",\"labels\":$l,\"annotations\":$a}}"
done
printf '{"kind":"List","items":[%s]}' "$items"
"#;

#[tokio::test]
async fn a_cluster_that_is_silent_for_a_moment_fails_no_label() {
    let (rig, _) = rig("False");
    let at = rig.path("").display().to_string();
    let at = at.trim_end_matches('/');
    std::fs::write(rig.path("bin/kubectl"), LABELLER.replace('@', at)).unwrap();
    let labels = |node: &str| -> Resource {
        serde_json::from_value(serde_json::json!({"node_labels": {
            "node": node, "labels": {"disk": "nvme"},
            "kubeconfig": format!("{at}/kubeconfig"), "kubectl": [format!("{at}/bin/kubectl")],
        }}))
        .unwrap()
    };
    let plan = rig
        .plan(&[("pi", vec![labels("a"), labels("b"), labels("c")])])
        .await;
    assert_eq!(rig.read("asked").as_deref(), Some("looked\n"));
    std::fs::write(rig.path("silent"), "").unwrap();
    let (report, _) = rig.apply(&plan).await;
    assert_eq!(report.exit_code(), ExitCode::Done, "{report:?}");
    for step in &report.nodes[&node("pi")].steps {
        assert_eq!(step.outcome, Outcome::Changed, "{step:?}");
    }
    // Once before and once behind all three, and each of these a second time.
    let looks = rig.read("asked").unwrap().matches("looked").count();
    assert_eq!(looks, 1 + 4);
}
