//! Invariant 2: a plan and an unchanged apply change no inode of the node, seen from outside it.
//! And the budgets that can be counted.

use std::collections::BTreeMap;

use picluster_lab::Entry;

use crate::rig::{Desk, Rig};

/// A role with every kind that needs no role of ours, so that each probe is exercised.
pub const ROLE: &str = r#"
doc: One of every kind.
resources:
  - directory: { path: /srv/app }
  - file: { path: /srv/app/conf, content: "hello {{ node.name }}\n" }
  - link: { path: /srv/conf, target: /srv/app/conf }
  - line: { path: /etc/environment, line: "EDITOR=vi" }
  - ini: { path: /etc/systemd/journald.conf, section: Journal, key: SystemMaxUse, value: 50M }
  - block: { path: /etc/hosts, name: rack, content: "192.0.2.9 nas\n" }
  - hostname: { name: "{{ node.name }}" }
  - timezone: { name: Europe/Berlin }
  - group: { name: operators }
  - user: { name: olga, groups: [operators], shell: /bin/bash }
  - authorized_keys: { user: olga, keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA olga"] }
  - package: { names: [less, procps, tzdata] }
  - unit: { name: ssh.service, active: true, enabled: true, reload_on: [/etc/ssh/sshd_config.d/10-x.conf] }
  - file: { path: /etc/ssh/sshd_config.d/10-x.conf, content: "X11Forwarding no\n", validate: "sshd -t -f {}" }
  - command: { run: "touch /srv/app/ran", creates: /srv/app/ran }
"#;

/// What may change although nothing was done: written by sshd, sudo, PAM and journald, not by us.
pub fn is_noise(path: &str) -> bool {
    const FILES: [&str; 3] = [
        // sshd and login record every session (utmp(5)).
        "/var/log/wtmp",
        "/var/log/lastlog",
        "/var/log/btmp",
    ];
    const DIRS: [&str; 5] = [
        "/run",
        "/tmp",
        // journald writes what sshd and sudo say.
        "/var/log/journal",
        // sudo's record of a user's first lecture and time stamps.
        "/var/lib/sudo",
        // trixie's lastlog2 and wtmpdb.
        "/var/lib/lastlog",
    ];
    FILES.contains(&path)
        || path.starts_with("/var/lib/wtmpdb")
        || DIRS
            .iter()
            .any(|d| path == *d || path.starts_with(&format!("{d}/")))
}

fn snapshot(rig: &Rig, node: &str) -> BTreeMap<String, Entry> {
    rig.lab
        .outside_listing(node)
        .unwrap()
        .into_iter()
        .filter(|e| !is_noise(&e.path))
        .map(|e| (e.path.clone(), e))
        .collect()
}

#[test]
fn plan_and_an_unchanged_apply_change_no_inode_and_keep_the_budgets() {
    let desk = Desk::new(
        "cluster: still\nssh: { user: pi }\nroles: [one]\nnodes:\n  rpi01: { address: 192.168.2.1 }\n  rpi02: { address: 192.168.2.2 }\n",
    );
    desk.write("roles/one/role.yaml", ROLE);
    let rig = Rig::up_from(desk, &["rpi02=rpi-os-bookworm"]);
    rig.run(&["apply", "--yes"]).expect(0);
    for words in [vec!["plan", "--detailed-exitcode"], vec!["apply", "--yes"]] {
        let before = [snapshot(&rig, "rpi01"), snapshot(&rig, "rpi02")];
        let counters = rig.desk.path().join("counters.json");
        let output = rig
            .command(&words)
            .env("PICLUSTER_COUNTERS", &counters)
            .output()
            .unwrap();
        let ran = crate::rig::ran(&output).expect(0);
        assert!(ran.out.contains("Nothing to do"), "{}", ran.out);
        let after = [snapshot(&rig, "rpi01"), snapshot(&rig, "rpi02")];
        for (before, after) in before.iter().zip(&after) {
            let changed: Vec<&String> = after
                .iter()
                .filter(|(path, entry)| before.get(*path) != Some(entry))
                .map(|(path, _)| path)
                .chain(before.keys().filter(|path| !after.contains_key(*path)))
                .collect();
            assert!(changed.is_empty(), "{words:?} changed {changed:?}");
        }
        let counted: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&counters).unwrap()).unwrap();
        for (name, node) in counted["nodes"].as_object().unwrap() {
            let of = |what: &str| node[what].as_u64().unwrap();
            assert_eq!(of("connections"), 1, "{name}: {node}");
            assert!(of("execs") <= 2, "{name}: {node}");
            assert!(of("round_trips") <= 10, "{name}: {node}");
        }
    }
}
