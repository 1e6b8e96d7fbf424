//! Every example is rehearsed from blank, and its second apply is empty.
//!
//! One of them by default, drawn with a seed that is printed and that `PICLUSTER_SEED` sets; the full suite has all.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use picluster_lab::LabSpec;

use crate::k3s;
use crate::rig::{Desk, Rig};
use crate::sweep::{is_full, seeded};

/// An example and the machines it is for.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// Its folder.
    name: &'static str,
    /// The systems of its nodes, as `--os` of `picluster lab rehearse`.
    os: &'static [&'static str],
    /// Nodes, by the beginning of their names, and what they are.
    models: &'static [(&'static str, &'static str)],
}

/// All examples there are.
pub const ALL: [Example; 8] = [
    Example {
        name: "quickstart",
        os: &[],
        models: &[],
    },
    Example {
        name: "single",
        os: &[],
        models: &[],
    },
    Example {
        name: "pico",
        os: &["rpi-os-bookworm"],
        models: &[
            ("pico03", "Raspberry Pi 3 Model B Plus Rev 1.3"),
            ("pico04", "Raspberry Pi 3 Model B Plus Rev 1.3"),
            ("pico05", "Raspberry Pi 3 Model B Plus Rev 1.3"),
        ],
    },
    Example {
        name: "bantam",
        os: &["ubuntu-24.04"],
        models: &[],
    },
    Example {
        name: "kraken",
        os: &[
            "kraken01=rpi-os-bookworm",
            "kraken02=rpi-os-bookworm",
            "kraken03=debian",
            "kraken09=ubuntu-24.04",
            "kraken10=ubuntu-24.04",
        ],
        models: &[],
    },
    Example {
        name: "edge-100",
        os: &[],
        models: &[],
    },
    Example {
        name: "ubuntu-homelab",
        os: &["ubuntu-24.04"],
        models: &[
            ("pi01", PI_5),
            ("pi02", PI_5),
            ("pi03", PI_5),
            ("pi04", PI_5),
            ("pi05", PI_5),
            ("pi06", PI_5),
        ],
    },
    Example {
        name: "dramble",
        os: &[],
        models: &[],
    },
];

const PI_5: &str = "Raspberry Pi 5 Model B Rev 1.0";

/// How many are rehearsed when not all are.
const SAMPLE: usize = 1;

/// From this many nodes on an example takes minutes, and is for the full suite alone.
const LONG: usize = 50;

