//! What the planner makes of documents, facts and answers: order, causes, what follows.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use picluster_model::secret::{Secret, SecretRef, SecretValues};
use picluster_model::{ClusterName, NodeName};
use picluster_plan::build::{Inputs, NodeInput, ObservedNode, build, questions, removal_questions};
use picluster_plan::owned::{self, Record, Sealed};
use picluster_plan::{Cause, Declared, NodeState, Plan, RecordAction, StepAddr};
use picluster_resource::query::{Answer, ContentState, PathKind, PathState, UnitState};
use picluster_resource::{Answers, Ctx, Effect, Facts, Query, Resource};

const KEY: &[u8] = b"a key of this test";

fn resource(json: serde_json::Value) -> Resource {
    serde_json::from_value(json).expect("a resource")
}

fn file(path: &str, content: &str) -> Resource {
    resource(serde_json::json!({"file": {"path": path, "content": content}}))
}

fn declared(resource: Resource) -> Declared {
    Declared {
        addr: StepAddr {
            node: NodeName::new("pi-1").expect("valid"),
            role: picluster_model::RoleName::new("base").expect("valid"),
            kind: resource.kind().to_owned(),
            key: resource.key(),
        },
        resource,
        id: None,
        needs: Vec::new(),
        barrier: false,
        guarded: false,
        span: None,
    }
}

/// A node on which nothing exists but what `present` says.
fn answer(queries: &[Query], present: &[(&str, PathKind, &str)]) -> Answers {
    let find = |path: &str| present.iter().find(|(p, _, _)| *p == path);
    let state = |kind| PathState {
        kind,
        mode: if kind == PathKind::Directory {
            0o755
        } else {
            0o644
        },
        owner: "root".into(),
        group: "root".into(),
        size: 1,
    };
    let mut answers = Answers::default();
    for query in queries {
        let answer = match query {
            Query::Path(path) => Answer::Path(find(path.as_str()).map(|(_, kind, _)| state(*kind))),
            Query::Content { path, .. } => {
                Answer::Content(find(path.as_str()).map(|(_, _, text)| ContentState {
                    sha256: picluster_resource::program::sha256_hex(text.as_bytes()),
                    text: Some((*text).to_owned()),
                }))
            }
            Query::Text(path) => {
                Answer::Text(find(path.as_str()).map(|(_, _, text)| (*text).to_owned()))
            }
            Query::Fragment(text) if text == owned::PROBE => Answer::Fragment {
                status: 0,
                stdout: find("records")
                    .map(|(_, _, t)| (*t).to_owned())
                    .unwrap_or_default(),
            },
            Query::Fragment(text) if text.starts_with("# mount ") => Answer::Fragment {
                status: 0,
                stdout: "kind directory\nend\n".into(),
            },
            Query::Fragment(_) => Answer::Fragment {
                status: 0,
                stdout: String::new(),
            },
            Query::Unit(name) => Answer::Unit(UnitState {
                load: if find(name).is_some() {
                    "loaded"
                } else {
                    "not-found"
                }
                .into(),
                active: if find(name).is_some() {
                    "active"
                } else {
                    "inactive"
                }
                .into(),
                sub: "running".into(),
                file: "enabled".into(),
                pending: find(name)
                    .map(|(_, _, how)| (*how).to_owned())
                    .filter(|how| !how.is_empty()),
                ..UnitState::default()
            }),
            other => panic!("no answer prepared for {other}"),
        };
        answers.0.insert(query.clone(), answer);
    }
    answers
}

fn plan_of(items: Vec<Declared>, present: &[(&str, PathKind, &str)]) -> Plan {
    plan_with(items, present, &SecretValues::default())
}

fn plan_with(
    items: Vec<Declared>,
    present: &[(&str, PathKind, &str)],
    secrets: &SecretValues,
) -> Plan {
    let facts = Facts::default();
    let ctx = Ctx {
        facts: &facts,
        secrets,
    };
    let mut all = questions(&items, ctx);
    let first = answer(&all, present);
    all.extend(removal_questions(&items, &first, ctx));
    let answers = answer(&all, present);
    let mut nodes = BTreeMap::new();
    nodes.insert(
        NodeName::new("pi-1").expect("valid"),
        NodeInput::Observed(Box::new(ObservedNode {
            facts: facts.clone(),
            host_key: "SHA256:x".into(),
            declared: items,
            answers,
        })),
    );
    build(&Inputs {
        departing: std::collections::BTreeSet::new(),
        bootstrap: None,
        servers: Vec::new(),
        agents: Vec::new(),
        cluster: ClusterName::new("test").expect("valid"),
        inventory: "inventory.yaml".into(),
        addresses: BTreeMap::new(),
        nodes,
        secrets,
        key: KEY,
    })
}

