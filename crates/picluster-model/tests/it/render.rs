//! What roles become on a node.

use picluster_model::secret::SecretText;
use picluster_model::{Diagnostic, Project, RenderContext, RenderedEntry, SecretRef, render_role};
use serde_json::{Value, json};

use crate::kinds::Folder;

const INVENTORY: &str = r#"cluster: homelab
ssh: { user: admin }
kubernetes: { distribution: k3s, version: v1.36.3+k3s1, cluster_cidr: 10.42.0.0/16 }
roles: [r]
vars:
  base: /srv
  data: "{{ vars.base }}/{{ node.name }}"
  packages: [vim, "{{ vars.base | replace('/', '') }}"]
  copy: "{{ vars.packages }}"
  token: { env: TOKEN }
  connection: "user:{{ vars.token }}@host"
groups:
  fast: {}
nodes:
  pi-1: { address: 10.0.0.1, kubernetes: server, groups: [fast], labels: { disk: nvme } }
  pi-2: { address: 10.0.0.2, kubernetes: agent, groups: [fast], labels: { disk: nvme } }
  pi-3: { address: 10.0.0.3, expected: absent }
"#;

fn facts() -> Value {
    json!({ "arch": "arm64", "memory_mib": 4096, "os": { "id": "debian", "codename": "trixie" } })
}

fn folder(role: &str, files: &[(&str, &str)]) -> Folder {
    let mut all = vec![("inventory.yaml", INVENTORY), ("roles/r/role.yaml", role)];
    all.extend(files);
    Folder::new(&all)
}

fn run(project: &Project, node: &str) -> Result<Vec<RenderedEntry>, Vec<Diagnostic>> {
    let node = &project.inventory.nodes[node];
    let context = RenderContext::new(project, node, &facts())?;
    let role_use = &node.roles[0];
    render_role(&project.roles[&role_use.role], role_use, &context)
}

fn entries(role: &str, files: &[(&str, &str)], node: &str) -> Vec<RenderedEntry> {
    let folder = folder(role, files);
    run(&folder.good(), node).unwrap_or_else(|findings| panic!("{}", folder.show(&findings)))
}

fn bodies(role: &str, files: &[(&str, &str)], node: &str) -> Vec<Value> {
    entries(role, files, node)
        .iter()
        .map(|entry| entry.body.to_json())
        .collect()
}

/// Renders one expression the way a body does.
fn value(expression: &str) -> Value {
    let role = format!("resources:\n  - command: {{ run: x, data: \"{{{{ {expression} }}}}\" }}\n");
    bodies(&role, &[], "pi-1")[0]["data"].clone()
}

/// What is said of a role: before the first connection, or else when the facts are there.
fn failure(role: &str, files: &[(&str, &str)]) -> String {
    let folder = folder(role, files);
    let project = match folder.load() {
        Ok(project) => project,
        Err(findings) => return folder.show(&findings),
    };
    match run(&project, "pi-1") {
        Ok(entries) => panic!("this was rendered: {entries:?}"),
        Err(findings) => folder.show(&findings),
    }
}

#[test]
fn names_are_what_the_documentation_says() {
    assert_eq!(value("node.name ~ ' ' ~ node.address"), "pi-1 10.0.0.1");
    assert_eq!(value("node.groups"), json!(["fast"]));
    assert_eq!(value("node.labels"), json!({ "disk": "nvme" }));
    assert_eq!(value("node.kubernetes"), "server");
    assert_eq!(value("node.user"), "admin");
    assert_eq!(
        value("nodes | map(attribute='name') | list"),
        json!(["pi-1", "pi-2", "pi-3"])
    );
    assert_eq!(
        value(
            "nodes | selectattr('expected', 'eq', 'present') | map(attribute='address') | join(',')"
        ),
        "10.0.0.1,10.0.0.2"
    );
    assert_eq!(value("groups.fast"), json!(["pi-1", "pi-2"]));
    assert_eq!(value("cluster.name"), "homelab");
    assert_eq!(value("kubernetes.minor"), 36);
    assert_eq!(value("kubernetes.cluster_cidr"), json!(["10.42.0.0/16"]));
    assert_eq!(value("facts.os.codename"), "trixie");
}

#[test]
fn one_expression_keeps_its_type_and_text_stays_text() {
    assert_eq!(value("[1, 2]"), json!([1, 2]));
    assert_eq!(value("facts.memory_mib // 2"), json!(2048));
    assert_eq!(value("facts.memory_mib > 1000"), json!(true));
    assert_eq!(value("none"), Value::Null);
    assert_eq!(value("'a' }}{{ 'b'"), "ab");
    assert_eq!(value("1 }}-{{ 2"), "1-2");
    assert_eq!(value("vars.packages"), json!(["vim", "srv"]));
    assert_eq!(value("vars.copy"), json!(["vim", "srv"]));
    assert_eq!(value("vars.data"), "/srv/pi-1");
}

