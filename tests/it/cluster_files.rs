//! What a cluster is made of on both sides: the program that goes to the nodes, and the
//! credentials that come back.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::rig::{Desk, Rig};

/// In place of the role that comes with the binary, one that does of k3s what is looked at here: it writes the program, and what k3s would write
/// when it starts.
const ROLE: &str = r#"doc: The files of a cluster.
resources:
  - artifact:
      path: /usr/local/bin/k3s
      sha256: "{{ kubernetes.artifact.sha256 }}"
      size: "{{ kubernetes.artifact.size }}"
  - directory: { path: /etc/rancher }
  - directory: { path: /etc/rancher/k3s }
  - file:
      path: /etc/rancher/k3s/k3s.yaml
      mode: "0600"
      template: k3s.yaml.j2
    when: node.kubernetes == "server"
"#;
const WRITTEN: &str = "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: Q0E=\n    server: https://127.0.0.1:6443\n  name: default\ncontexts:\n- context:\n    cluster: default\n    user: default\n  name: default\ncurrent-context: default\nkind: Config\npreferences: {}\nusers:\n- name: default\n  user:\n    client-certificate-data: Q0VSVA==\n    client-key-data: {{ vars.key }}\n";
const SECRET: &str = "c2VjcmV0LWtleQ==";

fn inventory(artifact: &str) -> String {
    format!(
        "cluster: homelab\nssh: {{ user: pi, identity: ~/.ssh/id_ed25519 }}\nkubernetes: {{ distribution: k3s, version: v1.36.3+k3s1, artifact: {artifact} }}\nvars: {{ key: {{ command: [printf, {SECRET}] }} }}\nnodes:\n  rpi01: {{ address: 192.168.2.1, kubernetes: server }}\n  rpi02: {{ address: 192.168.2.2, kubernetes: agent }}\n"
    )
}

fn program(machine: u8) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    bytes.extend([machine, 0]);
    bytes.extend((0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()));
    bytes
}