impl Example {
    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/{}", self.name))
    }

    fn project(&self) -> picluster_model::Project {
        let desk = self.complete();
        picluster::project::load_as_written(&desk.inventory())
            .unwrap_or_else(|e| panic!("{e}: {:?}", e.diagnostics))
    }

    fn nodes(&self) -> usize {
        self.project().inventory.nodes.len()
    }

    /// A copy that `validate` has nothing to say about.
    pub fn complete(&self) -> Desk {
        self.desk(&fs::read_to_string(self.inventory()).unwrap())
    }

    /// Its inventory.
    pub fn inventory(&self) -> PathBuf {
        self.folder().join("inventory.yaml")
    }

    /// A copy of its folder with what its README tells people to bring, and this inventory.
    fn desk(&self, inventory: &str) -> Desk {
        let desk = Desk::new(inventory);
        copy(&self.folder(), desk.path());
        for (file, text) in self.brought() {
            desk.write(file, text);
        }
        desk.write("inventory.yaml", inventory);
        desk
    }

    /// Files that are nobody's to give away, or too short-lived to lie here.
    fn brought(&self) -> &'static [(&'static str, &'static str)] {
        match self.name {
            // `openssl passwd -6`.
            "ubuntu-homelab" => &[(
                "secrets/rescue.hash",
                "$6$picluster$/ahgAIwXzYM4HjblPI5nc3qB66hB2q.je1pguT6Faavo0IFd..wVY77SZ4nBrqxzKl/etE/ishYvZy9u2xAsN/\n",
            )],
            "dramble" => &[("kubernetes.asc", KEY)],
            _ => &[],
        }
    }

    /// Its inventory as the lab's nodes can have it: they have no disks.
    fn without_disks(&self) -> String {
        let text = fs::read_to_string(self.inventory()).unwrap();
        let lines = text.lines().filter(|l| !l.starts_with("  - data-disk:"));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// The README's plan is the one that was made, but for what it leaves out (`…`), digests and sizes.
    #[track_caller]
    fn shows(&self, plan: &str) {
        let readme = fs::read_to_string(self.folder().join("README.md")).unwrap();
        let Some((_, shown)) = readme.split_once("```console\n$ picluster plan\n") else {
            return;
        };
        let shown = shown.split("\n$ ").next().unwrap();
        let shown = shown.split("\n```").next().unwrap();
        let made: Vec<String> = plan.lines().map(constant).collect();
        let mut rest = made.as_slice();
        for part in shown
            .split('\n')
            .collect::<Vec<_>>()
            .split(|l| l.trim() == "…")
        {
            let part: Vec<String> = part
                .iter()
                .map(|line| constant(line))
                .skip_while(String::is_empty)
                .collect();
            let part = &part[..part
                .iter()
                .rposition(|l| !l.is_empty())
                .map_or(0, |at| at + 1)];
            let at = (0..=rest.len().saturating_sub(part.len()))
                .find(|at| rest[*at..].starts_with(part))
                .unwrap_or_else(|| {
                    panic!("{}/README.md shows what the plan has not, or not there:\n{}\nThe plan:\n{plan}", self.name, part.join("\n"))
                });
            rest = &rest[at + part.len()..];
        }
    }

    fn become_machines(&self, spec: &mut LabSpec) {
        for (node, model) in self.models {
            let found = spec.nodes.iter_mut().find(|n| n.name == *node);
            found.unwrap().pi.model = (*model).to_owned();
        }
    }

    /// From blank nodes to an apply that has nothing to do.
    fn rehearse(&self) {
        eprintln!("rehearsing {}", self.name);
        let text = self.without_disks();
        let named = self
            .project()
            .inventory
            .kubernetes
            .unwrap()
            .version
            .to_string();
        let (text, manifest) = pinned(&text.replace(&named, k3s::release()));
        let rig = Rig::up_with(self.desk(&text), self.os, |spec| self.become_machines(spec));
        if let Some(manifest) = manifest {
            let here = rig.desk.path().join("pinned.yaml");
            fs::write(&here, manifest).unwrap();
            rig.run(&["fetch", "--from", here.to_str().unwrap()])
                .expect(0);
        }
        rig.lend_k3s(&k3s::artifact(k3s::release()).path);
        // An agent that is declared absent may remember a cluster: who founds one beside it says so.
        let founder: &[&str] = match self.name {
            "kraken" => &["--bootstrap", "kraken01"],
            _ => &[],
        };
        if let [_, server] = founder {
            let refused = rig.run(&["plan"]).out;
            let cure = format!("picluster apply --bootstrap {server}");
            assert!(refused.contains(&cure), "{refused}");
        }
        let plan = rig
            .run(&[&["plan", "--detailed-exitcode"], founder].concat())
            .expect(2);
        if k3s::release() == named {
            self.shows(&plan.out);
        }
        rig.run(&[&["apply", "--yes"], founder].concat()).expect(0);
        let second = rig.run(&["apply", "--yes"]).expect(0);
        assert!(second.out.contains("Nothing to do"), "{}", second.out);
        self.hold(&rig);
    }

    /// As far as nodes go that cannot run kubeadm: a plan from blank in which nothing is missing.
    fn plans(&self) {
        let text = fs::read_to_string(self.inventory()).unwrap();
        let rig = Rig::up_with(self.desk(&text), self.os, |spec| self.become_machines(spec));
        let plan = rig.run(&["plan", "--detailed-exitcode"]).expect(2);
        assert!(!plan.out.contains("Not planned"), "{}", plan.out);
        let lines: Vec<String> = plan.out.lines().map(constant).collect();
        insta::assert_snapshot!(format!("plan_of_{}", self.name), lines.join("\n"));
        self.shows(&plan.out);
    }

    /// What its README promises.
    fn hold(&self, rig: &Rig) {
        match self.name {
            "pico" => {
                for node in ["pico01", "pico02", "pico03", "pico04", "pico05"] {
                    let said = rig
                        .on(
                            node,
                            "cat /boot/firmware/config.txt /etc/rancher/k3s/registries.yaml",
                        )
                        .expect(0)
                        .out;
                    for words in [
                        "dtoverlay=disable-wifi",
                        "dtoverlay=disable-bt",
                        "gpu_mem=16",
                        "http://192.168.7.250:5000",
                    ] {
                        assert!(said.contains(words), "{node} has no {words}:\n{said}");
                    }
                }
            }
            "bantam" => {
                let said = rig
                    .on("bantam01", "k3s kubectl get ipaddresspools.metallb.io,daemonsets -n metallb-system -o name")
                    .expect(0)
                    .out;
                assert!(
                    said.contains("/house") && said.contains("/speaker"),
                    "{said}"
                );
            }
            "single" => {
                let said = rig.on("rpi01", "k3s kubectl get deploy -A").expect(0).out;
                assert!(said.contains("traefik"), "{said}");
            }
            "quickstart" => {
                let rows = nodes(rig, "rpi01");
                assert_eq!(rows.len(), 4, "{rows:?}");
                for row in &rows {
                    let agent = !row.starts_with("rpi01 ");
                    assert!(row.contains(" Ready "), "{row}");
                    assert_eq!(row.contains(" worker "), agent, "{row}");
                }
            }
            "kraken" => {
                let rows = nodes(rig, "kraken01");
                // The eleventh is switched off.
                assert_eq!(rows.len(), 10, "{rows:?}");
                for row in &rows {
                    let agent = !row.starts_with("kraken01 ");
                    assert!(row.contains(" Ready "), "{row}");
                    assert_eq!(row.contains(" worker "), agent, "{row}");
                }
                let taints = rig.on("kraken01", "k3s kubectl get nodes -o 'jsonpath={range .items[*]}{.metadata.name} {.spec.taints[*].key}:{.spec.taints[*].effect} {.metadata.labels.disk}{\"\\n\"}{end}' 2>/dev/null").expect(0).out;
                for row in taints.lines() {
                    let weak = row.contains("node-role.kubernetes.io/control-plane:NoSchedule");
                    assert_eq!(weak, row.starts_with("kraken01 "), "{taints}");
                    let nvme = row.starts_with("kraken09 ") || row.starts_with("kraken10 ");
                    assert_eq!(row.ends_with(" nvme"), nvme, "{taints}");
                }
                let running = rig.on(
                    "kraken01",
                    "k3s kubectl get deployments,daemonsets,services -A -o name 2>/dev/null",
                );
                let running = running.expect(0).out;
                assert!(running.contains("coredns"), "{running}");
                assert!(
                    !running.contains("traefik") && !running.contains("svclb"),
                    "{running}"
                );
            }
            "edge-100" => {
                let rows = nodes(rig, "depot");
                assert_eq!(rows.len(), 100, "{rows:?}");
                assert!(rows.iter().all(|row| row.contains(" Ready ")), "{rows:?}");
                let said = rig
                    .on(
                        "depot",
                        "k3s kubectl get nodes -l topology.kubernetes.io/zone=harbour,edge/camera=true --no-headers 2>/dev/null | wc -l",
                    )
                    .expect(0)
                    .out;
                assert_eq!(said.trim(), "13");
            }
            "ubuntu-homelab" => homelab(rig),
            other => panic!("nobody holds {other} to its word"),
        }
    }
}