fn addrs(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|s| s.addr.local()).collect()
}

fn directory(path: &str) -> Resource {
    resource(serde_json::json!({"directory": {"path": path}}))
}

#[test]
fn a_file_waits_for_its_directory_though_declared_before_it() {
    let plan = plan_of(
        vec![
            declared(file("/srv/app/conf", "x\n")),
            declared(directory("/srv/app")),
        ],
        &[("/srv", PathKind::Directory, "")],
    );
    assert_eq!(
        addrs(&plan),
        ["base/directory[/srv/app]", "base/file[/srv/app/conf]"]
    );
    assert_eq!(plan.steps[1].needs, [plan.steps[0].addr.clone()]);
    assert_eq!(plan.steps[1].moved_by, [plan.steps[0].addr.clone()]);
}

#[test]
fn what_is_as_desired_is_no_step_and_the_same_inputs_give_the_same_bytes() {
    let make = || {
        plan_of(
            vec![
                declared(file("/etc/a", "a\n")),
                declared(file("/etc/b", "b\n")),
            ],
            &[
                ("/etc", PathKind::Directory, ""),
                ("/etc/a", PathKind::File, "a\n"),
            ],
        )
    };
    let plan = make();
    assert_eq!(addrs(&plan), ["base/file[/etc/b]"]);
    assert_eq!(plan.nodes.values().map(|n| n.unchanged).sum::<u32>(), 1);
    let bytes = |p: &Plan| serde_json::to_vec(p).expect("json");
    assert_eq!(bytes(&plan), bytes(&make()));
    let back: Plan = serde_json::from_slice(&bytes(&plan)).expect("reads back");
    assert_eq!(back, plan);
}

#[test]
fn drift_intent_and_news_are_told_apart_by_the_record() {
    let wanted = file("/etc/a", "new\n");
    let present = |record: &str| {
        plan_of(
            vec![declared(wanted.clone())],
            &[
                ("/etc", PathKind::Directory, ""),
                ("/etc/a", PathKind::File, "old\n"),
                ("records", PathKind::File, record),
            ],
        )
        .steps[0]
            .cause
    };
    let line = |resource: &Resource| {
        format!(
            "{}\n",
            serde_json::to_string(&Record::of("base/file[/etc/a]", resource)).expect("json")
        )
    };
    assert_eq!(present(""), Cause::New);
    assert_eq!(present(&line(&wanted)), Cause::Drift);
    assert_eq!(present(&line(&file("/etc/a", "old\n"))), Cause::Intent);
    // An operation that was begun and never ended well: nobody changed anything.
    let begun = format!(
        "{{\"begun\":\"{}\",\"at\":1795255779}}\n",
        owned::file_name("file", "/etc/a")
    );
    assert_eq!(present(&(line(&wanted) + &begun)), Cause::Unfinished);
    assert_eq!(
        present(&(line(&file("/etc/a", "old\n")) + &begun)),
        Cause::Intent
    );
    let other = "{\"begun\":\"0123.json\",\"at\":1795255779}\n";
    assert_eq!(present(&(line(&wanted) + other)), Cause::Drift);
}

#[test]
fn another_value_of_a_secret_is_intent_and_another_key_says_nothing() {
    let token = SecretRef::Env("TOKEN".into());
    let wanted = file("/etc/a", &token.placeholder());
    let values = |value: &str| SecretValues([(token.clone(), Secret::new(value.into()))].into());
    let cause = |key: &[u8], recorded: Option<&str>| {
        let seal = recorded.and_then(|v| Sealed::of(key, &wanted, &values(v)));
        let record = Record::of("base/file[/etc/a]", &wanted).sealed(seal);
        let line = format!("{}\n", serde_json::to_string(&record).unwrap());
        let present = [
            ("/etc", PathKind::Directory, ""),
            ("/etc/a", PathKind::File, "something"),
            ("records", PathKind::File, line.as_str()),
        ];
        let now = values("now");
        plan_with(vec![declared(wanted.clone())], &present, &now).steps[0].cause
    };
    assert_eq!(cause(KEY, Some("before")), Cause::Intent);
    assert_eq!(cause(KEY, Some("now")), Cause::Drift);
    // Written by another controller, or by one that kept no digest.
    assert_eq!(cause(b"another key", Some("before")), Cause::Drift);
    assert_eq!(cause(KEY, None), Cause::Drift);
}

