//! How a rack is, from recorded answers of nodes: the report, its warnings, and what people see of it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use picluster::show;
use picluster::status::last::Applied;
use picluster::status::{Seen, Source, Standing, State, Status};
use picluster::survey::{Readings, closed};
use picluster::term::Style;
use picluster_engine::host::ConnectError;
use picluster_engine::{NodeEnd, NodeError};
use picluster_model::NodeName;
use picluster_model::inventory::Project;
use picluster_plan::fitness::unfit;
use picluster_plan::{Cause, NodePlan, NodeState, Plan, Problem, Step, Work};
use picluster_resource::kinds::cluster_node::{ClusterNode, Roll};
use picluster_resource::{Action, Answer, Answers, Change, Ctx, Facts, Health, Resource, Shown};

/// Seconds since the epoch.
const NOW: i64 = 1_795_255_779;
const WANTED: &str = "v1.33.5+k3s1";

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn project(kubernetes: bool) -> Project {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inventory.yaml");
    let role = |r: &str| {
        if kubernetes {
            format!(", kubernetes: {r}")
        } else {
            String::new()
        }
    };
    let section = if kubernetes {
        format!("kubernetes: {{ distribution: k3s, version: {WANTED} }}\n")
    } else {
        String::new()
    };
    let mut text = format!(
        "cluster: rack\nssh: {{ user: pi }}\n{section}nodes:\n  rpi01: {{ address: 192.168.2.1{} }}\n",
        role("server")
    );
    for n in 2..=6 {
        let absent = if n == 5 { ", expected: absent" } else { "" };
        text.push_str(&format!(
            "  rpi{n:02}: {{ address: 192.168.2.{n}{}{absent} }}\n",
            role("agent")
        ));
    }
    std::fs::write(&path, text).unwrap();
    picluster::project::load_as_written(&path).unwrap()
}

/// Facts of a machine, as its facts program prints them.
fn facts(model: &str, os: &str, machine: &str, more: &str) -> Facts {
    let text = format!(
        "{os}\narch.kernel=aarch64\narch.userland=arm64\nboard.model={model}\nmemory_kib=3884000\nnow.machine_id={machine}\nnow.epoch={NOW}\nnow.root=sudo\nnow.root_ro=0\nnow.systemd=1\nnow.root_free=9000000 4096\n{more}\nend=1\n"
    );
    let mut facts = Facts::parse(&text).unwrap();
    facts.now.skew_s = Some(0);
    facts
}

const RPI_OS: &str = "os.id=debian\nos.version=12\nos.codename=bookworm\nos.pretty=Debian GNU/Linux 12 (bookworm)\nos.rpi=1";
const UBUNTU: &str =
    "os.id=ubuntu\nos.version=24.04\nos.codename=noble\nos.pretty=Ubuntu 24.04.3 LTS";

fn observed(facts: &Facts) -> NodePlan {
    NodePlan {
        unchanged: 30,
        ..NodePlan::new(NodeState::Observed {
            facts: Box::new(facts.clone()),
            host_key: "SHA256:abc".into(),
        })
    }
}

fn step(addr: &str) -> Step {
    let resource: Resource =
        serde_json::from_value(serde_json::json!({"file": {"path": "/etc/x"}})).unwrap();
    let change =
        Change::new(Action::Update).field("mode", Shown::text("0666"), Shown::text("0644"));
    Step::new(
        addr.parse().unwrap(),
        Work::Resource(Box::new(resource)),
        change,
        Cause::Drift,
    )
}

/// What `kubectl get nodes -o json` prints on a server, read by the resource that asks for it.
fn roll(items: &[serde_json::Value]) -> Roll {
    let server: ClusterNode = serde_json::from_value(serde_json::json!({
        "name": "rpi01", "unit": "k3s.service", "kubeconfig": "/etc/rancher/k3s/k3s.yaml",
        "kubectl": ["/usr/local/bin/kubectl"], "server": true,
    }))
    .unwrap();
    let stdout = serde_json::json!({"kind": "List", "items": items}).to_string();
    answered(&server, 0, &stdout)
}