/// The registration address moves with the servers; the release goes up by one minor, and by no more.
fn homelab(rig: &Rig) {
    let rows = nodes(rig, "pi01");
    assert_eq!(rows.len(), 6, "{rows:?}");
    assert!(rows.iter().all(|row| row.contains(" Ready ")), "{rows:?}");
    let labelled = "k3s kubectl get nodes -l storage=longhorn,node.longhorn.io/create-default-disk=true --no-headers 2>/dev/null | wc -l";
    assert_eq!(rig.on("pi01", labelled).expect(0).out.trim(), "3");
    for node in ["pi01", "pi04"] {
        let said = rig
            .on(node, "cat /boot/firmware/config.txt; cat /etc/systemd/network/10-picluster-eth0.network; id ada; id rescue")
            .expect(0)
            .out;
        for words in ["dtparam=pciex1_gen=3", "Gateway=192.168.20.1"] {
            assert!(said.contains(words), "{node} has no {words}:\n{said}");
        }
    }
    rig.on(
        "pi05",
        "systemctl is-active iscsid && grep -q devnode /etc/multipath/conf.d/picluster.conf",
    )
    .expect(0);

    let has = "ip -4 -o addr show eth0 | grep -q ' 192.168.20.10/'";
    rig.until("pi01", has);
    rig.on("pi01", "systemctl stop k3s").expect(0);
    rig.until("pi02", has);
    rig.until("pi01", &format!("! {{ {has}; }}"));
    rig.on(
        "pi04",
        "timeout 5 bash -c 'exec 3<>/dev/tcp/192.168.20.10/6443'",
    )
    .expect(0);
    rig.on("pi01", "systemctl start k3s").expect(0);
    rig.until("pi01", has);

    let Some((old, new, far)) = k3s::following() else {
        return;
    };
    let text = fs::read_to_string(rig.desk.inventory()).unwrap();
    let go_to = |release: &str| {
        rig.desk
            .write("inventory.yaml", &text.replace(k3s::release(), release));
        rig.lend_k3s(&k3s::artifact(release).path);
    };
    if old != k3s::release() {
        return;
    }
    if let Some(far) = far {
        go_to(&far);
        let said = rig.run(&["apply", "--yes"]).expect(3);
        let said = said.out + &said.err;
        let refused = format!("pi01 runs {old}, and {far} skips ");
        assert!(said.contains(&refused), "{refused}: {said}");
        assert!(nodes(rig, "pi01").iter().all(|row| row.contains(&old)));
    }
    go_to(&new);
    rig.run(&["apply", "--yes"]).expect(0);
    let second = rig.run(&["apply", "--yes"]).expect(0);
    assert!(second.out.contains("Nothing to do"), "{}", second.out);
    let rows = nodes(rig, "pi01");
    let there = |row: &String| row.contains(" Ready ") && row.contains(&new);
    assert!(rows.len() == 6 && rows.iter().all(there), "{rows:?}");
}

