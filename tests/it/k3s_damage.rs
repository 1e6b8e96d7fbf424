//! Every file, unit, link, label, taint and manifest of a k3s cluster is damaged by hand: the plan shows exactly that, and an
//! apply heals exactly that. What is not damaged here fails the test.
//!
//! A few damages by default, drawn with the seed; `PICLUSTER_FULL=1` does all of them.

use std::collections::BTreeSet;

use picluster_plan::Plan;

use crate::k3s::{artifact, release};
use crate::k3s_cluster::{nothing_to_do, ready};
use crate::rig::{Desk, Rig};
use crate::sweep::{is_full, seeded};

/// How many damages are done when not all are.
const SAMPLE: usize = 10;

/// An inventory with everything that the role of k3s can write.
fn inventory() -> String {
    format!(
        r#"cluster: rack
ssh: {{ user: pi }}
roles:
  - base
  - swap-off
  - cgroups
  - k3s: {{ environment: {{ HTTP_PROXY: "http://proxy.lan:3128", NO_PROXY: "192.168.2.0/24,127.0.0.1,10.0.0.0/8" }} }}
kubernetes:
  distribution: k3s
  version: {}
  artifact: {}
  token: {{ command: [printf, server-password] }}
  agent_token: {{ command: [printf, agent-password] }}
  tls_san: [rack.lan]
  disable: [traefik]
  config: {{ kubelet-arg: [max-pods=60] }}
  agent_config: {{ kubelet-arg: [max-pods=30] }}
  registries:
    mirrors: {{ docker.io: {{ endpoint: ["http://registry.lan:5000"] }} }}
    configs: {{ "registry.lan:5000": {{ auth: {{ username: pi, password: {{ command: [printf, registry-password] }} }} }} }}
  manifests:
    - {{ name: here, content: "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: here, namespace: default }}\n" }}
    - {{ name: beside, path: beside.yaml }}
nodes:
  rpi01: {{ address: 192.168.2.1, kubernetes: server, labels: {{ rack: left }} }}
  rpi02:
    address: 192.168.2.2
    kubernetes: agent
    labels: {{ disk: nvme, node-role.kubernetes.io/worker: "" }}
    taints: ["slow=yes:NoSchedule", "old:PreferNoSchedule"]
"#,
        release(),
        artifact(release()).path.display()
    )
}

const BESIDE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: { name: beside }\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web, namespace: beside }\nspec:\n  selector: { matchLabels: { app: web } }\n  template:\n    metadata: { labels: { app: web } }\n    spec: { containers: [{ name: web, image: web }] }\n";

/// Whether it runs.
const READY: &str = "[ \"$(k3s kubectl -n beside get deployment web -o 'jsonpath={.status.readyReplicas}' 2>/dev/null)\" = 1 ]";

/// Damage: the node, what is damaged, how, and what is healed besides it.
type Damage = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const SERVER: &[&str] = &["unit[k3s.service]", "cluster_node[rpi01]"];
const AGENT: &[&str] = &["unit[k3s-agent.service]", "cluster_node[rpi02]"];

/// What cannot be damaged so that anybody could heal it, and why.
const EXEMPT: &[(&str, &str)] = &[
    (
        "cluster_value[",
        "read, not written: k3s itself makes it, at its next start",
    ),
    (
        "cluster_member[",
        "a gate before everything else: it holds what it finds against what is declared",
    ),
];

