//! Three servers on embedded etcd: how they come up, and that a run never takes a second member down. What is said of
//! members here is what etcd itself says on each node, and what a watcher on each node has written down.

use std::collections::BTreeMap;

use picluster_engine::{EventKind, Outcome};
use picluster_lab::Wait;

use crate::k3s::{artifact, following, release};
use crate::k3s_cluster::nothing_to_do;
use crate::rig::{Desk, Ran, Rig};

const SERVERS: [&str; 3] = ["s1", "s2", "s3"];

/// Three servers and an agent; elections are quicker than k3s' own, which are for slow networks.
fn inventory(release: &str, more: &str, agents: u32) -> String {
    let mut text = format!(
        "cluster: rack\nssh: {{ user: pi }}\nroles: [cgroups]\nkubernetes:\n  distribution: k3s\n  version: {release}\n  artifact: {}\n  config: {{ etcd-arg: [heartbeat-interval=100, election-timeout=1000] }}\n{more}nodes:\n  s[1:3]: {{ address: \"192.168.2.{{n}}\", kubernetes: server }}\n",
        artifact(release).path.display()
    );
    for n in 1..=agents {
        text += &format!("  a{n}: {{ address: 192.168.2.1{n}, kubernetes: agent }}\n");
    }
    text
}

/// Writes down, five times a second, that this node's etcd is there, and which process it is. A time without a line is one
/// in which it was not, or the node was not.
const WATCH: &str = r#"cat >/usr/local/sbin/watch-etcd <<'X'
#!/bin/bash
while :; do
  if { exec 3<>/dev/tcp/127.0.0.1/2381; } 2>/dev/null; then exec 3>&-; echo "$EPOCHREALTIME $(pidof etcd)"; fi
  read -rt 0.2 <> <(:)
done
X
chmod +x /usr/local/sbin/watch-etcd
cat >/etc/systemd/system/watch-etcd.service <<'X'
[Service]
ExecStart=/bin/sh -c 'exec /usr/local/sbin/watch-etcd >>/var/lib/watch-etcd'
[Install]
WantedBy=multi-user.target
X
: >/var/lib/watch-etcd
systemctl enable --now watch-etcd.service"#;

/// When a member's etcd was away, in seconds since the epoch: at the longest, from the last that was seen of one process to the
/// first of the next.
fn away(rig: &Rig, node: &str) -> Vec<(f64, f64)> {
    let text = rig.on(node, "cat /var/lib/watch-etcd").expect(0).out;
    let line = |l: &str| {
        let (time, process) = l.split_once(' ')?;
        Some((time.parse().ok()?, process.to_owned()))
    };
    let seen: Vec<(f64, String)> = text.lines().filter_map(line).collect();
    assert!(seen.len() > 10, "{node}: {text}");
    // A busy machine is late now and then, and for less than this.
    let other = |w: &&[(f64, String)]| w[1].1 != w[0].1 || w[1].0 - w[0].0 > 3.0;
    let gaps = seen.windows(2).filter(other);
    gaps.map(|w| (w[0].0, w[1].0)).collect()
}

/// Fails when two members were away at the same time.
#[track_caller]
fn never_two_away(rig: &Rig) -> BTreeMap<&'static str, usize> {
    let all: Vec<(&str, Vec<(f64, f64)>)> = SERVERS.iter().map(|n| (*n, away(rig, n))).collect();
    for (i, (one, its)) in all.iter().enumerate() {
        for (other, theirs) in &all[i + 1..] {
            for (from, to) in its {
                for (f, t) in theirs {
                    let both = to.min(*t) - from.max(*f);
                    assert!(
                        both < 0.0,
                        "{one} and {other} were away together for {both} s"
                    );
                }
            }
        }
    }
    all.into_iter().map(|(n, gaps)| (n, gaps.len())).collect()
}

