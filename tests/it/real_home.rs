//! What happens in a lab stays in the lab: the user's own pins, keys, kubeconfig, cache and store are untouched.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::rig::{Desk, PROGRAM, Rig, ran};

/// Mode, time and content of everything below a folder.
fn pictured(folder: &Path, into: &mut BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, meta) = (entry.path(), entry.metadata().unwrap());
        let content = if meta.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        into.insert(
            path.clone(),
            (meta.mode(), meta.mtime(), meta.mtime_nsec(), content),
        );
        if meta.is_dir() {
            pictured(&path, into);
        }
    }
}

#[test]
fn a_lab_run_leaves_the_real_home_and_store_byte_identical() {
    let real = tempfile::tempdir().unwrap();
    let home = real.path().join("home");
    let desk = Desk::new(
        "cluster: guest\nssh: { user: pi, identity: ~/.ssh/id_ed25519 }\nkubernetes: { distribution: k3s, version: v1.36.3+k3s1 }\nnodes:\n  rpi01: { address: 192.168.2.1, kubernetes: server }\n",
    );
    desk.write(
        "roles/k3s/role.yaml",
        "doc: One file, and what a server would have written for its administrator.\nresources:\n  - file: { path: /srv/a, content: \"a\\n\" }\n  - directory: { path: /etc/rancher }\n  - directory: { path: /etc/rancher/k3s }\n  - file: { path: /etc/rancher/k3s/k3s.yaml, template: k3s.yaml }\n",
    );
    desk.write(
        "roles/k3s/templates/k3s.yaml",
        "kind: Config\nclusters:\n- name: default\n  cluster: { server: \"https://127.0.0.1:6443\", certificate-authority-data: Q0E= }\nusers:\n- name: default\n  user: { client-key-data: S0VZ }\n",
    );
    // The rack of the same name is real as well, and has been applied to before.
    desk.write(".picluster/guest/host_keys", "");
    desk.write(".picluster/guest/plan-key", &"k".repeat(32));
    desk.write(".picluster/guest/runs/0000000000001-1.jsonl", "{}\n");
    for (file, text) in [
        (
            ".ssh/known_hosts",
            "192.168.2.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
        ),
        (".ssh/config", "Host rpi*\n  ServerAliveInterval 30\n"),
        (".ssh/id_ed25519", "not for a lab\n"),
        (
            ".ssh/id_ed25519.pub",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA real\n",
        ),
        (".kube/config", "apiVersion: v1\nkind: Config\n"),
        (".cache/picluster/images.json", "{}\n"),
        (".config/picluster/age.txt", "# nothing\n"),
    ] {
        let path = home.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let rig = Rig::up_from(desk, &[]);
    let picture = || {
        let mut all = BTreeMap::new();
        pictured(&home, &mut all);
        pictured(rig.desk.path(), &mut all);
        all
    };
    let before = picture();
    assert!(before.len() > 15);
    let run = |args: &[&str]| {
        let output = Command::new(PROGRAM)
            .args(["lab", "run", "inventory.yaml", "--"])
            .args(args)
            .current_dir(rig.desk.path())
            .env("HOME", &home)
            .env("KUBECONFIG", home.join(".kube/config"))
            // The lab was started by this test; where it keeps itself is the one thing to be told.
            .env("XDG_STATE_HOME", rig.state_home())
            .env_remove("XDG_CACHE_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("PICLUSTER_STORE")
            .env_remove("PICLUSTER_AGE_IDENTITY")
            .env("PICLUSTER_NO_TTY", "1")
            .env("PICLUSTER_ACCEPT_NEW", "true")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        ran(&output)
    };
    run(&["plan", "--detailed-exitcode"]).expect(2);
    run(&["apply", "--yes"]).expect(0);
    let second = run(&["apply", "--yes"]).expect(0);
    assert!(second.out.contains("Nothing to do"), "{}", second.out);
    assert_eq!(
        rig.on("rpi01", "cat /srv/a").out,
        "a\n",
        "it really worked on the lab's node"
    );

    let after = picture();
    let changed: Vec<_> = after
        .iter()
        .filter(|(path, state)| before.get(*path) != Some(state))
        .map(|(path, _)| path)
        .chain(before.keys().filter(|path| !after.contains_key(*path)))
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    // And the lab's own store has what the real one was spared.
    assert!(
        fs::read_to_string(rig.store().join("host_keys"))
            .unwrap()
            .starts_with("rpi01 ")
    );
    let store = rig.store();
    let home_of_lab = store.parent().unwrap().parent().unwrap();
    let merged = fs::read_to_string(home_of_lab.join("kubeconfig")).unwrap();
    assert!(merged.contains("current-context: guest"), "{merged}");
}
