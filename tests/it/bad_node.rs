//! Nodes that nothing can be done on: a clear stop of that node only, with cause and cure, nothing written there.

use crate::rig::{Desk, Rig, differing};

const ROLE: &str = r#"
doc: One file, one directory.
resources:
  - directory: { path: /srv/t }
  - file: { path: /srv/t/a, content: "{{ node.name }}\n" }
"#;

#[test]
fn what_cannot_be_worked_on_is_named_with_cause_and_cure_and_left_alone() {
    // Node, how it is broken, and what has to be said about it.
    let bad: [(&str, &str, [&str; 2]); 6] = [
        ("locked", "", ["mounted read-only", "mount -o remount,rw /"]),
        ("full", "", ["root file system is full", "apt-get clean"]),
        // sudo asks those for a password as well who may do nothing once it is given.
        (
            "nosudo",
            "rm /etc/sudoers.d/*; gpasswd -d pi sudo",
            [
                "sudo wants a password",
                "ssh: { sudo: { password: { env: NAME } } }",
            ],
        ),
        (
            "sudoless",
            "rm /usr/bin/sudo",
            ["cannot become root", "adduser USER sudo"],
        ),
        (
            "foreign",
            "rm /etc/os-release; printf 'ID=alpine\\nPRETTY_NAME=\"Alpine Linux v3.22\"\\n' > /etc/os-release",
            [
                "Alpine Linux v3.22",
                "Debian, Raspberry Pi OS and Ubuntu are supported",
            ],
        ),
        (
            "exotic",
            "echo riscv64 > /var/lib/dpkg/arch",
            ["riscv64", "armhf, arm64 and amd64 are supported"],
        ),
    ];
    let mut nodes = String::from("  good: { address: 192.168.2.1 }\n");
    for (i, (name, _, _)) in bad.iter().enumerate() {
        nodes.push_str(&format!("  {name}: {{ address: 192.168.2.{} }}\n", i + 2));
    }
    let desk = Desk::new(&format!(
        "cluster: bad\nssh: {{ user: pi }}\nroles: [small]\nnodes:\n{nodes}"
    ));
    desk.write("roles/small/role.yaml", ROLE);
    let rig = Rig::up_with(desk, &[], |spec| {
        for node in spec.nodes.iter_mut().filter(|n| n.name == "full") {
            node.disk_mib = Some(96);
        }
    });
    for (name, how, _) in &bad {
        // sudo notes a user's first success in the home directory; let it be over.
        rig.on(name, "true").expect(0);
        if !how.is_empty() {
            rig.on(name, how).expect(0);
        }
    }
    rig.lab.fill_disk("full").unwrap();
    rig.lab.remount_root_ro("locked").unwrap();

    let before: Vec<_> = bad.iter().map(|(name, ..)| rig.outside(name)).collect();
    let ended = rig.run(&["apply", "--yes"]).expect(3);
    let all = format!("{}{}", ended.out, ended.err);
    for ((name, _, words), before) in bad.iter().zip(&before) {
        let said: Vec<&str> = all.lines().filter(|l| l.contains(name)).collect();
        assert!(!said.is_empty(), "nothing is said of {name}:\n{all}");
        for word in words {
            assert!(all.contains(word), "{name}: {word:?} is missing in:\n{all}");
        }
        let after = rig.outside(name);
        let changed = differing(before, &after);
        assert!(changed.is_empty(), "{name}: {changed:?}");
    }
    assert_eq!(
        rig.on("good", "cat /srv/t/a").out,
        "good\n",
        "the rest converges"
    );

    // Once the cause is gone, the same command does the rest.
    rig.lab.free_disk("full").unwrap();
    rig.lab.remount_root_rw("locked").unwrap();
    rig.run(&["apply", "--yes"]).expect(3);
    for node in ["full", "locked"] {
        assert_eq!(rig.on(node, "cat /srv/t/a").out, format!("{node}\n"));
    }
}