#[test]
fn a_unit_takes_up_the_removal_of_what_it_reads_also_when_it_left_with_it() {
    let gone = file("/etc/ssh/x.conf", "x\n");
    let record = Record::of("ways/file[/etc/ssh/x.conf]", &gone)
        .read_by(vec![("ssh.service".into(), false)]);
    let record = format!("{}\n", serde_json::to_string(&record).unwrap());
    let present = [
        ("/etc/ssh/x.conf", PathKind::File, "x\n"),
        ("ssh.service", PathKind::File, ""),
        ("records", PathKind::File, record.as_str()),
    ];
    let reload = |plan: &Plan| {
        let step = plan.steps.last().unwrap();
        assert_eq!(step.cause, Cause::Follows);
        assert!(
            step.change
                .effects
                .contains(&Effect::Reload("ssh.service".into()))
        );
        assert_eq!(step.record, RecordAction::Keep);
    };
    let plan = plan_of(vec![], &present);
    assert_eq!(
        addrs(&plan),
        ["ways/file[/etc/ssh/x.conf]", "picluster/unit[ssh.service]"]
    );
    assert_eq!(plan.steps[0].marks, [("ssh.service".to_owned(), false)]);
    assert_eq!(plan.steps[1].needs, [plan.steps[0].addr.clone()]);
    reload(&plan);
    // Declared, but not as a reader of that file.
    let unit = |body: serde_json::Value| declared(resource(serde_json::json!({ "unit": body })));
    let still = unit(serde_json::json!({"name": "ssh.service", "active": true}));
    let plan = plan_of(vec![still], &present);
    assert_eq!(
        addrs(&plan),
        ["ways/file[/etc/ssh/x.conf]", "picluster/unit[ssh.service]"]
    );
    // Declared as its reader: one reload, its own.
    let reader = unit(serde_json::json!({
        "name": "ssh.service", "active": true, "reload_on": ["/etc/ssh/x.conf"]
    }));
    let plan = plan_of(vec![reader], &present);
    assert_eq!(
        addrs(&plan),
        ["ways/file[/etc/ssh/x.conf]", "base/unit[ssh.service]"]
    );
    reload(&plan);
    // A unit that does not run has nothing to take up.
    let plan = plan_of(vec![], &[present[0], present[2]]);
    assert_eq!(addrs(&plan), ["ways/file[/etc/ssh/x.conf]"]);
    let node = plan.nodes.values().next().unwrap();
    assert_eq!(node.unchanged, 0, "what nobody declares is not counted");
}

#[test]
fn a_reload_that_is_owed_is_not_lost_with_the_documents() {
    let owed = "{\"owed\":\"ssh.service\"}\n";
    let present = [
        ("ssh.service", PathKind::File, "reload"),
        ("records", PathKind::File, owed),
    ];
    let plan = plan_of(vec![], &present);
    assert_eq!(addrs(&plan), ["picluster/unit[ssh.service]"]);
    assert_eq!(plan.steps[0].cause, Cause::Follows);
}

#[test]
fn what_left_the_documents_is_removed_and_foreign_files_stay() {
    let gone = file("/etc/gone", "x\n");
    let record = format!(
        "{}\n",
        serde_json::to_string(&Record::of("base/file[/etc/gone]", &gone)).expect("json")
    );
    let plan = plan_of(
        vec![],
        &[
            ("/etc/gone", PathKind::File, "x\n"),
            ("/etc/foreign", PathKind::File, "y\n"),
            ("records", PathKind::File, &record),
        ],
    );
    assert_eq!(addrs(&plan), ["base/file[/etc/gone]"]);
    assert_eq!(plan.steps[0].cause, Cause::Removed);
    assert!(matches!(plan.steps[0].record, RecordAction::Drop { .. }));
    // Already gone by hand: the record still has to go.
    let plan = plan_of(vec![], &[("records", PathKind::File, &record)]);
    assert_eq!(addrs(&plan), ["base/file[/etc/gone]"]);
}

#[test]
fn a_barrier_stands_between_before_and_behind() {
    let mut middle = declared(file("/etc/m", "m\n"));
    middle.barrier = true;
    let plan = plan_of(
        vec![
            declared(file("/etc/a", "a\n")),
            middle,
            declared(file("/etc/z", "z\n")),
        ],
        &[("/etc", PathKind::Directory, "")],
    );
    assert_eq!(
        addrs(&plan),
        [
            "base/file[/etc/a]",
            "base/file[/etc/m]",
            "base/file[/etc/z]"
        ]
    );
    assert_eq!(plan.steps[2].needs.len(), 2);
}