/// Rows of `kubectl get nodes`.
fn nodes(rig: &Rig, server: &str) -> Vec<String> {
    let ran = rig.on(server, "k3s kubectl get nodes --no-headers 2>/dev/null");
    ran.expect(0).out.lines().map(str::to_owned).collect()
}

/// What stands for the release of MetalLB on a machine whose cache has not got it: as many kinds of objects, and none of its
/// programs.
const METALLB: &str = r#"apiVersion: v1
kind: Namespace
metadata: { name: metallb-system }
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: ipaddresspools.metallb.io }
spec:
  group: metallb.io
  scope: Namespaced
  names: { kind: IPAddressPool, listKind: IPAddressPoolList, plural: ipaddresspools, singular: ipaddresspool }
  versions: [{ name: v1beta1, served: true, storage: true, schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } } }]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: l2advertisements.metallb.io }
spec:
  group: metallb.io
  scope: Namespaced
  names: { kind: L2Advertisement, listKind: L2AdvertisementList, plural: l2advertisements, singular: l2advertisement }
  versions: [{ name: v1beta1, served: true, storage: true, schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } } }]
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: controller, namespace: metallb-system }
spec:
  selector: { matchLabels: { component: controller } }
  template:
    metadata: { labels: { component: controller } }
    spec: { containers: [{ name: controller, image: controller }] }
---
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: speaker, namespace: metallb-system }
spec:
  selector: { matchLabels: { component: speaker } }
  template:
    metadata: { labels: { component: speaker } }
    spec: { containers: [{ name: speaker, image: speaker }] }
"#;

/// The same for Longhorn.
const LONGHORN: &str = r#"apiVersion: v1
kind: Namespace
metadata: { name: longhorn-system }
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: settings.longhorn.io }
spec:
  group: longhorn.io
  scope: Namespaced
  names: { kind: Setting, listKind: SettingList, plural: settings, singular: setting }
  versions: [{ name: v1beta2, served: true, storage: true, schema: { openAPIV3Schema: { type: object, x-kubernetes-preserve-unknown-fields: true } } }]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: longhorn-manager, namespace: longhorn-system }
spec:
  selector: { matchLabels: { app: longhorn-manager } }
  template:
    metadata: { labels: { app: longhorn-manager } }
    spec: { containers: [{ name: longhorn-manager, image: longhorn-manager }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: longhorn-ui, namespace: longhorn-system }
spec:
  replicas: 2
  selector: { matchLabels: { app: longhorn-ui } }
  template:
    metadata: { labels: { app: longhorn-ui } }
    spec:
      containers: [{ name: longhorn-ui, image: longhorn-ui }]
      volumes: [{ name: nginx-cache, emptyDir: {} }]
"#;

/// What stands for the key of an apt repository that no plan reads.
const KEY: &str =
    "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\na stand-in\n-----END PGP PUBLIC KEY BLOCK-----\n";

/// A line of a plan without what differs from one program, or one key, to the next.
fn constant(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    for at in 0..words.len() {
        if at > 0 && words[at - 1].ends_with("sha256") {
            words[at] = "…";
        }
        if words[at..].starts_with(&["to", "write;"]) && at > 1 {
            words[at - 2] = "…";
            words[at - 1] = "…";
        }
    }
    words.join(" ").trim_end().to_owned()
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let there = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&there).unwrap();
            copy(&entry.path(), &there);
        } else {
            fs::copy(entry.path(), there).unwrap();
        }
    }
}