fn answered(server: &ClusterNode, status: u32, stdout: &str) -> Roll {
    let (facts, secrets) = (Facts::default(), Default::default());
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let queries = picluster_resource::Kind::queries(server, ctx).unwrap();
    let answers = queries.into_iter().map(|query| {
        let stdout = stdout.to_owned();
        (query, Answer::Fragment { status, stdout })
    });
    server.roll(&Answers(answers.collect())).unwrap()
}

fn member(name: &str, ready: &str, version: &str, machine: &str) -> serde_json::Value {
    serde_json::json!({
        "metadata": {"name": name},
        "spec": {"taints": if name == "rpi01" {
            serde_json::json!([{"key": "node-role.kubernetes.io/control-plane", "value": "true", "effect": "NoSchedule"}])
        } else { serde_json::json!([]) }},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "nodeInfo": {"machineID": machine, "kubeletVersion": version},
        },
    })
}

/// Everything a report is made from.
struct Rack {
    project: Project,
    plan: Plan,
    planned: bool,
    readings: BTreeMap<NodeName, Readings>,
    applied: BTreeMap<NodeName, Applied>,
}

impl Rack {
    fn status(&self) -> Status {
        self.of(&["rpi01", "rpi02", "rpi03", "rpi04", "rpi05", "rpi06"])
    }

    fn of(&self, nodes: &[&str]) -> Status {
        Status::of(&Seen {
            project: &self.project,
            nodes: nodes
                .iter()
                .map(|n| &self.project.inventory.nodes[&node(n)])
                .collect(),
            plan: &self.plan,
            planned: self.planned,
            readings: &self.readings,
            applied: self.applied.clone(),
            at: NOW,
        })
    }

    fn put(&mut self, name: &str, plan: NodePlan, read: Option<(Facts, &str)>) {
        self.plan.nodes.insert(node(name), plan);
        if let Some((facts, health)) = read {
            self.readings.insert(
                node(name),
                Readings {
                    facts,
                    health: Health::parse(health),
                    roll: None,
                },
            );
        }
    }
}