#[test]
fn a_circle_is_named_and_stops_that_node_only() {
    let mut a = declared(file("/etc/a", "a\n"));
    a.needs = vec!["file[/etc/b]".into()];
    let mut b = declared(file("/etc/b", "b\n"));
    b.needs = vec!["file[/etc/a]".into()];
    let plan = plan_of(vec![a, b], &[("/etc", PathKind::Directory, "")]);
    assert!(plan.steps.is_empty());
    let NodeState::Blocked { problems } = &plan.nodes.values().next().expect("one").state else {
        panic!("not blocked");
    };
    assert!(
        problems[0]
            .what
            .contains("base/file[/etc/a] -> base/file[/etc/b]"),
        "{}",
        problems[0].what
    );
}

#[test]
fn a_problem_skips_what_depends_on_it_and_nothing_else() {
    let mut dependent = declared(file("/etc/b", "b\n"));
    dependent.needs = vec!["file[/etc/a]".into()];
    let plan = plan_of(
        vec![
            declared(file("/etc/a", "a\n")),
            dependent,
            declared(file("/etc/c", "c\n")),
        ],
        &[
            ("/etc", PathKind::Directory, ""),
            ("/etc/a", PathKind::Directory, ""),
        ],
    );
    assert_eq!(addrs(&plan), ["base/file[/etc/c]"]);
    let node = plan.nodes.values().next().expect("one");
    assert_eq!(node.problems.len(), 1);
    assert_eq!(node.problems[0].skipped.len(), 1);
    assert!(node.problems[0].what.contains("/etc/a is a directory"));
}

/// What is waited for is either nobody's, or somebody says it is there.
#[test]
fn what_is_waited_for_in_vain_is_told_with_who_should_have_brought_it() {
    let mount = || resource(serde_json::json!({"mount": {"path": "/mnt/a", "source": "/srv/a"}}));
    let problem = |items| {
        let plan = plan_of(
            items,
            &[
                ("/etc", PathKind::Directory, ""),
                ("/srv/a", PathKind::Directory, ""),
            ],
        );
        let node = plan.nodes.values().next().expect("a node");
        assert_eq!(addrs(&plan), Vec::<String>::new());
        assert_eq!(node.problems.len(), 1, "{:?}", node.problems);
        node.problems[0].what.clone()
    };
    assert_eq!(
        problem(vec![declared(mount())]),
        "/srv/a does not exist, and nothing in the plan makes it"
    );
    assert_eq!(
        problem(vec![declared(directory("/srv/a")), declared(mount())]),
        "/srv/a does not exist, and yet base/directory[/srv/a] finds nothing to do"
    );
}

#[test]
fn a_unit_takes_up_what_changes_beneath_it() {
    let unit = resource(
        serde_json::json!({"unit": {"name": "ssh.service", "active": true, "restart_on": ["/etc/ssh/x.conf"]}}),
    );
    let plan = plan_of(
        vec![
            declared(unit),
            declared(file("/etc/ssh/x.conf", "Port 22\n")),
        ],
        &[
            ("/etc/ssh", PathKind::Directory, ""),
            ("ssh.service", PathKind::File, ""),
        ],
    );
    assert_eq!(
        addrs(&plan),
        ["base/file[/etc/ssh/x.conf]", "base/unit[ssh.service]"]
    );
    assert_eq!(plan.steps[0].marks, [("ssh.service".to_owned(), true)]);
    assert_eq!(plan.steps[1].cause, Cause::Follows);
    assert!(
        plan.steps[1]
            .change
            .effects
            .contains(&Effect::Restart("ssh.service".into()))
    );
}

/// Group, last, boot of a step; `None` where it is not guarded.
type Guard = Option<(u32, bool, bool)>;

fn guards(plan: &Plan) -> Vec<(String, Guard)> {
    let of = |s: &picluster_plan::Step| s.guard.map(|g| (g.group, g.last, g.boot));
    plan.steps.iter().map(|s| (s.addr.local(), of(s))).collect()
}