const DAMAGES: &[Damage] = &[
    (
        "rpi01",
        "artifact[/usr/local/bin/k3s]",
        "chmod 0700 /usr/local/bin/k3s",
        SERVER,
    ),
    (
        "rpi02",
        "artifact[/usr/local/bin/k3s]",
        "cp /usr/local/bin/k3s /tmp/x; printf x >> /tmp/x; mv /tmp/x /usr/local/bin/k3s",
        AGENT,
    ),
    (
        "rpi01",
        "link[/usr/local/bin/kubectl]",
        "ln -sfn /usr/local/bin/k3s /usr/local/bin/kubectl",
        &[],
    ),
    (
        "rpi01",
        "link[/usr/local/bin/crictl]",
        "rm /usr/local/bin/crictl",
        &[],
    ),
    (
        "rpi01",
        "link[/usr/local/bin/ctr]",
        "rm /usr/local/bin/ctr",
        &[],
    ),
    (
        "rpi02",
        "link[/usr/local/bin/kubectl]",
        "ln -sfn ./k3s /usr/local/bin/kubectl",
        &[],
    ),
    (
        "rpi02",
        "link[/usr/local/bin/crictl]",
        "ln -sfn nowhere /usr/local/bin/crictl",
        &[],
    ),
    (
        "rpi02",
        "link[/usr/local/bin/ctr]",
        "rm /usr/local/bin/ctr",
        &[],
    ),
    (
        "rpi01",
        "file[/usr/local/bin/k3s-killall.sh]",
        "rm /usr/local/bin/k3s-killall.sh",
        &[],
    ),
    (
        "rpi02",
        "file[/usr/local/bin/k3s-killall.sh]",
        "chmod -x /usr/local/bin/k3s-killall.sh",
        &[],
    ),
    (
        "rpi01",
        "file[/usr/local/bin/k3s-uninstall.sh]",
        "echo exit 0 > /usr/local/bin/k3s-uninstall.sh",
        &[],
    ),
    (
        "rpi02",
        "file[/usr/local/bin/k3s-agent-uninstall.sh]",
        "rm /usr/local/bin/k3s-agent-uninstall.sh",
        &[],
    ),
    (
        "rpi01",
        "directory[/etc/rancher]",
        "chmod 0700 /etc/rancher",
        &[],
    ),
    (
        "rpi02",
        "directory[/etc/rancher]",
        "chown nobody /etc/rancher",
        &[],
    ),
    (
        "rpi01",
        "directory[/etc/rancher/k3s]",
        "chmod 0777 /etc/rancher/k3s",
        &[],
    ),
    (
        "rpi02",
        "directory[/etc/rancher/k3s]",
        "chgrp adm /etc/rancher/k3s",
        &[],
    ),
    (
        "rpi01",
        "file[/etc/rancher/k3s/token]",
        "echo x > /etc/rancher/k3s/token",
        SERVER,
    ),
    (
        "rpi02",
        "file[/etc/rancher/k3s/token]",
        "chmod 0644 /etc/rancher/k3s/token",
        AGENT,
    ),
    (
        "rpi02",
        "file[/etc/rancher/k3s/token]",
        "echo x > /etc/rancher/k3s/token",
        AGENT,
    ),
    (
        "rpi01",
        "file[/etc/rancher/k3s/agent-token]",
        "rm /etc/rancher/k3s/agent-token",
        SERVER,
    ),
    (
        "rpi01",
        "file[/etc/rancher/k3s/config.yaml]",
        "echo x >> /etc/rancher/k3s/config.yaml",
        SERVER,
    ),
    (
        "rpi02",
        "file[/etc/rancher/k3s/config.yaml]",
        "rm /etc/rancher/k3s/config.yaml",
        AGENT,
    ),
    (
        "rpi01",
        "file[/etc/rancher/k3s/registries.yaml]",
        "rm /etc/rancher/k3s/registries.yaml",
        SERVER,
    ),
    (
        "rpi02",
        "file[/etc/rancher/k3s/registries.yaml]",
        "sed -i s/5000/5001/ /etc/rancher/k3s/registries.yaml",
        AGENT,
    ),
    (
        "rpi01",
        "file[/etc/systemd/system/k3s.service.env]",
        "rm /etc/systemd/system/k3s.service.env",
        SERVER,
    ),
    (
        "rpi02",
        "file[/etc/systemd/system/k3s-agent.service.env]",
        "sed -i s/3128/3129/ /etc/systemd/system/k3s-agent.service.env",
        AGENT,
    ),
    (
        "rpi01",
        "file[/etc/systemd/system/k3s.service]",
        "rm /etc/systemd/system/k3s.service",
        SERVER,
    ),
    (
        "rpi02",
        "file[/etc/systemd/system/k3s-agent.service]",
        "sed -i s/RestartSec=5s/RestartSec=9s/ /etc/systemd/system/k3s-agent.service",
        AGENT,
    ),
    ("rpi01", "unit[k3s.service]", "systemctl disable k3s", &[]),
    (
        "rpi02",
        "unit[k3s-agent.service]",
        "systemctl disable k3s-agent",
        &[],
    ),
    (
        "rpi02",
        "unit[k3s-agent.service]",
        "systemctl stop k3s-agent",
        &["cluster_node[rpi02]"],
    ),
    (
        "rpi01",
        "cluster_node[rpi01]",
        "systemctl stop k3s",
        // Nobody can say how these are while the API is away.
        &[
            "unit[k3s.service]",
            "manifest[/var/lib/rancher/k3s/server/manifests/beside.yaml]",
            "manifest[/var/lib/rancher/k3s/server/manifests/here.yaml]",
            "cluster_roll[rpi01]",
            "node_labels[rpi01]",
            "node_labels[rpi02]",
            "rpi02/k3s/cluster_node[rpi02]",
        ],
    ),
    (
        "rpi02",
        "cluster_node[rpi02]",
        "k3s-killall.sh",
        &["unit[k3s-agent.service]"],
    ),
    (
        "rpi01",
        "manifest[/var/lib/rancher/k3s/server/manifests/here.yaml]",
        "rm /var/lib/rancher/k3s/server/manifests/here.yaml",
        &[],
    ),
    (
        "rpi01",
        "manifest[/var/lib/rancher/k3s/server/manifests/here.yaml]",
        "k3s kubectl delete configmap here",
        &[],
    ),
    (
        "rpi01",
        "manifest[/var/lib/rancher/k3s/server/manifests/beside.yaml]",
        "chmod 0644 /var/lib/rancher/k3s/server/manifests/beside.yaml",
        &[],
    ),
    (
        "rpi01",
        "manifest[/var/lib/rancher/k3s/server/manifests/beside.yaml]",
        "sed -i s/app:/App:/ /var/lib/rancher/k3s/server/manifests/beside.yaml",
        &[],
    ),
    (
        "rpi01",
        "manifest[/var/lib/rancher/k3s/server/manifests/beside.yaml]",
        "k3s kubectl -n beside delete deployment web",
        &[],
    ),
    (
        "rpi01",
        "manifest[/var/lib/rancher/k3s/server/manifests/beside.yaml]",
        "k3s kubectl -n kube-system delete addon beside",
        &[],
    ),
    (
        "rpi01",
        "cluster_roll[rpi01]",
        "k3s kubectl annotate namespace kube-system picluster/nodes-",
        &[],
    ),
    (
        "rpi01",
        "node_labels[rpi01]",
        "k3s kubectl label node rpi01 rack-",
        &[],
    ),
    (
        "rpi01",
        "node_labels[rpi02]",
        "k3s kubectl label node rpi02 disk=sd --overwrite",
        &[],
    ),
    (
        "rpi01",
        "node_labels[rpi02]",
        "k3s kubectl label node rpi02 node-role.kubernetes.io/worker-",
        &[],
    ),
    (
        "rpi01",
        "node_labels[rpi02]",
        "k3s kubectl taint node rpi02 slow:NoSchedule-",
        &[],
    ),
    (
        "rpi01",
        "node_labels[rpi02]",
        "k3s kubectl taint node rpi02 old=no:PreferNoSchedule --overwrite",
        &[],
    ),
    (
        "rpi01",
        "node_labels[rpi02]",
        "k3s kubectl annotate node rpi02 picluster/owned-",
        &[],
    ),
];