/// What etcd says of itself on a node (its `/metrics` on the loopback address, which k3s switches on).
fn metric(rig: &Rig, node: &str, name: &str) -> String {
    let script = format!(
        "bash -c 'exec 3<>/dev/tcp/127.0.0.1/2381; printf \"GET /metrics HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3' | tr -d '\\r' | sed -n 's/^{name} //p'"
    );
    rig.on(node, &script).expect(0).out.trim().to_owned()
}

/// How many other members a server's etcd is connected with.
const PEERS: &str = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/2381; printf \"GET /metrics HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3' | grep -c '^etcd_network_active_peers.* 1'";

/// Every server's etcd is a voter that has a leader and two peers, by its own word.
#[track_caller]
fn three_voters(rig: &Rig) {
    for node in SERVERS {
        assert_eq!(metric(rig, node, "etcd_server_is_learner"), "0", "{node}");
        assert_eq!(metric(rig, node, "etcd_server_has_leader"), "1", "{node}");
        let peers = rig.on(node, PEERS);
        assert_eq!(peers.out.trim(), "2", "{node}");
    }
}

fn ca(rig: &Rig, node: &str) -> String {
    rig.on(
        node,
        "sha256sum /var/lib/rancher/k3s/server/tls/server-ca.crt | cut -c1-64",
    )
    .out
}

/// When the start of a server's unit began and its Ready was seen, by their places among the events.
#[track_caller]
fn turn(ran: &Ran, node: &str) -> (usize, usize) {
    let events = ran.events();
    let find = |wanted: &dyn Fn(&EventKind) -> bool| {
        events
            .iter()
            .position(wanted)
            .unwrap_or_else(|| panic!("{node}: {}", ran.out))
    };
    let unit = format!("{node}/k3s/unit[k3s.service]");
    let ready = format!("{node}/k3s/cluster_node[{node}]");
    (
        find(&|e| matches!(e, EventKind::StepStarted { addr } if addr.to_string() == unit)),
        find(
            &|e| matches!(e, EventKind::StepFinished { addr, outcome: Outcome::Changed, .. } if addr.to_string() == ready),
        ),
    )
}

#[test]
fn three_servers_join_one_by_one_and_no_second_one_goes_while_one_is_away() {
    let rig = Rig::up_from(Desk::new(&inventory(release(), "", 1)), &[]);
    // Who listens where its etcd will have to keeps a server, and with it the founding of the cluster, from being begun.
    rig.on(
        "s2",
        "systemd-run -q -u taken systemd-socket-activate -l 2379 cat",
    )
    .expect(0);
    rig.until("s2", "ss -Hltn | grep -q :2379");
    let taken = rig.run(&["plan"]);
    for words in ["listens on port 2379, which etcd needs", "sudo ss -ltnp"] {
        assert!(taken.out.contains(words), "{words}: {}", taken.out);
    }
    assert!(!taken.out.contains("cluster_founding"), "{}", taken.out);
    rig.on("s2", "systemctl stop taken").expect(0);
    let first = rig.run(&["apply", "--yes", "--json"]).expect(0);
    // Nothing stays of what was measured.
    for node in SERVERS {
        rig.on(node, "! find / -xdev -name '.picluster-flush*' | grep .")
            .expect(0);
    }
    // Each only when the one before it is a voter.
    let turns: Vec<(usize, usize)> = SERVERS.iter().map(|n| turn(&first, n)).collect();
    assert!(
        turns[0].1 < turns[1].0 && turns[1].1 < turns[2].0,
        "{turns:?}"
    );
    three_voters(&rig);
    let cluster = ca(&rig, "s1");
    for node in SERVERS {
        assert_eq!(ca(&rig, node), cluster, "{node}");
        // Nobody founds a cluster when its card is lost, and everybody knows where to join.
        let told = rig
            .on(node, "cd /etc/rancher/k3s/config.yaml.d && ls && cat *")
            .expect(0)
            .out;
        assert!(
            told.contains("server: https://192.168.2.") && !told.contains("cluster-init"),
            "{node}: {told}"
        );
        assert!(
            !told.contains(&format!("192.168.2.{}:", &node[1..])),
            "{node}: {told}"
        );
    }
    nothing_to_do(rig.run(&["apply", "--yes"]));

    // All three restart for another configuration: one after the other.
    for node in SERVERS {
        rig.on(node, WATCH).expect(0);
    }
    let mode = "  kubeconfig: { mode: \"0640\" }\n";
    rig.desk
        .write("inventory.yaml", &inventory(release(), mode, 1));
    rig.run(&["apply", "--yes"]).expect(0);
    let went = never_two_away(&rig);
    assert!(went.values().all(|n| *n == 1), "{went:?}");
    three_voters(&rig);

    // One is away: no other one goes, and it is said who keeps them.
    rig.lab.kill("s3").unwrap();
    let mode = "  kubeconfig: { mode: \"0600\" }\n";
    rig.desk
        .write("inventory.yaml", &inventory(release(), mode, 1));
    let held = rig.run(&["apply", "--yes"]);
    assert!(matches!(held.code, 3 | 4), "{}{}", held.out, held.err);
    assert!(
        held.out.contains("held back: server s3"),
        "{}{}",
        held.out,
        held.err
    );
    for node in ["s1", "s2"] {
        assert_eq!(metric(&rig, node, "etcd_server_has_leader"), "1", "{node}");
        assert_eq!(away(&rig, node).len(), 1, "{node} went");
    }
    // It is back: the same command does the rest.
    rig.lab.start("s3", Wait::Ready).unwrap();
    rig.run(&["apply", "--yes"]).expect(0);
    three_voters(&rig);
    nothing_to_do(rig.run(&["apply", "--yes"]));
}