#[test]
fn the_mark_of_what_is_done_is_told_apart_from_that_of_what_is_not() {
    let name = |path| owned::file_name("file", path);
    let marks = format!(
        "{{\"begun\":\"{}\",\"at\":1}}\n{{\"begun\":\"{}\",\"at\":1}}\n",
        name("/srv/done"),
        name("/srv/open")
    );
    let plan = plan_of(
        vec![
            declared(file("/srv/done", "x\n")),
            declared(file("/srv/open", "x\n")),
            declared(file("/srv/other", "x\n")),
        ],
        &[
            ("/srv", PathKind::Directory, ""),
            ("/srv/done", PathKind::File, "x\n"),
            ("/srv/other", PathKind::File, "x\n"),
            ("records", PathKind::File, &marks),
        ],
    );
    let node = plan.nodes.values().next().unwrap();
    assert_eq!(node.finished, [name("/srv/done")]);
}

#[test]
fn what_is_guarded_comes_late_and_together_and_boot_files_last() {
    let mut own = declared(file("/srv/own", "x\n"));
    own.guarded = true;
    let mut behind = declared(file("/srv/behind", "x\n"));
    behind.needs = vec!["file[/etc/sudoers.d/x]".into()];
    let unit = resource(
        serde_json::json!({"unit": {"name": "ssh.service", "reload_on": ["/etc/ssh/x.conf"]}}),
    );
    let plan = plan_of(
        vec![
            declared(file("/boot/firmware/config.txt", "[all]\n")),
            declared(file("/etc/ssh/x.conf", "x\n")),
            declared(file("/srv/a", "x\n")),
            declared(file("/etc/sudoers.d/x", "x\n")),
            behind,
            own,
            declared(unit),
            declared(file("/srv/z", "x\n")),
        ],
        &[
            ("/boot/firmware", PathKind::Directory, ""),
            ("/etc/ssh", PathKind::Directory, ""),
            ("/etc/sudoers.d", PathKind::Directory, ""),
            ("/srv", PathKind::Directory, ""),
            ("ssh.service", PathKind::File, ""),
        ],
    );
    let access = |last| Some((1, last, false));
    let expected = [
        ("base/file[/srv/a]", None),
        ("base/file[/srv/z]", None),
        ("base/file[/etc/ssh/x.conf]", access(false)),
        ("base/file[/etc/sudoers.d/x]", access(false)),
        ("base/file[/srv/own]", access(false)),
        ("base/unit[ssh.service]", access(true)),
        ("base/file[/srv/behind]", None),
        (
            "base/file[/boot/firmware/config.txt]",
            Some((2, true, true)),
        ),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(a, g)| ((*a).to_owned(), *g))
        .collect();
    assert_eq!(guards(&plan), expected);
    // Whoever needs a part of a group needs its end: the part may be taken back.
    let behind = plan
        .steps
        .iter()
        .find(|s| s.addr.key == "/srv/behind")
        .unwrap();
    let needs: Vec<String> = behind.needs.iter().map(StepAddr::local).collect();
    assert_eq!(
        needs,
        ["base/file[/etc/sudoers.d/x]", "base/unit[ssh.service]"]
    );
    // Every guarded step says so.
    for step in &plan.steps {
        assert_eq!(
            step.guard.is_some(),
            step.change.effects.contains(&Effect::Guarded)
        );
    }
}

#[test]
fn a_node_whose_guard_is_open_is_left_alone_and_what_it_took_back_is_told() {
    let open = "{\"guard_open\":42}\n";
    let items = || vec![declared(file("/etc/sudoers.d/x", "x\n"))];
    let dir = ("/etc/sudoers.d", PathKind::Directory, "");
    let plan = plan_of(items(), &[dir, ("records", PathKind::File, open)]);
    assert!(plan.steps.is_empty());
    let node = plan.nodes.values().next().unwrap();
    let NodeState::Blocked { problems } = &node.state else {
        panic!("{:?}", node.state)
    };
    assert!(
        problems[0].what.contains("within 42 s"),
        "{}",
        problems[0].what
    );

    let back =
        "{\"rolled_back\":[\"base/file[/etc/sudoers.d/x]\"],\"at\":1795255779,\"within\":90}\n";
    let plan = plan_of(items(), &[dir, ("records", PathKind::File, back)]);
    let node = plan.nodes.values().next().unwrap();
    let told = node.rolled_back.as_ref().unwrap();
    assert_eq!(told.rolled_back, ["base/file[/etc/sudoers.d/x]"]);
    assert_eq!((told.at, told.within), (1_795_255_779, 90));
    assert_eq!(plan.steps[0].cause, Cause::New);
}