/// Labels and taints of the inventory, each of which somebody has to take away.
const MARKS: [&str; 5] = [
    "rack",
    "disk",
    "node-role.kubernetes.io/worker",
    "slow",
    "old",
];

fn steps(rig: &Rig) -> Vec<String> {
    let plan = rig.run(&["plan", "--json"]).expect(0);
    let plan: Plan = serde_json::from_str(&plan.out).unwrap();
    let mut found: Vec<String> = plan.steps.iter().map(|s| s.addr.to_string()).collect();
    found.sort();
    found
}

/// What a blank cluster gets of the role is what there is to damage.
fn covered(blank: &[String]) {
    let there: BTreeSet<&str> = blank
        .iter()
        .map(String::as_str)
        .filter(|s| {
            s.contains("/k3s/")
                && !EXEMPT
                    .iter()
                    .any(|(kind, _)| s.contains(&format!("/k3s/{kind}")))
        })
        .collect();
    let damaged: BTreeSet<String> = DAMAGES
        .iter()
        .map(|(node, what, _, _)| format!("{node}/k3s/{what}"))
        .collect();
    let forgotten: Vec<&&str> = there.iter().filter(|s| !damaged.contains(**s)).collect();
    assert!(forgotten.is_empty(), "nobody damages {forgotten:?}");
    let unknown: Vec<&String> = damaged
        .iter()
        .filter(|s| !there.contains(s.as_str()))
        .collect();
    assert!(unknown.is_empty(), "there is no {unknown:?}");
    for mark in MARKS {
        assert!(inventory().contains(mark));
        assert!(
            DAMAGES
                .iter()
                .any(|d| d.1.starts_with("node_labels") && d.2.contains(&format!(" {mark}"))),
            "nobody takes {mark} away"
        );
    }
}