/// Six nodes, each with a story.
fn rack(kubernetes: bool) -> Rack {
    let mut rack = Rack {
        project: project(kubernetes),
        planned: true,
        plan: Plan {
            values: Vec::new(),
            leaving: BTreeMap::new(),
            members: BTreeMap::new(),
            format: 1,
            cluster: picluster_model::ClusterName::new("rack").unwrap(),
            inventory: "inventory.yaml".into(),
            addresses: BTreeMap::new(),
            key_id: None,
            nodes: BTreeMap::new(),
            steps: Vec::new(),
        },
        readings: BTreeMap::new(),
        applied: BTreeMap::new(),
    };
    // All is well.
    let server = facts("Raspberry Pi 5 Model B Rev 1.0", UBUNTU, "aa01", "");
    rack.put(
        "rpi01",
        observed(&server),
        Some((
            server,
            "up 1036860\ntemp 51200 cpu-thermal\nundervoltage 0\nthrottled 0x0\nfilesystem ext4\ndisk nvme0n1 \ndisk.size 976773168\ndisk.model Samsung SSD 980 500GB  \ndisk.serial S64DNL0T\ndisk.state live\napplied 1795000000\nend\n",
        )),
    );
    // A poor supply, drift, and an apply from elsewhere since the last one here.
    let pi4 = facts("Raspberry Pi 4 Model B Rev 1.4", RPI_OS, "aa02", "");
    rack.put(
        "rpi02",
        observed(&pi4),
        Some((
            pi4,
            "up 12060\ntemp 81400 cpu-thermal\nundervoltage 1\nthrottled 0x50001\nfilesystem ext4\ndisk mmcblk0 \ndisk.type SD\ndisk.name SL32G\ndisk.date 03/2021\nlog 3 Undervoltage detected\napplied 1795200000\nend\n",
        )),
    );
    rack.plan.steps = vec![
        step("rpi02/base/file[/etc/x]"),
        step("rpi02/base/file[/etc/y]"),
    ];
    // A worn module with an old kubelet and a wrong clock, and something in the way.
    let mut cm4 = facts("Raspberry Pi Compute Module 4 Rev 1.1", RPI_OS, "aa03", "");
    cm4.now.skew_s = Some(-200);
    let mut stuck = observed(&cm4);
    stuck.problems = vec![
        Problem::new("/etc/z is a directory; a file should be there")
            .cure("look at it and move it away: ls -la /etc/z")
            .of("rpi03/base/file[/etc/z]".parse().unwrap()),
    ];
    rack.put(
        "rpi03",
        stuck,
        Some((
            cm4,
            "up 240\ntemp 40000 cpu-thermal\nundervoltage 0\nlog 1 Undervoltage detected\nfilesystem ext4\ndisk mmcblk0 \ndisk.type MMC\ndisk.name BJTD4R\ndisk.date 08/2020\ndisk.life_time 0x03 0x09\ndisk.pre_eol_info 0x01\nlog 2 I/O error, dev mmcblk0\nend\n",
        )),
    );
    // Nobody there.
    let away = NodeError::Connect(ConnectError::Unreachable {
        node: node("rpi04"),
        address: "192.168.2.4:22".into(),
        reason: "no route to host".into(),
    });
    rack.put("rpi04", NodePlan::new(closed(&away)), None);
    rack.put("rpi05", NodePlan::new(NodeState::Absent), None);
    // A dying card.
    let dying = facts(
        "Raspberry Pi 3 Model B Plus Rev 1.3",
        "os.id=debian\nos.version=13\nos.pretty=Debian GNU/Linux 13 (trixie)",
        "aa06",
        "now.root_ro=1",
    );
    let blocked = NodeState::Blocked {
        problems: unfit(&dying),
    };
    rack.put(
        "rpi06",
        NodePlan::new(blocked),
        Some((
            dying,
            "up 90000000\ntemp 44000 cpu-thermal\nthrottled 0x0\nfilesystem ext4\ndisk mmcblk0 \ndisk.type SD\ndisk.name ASTC\nlog 40 I/O error, dev mmcblk0\nend\n",
        )),
    );
    let told = roll(&[
        member("rpi01", "True", WANTED, "aa01"),
        member("rpi02", "True", WANTED, "aa02"),
        member("rpi03", "False", "v1.32.9+k3s1", "aa03"),
        member("rpi04", "Unknown", WANTED, "aa04"),
        member("rpi06", "True", WANTED, "ffff"),
    ]);
    if kubernetes {
        rack.readings.get_mut(&node("rpi01")).unwrap().roll = Some(told);
    }
    for (name, at, end) in [
        ("rpi01", 1_795_100_000, NodeEnd::Done),
        ("rpi02", 1_795_100_000, NodeEnd::Done),
        ("rpi04", 1_794_000_000, NodeEnd::Incomplete),
    ] {
        let run = format!("run-{at}");
        rack.applied.insert(node(name), Applied { at, run, end });
    }
    rack
}

/// What is said of a node, kinds and words.
fn said(status: &Status, name: &str) -> Vec<String> {
    let mine = status.warnings.iter().filter(|w| w.node.as_str() == name);
    mine.map(|w| format!("{:?}: {}", w.kind, w.what)).collect()
}

#[test]
fn every_node_is_a_row_of_what_was_read() {
    let status = rack(true).status();
    let of = |name: &str| &status.nodes[&node(name)];
    let states: Vec<State> = status.nodes.values().map(|n| n.state).collect();
    assert_eq!(
        states,
        [
            State::Observed,
            State::Observed,
            State::Observed,
            State::Unreachable,
            State::Absent,
            State::Blocked
        ]
    );
    let changes: Vec<Option<usize>> = status.nodes.values().map(|n| n.changes).collect();
    assert_eq!(changes, [Some(0), Some(2), Some(0), None, None, None]);
    let standings: Vec<Standing> = status
        .nodes
        .values()
        .map(|n| n.kubernetes.as_ref().unwrap().standing)
        .collect();
    assert_eq!(
        standings,
        [
            Standing::Ready,
            Standing::Ready,
            Standing::NotReady,
            Standing::Unknown,
            Standing::NotRegistered,
            Standing::AnotherMachine
        ]
    );
    assert_eq!(
        status.kubernetes.as_ref().unwrap().told_by,
        Some(node("rpi01"))
    );
    assert_eq!(of("rpi02").up_since, Some(NOW - 12_060));
    // A run that is known here, one from elsewhere since, a node that cannot be asked, one that knows nothing.
    let last = |name: &str| of(name).last_apply.as_ref().map(|a| (a.at, a.by));
    assert_eq!(last("rpi01"), Some((1_795_100_000, Source::Journal)));
    assert_eq!(last("rpi02"), Some((1_795_200_000, Source::Node)));
    assert_eq!(last("rpi04"), Some((1_794_000_000, Source::Journal)));
    assert_eq!(last("rpi06"), None);
    assert_eq!(of("rpi04").problems.len(), 1);
    assert!(of("rpi04").problems[0].cure.is_some());
}