/// Something that a node has to reboot for.
const QUIET: &str =
    "doc: A quiet kernel.\nresources:\n  - kernel_cmdline: { tokens: { present: [quiet] } }\n";

#[test]
fn full_a_server_is_lost_while_the_cluster_comes_up_is_upgraded_and_reboots() {
    let Some((old, new, _)) = following() else {
        eprintln!("there are no two releases that follow each other: nothing was tried");
        return;
    };
    let rig = Rig::up_from(Desk::new(&inventory(&old, "", 2)), &[]);

    // Lost while it joins: those behind it wait, the cluster that is there goes on, and the next apply finishes.
    let mut first = rig.start(&["apply", "--yes", "--json"]);
    first.until_started("s2/k3s/cluster_node[s2]");
    rig.lab.kill("s2").unwrap();
    let ended = first.end();
    assert!(matches!(ended.code, 3 | 4), "{}", ended.out);
    let began = ended.events().iter().any(|e| matches!(e, EventKind::StepStarted { addr } if addr.to_string() == "s3/k3s/unit[k3s.service]"));
    assert!(!began, "s3 joined although s2 is no voter");
    rig.lab.start("s2", Wait::Ready).unwrap();
    rig.run(&["apply", "--yes"]).expect(0);
    three_voters(&rig);
    nothing_to_do(rig.run(&["apply", "--yes"]));

    // Lost while another one is upgraded: no third one goes down.
    for node in SERVERS {
        rig.on(node, WATCH).expect(0);
    }
    rig.desk.write("inventory.yaml", &inventory(&new, "", 2));
    let mut upgrade = rig.start(&["apply", "--yes", "--json"]);
    upgrade.until_started("s1/k3s/unit[k3s.service]");
    rig.lab.kill("s3").unwrap();
    let ended = upgrade.end();
    assert!(matches!(ended.code, 3 | 4), "{}", ended.out);
    let said = ended.out + &ended.err;
    assert!(said.contains("s3"), "{said}");
    assert!(away(&rig, "s2").is_empty(), "s2 went while s3 was away");
    rig.lab.start("s3", Wait::Ready).unwrap();
    rig.run(&["apply", "--yes"]).expect(0);
    let ask = "k3s kubectl get nodes -o jsonpath='{.items[*].status.nodeInfo.kubeletVersion}' 2>/dev/null";
    let releases = rig.on("s2", ask).expect(0).out;
    assert_eq!(releases.trim(), [new.as_str(); 5].join(" "));
    three_voters(&rig);

    nothing_to_do(rig.run(&["apply", "--yes"]));

    // All are to reboot, and one is lost while the first of them does: the third one stays up.
    rig.desk.write("roles/quiet/role.yaml", QUIET);
    let text = inventory(&new, "", 2).replace("roles: [cgroups]", "roles: [cgroups, quiet]");
    rig.desk.write("inventory.yaml", &text);
    let before: Vec<usize> = SERVERS.iter().map(|n| away(&rig, n).len()).collect();
    let mut reboots = rig.start(&["apply", "--yes", "--json"]);
    let first = reboots.until(|e| {
        matches!(e, EventKind::StepStarted { addr } if addr.kind == "reboot" && SERVERS.contains(&addr.node.as_str()))
    });
    let EventKind::StepStarted { addr } = first else {
        unreachable!()
    };
    let others: Vec<&str> = SERVERS
        .into_iter()
        .filter(|n| *n != addr.node.as_str())
        .collect();
    rig.lab.kill(others[1]).unwrap();
    let ended = reboots.end();
    assert!(matches!(ended.code, 3 | 4), "{}", ended.out);
    assert!((ended.out + &ended.err).contains(others[1]));
    let at = SERVERS.iter().position(|n| *n == others[0]).unwrap();
    assert_eq!(
        away(&rig, others[0]).len(),
        before[at],
        "{} went while {} was away",
        others[0],
        others[1]
    );
    rig.lab.start(others[1], Wait::Ready).unwrap();
    rig.run(&["apply", "--yes"]).expect(0);
    three_voters(&rig);
    nothing_to_do(rig.run(&["apply", "--yes"]));
}