/// What a plan has to do. Pods of a kubelet that has started anew are not ready for a moment, and a plan says so; nobody
/// but the cluster mends that. So where their workload is all there is besides what is wanted, it is waited for.
fn settled(rig: &Rig, wanted: &[String]) -> Vec<String> {
    const WORKLOAD: &str = "rpi01/k3s/manifest[/var/lib/rancher/k3s/server/manifests/beside.yaml]";
    for _ in 0..5 {
        let found = steps(rig);
        let others = found.iter().filter(|s| *s != WORKLOAD);
        let more = found.iter().any(|s| s == WORKLOAD) && !wanted.iter().any(|s| s == WORKLOAD);
        if !more || !others.eq(wanted) {
            return found;
        }
        rig.until("rpi01", READY);
    }
    steps(rig)
}

#[test]
fn every_damage_to_k3s_is_seen_and_healed_and_nothing_else() {
    let desk = Desk::new(&inventory());
    desk.write("beside.yaml", BESIDE);
    let rig = Rig::up_from(desk, &[]);
    covered(&steps(&rig));
    rig.run(&["apply", "--yes"]).expect(0);
    nothing_to_do(rig.run(&["apply", "--yes"]));
    let mut damages = DAMAGES.to_vec();
    if !is_full() {
        let mut draw = seeded("damage to k3s");
        while damages.len() > SAMPLE {
            damages.swap_remove(draw(damages.len()));
        }
    }
    let mut wrong = Vec::new();
    for (node, what, damage, more) in damages {
        rig.on(node, damage).expect(0);
        let mut wanted: Vec<String> = std::iter::once(&what)
            .chain(more)
            .map(|step| match step.starts_with("rpi0") {
                true => (*step).to_owned(),
                false => format!("{node}/k3s/{step}"),
            })
            .collect();
        wanted.sort();
        let found = settled(&rig, &wanted);
        if found != wanted {
            wrong.push(format!(
                "{node}: {damage}\n  wanted {wanted:?}\n  found  {found:?}"
            ));
        }
        let healed = rig.run(&["apply", "--yes"]);
        if healed.code != 0 {
            wrong.push(format!(
                "{node}: {damage}\n  {}\n{}",
                healed.out, healed.err
            ));
        }
        let left = settled(&rig, &[]);
        if !left.is_empty() {
            wrong.push(format!("{node}: {damage}\n  left {left:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(ready(&rig), 2);
}
