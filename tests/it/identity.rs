//! Who answers: pins per node name, and a changed identity stops its node before anything is sent or written.

use picluster_engine::{EventKind, NodeEnd};

use crate::rig::{Desk, Ran, Rig, differing, ran};

const ROLE: &str = r#"
doc: One file.
resources:
  - file: { path: /srv/a, content: "a {{ vars.version }}\n" }
"#;

const NODES: &str = "  rpi01: { address: 192.168.2.1 }\n  rpi02: { address: 192.168.2.2 }\n";

fn inventory(cluster: &str, version: u32, nodes: &str) -> String {
    format!(
        "cluster: {cluster}\nssh: {{ user: pi }}\nroles: [small]\nvars: {{ version: {version} }}\nnodes:\n{nodes}"
    )
}

fn rig(cluster: &str, nodes: &str) -> Rig {
    let desk = Desk::new(&inventory(cluster, 1, nodes));
    desk.write("roles/small/role.yaml", ROLE);
    Rig::up_from(desk, &[])
}

/// A run that nobody allowed to accept new keys.
fn strict(rig: &Rig, args: &[&str]) -> Ran {
    ran(&rig
        .command(args)
        .env_remove("PICLUSTER_ACCEPT_NEW")
        .output()
        .unwrap())
}

fn pins(rig: &Rig) -> String {
    std::fs::read_to_string(rig.store().join("host_keys")).unwrap_or_default()
}

fn host_key(rig: &Rig, node: &str) -> String {
    let words = rig
        .on(node, "cat /etc/ssh/ssh_host_ed25519_key.pub")
        .expect(0)
        .out;
    words
        .split(' ')
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}

/// sshd tells of every authentication that was begun, also of one that was given up: the connections
/// other than the one this question comes by must have ended before that.
#[track_caller]
fn nothing_was_sent_after_the_key_exchange(rig: &Rig, node: &str) {
    let log = rig
        .on(
            node,
            "journalctl --sync; journalctl -b -o cat -t sshd -t sshd-session -t sudo",
        )
        .expect(0)
        .out;
    assert_eq!(log.matches("Accepted ").count(), 1, "{log}");
    assert!(
        log.contains("[preauth]"),
        "somebody was here and left before authentication:\n{log}"
    );
    for word in [
        "authenticating user",
        "Failed ",
        "Invalid user",
        "Postponed",
    ] {
        assert!(!log.contains(word), "{word:?} in:\n{log}");
    }
    assert_eq!(log.matches("COMMAND=").count(), 1, "{log}");
}

#[test]
fn a_card_with_another_key_stops_its_node_before_anything_is_sent_and_nobody_else() {
    let rig = rig("wiped", NODES);
    rig.run(&["apply", "--yes"]).expect(0);
    let pinned = pins(&rig);
    for node in ["rpi01", "rpi02"] {
        let line = pinned
            .lines()
            .find(|l| l.starts_with(&format!("{node} ")))
            .unwrap();
        assert!(
            line.starts_with(&format!("{node} {} ", host_key(&rig, node))),
            "{line}"
        );
    }
    assert_eq!(
        pinned.lines().count(),
        2,
        "one line a node, by name:\n{pinned}"
    );

    rig.lab.wipe("rpi01", picluster_lab::Wait::Ready).unwrap();
    rig.desk
        .write("inventory.yaml", &inventory("wiped", 2, NODES));
    let before = rig.outside("rpi01");
    // Keys would be accepted from strangers; this is no stranger.
    let words = rig.run(&["apply", "--yes"]).expect(8);
    let after = rig.outside("rpi01");
    assert!(
        differing(&before, &after).is_empty(),
        "{:?}",
        differing(&before, &after)
    );
    nothing_was_sent_after_the_key_exchange(&rig, "rpi01");
    assert_eq!(
        rig.on("rpi02", "cat /srv/a").out,
        "a 2\n",
        "the other node converges"
    );
    assert_eq!(pins(&rig), pinned, "the pin stays");
    let all = words.out + &words.err;
    assert!(
        all.contains("rpi01")
            && all.contains("host key changed")
            && all.matches("SHA256:").count() >= 2,
        "{all}"
    );
    assert!(all.contains("picluster forget-key rpi01"), "{all}");
    // The plan verb says the same with the same code.
    rig.run(&["plan"]).expect(8);

    // The cure that was named: not without consent, and then the new card is a first contact.
    rig.run(&["forget-key", "rpi01"]).expect(1);
    assert_eq!(pins(&rig), pinned);
    rig.run(&["forget-key", "--yes", "rpi01"]).expect(0);
    rig.run(&["apply", "--yes"]).expect(0);
    assert!(
        pins(&rig).contains(&host_key(&rig, "rpi01")),
        "{}",
        pins(&rig)
    );
    assert_eq!(rig.on("rpi01", "cat /srv/a").out, "a 2\n");
}