#[test]
fn full_a_new_card_in_the_first_server_founds_nothing_and_joins_again() {
    let rig = Rig::up_from(Desk::new(&inventory(release(), "", 1)), &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    let cluster = ca(&rig, "s2");
    rig.lab.wipe("s1", Wait::Ready).unwrap();
    rig.run(&["forget-key", "--yes", "s1"]).expect(0);

    // Its member and its node are still there: refused, in words that say what to do.
    let refused = rig.run(&["apply", "--yes"]).expect(3);
    let said = refused.out + &refused.err;
    assert!(
        said.contains("a member of this name") && said.contains("kubectl delete node s1"),
        "{said}"
    );
    let founded = rig.on("s1", "ls /var/lib/rancher/k3s/server/db/etcd/member");
    assert_ne!(founded.code, 0, "it has founded a cluster: {}", founded.out);
    assert_eq!(metric(&rig, "s2", "etcd_server_has_leader"), "1");

    rig.on("s2", "k3s kubectl delete node s1").expect(0);
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(ca(&rig, "s1"), cluster);
    three_voters(&rig);
    nothing_to_do(rig.run(&["apply", "--yes"]));
}

/// The names of the cluster's nodes, as a server says them.
fn nodes(rig: &Rig, server: &str) -> String {
    let ask = "k3s kubectl get nodes -o 'jsonpath={.items[*].metadata.name}' 2>/dev/null";
    rig.on(server, ask).expect(0).out.trim().to_owned()
}

/// Waits until a server's etcd is connected with so many other members, by its own word: it lets go of one a moment after that
/// has been removed.
fn until_peers(rig: &Rig, node: &str, count: usize) {
    rig.until(node, &format!("[ \"$({PEERS})\" = {count} ]"));
}

#[test]
fn full_two_of_three_servers_leave_and_one_of_them_is_down() {
    let rig = Rig::up_from(Desk::new(&inventory(release(), "", 0)), &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    three_voters(&rig);
    rig.on("s1", WATCH).expect(0);
    rig.lab.kill("s3").unwrap();
    rig.until(
        "s1",
        "k3s kubectl get node s3 --no-headers | grep -q NotReady",
    );

    let one = inventory(release(), "", 0).replace("s[1:3]", "s[1:1]");
    rig.desk.write("inventory.yaml", &one);
    rig.run(&["apply", "--yes", "--remove-nodes"]).expect(0);
    // By etcd's own word it is the only member, votes, leads, and was there all the time.
    assert_eq!(metric(&rig, "s1", "etcd_server_is_leader"), "1");
    assert_eq!(metric(&rig, "s1", "etcd_server_is_learner"), "0");
    until_peers(&rig, "s1", 0);
    assert!(away(&rig, "s1").is_empty(), "s1 went");
    assert_eq!(nodes(&rig, "s1"), "s1");
    rig.on("s2", "! pgrep -x k3s && [ ! -e /var/lib/rancher ]")
        .expect(0);
    // It is written down, and read back: the datastore takes what one member alone confirms.
    rig.on(
        "s1",
        "k3s kubectl create configmap alone && k3s kubectl get configmap alone",
    )
    .expect(0);
}

#[test]
fn full_the_first_of_three_servers_is_reset_and_joins_again() {
    let rig = Rig::up_from(Desk::new(&inventory(release(), "", 0)), &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    let cluster = ca(&rig, "s2");
    for node in ["s2", "s3"] {
        rig.on(node, WATCH).expect(0);
    }
    rig.run(&["reset", "--yes", "--confirm", "rack", "s1"])
        .expect(0);
    rig.on("s1", "! pgrep -x k3s && [ ! -e /var/lib/rancher ]")
        .expect(0);
    assert_eq!(nodes(&rig, "s2"), "s2 s3");
    for node in ["s2", "s3"] {
        assert_eq!(metric(&rig, node, "etcd_server_has_leader"), "1", "{node}");
        assert!(away(&rig, node).is_empty(), "{node} went");
    }
    // The list of nodes is still there: one that leaves now is known.
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(ca(&rig, "s1"), cluster);
    // etcd 3.4 goes on counting a removed peer as active where its connection was closed behind it, so the members are
    // taken by what k3s says of each: the old one had to go, or none of this name had joined.
    for node in SERVERS {
        assert_eq!(metric(&rig, node, "etcd_server_is_learner"), "0", "{node}");
        assert_eq!(metric(&rig, node, "etcd_server_has_leader"), "1", "{node}");
        let voter = format!(
            "[ \"$(k3s kubectl get node {node} -o 'jsonpath={{.status.conditions[?(@.type==\"EtcdIsVoter\")].status}}')\" = True ]"
        );
        rig.until("s2", &voter);
    }
    nothing_to_do(rig.run(&["apply", "--yes"]));
}

#[test]
fn full_three_servers_are_kept_drained_and_upgraded_one_by_one() {
    let Some((old, new, _)) = following() else {
        eprintln!("there are no two releases that follow each other: nothing was tried");
        return;
    };
    let rig = Rig::up_from(Desk::new(&inventory(&old, "", 1)), &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    for node in SERVERS {
        rig.on(node, WATCH).expect(0);
    }
    rig.desk.write("inventory.yaml", &inventory(&new, "", 1));
    let upgrade = rig.run(&["apply", "--yes", "--json"]).expect(0);
    let events = upgrade.events();
    let done = |step: String| {
        let found = events.iter().position(|e| {
            matches!(e, EventKind::StepFinished { addr, outcome: Outcome::Changed, .. } if addr.to_string() == step)
        });
        found.unwrap_or_else(|| panic!("{step} was not done: {}", upgrade.out))
    };
    let began = |step: String| {
        let found = events
            .iter()
            .position(|e| matches!(e, EventKind::StepStarted { addr } if addr.to_string() == step));
        found.unwrap_or_else(|| panic!("{step} was not begun: {}", upgrade.out))
    };
    let kept = done("s1/k3s/datastore_snapshot[s1]".into());
    let mut before = 0;
    for node in SERVERS {
        let drained = done(format!("{node}/k3s/node_drained[{node}]"));
        let goes = began(format!("{node}/k3s/unit[k3s.service]"));
        let ready = done(format!("{node}/k3s/cluster_node[{node}]"));
        let open = done(format!("{node}/k3s/node_schedulable[{node}]"));
        assert!(kept < goes, "{node} went before the datastore was kept");
        let order = [before, drained, goes, ready, open];
        assert!(order.is_sorted(), "{node}: {order:?}");
        before = open;
    }
    let went = never_two_away(&rig);
    assert!(went.values().all(|n| *n == 1), "{went:?}");
    three_voters(&rig);
    // A snapshot of etcd, made by the release before.
    let snapshots = "ls /var/lib/rancher/k3s/server/db/snapshots";
    assert!(!rig.on("s1", snapshots).expect(0).out.trim().is_empty());
    let ask = "k3s kubectl get nodes -o 'jsonpath={range .items[*]}{.status.nodeInfo.kubeletVersion} {.spec.unschedulable}{\"\\n\"}{end}' 2>/dev/null";
    let said = rig.on("s2", ask).expect(0).out;
    let rows: Vec<&str> = said.lines().map(str::trim).collect();
    assert_eq!(rows, [new.as_str(); 4]);
    nothing_to_do(rig.run(&["apply", "--yes"]));
}

#[test]
fn full_a_server_and_an_agent_change_places() {
    let with = |s3: &str, a1: &str| {
        let text = inventory(release(), "", 0).replace("s[1:3]", "s[1:2]");
        format!(
            "{text}  s3: {{ address: 192.168.2.3, kubernetes: {s3}, labels: {{ place: shelf }} }}\n  a1: {{ address: 192.168.2.11, kubernetes: {a1}, labels: {{ place: desk }} }}\n"
        )
    };
    let rig = Rig::up_from(Desk::new(&with("server", "agent")), &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    three_voters(&rig);
    let cluster = ca(&rig, "s1");

    // Without a word of consent both stay what they are.
    rig.desk.write("inventory.yaml", &with("agent", "server"));
    let held = rig.run(&["apply", "--yes"]).expect(3);
    assert!(
        held.out.contains("picluster apply --remove-nodes"),
        "{}",
        held.out
    );
    three_voters(&rig);

    // Killed when the first of them is about to be taken off: the next run does the rest.
    let mut first = rig.start(&["apply", "--yes", "--remove-nodes", "--json"]);
    first.until(|event| {
        matches!(event, EventKind::StepStarted { addr } if addr.to_string().contains("/picluster/cluster_node["))
    });
    first.kill();
    first.end();
    for node in ["s1", "s2", "s3", "a1"] {
        rig.until_quiet(node);
    }
    rig.run(&["apply", "--yes", "--remove-nodes"]).expect(0);
    assert_eq!(nodes(&rig, "s1"), "a1 s1 s2 s3");
    for node in ["s1", "s2", "a1"] {
        assert_eq!(metric(&rig, node, "etcd_server_is_learner"), "0", "{node}");
        until_peers(&rig, node, 2);
        assert_eq!(ca(&rig, node), cluster, "{node}");
    }
    rig.on("s3", "! pgrep -x etcd && [ ! -e /var/lib/rancher/k3s/server ] && systemctl is-active k3s-agent && ! systemctl is-active k3s")
        .expect(0);
    rig.on(
        "a1",
        "systemctl is-active k3s && ! systemctl is-active k3s-agent",
    )
    .expect(0);
    for (node, place) in [("s3", "shelf"), ("a1", "desk")] {
        let ask = format!("k3s kubectl get node {node} -o 'jsonpath={{.metadata.labels.place}}'");
        assert_eq!(rig.on("s1", &ask).expect(0).out, place, "{node}");
    }
    nothing_to_do(rig.run(&["apply", "--yes"]));
}
