//! What programs are given is what the published schemas say.

use picluster::schema;
use serde_json::Value;

use crate::rig::{Desk, Rig};
use crate::unchanged::ROLE;

fn judge(name: &str, document: &Value) -> Vec<String> {
    let path = format!(
        "{}/../docs/schema/{name}.schema.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let judge = jsonschema::validator_for(&schema).unwrap();
    judge
        .iter_errors(document)
        .map(|e| format!("{}: {e}", e.instance_path))
        .collect()
}

/// The document in `text`, which is as its schema says.
#[track_caller]
pub fn fits(name: &str, text: &str) -> Value {
    let document: Value = serde_json::from_str(text).unwrap();
    let wrong = judge(name, &document);
    assert!(wrong.is_empty(), "{name}: {}\n{text}", wrong.join("\n"));
    document
}

#[test]
fn explanations_are_as_their_schema_says() {
    let desk = Desk::new(
        "cluster: c\nssh: { user: pi }\nroles: [base]\ngroups: { g: { labels: { disk: nvme } } }\nnodes:\n  a: { address: 192.0.2.1, groups: [g] }\n",
    );
    desk.write(".home/.ssh/config", "Host *\n  Port 2222\n");
    let explained = fits(
        "explain",
        &desk.run(&["explain", "--json", "a"]).expect(0).out,
    );
    assert!(explained["values"].as_array().unwrap().len() > 8);
}

#[test]
fn plans_plan_files_events_and_facts_are_as_their_schemas_say() {
    let desk = Desk::new(
        "cluster: schema\nssh: { user: pi, connect_timeout: 2 }\nroles: [one]\nvars: { token: { command: [echo, s3cr3t-value] } }\nnodes:\n  rpi01: { address: 192.168.2.1 }\n  rpi02: { address: 192.168.2.2 }\n  rpi03: { address: 192.168.2.3, expected: absent }\n",
    );
    desk.write(
        "roles/one/role.yaml",
        &format!("{ROLE}  - file: {{ path: /srv/token, content: \"{{{{ vars.token }}}}\", mode: \"0600\" }}\n  - command: {{ run: \"false\", creates: /srv/never }}\n"),
    );
    let rig = Rig::up_from(desk, &[]);
    rig.lab.cut("rpi02").unwrap();
    let run = |args: &[&str]| rig.run(args);
    let facts = fits("facts", &run(&["facts", "--json"]).expect(4).out);
    assert!(
        facts["nodes"]["rpi01"]["observed"].is_object()
            && facts["nodes"]["rpi02"]["unreachable"].is_object()
    );
    let status = fits("status", &run(&["status", "--json"]).expect(4).out);
    assert_eq!(status["nodes"]["rpi02"]["state"], "unreachable");
    assert_eq!(status["nodes"]["rpi03"]["state"], "absent");
    let plan = fits(
        "plan",
        &run(&["plan", "--json", "--out", "a.plan"]).expect(4).out,
    );
    assert!(plan["steps"].as_array().unwrap().len() > 12);
    fits(
        "plan",
        &std::fs::read_to_string(rig.desk.path().join("a.plan")).unwrap(),
    );
    let applied = run(&["apply", "--yes", "--json"]).expect(3);
    let events: Vec<Value> = applied.out.lines().map(|l| fits("event", l)).collect();
    for kind in [
        "run_started",
        "node_connected",
        "step_started",
        "step_finished",
        "node_finished",
        "run_finished",
    ] {
        assert!(
            events.iter().any(|e| e["event"][kind].is_object()),
            "{kind}"
        );
    }
    let there = [
        "exec",
        "--on",
        "rpi01",
        "--root",
        "--",
        "cat /srv/token; echo; echo a s3cr3t-value >&2",
    ];
    let shown = run(&there).expect(0);
    assert_eq!(shown.out, "rpi01 (sensitive)\n");
    // sudo may have something to say as well: the host has a new name.
    assert!(
        shown.err.ends_with("rpi01 a (sensitive)\n") && !shown.err.contains("s3cr3t"),
        "{}",
        shown.err
    );
    let open = run(&[&["exec", "--show-secrets"], &there[1..]].concat()).expect(0);
    assert_eq!(open.out, "rpi01 s3cr3t-value\n");
    // The schemas can say no.
    let mut wrong = plan.clone();
    wrong["steps"][0]["addr"] = Value::from(7);
    wrong.as_object_mut().unwrap().remove("cluster");
    assert_eq!(judge("plan", &wrong).len(), 2);
    let mut wrong = events[0].clone();
    wrong["event"] = serde_json::json!({ "run_begun": {} });
    assert!(!judge("event", &wrong).is_empty());
    // A field of a later version is no reason to refuse.
    let mut later = plan;
    later["steps"][0]["of_a_later_version"] = Value::from(1);
    assert_eq!(judge("plan", &later), Vec::<String>::new());
    assert_eq!(schema::all().len(), 5);
}
