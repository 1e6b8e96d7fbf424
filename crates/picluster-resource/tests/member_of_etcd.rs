//! A member of etcd leaves before its Node: only it, only while more than half of the others are healthy, and at whatever point an
//! earlier run broke off.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod shells;

use std::fs;
use std::process::Command;

use shells::shells;

/// A cluster in files: `members` as `etcdctl member list` prints them, `well` what `etcdctl endpoint health --cluster` says, which ends with
/// 1 where somebody is not well.
const AROUND: &str = r#"set -eu
cd "$1"
n=rpi03 here=rpi01 within=1
said() { printf '%s\n' "$*" >> log; }
kc() {
  : > run/kubectl.err
  case "$*" in
    *jsonpath*) if [ -e node ]; then echo '10.0.0.3 fd00::3'; fi ;;
    *'member list'*)
      # Whoever led has gone: for a moment nobody answers.
      if [ -e leaderless ]; then rm leaderless; echo 'etcdserver: leader changed' > run/kubectl.err; return 1; fi
      cat members ;;
    *'member remove'*) for id; do :; done; said "member $id"; grep -v "^$id," members > new || :; mv new members; : > leaderless ;;
    *'endpoint health'*) grep ' is healthy' well || :; ! grep unhealthy well >> run/kubectl.err ;;
    *'delete node'*) said node; rm -f node ;;
    *'get node'*) [ ! -e node ] || echo node/rpi03 ;;
  esac
}
"#;

const ONE: &str = "a1, started, rpi01, https://10.0.0.1:2380, https://10.0.0.1:2379, false\n";
const TWO: &str = "b2, started, rpi02, https://10.0.0.2:2380, https://10.0.0.2:2379, false\n";
const THREE: &str = "c3, started, rpi03, https://10.0.0.3:2380, https://10.0.0.3:2379, false\n";

/// What comes of it: status, what was taken away in that order, what was said, and who is left.
fn run(
    shell: &[&str],
    members: &str,
    down: &[&str],
    node: bool,
) -> (Option<i32>, String, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    for name in ["run", "m"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    put("m/etcd.yaml", "");
    put("members", members);
    let health: String = (1..=5)
        .map(|i| {
            let at = format!("https://10.0.0.{i}:2379");
            match down.contains(&at.as_str()) {
                true => format!(
                    "{at} is unhealthy: failed to commit proposal: context deadline exceeded\n"
                ),
                false => format!("{at} is healthy: successfully committed proposal: took = 3ms\n"),
            }
        })
        .collect();
    put("well", &health);
    put("log", "");
    if node {
        put("node", "");
    }
    let body = concat!(
        include_str!("../src/kinds/node_absent/member.sh"),
        include_str!("../src/kinds/node_absent/delete.sh")
    )
    .replace("/run/picluster", "run")
    .replace("/etc/kubernetes/manifests", "m");
    put("script", &format!("{AROUND}{body}"));
    let out = Command::new(shell[0])
        .args(&shell[1..])
        .arg(dir.path().join("script"))
        .arg(dir.path())
        .output()
        .unwrap();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let said =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (
        out.status.code(),
        read("log").replace('\n', " "),
        said,
        read("members"),
    )
}

const AWAY: [&str; 1] = ["https://10.0.0.3:2379"];

#[test]
fn a_member_goes_before_its_node_and_no_other_one() {
    let started = [ONE, TWO, THREE].concat();
    let unstarted = format!("{ONE}{TWO}c3, unstarted, , https://10.0.0.3:2380, , false\n");
    let of_ipv6 = format!("{ONE}c3, unstarted, , https://[fd00::3]:2380, , true\n");
    let another = format!("{ONE}{TWO}d4, unstarted, , https://10.0.0.33:2380, , false\n");
    for shell in shells() {
        for (members, down, node, log, left) in [
            (started.as_str(), &[][..], true, "member c3 node ", 2),
            // It is away itself.
            (&started, &AWAY, true, "member c3 node ", 2),
            // It was added and has never started; it was to be a learner.
            (&unstarted, &AWAY, true, "member c3 node ", 2),
            (&of_ipv6, &[], true, "member c3 node ", 1),
            // An earlier run broke off behind the one, and behind the other.
            (&[ONE, TWO].concat(), &[], true, "node ", 2),
            (&[ONE, TWO].concat(), &[], false, "node ", 2),
            // Somebody else is about to start.
            (&another, &[], true, "node ", 3),
            // Of two one goes.
            (&[ONE, THREE].concat(), &[], true, "member c3 node ", 1),
        ] {
            let (code, did, said, members) = run(&shell, members, down, node);
            assert_eq!((code, did.as_str()), (Some(0), log), "{shell:?}: {said}");
            assert_eq!(members.lines().count(), left, "{shell:?}");
        }
    }
}

#[test]
fn it_stays_where_too_few_would_be_left() {
    let four = "d4, started, rpi04, https://10.0.0.4:2380, https://10.0.0.4:2379, false\n";
    let five = "e5, unstarted, , https://10.0.0.5:2380, , false\n";
    let at = |i: u8| format!("https://10.0.0.{i}:2379");
    for shell in shells() {
        for (members, down, found) in [
            // Of the two that are left one is down; of three, two are, one of which has never started.
            (
                [ONE, TWO, THREE].concat(),
                at(2),
                "@@ left 2\n@@ healthy 1\n@@ down rpi02\n",
            ),
            (
                [ONE, THREE, four, five].concat(),
                at(4),
                "@@ left 3\n@@ healthy 1\n@@ down rpi04 unnamed\n",
            ),
        ] {
            let (code, did, said, left) = run(&shell, &members, &[&down], true);
            assert_eq!(
                (code, did.as_str(), left),
                (Some(71), "", members),
                "{shell:?}: {said}"
            );
            assert_eq!(said, found, "{shell:?}");
        }
        // Nobody says anything.
        let (code, did, said, _) = run(&shell, "", &[], true);
        assert_eq!((code, did.as_str()), (Some(71), ""), "{shell:?}: {said}");
        assert!(said.contains("does not say who its members are"), "{said}");
    }
}
