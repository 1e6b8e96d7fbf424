//! `status` on a cluster of lab nodes: what it says is what plan and cluster say, in one session a node, and it changes
//! nothing. The tests of clusters that have one anyway call this.

use serde_json::Value;

use crate::rig::{Ran, Rig, differing};
use crate::schema::fits;

/// Runs it and counts: one connection and one session a node, and no inode changed.
#[track_caller]
fn counted(rig: &Rig, nodes: &[&str], args: &[&str]) -> Ran {
    let outside = || nodes.iter().map(|n| rig.outside(n)).collect::<Vec<_>>();
    let before = outside();
    let counters = rig.desk.path().join("counters.json");
    let output = rig
        .command(args)
        .env("PICLUSTER_COUNTERS", &counters)
        .output()
        .unwrap();
    for (before, after) in before.iter().zip(&outside()) {
        let changed = differing(before, after);
        // A cluster is at work all the time: its datastore and its logs are its own.
        let ours = |path: &&&String| {
            !["/var/lib/rancher/", "/var/log/", "/var/lib/kubelet/"]
                .iter()
                .any(|own| path.starts_with(own))
        };
        let ours: Vec<_> = changed.iter().filter(ours).collect();
        assert!(ours.is_empty(), "{args:?} changed {ours:?}");
    }
    let text = std::fs::read_to_string(&counters).unwrap();
    let counted: Value = serde_json::from_str(&text).unwrap();
    for name in nodes {
        let node = &counted["nodes"][name];
        assert_eq!(node["connections"], 1, "{name}: {node}");
        assert_eq!(node["execs"], 1, "{name}: {node}");
    }
    crate::rig::ran(&output)
}

/// Before anything was applied: what would be done is counted, and there is no cluster to be silent.
#[track_caller]
pub fn of_blank_nodes(rig: &Rig, nodes: &[&str]) {
    // First, because sudo writes something at its first use.
    let plan: Value = serde_json::from_str(&rig.run(&["plan", "--json"]).expect(0).out).unwrap();
    let status = fits(
        "status",
        &counted(rig, nodes, &["status", "--json"]).expect(0).out,
    );
    for name in nodes {
        let steps = plan["steps"].as_array().unwrap().iter();
        let begins = format!("{name}/");
        let mine = steps.filter(|s| s["addr"].as_str().unwrap().starts_with(&begins));
        let node = &status["nodes"][name];
        assert_eq!(node["changes"], mine.count(), "{name}: {node}");
        assert!(node["changes"].as_u64() > Some(3), "{name}: {node}");
        assert_eq!(node["kubernetes"], Value::Null, "{name}: {node}");
        assert_eq!(node["last_apply"], Value::Null, "{name}: {node}");
    }
    assert_eq!(status["kubernetes"]["told_by"], Value::Null);
}

/// A controller that cannot look up the release, and has never met the cluster: machines are shown, and why no more is.
#[track_caller]
pub fn without_a_release(rig: &Rig, nodes: &[&str]) {
    let text = std::fs::read_to_string(rig.desk.inventory()).unwrap();
    let lines = text.lines().filter(|l| !l.contains("artifact:"));
    let text: String = lines.map(|l| format!("{l}\n")).collect();
    rig.desk.write("unknown.yaml", &text);
    let output = rig
        .command(&["status", "--json", "unknown.yaml"])
        .env("PICLUSTER_K3S_RELEASES", "https://127.0.0.1:1")
        .env("XDG_CACHE_HOME", rig.desk.path().join("empty"))
        .output()
        .unwrap();
    let ran = crate::rig::ran(&output).expect(1);
    assert!(ran.err.contains("the checksum of"), "{}", ran.err);
    let status = fits("status", &ran.out);
    for name in nodes {
        let node = &status["nodes"][name];
        assert_eq!(node["state"], "observed", "{node}");
        assert_eq!(node["changes"], Value::Null, "{node}");
        assert!(node["health"]["up_s"].is_u64(), "{node}");
    }
}