#[test]
fn warnings_name_what_is_wrong_and_nothing_else() {
    let status = rack(true).status();
    assert_eq!(said(&status, "rpi01"), Vec::<String>::new());
    assert_eq!(
        said(&status, "rpi02"),
        [
            "UnderVoltage: under-voltage now",
            "Throttled: the processor was throttled since its start",
            "Hot: 81 °C: from 80 °C on the processor is slowed down",
        ]
    );
    assert_eq!(
        said(&status, "rpi03"),
        [
            "UnderVoltage: under-voltage since its start",
            "CardWear: mmcblk0 wears out: 80 to 90 % of its life are used",
            "DiskErrors: 2 errors of mmcblk0 in the kernel's log",
            "NotReady: the cluster says that it is not Ready",
            "Version: runs v1.32.9+k3s1, and the inventory wants v1.33.5+k3s1",
            "Clock: its clock is 3 min behind the controller",
        ]
    );
    assert_eq!(
        said(&status, "rpi04"),
        ["NotReady: the cluster has not heard of it for a while"]
    );
    // Known to be off.
    assert_eq!(said(&status, "rpi05"), Vec::<String>::new());
    assert_eq!(
        said(&status, "rpi06"),
        [
            "RootReadOnly: / is mounted read-only, as a dying card ends",
            "DiskErrors: 40 errors of mmcblk0 in the kernel's log",
            "NotReady: another machine is registered under its name",
        ]
    );
    assert!(status.warnings.iter().all(|w| !w.cure.is_empty()));
}

/// Readings, and what is said of them.
#[test]
fn supply_and_medium_are_judged_by_their_readings() {
    let words = |health: &str| {
        let mut rack = rack(false);
        let good = facts("Raspberry Pi 4 Model B Rev 1.4", RPI_OS, "aa02", "");
        rack.put(
            "rpi02",
            observed(&good),
            Some((good, &format!("{health}\nend\n"))),
        );
        said(&rack.of(&["rpi02"]), "rpi02").join("; ")
    };
    let disk = |lines: &str| words(&format!("disk mmcblk0 \ndisk.type MMC\n{lines}"));
    assert_eq!(
        words("throttled 0x0\nundervoltage 0\ntemp 79900 cpu-thermal"),
        ""
    );
    assert_eq!(words("undervoltage 1"), "UnderVoltage: under-voltage now");
    assert_eq!(
        words("throttled 0x40004"),
        "Throttled: the processor is throttled now"
    );
    // Throttled says it already.
    assert_eq!(
        words("throttled 0x40004\ntemp 84000 cpu-thermal"),
        "Throttled: the processor is throttled now"
    );
    // A cap alone, and a warm processor, are how a Pi 3 B+ works.
    assert_eq!(words("throttled 0xa000a\ntemp 62000 cpu-thermal"), "");
    assert_eq!(disk("disk.life_time 0x08 0x08\ndisk.pre_eol_info 0x01"), "");
    assert_eq!(
        disk("disk.life_time 0x01 0x0a"),
        "CardWear: mmcblk0 wears out: 90 to 100 % of its life are used"
    );
    assert_eq!(
        disk("disk.life_time 0x0b 0x01"),
        "CardWear: mmcblk0 wears out: more than its promised life is used"
    );
    assert_eq!(
        disk("disk.life_time 0x02 0x02\ndisk.pre_eol_info 0x03"),
        "CardWear: mmcblk0 wears out: its spare blocks are all but used"
    );
    assert_eq!(
        disk("disk.ro 1"),
        "RootReadOnly: mmcblk0 takes no writes any more"
    );
    assert_eq!(
        words("disk nvme0n1 \ndisk.state dead"),
        "DiskErrors: nvme0n1 is dead"
    );
    assert_eq!(words("disk nvme0n1 \ndisk.state live"), "");
}