#[test]
fn entries_are_repeated_and_left_out() {
    let role = r#"parameters:
  mounts: { type: list, doc: Mounts, default: [{ at: /a, on: true }, { at: /b, on: false }, { at: /c, on: true }] }
  nothing: { type: list, doc: None }
resources:
  - file: { path: "{{ item.at }}", content: "{{ index }}\n" }
    each: params.mounts
    when: item.on
    id: "mount-{{ index }}"
  - file: { path: "/x/{{ item }}", content: "" }
    each: [one, "{{ node.name }}"]
    needs: ["mount-0", "file[{{ item }}]"]
    barrier: true
    doc: Why
  - file: { path: "{{ item }}", content: "" }
    each: params.nothing
    when: params.nothing is not none
  - file: { path: /never, content: "" }
    when: false
  - file: { path: /never, content: "" }
    when: facts.os.id == "raspbian"
"#;
    let found = entries(role, &[], "pi-1");
    let short: Vec<(Value, Option<&str>)> = found
        .iter()
        .map(|e| (e.body.get("path").unwrap().to_json(), e.id.as_deref()))
        .collect();
    assert_eq!(
        short,
        [
            (json!("/a"), Some("mount-0")),
            (json!("/c"), Some("mount-2")),
            (json!("/x/one"), None),
            (json!("/x/pi-1"), None),
        ]
    );
    assert_eq!(found[2].needs, ["mount-0", "file[one]"]);
    assert!(found[2].barrier && !found[0].barrier);
    assert_eq!(found[3].doc.as_deref(), Some("Why"));
    assert_eq!(found[3].span.line, 9);
}

#[test]
fn template_files_become_content() {
    let role = r#"resources:
  - file: { path: /etc/hosts, template: hosts.j2, mode: "0644" }
  - file: { path: /etc/page.html, template: sub/page.html }
"#;
    let files = [
        (
            "roles/r/templates/hosts.j2",
            "127.0.0.1 localhost\n{% for n in nodes %}\n  {% if n.expected == 'present' %}\n{{ n.address }} {{ n.name }}\n  {% endif %}\n{% endfor %}\n{% include 'sub/tail.j2' %}\n",
        ),
        ("roles/r/templates/sub/tail.j2", "# {{ node.name }}\n"),
        ("roles/r/templates/sub/page.html", "<a>{{ '<b>' }}</a>\n"),
    ];
    let found = bodies(role, &files, "pi-2");
    assert_eq!(
        found[0],
        json!({
            "path": "/etc/hosts",
            "content": "127.0.0.1 localhost\n10.0.0.1 pi-1\n10.0.0.2 pi-2\n# pi-2\n",
            "mode": "0644",
        })
    );
    assert_eq!(
        found[1]["content"], "<a><b></a>\n",
        "nothing is escaped by name"
    );
}

#[test]
fn parameters_may_be_templates_of_variables_and_of_each_other() {
    let role = r#"parameters:
  root: { type: string, doc: Root, default: "{{ vars.base }}" }
  logs: { type: string, doc: Logs, default: "{{ params.root }}/log" }
  list: { type: list, doc: List, default: "{{ vars.packages }}" }
resources:
  - command: { run: "{{ params.logs }} {{ params.list | join(' ') }}" }
"#;
    assert_eq!(bodies(role, &[], "pi-1")[0]["run"], "/srv/log vim srv");
}

