//! Nodes of a cluster are asked for together: one start of kubectl for all that are asked for with the same credentials, and none
//! where all nodes are asked for anyway. Real shells, a kubectl of the test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use picluster_model::secret::SecretValues;
use picluster_resource::frame::{FRAME_SH, FrameReader};
use picluster_resource::{Answers, Ctx, Facts, Observation, ProbeProgram, Query, Resource};

/// Prints a Node for each name it is asked for, or a list of them; `gone` is not there.
const KUBECTL: &str = r#"#!/bin/sh
while [ "$1" != get ]; do shift; done
echo "$*" >> @/calls
case $2 in nodes*) set -- get node a b;; esac
shift 2; many=$(($# > 3)); items= status=0
for n; do case $n in
  -o) break;;
  gone) echo 'Error from server (NotFound): nodes "gone" not found' >&2; status=1;;
  *) items="$items${items:+,}{\"kind\":\"Node\",\"metadata\":{\"name\":\"$n\",\"labels\":{\"of\":\"$n\"}}}";;
esac; done
if [ $# = 3 ]; then printf %s "$items"; else printf '{"kind":"List","items":[%s]}' "$items"; fi
exit $status
"#;

fn labels(at: &str, node: &str) -> Resource {
    serde_json::from_value(serde_json::json!({"node_labels": {
        "node": node, "labels": {"of": node}, "kubeconfig": format!("{at}/config"), "kubectl": [format!("{at}/kubectl")],
    }}))
    .unwrap()
}

fn server(at: &str) -> Resource {
    serde_json::from_value(serde_json::json!({"cluster_node": {
        "name": "a", "unit": "k3s.service", "server": true, "kubeconfig": format!("{at}/config"), "kubectl": [format!("{at}/kubectl")],
    }}))
    .unwrap()
}

/// What is seen of each resource, and the calls of kubectl.
fn look(
    at: &Path,
    shell: &str,
    what: impl Fn(&str) -> Vec<Resource>,
) -> (Vec<Observation>, Vec<String>) {
    let text = at.display().to_string();
    let kubectl = at.join("kubectl");
    std::fs::write(&kubectl, KUBECTL.replace('@', &text)).unwrap();
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(at.join("config"), "there\n").unwrap();
    std::fs::write(at.join("calls"), "\n").unwrap();
    let resources = what(&text);
    let (facts, secrets) = (Facts::default(), SecretValues::default());
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let queries: Vec<Query> = resources
        .iter()
        .flat_map(|r| r.queries(ctx).unwrap())
        .filter(|q| !matches!(q, Query::Unit(_)))
        .collect();
    let program = ProbeProgram::new(queries.clone());
    // A node's own directory below /run is the test's.
    let script = format!("{FRAME_SH}{}", program.script).replace("/run/picluster", &text);
    let out = Command::new(shell).args(["-c", &script]).output().unwrap();
    let mut reader = FrameReader::default();
    reader.push(&out.stdout);
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        frames.push(frame);
    }
    let answers: Answers = program.parse(&queries, &frames).unwrap();
    let seen = resources
        .iter()
        .filter(|r| matches!(r, Resource::NodeLabels(_)))
        .map(|r| r.observe(&answers, ctx).unwrap())
        .collect();
    let calls = std::fs::read_to_string(at.join("calls")).unwrap();
    let calls = calls.lines().filter(|l| !l.is_empty());
    (seen, calls.map(str::to_owned).collect())
}

fn shells() -> Vec<&'static str> {
    let there = |shell: &&str| Command::new(shell).args(["-c", ":"]).output().is_ok();
    ["sh", "dash", "bash"].into_iter().filter(there).collect()
}

/// The labels that are there, or what is missing.
fn brief(seen: &Observation) -> String {
    serde_json::to_string(seen).unwrap()
}

#[test]
fn nodes_are_asked_for_together_and_each_gets_its_own_answer() {
    for shell in shells() {
        let dir = tempfile::tempdir().unwrap();
        let (seen, calls) = look(dir.path(), shell, |at| {
            vec![labels(at, "b"), labels(at, "gone"), labels(at, "a")]
        });
        assert_eq!(calls, ["get node a b gone -o json"], "{shell}");
        let seen: Vec<String> = seen.iter().map(brief).collect();
        assert!(seen[0].contains(r#""of":"b""#), "{shell}: {seen:?}");
        assert!(
            seen[1].contains("not_yet") && seen[1].contains("gone"),
            "{seen:?}"
        );
        assert!(seen[2].contains(r#""of":"a""#), "{shell}: {seen:?}");
    }
}

#[test]
fn one_is_asked_for_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (seen, calls) = look(dir.path(), "sh", |at| vec![labels(at, "b")]);
    assert_eq!(calls, ["get node b -o json"]);
    assert!(brief(&seen[0]).contains(r#""of":"b""#), "{seen:?}");
    let dir = tempfile::tempdir().unwrap();
    let (seen, _) = look(dir.path(), "sh", |at| vec![labels(at, "gone")]);
    assert!(brief(&seen[0]).contains("not_yet"), "{seen:?}");
}

#[test]
fn nobody_asks_for_single_nodes_where_all_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (seen, calls) = look(dir.path(), "sh", |at| {
        vec![server(at), labels(at, "b"), labels(at, "c")]
    });
    assert_eq!(calls, ["get nodes,namespaces -o json"]);
    assert!(brief(&seen[0]).contains(r#""of":"b""#), "{seen:?}");
    assert!(brief(&seen[1]).contains("not_yet"), "{seen:?}");
}

#[test]
fn a_cluster_that_does_not_answer_says_nothing_of_any_node() {
    let dir = tempfile::tempdir().unwrap();
    let (seen, _) = look(dir.path(), "sh", |at| {
        let kubectl = "#!/bin/sh\necho 'Unable to connect to the server: EOF' >&2\nexit 1\n";
        std::fs::write(Path::new(at).join("kubectl"), kubectl).unwrap();
        vec![labels(at, "a"), labels(at, "b")]
    });
    for seen in &seen {
        assert!(brief(seen).contains("api"), "{seen:?}");
    }
}
