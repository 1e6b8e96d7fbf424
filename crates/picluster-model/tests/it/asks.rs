//! Which nodes get the program of Kubernetes: those whose roles ask for it.

use picluster_model::ClusterContext;

use crate::kinds::Folder;

#[test]
fn who_asks_for_the_program_is_seen_by_what_is_rendered() {
    let asks = |role: &str, facts: Option<serde_json::Value>| {
        let folder = Folder::new(&[
            (
                "inventory.yaml",
                "cluster: c\nkubernetes: { distribution: k3s, version: v1.33.5+k3s1 }\nroles: [r]\nnodes:\n  a: { address: 10.0.0.1, kubernetes: server }\n",
            ),
            ("roles/r/role.yaml", role),
            ("roles/r/templates/t", "{{ kubernetes.artifact.size }}"),
        ]);
        let project = folder.good();
        let node = &project.inventory.nodes["a"];
        let cluster = ClusterContext::new(&project);
        cluster.asks_for_artifact(&project, node, facts.as_ref())
    };
    let arm = || Some(serde_json::json!({ "arch": "arm64" }));
    let amd = || Some(serde_json::json!({ "arch": "amd64" }));
    // As they stand, through a file, through a parameter.
    let body =
        "resources:\n  - file: { path: /x, content: \"{{ kubernetes.artifact.sha256 }}\" }\n";
    let file = "resources:\n  - file: { path: /x, template: t }\n";
    let param = "parameters:\n  p: { type: string, doc: P, default: \"{{ kubernetes['artifact'].sha256 }}\" }\nresources:\n  - file: { path: /x, content: \"{{ params.p }}\" }\n";
    for role in [body, file, param] {
        assert!(asks(role, None) && asks(role, arm()), "{role}");
    }
    // Words in comments, in files nobody renders, behind conditions that do not hold.
    let comment = "resources:\n  # kubernetes.artifact\n  - file: { path: /x, content: \"{{ kubernetes.version if kubernetes else 'kubernetes.artifact' }}\" }\n";
    let never =
        "resources:\n  - file: { path: /x, template: t }\n    when: node.kubernetes == 'agent'\n";
    for role in [comment, never] {
        assert!(!asks(role, None) && !asks(role, arm()), "{role}");
    }
    // What facts decide is open until they are known.
    let facts =
        "resources:\n  - file: { path: /x, template: t }\n    when: facts.arch == 'arm64'\n";
    assert!(asks(facts, None) && asks(facts, arm()) && !asks(facts, amd()));
}