/// A cluster as its inventory wants it.
#[track_caller]
pub fn of_a_cluster(rig: &Rig, server: &str, nodes: &[&str]) {
    let status = fits(
        "status",
        &counted(rig, nodes, &["status", "--json"]).expect(0).out,
    );
    let wanted = &status["kubernetes"]["version"];
    assert_eq!(status["kubernetes"]["told_by"], server);
    for name in nodes {
        let node = &status["nodes"][name];
        assert_eq!(node["state"], "observed", "{node}");
        assert_eq!(node["changes"], 0, "{node}");
        assert_eq!(node["kubernetes"]["standing"], "ready", "{node}");
        assert_eq!(&node["kubernetes"]["version"], wanted, "{node}");
        assert_eq!(node["last_apply"]["by"], "journal", "{node}");
        assert_eq!(node["last_apply"]["end"], "done", "{node}");
        // The owner's records were read, and the node was started by the lab a while ago.
        assert!(
            node["health"]["applied"].as_i64() > Some(1_600_000_000),
            "{node}"
        );
        let up = node["health"]["up_s"].as_u64().unwrap();
        assert!((1..7200).contains(&up), "{node}");
        assert!(node["health"]["root"]["filesystem"].is_string(), "{node}");
    }
    let ran = counted(rig, nodes, &["status"]).expect(0);
    let n = nodes.len();
    assert!(
        ran.out.contains(&format!("\n{n} nodes: {n} as desired.\n")),
        "{}",
        ran.out
    );
    for name in nodes {
        let row = ran.out.lines().find(|l| l.starts_with(name)).unwrap();
        assert!(row.contains(" yes ") && row.contains("as desired"), "{row}");
    }
    let one = rig.run(&["status", "--only", nodes[1]]).expect(0);
    assert!(one.out.contains("1 node: 1 as desired."), "{}", one.out);
    let nobody = rig.run(&["status", "--only", "nobody"]).expect(1);
    assert!(nobody.err.contains("names no node"), "{}", nobody.err);
}

/// A dying card: nothing can be planned for its node, and what the node says of itself is shown all the same.
#[track_caller]
pub fn with_a_root_that_takes_no_writes(rig: &Rig, node: &str) {
    rig.lab.remount_root_ro(node).unwrap();
    let ran = counted(rig, &[node], &["status", "--json", "--only", node]);
    rig.lab.remount_root_rw(node).unwrap();
    let status = fits("status", &ran.expect(3).out);
    let it = &status["nodes"][node];
    assert_eq!(it["state"], "blocked", "{it}");
    assert_eq!(it["changes"], Value::Null, "{it}");
    assert_eq!(it["facts"]["now"]["root_read_only"], true, "{it}");
    assert!(it["health"]["up_s"].is_u64(), "{it}");
    assert_eq!(it["kubernetes"]["standing"], "ready", "{it}");
    let warned = status["warnings"].as_array().unwrap().iter();
    let kinds: Vec<&Value> = warned.map(|w| &w["kind"]).collect();
    assert_eq!(kinds, ["root_read_only"]);
}

/// A node that is not reached is a row with its reason; the others are shown, and the cluster speaks of all.
#[track_caller]
pub fn with_one_away(rig: &Rig, away: &str, others: &[&str]) {
    rig.lab.cut(away).unwrap();
    let ran = rig.run(&["status"]).expect(4);
    rig.lab.heal(away).unwrap();
    let row = |name: &str| ran.out.lines().find(|l| l.starts_with(name)).unwrap();
    assert!(row(away).contains("unreachable"), "{}", ran.out);
    for name in others {
        assert!(row(name).contains(" yes "), "{}", ran.out);
    }
    assert!(
        ran.out.contains(&format!("  {away} unreachable at ")),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("look at its power and cable"),
        "{}",
        ran.out
    );
}