#[test]
fn the_program_goes_to_the_nodes_and_the_credentials_come_back() {
    let machine = match std::env::consts::ARCH {
        "x86_64" => 62,
        _ => 183,
    };
    let desk = Desk::new(&inventory("./k3s"));
    desk.write("roles/k3s/role.yaml", ROLE);
    desk.write("roles/k3s/templates/k3s.yaml.j2", WRITTEN);
    fs::write(desk.path().join("k3s"), program(243)).unwrap();
    let rig = Rig::up_from(desk, &[]);
    // The lab's controller reaches no release: that is said before anything is written.
    rig.desk.write(
        "inventory.yaml",
        &inventory("./k3s").replace(", artifact: ./k3s", ""),
    );
    let unmet = rig.run(&["apply", "--yes"]).expect(1);
    for words in [
        "rpi01, rpi02: the checksum of https://github.com/k3s-io/k3s/releases/download/v1.36.3%2Bk3s1/k3s",
        "nothing was changed on any node",
        "then: picluster fetch --from k3s",
    ] {
        assert!(unmet.err.contains(words), "{words}: {}", unmet.err);
    }
    rig.desk.write("inventory.yaml", &inventory("./k3s"));
    // A program for another machine is refused before anything is written.
    let refused = rig.run(&["apply", "--yes"]).expect(1);
    assert!(
        refused.err.contains("is a program for RISC-V"),
        "{}",
        refused.err
    );
    assert!(refused.err.contains("rpi01, rpi02"), "{}", refused.err);
    assert_ne!(rig.on("rpi01", "test -e /etc/rancher").code, 0);

    let bytes = program(machine);
    fs::write(rig.desk.path().join("k3s"), &bytes).unwrap();
    let home = rig.store().parent().unwrap().parent().unwrap().to_owned();
    let kubeconfig = home.join("kubeconfig");
    let plan = rig.run(&["plan"]).expect(0);
    let line = format!(
        "+ {} on this machine: context homelab will be written once",
        kubeconfig.display()
    );
    assert!(plan.out.contains(&line), "{}", plan.out);
    assert!(!kubeconfig.exists(), "a plan writes nothing");

    let first = rig.run(&["apply", "--yes"]).expect(0);
    assert!(first.err.contains("context homelab added"), "{}", first.err);
    for node in ["rpi01", "rpi02"] {
        let on = rig.on(
            node,
            "sha256sum /usr/local/bin/k3s; stat -c %a /usr/local/bin/k3s",
        );
        let here = rig
            .lab
            .controller_command("sha256sum")
            .arg(rig.desk.path().join("k3s"))
            .output()
            .unwrap();
        let here = String::from_utf8(here.stdout).unwrap();
        assert_eq!(on.out.split(' ').next(), here.split(' ').next());
        assert!(on.out.ends_with("755\n"), "{}", on.out);
    }
    let text = fs::read_to_string(&kubeconfig).unwrap();
    assert!(text.contains("server: https://192.168.2.1:6443"), "{text}");
    assert!(text.contains(SECRET) && text.contains("current-context: homelab"));
    assert_eq!(fs::metadata(&kubeconfig).unwrap().mode() & 0o777, 0o600);

    // Nothing to do writes nothing, here neither.
    let before = fs::metadata(&kubeconfig).unwrap();
    let second = rig.run(&["apply", "--yes"]).expect(0);
    assert!(second.out.contains("Nothing to do"), "{}", second.out);
    assert!(!second.out.contains("on this machine"), "{}", second.out);
    let after = fs::metadata(&kubeconfig).unwrap();
    assert_eq!(
        (before.ino(), before.mtime_nsec()),
        (after.ino(), after.mtime_nsec())
    );

    // Taken out by hand: the plan shows it, an apply without steps mends it, and nothing else.
    let mine = "apiVersion: v1\nkind: Config # mine\ncurrent-context: \"\"\n";
    fs::write(&kubeconfig, mine).unwrap();
    let plan = rig.run(&["plan", "--detailed-exitcode"]).expect(2);
    assert!(
        plan.out.contains("context homelab will be added"),
        "{}",
        plan.out
    );
    rig.run(&["apply", "--yes"]).expect(0);
    assert!(
        fs::read_to_string(&kubeconfig)
            .unwrap()
            .contains("kind: Config # mine\n")
    );
    rig.run(&["kubeconfig", "--remove"]).expect(0);
    assert_eq!(fs::read_to_string(&kubeconfig).unwrap(), mine);
    let printed = rig.run(&["kubeconfig", "--print"]).expect(0);
    assert!(
        printed.out.contains("server: https://192.168.2.1:6443"),
        "{}",
        printed.out
    );
    assert_eq!(fs::read_to_string(&kubeconfig).unwrap(), mine);
    let merged = rig.run(&["kubeconfig"]).expect(0);
    assert!(
        merged.out.contains("context homelab added"),
        "{}",
        merged.out
    );

    // Somebody else's context of that name is left alone; the nodes are done all the same.
    let foreign =
        "kind: Config\nclusters:\n- name: homelab\n  cluster: { server: https://work.example }\n";
    fs::write(&kubeconfig, foreign).unwrap();
    let refused = rig.run(&["apply", "--yes"]).expect(1);
    assert!(
        refused.err.contains("kubeconfig: { context: NAME }"),
        "{}",
        refused.err
    );
    assert_eq!(fs::read_to_string(&kubeconfig).unwrap(), foreign);

    // Where secrets have no business.
    for run in [&plan, &second, &first, &merged, &refused] {
        assert!(!run.err.contains(SECRET));
    }
    let loud = rig
        .run(&["-vv", "kubeconfig", "--out", "mine.yaml"])
        .expect(0);
    assert!(!loud.err.contains(SECRET) && !loud.out.contains(SECRET));
    for entry in fs::read_dir(rig.store().join("runs")).unwrap().flatten() {
        let journal = fs::read_to_string(entry.path()).unwrap();
        assert!(!journal.contains(SECRET), "{}", entry.path().display());
    }
}