/// The inventory, and the manifest that it pins, for the lab's controller: the true one where this machine has it, or a
/// stand-in and its checksum.
fn pinned(inventory: &str) -> (String, Option<String>) {
    let stand_in = if inventory.contains("name: longhorn") {
        LONGHORN
    } else {
        METALLB
    };
    let Some((_, rest)) = inventory.split_once("checksum: sha256:") else {
        return (inventory.to_owned(), None);
    };
    let pinned = &rest[..64];
    let cached = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .map(|cache| cache.join("picluster/artifacts").join(pinned));
    if let Some(text) = cached.and_then(|file| fs::read_to_string(file).ok()) {
        return (inventory.to_owned(), Some(text));
    }
    let own = picluster_resource::program::sha256_hex(stand_in.as_bytes());
    (inventory.replace(pinned, &own), Some(stand_in.to_owned()))
}

fn example(name: &str) -> Example {
    *ALL.iter().find(|e| e.name == name).unwrap()
}

#[test]
fn all_of_them_are_known_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let there: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    let known: BTreeSet<String> = ALL.iter().map(|e| e.name.to_owned()).collect();
    assert_eq!(there, known);
    for name in known {
        let test = format!("fn full_{}()", name.replace('-', "_"));
        let named = include_str!("examples.rs").contains(&test);
        assert!(named, "the full suite does not rehearse {name}");
    }
}

/// What every run can hold them to without a machine.
#[test]
fn they_are_the_clusters_they_are_said_to_be() {
    let load = |name: &str| example(name).project().inventory;
    let worker = "node-role.kubernetes.io/worker";
    for (name, agents) in [
        ("quickstart", 3),
        ("single", 0),
        ("pico", 4),
        ("bantam", 2),
        ("kraken", 10),
        ("edge-100", 99),
        ("ubuntu-homelab", 3),
        ("dramble", 3),
    ] {
        let inventory = load(name);
        let servers = if name == "ubuntu-homelab" { 3 } else { 1 };
        assert_eq!(inventory.servers().count(), servers, "{name}");
        assert_eq!(inventory.nodes.len(), agents + servers, "{name}");
        assert!(
            inventory.nodes.values().all(|n| n.kubernetes.is_some()),
            "{name}"
        );
    }
    let kraken = load("kraken");
    for node in kraken.nodes.values() {
        let server = node.name.as_str() == "kraken01";
        let taints: Vec<String> = node.taints.iter().map(ToString::to_string).collect();
        let weak = "node-role.kubernetes.io/control-plane=true:NoSchedule";
        assert_eq!(taints == [weak], server, "{}: {taints:?}", node.name);
        let spare = node.name.as_str() == "kraken11";
        assert_eq!(
            node.labels.contains_key(worker),
            !server && !spare,
            "{}",
            node.name
        );
    }
    assert_eq!(kraken.kubernetes.unwrap().disable, ["traefik", "servicelb"]);
    let pico = load("pico").kubernetes.unwrap().registries.unwrap();
    let mirrors = pico.get("mirrors").unwrap();
    for (_, _, mirror) in mirrors.entries() {
        let at = mirror.get("endpoint").unwrap().items()[0].as_str();
        assert_eq!(at, Some("http://192.168.7.250:5000"));
    }
    let bantam = load("bantam").kubernetes.unwrap();
    let pinned = bantam
        .manifests
        .iter()
        .find(|m| m.name == "metallb")
        .unwrap();
    assert!(pinned.checksum.as_ref().is_some_and(|sum| sum.len() == 64));
}

#[test]
fn some_of_them_are_rehearsed() {
    if is_full() {
        eprintln!("not run: the full suite rehearses each of them");
        return;
    }
    let mut left = ALL.to_vec();
    left.retain(|e| e.nodes() < LONG && !matches!(e.name, "ubuntu-homelab" | "dramble"));
    let mut draw = seeded("examples");
    for _ in 0..SAMPLE {
        left.swap_remove(draw(left.len())).rehearse();
    }
}

#[test]
fn full_quickstart() {
    example("quickstart").rehearse();
}

#[test]
fn full_single() {
    example("single").rehearse();
}

#[test]
fn full_pico() {
    example("pico").rehearse();
}

#[test]
fn full_bantam() {
    example("bantam").rehearse();
}

#[test]
fn full_kraken() {
    example("kraken").rehearse();
}

/// Three minutes: six nodes with packages to install, and an upgrade.
#[test]
fn full_ubuntu_homelab() {
    example("ubuntu-homelab").rehearse();
}

/// What is behind the plan is rehearsed with a real kubeadm, by tests/kubeadm/rehearse.sh.
#[test]
fn full_dramble() {
    example("dramble").plans();
}

#[test]
fn full_edge_100() {
    example("edge-100").rehearse();
}