#[test]
fn a_first_contact_without_consent_is_refused_with_the_way_to_give_it() {
    let rig = rig("first", NODES);
    let refused = strict(&rig, &["apply", "--yes"]).expect(3);
    let all = refused.out + &refused.err;
    for part in ["rpi01", "rpi02", "SHA256:", "--accept-new", "not known yet"] {
        assert!(all.contains(part), "{part:?} is missing in:\n{all}");
    }
    assert_eq!(pins(&rig), "");
    nothing_was_sent_after_the_key_exchange(&rig, "rpi02");
    rig.on("rpi01", "[ ! -e /srv/a ]").expect(0);

    // A key that the inventory names needs no consent; a wrong one is nobody's first contact.
    let (right, wrong) = (host_key(&rig, "rpi01"), host_key(&rig, "rpi01"));
    let nodes = format!(
        "  rpi01: {{ address: 192.168.2.1, ssh: {{ host_key: \"{right}\" }} }}\n  rpi02: {{ address: 192.168.2.2, ssh: {{ host_key: \"{wrong}\" }} }}\n"
    );
    rig.desk
        .write("inventory.yaml", &inventory("first", 1, &nodes));
    let ended = strict(&rig, &["apply", "--yes", "--json"])
        .expect(8)
        .events();
    let end_of = |name: &str| {
        ended.iter().find_map(|e| match e {
            EventKind::NodeFinished { node, end, .. } if node.as_str() == name => Some(end.clone()),
            _ => None,
        })
    };
    assert_eq!(end_of("rpi01"), Some(NodeEnd::Done));
    assert!(
        matches!(end_of("rpi02"), Some(NodeEnd::IdentityChanged { .. })),
        "{ended:?}"
    );
    rig.on("rpi01", "[ -e /srv/a ]").expect(0);
    rig.on("rpi02", "[ ! -e /srv/a ]").expect(0);
    assert!(
        pins(&rig).contains(&format!("rpi01 {right}")),
        "{}",
        pins(&rig)
    );
}

#[test]
fn a_plan_is_not_applied_to_another_machine_that_shows_the_same_key() {
    let rig = rig("cloned", NODES);
    let keys = "cd /etc/ssh && tar c ssh_host_*";
    let saved = rig
        .on("rpi01", &format!("{keys} | base64 -w0"))
        .expect(0)
        .out;
    rig.run(&["plan", "--out", "today.plan"]).expect(0);
    rig.lab.wipe("rpi01", picluster_lab::Wait::Ready).unwrap();
    rig.on(
        "rpi01",
        &format!("cd /etc/ssh && echo {saved} | base64 -d | tar x && systemctl restart ssh"),
    )
    .expect(0);
    rig.lab
        .wait_ready("rpi01", std::time::Duration::from_secs(90))
        .unwrap();

    let before = rig.outside("rpi01");
    let words = rig.run(&["apply", "--yes", "today.plan"]).expect(8);
    let after = rig.outside("rpi01");
    assert!(
        differing(&before, &after).is_empty(),
        "{:?}",
        differing(&before, &after)
    );
    let all = words.out + &words.err;
    assert!(
        all.contains("machine id") && all.contains("not the machine the plan was made for"),
        "{all}"
    );
    assert_eq!(
        rig.on("rpi02", "cat /srv/a").out,
        "a 1\n",
        "the other node converges"
    );
}

#[test]
fn another_machine_under_the_pinned_key_stops_until_somebody_consents() {
    let rig = Rig::up(
        "cluster: twin\nssh: { user: pi }\nroles: [base]\nnodes:\n  rpi01: { address: 192.168.2.1 }\n",
        &[],
    );
    rig.run(&["apply", "--yes"]).expect(0);
    // The key stays; what else the machine says of itself does not.
    rig.on(
        "rpi01",
        "echo 0123456789abcdef0123456789abcdef > /etc/machine-id; echo drifted > /etc/hostname",
    )
    .expect(0);
    let before = rig.outside("rpi01");
    let ran = rig.run(&["apply", "--yes"]).expect(8);
    let all = format!("{}{}", ran.out, ran.err);
    assert!(
        all.contains("machine-id was") && all.contains("picluster forget-key rpi01"),
        "{all}"
    );
    assert_eq!(
        crate::rig::differing(&before, &rig.outside("rpi01")),
        Vec::<&String>::new()
    );
    rig.run(&["forget-key", "--yes", "rpi01"]).expect(0);
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(rig.on("rpi01", "cat /etc/hostname").out, "rpi01\n");
}

#[test]
fn machines_with_one_identity_are_left_alone() {
    let rig = rig("twins", NODES);
    let before = ["rpi01", "rpi02"].map(|n| rig.outside(n));
    let sudo = |node: &str, script: &str| rig.on(node, &format!("sudo sh -c '{script}'")).expect(0);
    let own = rig.on("rpi02", "cat /etc/machine-id").expect(0).out;
    let other = rig.on("rpi01", "cat /etc/machine-id").expect(0).out;
    sudo("rpi02", &format!("echo {} > /etc/machine-id", other.trim()));

    let copied = rig.run(&["apply", "--yes"]).expect(3).out;
    for (one, two) in [("rpi01", "rpi02"), ("rpi02", "rpi01")] {
        let said = format!("{one} has the machine-id of {two}, as the copy of a card has");
        assert!(copied.contains(&said), "{copied}");
        assert!(
            copied.contains(&format!("picluster forget-key {one}")),
            "{copied}"
        );
    }

    sudo("rpi02", &format!("echo {} > /etc/machine-id", own.trim()));
    for (node, before) in ["rpi01", "rpi02"].iter().zip(&before) {
        let after = rig.outside(node);
        let changed: Vec<_> = differing(before, &after)
            .into_iter()
            .filter(|path| path.starts_with("/srv") || path.starts_with("/var/lib/picluster"))
            .collect();
        assert!(changed.is_empty(), "{node}: {changed:?}");
    }
    rig.run(&["apply", "--yes"]).expect(0);
}
