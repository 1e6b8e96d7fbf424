//! `k3s-killall.sh` and `k3s-uninstall.sh`, which upstream's installer leaves on a machine, as its users run them.

use std::collections::BTreeSet;

use crate::k3s_cluster::{inventory, nothing_to_do, ready};
use crate::rig::{Desk, Rig};

/// What containerd and flannel would have left of a pod: a shim with a child of its own, a volume in memory, one that is
/// a directory of the host, and a network. Beside them a process and a link that are nobody's pods.
const POD: &str = r#"
bin=/var/lib/rancher/k3s/data/0123/bin
mkdir -p $bin /srv/data "/var/lib/kubelet/pods/u/a volume" /var/lib/kubelet/pods/u/host /run/k3s/netns /var/lib/cni/networks
cp -L /bin/sh $bin/containerd-shim-runc-v2
cp -L /bin/sleep /srv/in-a-pod
cp -L /bin/sleep /srv/bystander
setsid $bin/containerd-shim-runc-v2 -c '/srv/in-a-pod 4000 & wait' </dev/null >/dev/null 2>&1 &
setsid /srv/bystander 4000 </dev/null >/dev/null 2>&1 &
echo precious > /srv/data/file
mount -t tmpfs tmpfs "/var/lib/kubelet/pods/u/a volume"
mount --bind /srv/data /var/lib/kubelet/pods/u/host
mount -t tmpfs tmpfs /run/k3s/netns
ip link add cni0 type bridge
ip link add pod0 type veth peer name pod1
ip link set pod0 master cni0
ip link add other0 type bridge
until pgrep -f ^/srv/in-a-pod && pgrep -f ^/srv/bystander; do sleep 0.1; done
"#;

/// Nothing of it is left, and everything else is.
const STOPPED: &str = r#"
! pgrep -f ^/srv/in-a-pod
! pgrep -f ^/var/lib/rancher/k3s/data
pgrep -f ^/srv/bystander
! grep -e /var/lib/kubelet/pods -e /run/k3s /proc/self/mounts
[ ! -e /sys/class/net/cni0 ] && [ ! -e /sys/class/net/pod0 ] && [ ! -e /var/lib/cni ]
[ -e /sys/class/net/other0 ]
grep -q precious /srv/data/file
"#;

/// Directories that every card has; they differ by what came and went in them.
const OF_THE_CARD: [&str; 5] = [
    "/etc/systemd/system/multi-user.target.wants",
    "/srv",
    "/usr",
    "/usr/local",
    "/usr/local/bin",
];

fn holds(rig: &Rig, node: &str, lines: &str) {
    for line in lines.lines().filter(|l| !l.is_empty()) {
        assert_eq!(rig.on(node, line).code, 0, "{node}: {line}");
    }
}

#[test]
fn killall_stops_all_and_keeps_the_data_and_uninstall_leaves_nothing() {
    let rig = Rig::up_from(Desk::new(&inventory(&[""])), &[]);
    rig.run(&["apply", "--yes", "--except", "*/k3s/*"])
        .expect(0);
    let paths = |node: &str| -> BTreeSet<String> { rig.outside(node).into_keys().collect() };
    let before = [paths("rpi01"), paths("rpi02")];
    rig.run(&["apply", "--yes"]).expect(0);

    rig.on("rpi02", POD).expect(0);
    rig.on("rpi02", "/usr/local/bin/k3s-killall.sh").expect(0);
    holds(&rig, "rpi02", STOPPED);
    holds(
        &rig,
        "rpi02",
        "! systemctl is-active k3s-agent\n[ -s /var/lib/rancher/k3s/agent/kubelet.kubeconfig ]\n[ -s /etc/rancher/k3s/config.yaml ]\n",
    );
    // Twice is no harm; and starting the unit brings it all back.
    rig.on("rpi02", "/usr/local/bin/k3s-killall.sh").expect(0);
    rig.on("rpi02", "systemctl start k3s-agent").expect(0);
    rig.until(
        "rpi01",
        "[ $(k3s kubectl get nodes --no-headers | grep -c ' Ready ') = 2 ]",
    );
    nothing_to_do(rig.run(&["apply", "--yes"]));

    // By the login user, whom the script makes root.
    rig.on("rpi02", "cp /bin/true /usr/local/bin/kubectl.theirs")
        .expect(0);
    let ran = crate::rig::ran(
        &rig.ssh("rpi02", "/usr/local/bin/k3s-agent-uninstall.sh")
            .output()
            .unwrap(),
    );
    ran.expect(0);
    holds(
        &rig,
        "rpi02",
        "! systemctl cat k3s-agent\n! command -v k3s\n[ -e /usr/local/bin/kubectl.theirs ]\nrm /usr/local/bin/kubectl.theirs\npkill -f ^/srv/bystander\nrm -r /srv/data /srv/in-a-pod /srv/bystander\n",
    );
    let kept = |node: &str, before: &BTreeSet<String>| {
        let left: Vec<String> = paths(node)
            .difference(before)
            .filter(|p| !p.starts_with("/var/lib/picluster") && !OF_THE_CARD.contains(&p.as_str()))
            // What a real kubectl keeps at home for those who ask, as this test does.
            .filter(|p| *p != "/root" && !p.starts_with("/root/.kube"))
            // A hollow kubelet's folder for volume plugins: it cannot be told another one.
            .filter(|p| *p != "/usr/libexec" && !p.starts_with("/usr/libexec/kubernetes"))
            .cloned()
            .collect();
        assert_eq!(
            left,
            [
                "/etc/rancher",
                "/etc/rancher/node",
                "/etc/rancher/node/password"
            ],
            "{node}"
        );
    };
    kept("rpi02", &before[1]);
    // The cluster knows it again.
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(ready(&rig), 2);
    nothing_to_do(rig.run(&["apply", "--yes"]));

    rig.on("rpi01", "/usr/local/bin/k3s-uninstall.sh").expect(0);
    kept("rpi01", &before[0]);
    // Agents remember the cluster that is gone: nobody founds another one beside it.
    let plan = rig.run(&["plan"]).expect(3);
    assert!(plan.out.contains("remembers a cluster"), "{}", plan.out);
}