#[test]
fn secrets_stay_placeholders_wherever_they_go() {
    let token = SecretRef::Env("TOKEN".into());
    let role = r#"parameters:
  password: { type: secret, doc: P, default: { secret: pw } }
resources:
  - file: { path: /a, content: "{{ vars.connection }} {{ params.password }}" }
  - file: { path: /b, content: { secret: direct } }
  - file: { path: /c, content: "{{ {'auth': vars.token, 'plain': '<x>'} | tojson }}" }
  - command: { run: x, command: [a], environment: { PW: { command: [pass, show] } } }
"#;
    let found = bodies(role, &[], "pi-1");
    let text = |value: &Value| SecretText::from(value.as_str().unwrap());
    let first = text(&found[0]["content"]);
    assert_eq!(
        first.references(),
        [token.clone(), SecretRef::Secret("pw".into())]
    );
    assert_eq!(first.masked(), "user:(sensitive)@host (sensitive)");
    assert_eq!(
        text(&found[1]["content"]).references(),
        [SecretRef::Secret("direct".into())]
    );
    let json = text(&found[2]["content"]);
    assert_eq!(json.references(), [token]);
    assert_eq!(json.masked(), r#"{"auth":"(sensitive)","plain":"<x>"}"#);
    assert_eq!(found[3]["command"], json!(["a"]), "a field is no reference");
    assert_eq!(
        text(&found[3]["environment"]["PW"]).references(),
        [SecretRef::Command(vec!["pass".into(), "show".into()])]
    );
}

#[test]
fn a_filter_that_breaks_a_secret_is_an_error() {
    let role = "resources:\n  - file: { path: /a, content: \"x {{ vars.token | upper }}\" }\n  - command: { run: \"{{ vars.token | replace('}', '') }}\" }\n";
    insta::assert_snapshot!(failure(role, &[]));
}

#[test]
fn what_is_undefined_or_none_is_never_printed() {
    let role = r#"parameters:
  name: { type: string, doc: Name }
resources:
  - file: { path: "/a/{{ params.name }}", content: "{{ groups.slow }}" }
  - file: { path: "/a", content: "{% for n in nodes %}{{ n.ip }}{% endfor %}" }
  - file: { path: "/a{{ vars.packages }}", content: "{{ node }}: {{ true }}" }
  - file: { path: /b, template: t.j2 }
  - file: { path: /d, content: "{{ item }}" }
    each: node.name
  - file: { path: /e, content: "{% for i in range(9000) %}{% for j in range(9000) %}{% endfor %}{% endfor %}" }
"#;
    let files = [
        ("roles/r/templates/t.j2", "first\n{% include 'u.j2' %}\n"),
        ("roles/r/templates/u.j2", "{{ node.labels.nowhere }}\n"),
    ];
    insta::assert_snapshot!(failure(role, &files));
}

/// The same when it takes facts to find out.
#[test]
fn what_facts_make_wrong_is_found_when_they_are_there() {
    let role = r#"parameters:
  name: { type: string, doc: Name, default: "{{ facts.arch }}" }
  nothing: { type: string, doc: Nothing }
resources:
  - file: { path: "/a/{{ facts.arch }}{{ params.nothing }}", content: "" }
  - file: { path: /c, content: "{{ 1 / 0 }}" }
    when: facts.memory_mib
  - file: { path: /d, content: "{{ node.labels.nowhere }}" }
    when: params.name == "arm64"
  - file: { path: "{{ item }}", content: "{{ params.nothing }}" }
    each: "[facts.arch, facts.os.id]"
  - file: { path: /e, content: "{{ kubernetes.artifact.sha256 }}" }
"#;
    insta::assert_snapshot!(failure(role, &[]));
}

#[test]
fn a_parameter_must_keep_its_type_when_it_is_rendered() {
    let role = r#"parameters:
  count: { type: int, doc: Count, default: "{{ vars.base }}" }
  level: { type: string, doc: Level, default: "{{ node.name }}", values: [low, high] }
resources: []
"#;
    insta::assert_snapshot!(failure(role, &[]));
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let role = "resources:\n  - file: { path: /a, content: \"{{ nodes | tojson(2) }}{{ node | tojson }}{{ vars.packages | join }}\" }\n";
    let first = bodies(role, &[], "pi-1");
    assert_eq!(first, bodies(role, &[], "pi-1"));
    assert!(
        first[0]["content"]
            .as_str()
            .unwrap()
            .contains("\n  {\n    \"name\": \"pi-1\"")
    );
}

#[test]
fn there_is_no_clock_and_no_chance() {
    for name in ["now()", "random()", "debug()", "lipsum()"] {
        let folder = folder(
            &format!("resources:\n  - command: {{ run: \"{{{{ {name} }}}}\" }}\n"),
            &[],
        );
        assert!(folder.bad().contains("unknown name"), "{name}");
    }
    let folder = folder(
        "resources:\n  - command: { run: \"{{ nodes | random }}\" }\n",
        &[],
    );
    assert!(folder.bad().contains("unknown filter `random`"));
}

#[test]
fn templates_can_import_extend_and_define() {
    let role = "resources:\n  - file: { path: /a, template: a.j2 }\n  - file: { path: /b, template: b.j2 }\n";
    let files = [
        (
            "roles/r/templates/macros.j2",
            "{% macro line(name, width=4) %}\n{{ name | upper }} {{ width }} {{ caller is defined }}\n{% endmacro %}\n",
        ),
        (
            "roles/r/templates/a.j2",
            "{% from 'macros.j2' import line %}\n{% import 'macros.j2' as m %}\n{% set list = namespace(n=0) %}\n{% for n in nodes if n.expected == 'present' %}\n{% set list.n = list.n + loop.index %}\n{{ line(n.name) }}{{ m.line(n.address, width=2) }}{% endfor %}\n{{ list.n }}\n",
        ),
        (
            "roles/r/templates/base.j2",
            "head\n{% block body %}\nnothing\n{% endblock %}\n{% include 'part.j2' %}\n",
        ),
        (
            "roles/r/templates/part.j2",
            "{{ greeting | default('no greeting') }}\n",
        ),
        (
            "roles/r/templates/b.j2",
            "{% extends 'base.j2' %}\n{% block body %}\n{{ super() }}{{ node.name }}\n{% endblock %}\n",
        ),
    ];
    let found = bodies(role, &files, "pi-1");
    assert_eq!(
        found[0]["content"],
        "PI-1 4 false\n10.0.0.1 2 false\nPI-2 4 false\n10.0.0.2 2 false\n3\n"
    );
    assert_eq!(found[1]["content"], "head\nnothing\npi-1\nno greeting\n");
}

/// Everything a role needs to install a cluster can be asked of `kubernetes`.
#[test]
fn the_kubernetes_section_is_there_for_templates_with_secrets_as_placeholders() {
    let inventory = r#"cluster: homelab
kubernetes:
  distribution: k3s
  version: v1.36.3+k3s1
  token: { secret: server-token }
  artifact: { arm64: bin/k3s-arm64, armhf: "https://example.org/k3s-armhf" }
  checksum: { armhf: "sha256:0000000000000000000000000000000000000000000000000000000000000001" }
  config: { flannel-backend: host-gw, node-ip: "{{ node.address }}", datastore-endpoint: { env: DSN }, kubelet-arg: [max-pods=60] }
  agent_config: { kubelet-arg: [max-pods=30] }
  registries:
    mirrors: { "*": { endpoint: ["http://registry.lan:5000"] }, quay.io: }
    configs: { "registry.lan:5000": { auth: { username: pi, password: { secret: registry } } } }
  kubeconfig: { mode: "0640", context: home, path: ~/.kube/homelab }
  manifests:
    - { name: metallb, url: "https://example.org/metallb.yaml", checksum: "sha256:0000000000000000000000000000000000000000000000000000000000000002" }
    - { name: local, path: manifests/local.yaml }
roles: [r]
nodes:
  pi-[1:3]: { address: "10.0.0.{n}", kubernetes: server, taints: ["a=b:NoSchedule"] }
"#;
    let role = r#"resources:
  - command: { run: x, environment: { A: "{{ kubernetes }}", B: "{{ node.taints }}" } }
  - file: { path: /a, content: "{{ kubernetes.config | tojson }}" }
"#;
    let folder = Folder::new(&[("inventory.yaml", inventory), ("roles/r/role.yaml", role)]);
    let project = folder.good();
    let found =
        run(&project, "pi-2").unwrap_or_else(|findings| panic!("{}", folder.show(&findings)));
    let body = found[0].body.to_json();
    let placeholder = |text: &str| SecretRef::Secret(text.to_owned()).placeholder();
    let kubernetes = &body["environment"]["A"];
    assert_eq!(kubernetes["token"], placeholder("server-token"));
    assert_eq!(kubernetes["agent_token"], Value::Null);
    let path = kubernetes["artifact"]["arm64"].as_str().unwrap();
    assert_eq!(
        path,
        folder.path().join("bin/k3s-arm64").display().to_string()
    );
    assert_eq!(kubernetes["artifact"]["amd64"], Value::Null);
    assert_eq!(
        kubernetes["checksum"]["armhf"].as_str().map(str::len),
        Some(64)
    );
    assert_eq!(kubernetes["config"]["node-ip"], "10.0.0.2");
    assert_eq!(
        kubernetes["config"]["datastore-endpoint"],
        SecretRef::Env(String::from("DSN")).placeholder()
    );
    assert_eq!(
        kubernetes["agent_config"]["kubelet-arg"],
        json!(["max-pods=30"])
    );
    assert_eq!(
        kubernetes["registries"]["configs"]["registry.lan:5000"]["auth"],
        json!({ "username": "pi", "password": placeholder("registry") })
    );
    assert_eq!(kubernetes["registries"]["mirrors"]["quay.io"], Value::Null);
    assert_eq!(
        kubernetes["kubeconfig"],
        json!({ "mode": "0640", "merge": true, "context": "home", "path": "~/.kube/homelab" })
    );
    assert_eq!(kubernetes["manifests"][0]["name"], "metallb");
    assert_eq!(kubernetes["manifests"][0]["path"], Value::Null);
    assert_eq!(body["environment"]["B"], json!(["a=b:NoSchedule"]));
    // What is in the section is resolved before a run, wherever in it a secret stands.
    let secrets = project.secrets();
    for reference in [
        SecretRef::Secret(String::from("server-token")),
        SecretRef::Secret(String::from("registry")),
        SecretRef::Env(String::from("DSN")),
    ] {
        assert!(secrets.contains(&reference), "{reference}");
    }
}