#[test]
fn the_first_server_that_tells_is_believed_and_one_that_is_silent_is_named() {
    let server: ClusterNode = serde_json::from_value(serde_json::json!({
        "name": "rpi01", "unit": "k3s.service", "kubeconfig": "/k", "kubectl": ["/x"], "server": true,
    }))
    .unwrap();
    let mut rack = rack(true);
    let tell = |rack: &mut Rack, roll: Roll| {
        rack.readings.get_mut(&node("rpi01")).unwrap().roll = Some(roll);
    };
    tell(&mut rack, answered(&server, 92, ""));
    let status = rack.status();
    assert_eq!(status.kubernetes.as_ref().unwrap().told_by, None);
    assert!(status.nodes.values().all(|n| n.kubernetes.is_none()));
    assert_eq!(
        said(&status, "rpi01"),
        ["ApiSilent: its API server does not answer"]
    );
    let text = show::status::status(&status, Style::plain(160));
    assert!(text.contains("No server told about the cluster"), "{text}");
    assert!(!text.contains("READY"), "{text}");
    // Before the first apply there is nobody to be silent.
    tell(&mut rack, answered(&server, 90, ""));
    assert_eq!(said(&rack.status(), "rpi01"), Vec::<String>::new());
}

/// A release that nobody can look up now keeps nothing from being read.
#[test]
fn where_nothing_can_be_planned_machines_are_shown_all_the_same() {
    let mut rack = rack(true);
    rack.planned = false;
    let status = rack.of(&["rpi01", "rpi02"]);
    assert!(status.nodes.values().all(|n| n.changes.is_none()));
    let text = show::status::status(&status, Style::plain(100));
    assert!(text.contains("51 °C") && text.contains("unknown"), "{text}");
    assert!(
        text.ends_with("2 nodes: 0 as desired, 2 not planned.\n"),
        "{text}"
    );
}

#[test]
fn what_is_not_asked_for_is_not_spoken_of() {
    let status = rack(true).of(&["rpi01", "rpi05"]);
    assert_eq!(status.nodes.len(), 2);
    assert_eq!(status.warnings, vec![]);
    let text = show::status::status(&status, Style::plain(100));
    assert!(
        text.ends_with("2 nodes: 1 as desired, 1 absent.\n"),
        "{text}"
    );
}

#[test]
fn a_screen_of_60_columns() {
    insta::assert_snapshot!(show::status::status(&rack(true).status(), Style::plain(60)));
}

#[test]
fn a_screen_of_80_columns() {
    insta::assert_snapshot!(show::status::status(&rack(true).status(), Style::plain(80)));
}

#[test]
fn a_screen_of_160_columns() {
    insta::assert_snapshot!(show::status::status(
        &rack(true).status(),
        Style::plain(160)
    ));
}

#[test]
fn a_rack_without_a_cluster() {
    let status = rack(false).of(&["rpi01", "rpi02", "rpi05"]);
    insta::assert_snapshot!(show::status::status(&status, Style::plain(100)));
}

#[test]
fn rows_fit_and_every_node_has_one() {
    let status = rack(true).status();
    for width in 20..220 {
        let text = show::status::status(&status, Style::plain(width));
        let rows: Vec<&str> = text.lines().take(7).collect();
        assert!(
            rows.iter().all(|r| r.chars().count() <= width),
            "{width}\n{text}"
        );
        for (row, name) in rows[1..].iter().zip(status.nodes.keys()) {
            assert!(row.starts_with(name.as_str()), "{width}\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }
    let colour = Style {
        color: true,
        width: 80,
    };
    assert!(show::status::status(&status, colour).contains("\u{1b}[31m"));
}

#[test]
fn programs_read_the_same() {
    let json = serde_json::to_value(rack(true).status()).unwrap();
    assert_eq!(json["format"], 1);
    let bad = &json["nodes"]["rpi02"];
    assert_eq!(bad["changes"], 2);
    assert_eq!(bad["health"]["power"]["under_voltage"]["now"], true);
    assert_eq!(bad["health"]["root"]["medium"], "sd");
    assert_eq!(bad["kubernetes"]["standing"], "ready");
    assert_eq!(json["nodes"]["rpi04"]["state"], "unreachable");
    assert_eq!(json["nodes"]["rpi04"]["changes"], serde_json::Value::Null);
    assert_eq!(json["warnings"][0]["kind"], "under_voltage");
}
