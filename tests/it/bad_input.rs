//! Every kind of bad input, through the program: one clear error at the right line, before any
//! connection, and nothing written.

use std::net::TcpListener;

use crate::rig::Desk;

/// A mistake, and what is said of it.
struct Bad {
    name: &'static str,
    /// `inventory.yaml`; `NODE` stands for an address somebody listens at.
    inventory: &'static str,
    /// Other files.
    files: &'static [(&'static str, &'static str)],
    /// Parts of what is said: the message, and the place or the cure.
    said: &'static [&'static str],
}

const NONE: &[(&str, &str)] = &[];

/// A role with one entry.
const NOT_A_CONSTANT: &str = "resources:\n  - file: { path: /etc/x, content: x }\n    when: facts.kernel.page_size == 4096\n";
const CIRCLE: &str = "resources:\n  - file: { path: /etc/x, content: x }\n    id: a\n    needs: [b]\n  - file: { path: /etc/y, content: y }\n    id: b\n    needs: [a]\n";
const BROKEN_FILE: &str = "resources:\n  - file: { path: /etc/x, template: x.j2 }\n";
const UNKNOWN_PARAMETER: &str =
    "resources:\n  - file: { path: /etc/x, content: \"{{ params.nope }}\" }\n";

const ALL: &[Bad] = &[
    Bad {
        name: "unknown field",
        inventory: "cluster: c\nnodes:\n  a: { NODE, adress: 1 }\n",
        files: NONE,
        said: &[
            "unknown field `adress`",
            "inventory.yaml:3:",
            "did you mean `address`?",
        ],
    },
    Bad {
        name: "wrong type",
        inventory: "cluster: c\nnodes:\n  a: { NODE }\n  b: { address: b.lan, ssh: { port: many } }\n",
        files: NONE,
        said: &["`port` must be a whole number", "inventory.yaml:4:37"],
    },
    Bad {
        name: "duplicate node",
        inventory: "cluster: c\nnodes:\n  a: { NODE }\n  a: { address: b.lan }\n",
        files: NONE,
        said: &["`a` is given twice", "inventory.yaml:4:3", "first here"],
    },
    Bad {
        name: "duplicate node of a range",
        inventory: "cluster: c\nnodes:\n  a2: { NODE }\n  a[1:2]: { address: \"b{n}.lan\" }\n",
        files: NONE,
        said: &["node a2 is given twice", "inventory.yaml:4:3"],
    },
    Bad {
        name: "folder of packages without one",
        inventory: "cluster: c\npackages: { folder: debs }\nroles: [base]\nnodes:\n  a: { NODE }\n",
        files: &[("debs/readme", "none yet\n")],
        said: &[
            "no .deb is in",
            "inventory.yaml:2:21",
            "apt-get download PACKAGE",
        ],
    },
    Bad {
        name: "package that does not say what it is for, and nobody takes",
        inventory: "cluster: c\npackages: { folder: debs }\nnodes:\n  a: { NODE }\n",
        files: &[("debs/nfs-common.deb", "a package\n")],
        said: &[
            "nfs-common.deb does not say which machines it is for",
            "no node installs from this folder",
            "add role `base`",
        ],
    },
    Bad {
        name: "duplicate address",
        inventory: "cluster: c\nnodes:\n  a: { NODE }\n  b: { NODE }\n",
        files: NONE,
        said: &[
            "a and b have the same address",
            "inventory.yaml:4:17",
            "of a",
        ],
    },
    Bad {
        name: "unknown role",
        inventory: "cluster: c\nroles: [bse]\nnodes:\n  a: { NODE }\n",
        files: NONE,
        said: &[
            "unknown role `bse`",
            "inventory.yaml:2:9",
            "did you mean `base`?",
        ],
    },
    Bad {
        name: "role without role.yaml, also in front of a built-in one",
        inventory: "cluster: c\nroles: [base]\nnodes:\n  a: { NODE }\n",
        files: &[("roles/base/role.yml", "resources: []\n")],
        said: &["roles/base has no file role.yaml", "inventory.yaml:2:9"],
    },
    Bad {
        name: "unknown group",
        inventory: "cluster: c\ngroups: { nvme: {} }\nnodes:\n  a: { NODE, groups: [nvm] }\n",
        files: NONE,
        said: &[
            "unknown group `nvm`",
            "inventory.yaml:4:",
            "did you mean `nvme`?",
        ],
    },
    Bad {
        name: "unknown variable",
        inventory: "cluster: c\nvars: { a: \"{{ vars.mising }}\", missing: 1 }\nnodes:\n  a: { NODE }\n",
        files: NONE,
        said: &[
            "unknown variable `mising`",
            "inventory.yaml:2:16",
            "did you mean `missing`?",
        ],
    },
    Bad {
        name: "unknown parameter",
        inventory: "cluster: c\nroles: [r]\nnodes:\n  a: { NODE }\n",
        files: &[("roles/r/role.yaml", UNKNOWN_PARAMETER)],
        said: &["unknown parameter `nope`", "roles/r/role.yaml:2:40"],
    },
    Bad {
        name: "circle of variables",
        inventory: "cluster: c\nvars: { a: \"{{ vars.b }}\", b: \"{{ vars.a }}\" }\nnodes:\n  a: { NODE }\n",
        files: NONE,
        said: &[
            "in a circle: vars.a → vars.b → vars.a",
            "inventory.yaml:2:12",
        ],
    },
    Bad {
        name: "circle of jump hosts",
        inventory: "cluster: c\nnodes:\n  a: { NODE, jump: b }\n  b: { address: b.lan, ssh: { jump: a } }\n",
        files: NONE,
        said: &["jump hosts go in a circle: a → b → a", "inventory.yaml:3:"],
    },
    Bad {
        name: "circle of entries",
        inventory: "cluster: c\nroles: [r]\nnodes:\n  a: { NODE }\n",
        files: &[("roles/r/role.yaml", CIRCLE)],
        said: &[
            "entries need each other in a circle: a → b → a",
            "roles/r/role.yaml:4:13",
        ],
    },
    Bad {
        name: "template error",
        inventory: "cluster: c\nvars: { a: \"{{ 'x' | nofilter }}\", b: \"{{ 1 +\" }\nnodes:\n  a: { NODE }\n",
        files: NONE,
        said: &[
            "unknown filter `nofilter`",
            "inventory.yaml:2:22",
            "template syntax",
            "inventory.yaml:2:45",
        ],
    },
    Bad {
        name: "template error in a file",
        inventory: "cluster: c\nroles: [r]\nnodes:\n  a: { NODE }\n",
        files: &[
            ("roles/r/role.yaml", BROKEN_FILE),
            ("roles/r/templates/x.j2", "a\n{% if x %}\n"),
        ],
        said: &["template syntax", "roles/r/templates/x.j2:2:"],
    },
    Bad {
        name: "bad network",
        inventory: "cluster: c\nkubernetes: { distribution: k3s, version: v1.33.5+k3s1, cluster_cidr: 10.42.0.0/33 }\nnodes:\n  a: { NODE, kubernetes: server }\n",
        files: NONE,
        said: &["\"10.42.0.0/33\" is not a network", "inventory.yaml:2:71"],
    },
    Bad {
        name: "bad version",
        inventory: "cluster: c\nkubernetes: { distribution: k3s, version: v1.33.5 }\nnodes:\n  a: { NODE, kubernetes: server }\n",
        files: NONE,
        said: &[
            "is not a release of k3s",
            "inventory.yaml:2:43",
            "v1.33.5+k3s1",
        ],
    },
    Bad {
        name: "a condition over what apply changes",
        inventory: "cluster: c\nroles: [r]\nnodes:\n  a: { NODE }\n",
        files: &[("roles/r/role.yaml", NOT_A_CONSTANT)],
        said: &[
            "unknown fact `facts.kernel`",
            "roles/r/role.yaml:3:11",
            "what no apply changes",
        ],
    },
    Bad {
        name: "empty file",
        inventory: "# nothing yet\n",
        files: NONE,
        said: &[
            "inventory.yaml is empty",
            "the smallest inventory is `{ cluster: home",
        ],
    },
    Bad {
        name: "empty role",
        inventory: "cluster: c\nroles: [r]\nnodes:\n  a: { NODE }\n",
        files: &[("roles/r/role.yaml", "")],
        said: &["roles/r/role.yaml is empty"],
    },
    Bad {
        name: "alias bomb",
        inventory: "cluster: c\nvars:\n  a: &a [x, x, x, x, x, x, x, x, x, x]\n  b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n  c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\n  d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n  e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\n  f: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e, *e]\nnodes:\n  a: { NODE }\n",
        files: NONE,
        said: &["aliases expand to more than", "inventory.yaml:8:"],
    },
    Bad {
        name: "tab",
        inventory: "cluster: c\nnodes:\n\ta: { NODE }\n",
        files: NONE,
        said: &["a tab is used for indentation", "inventory.yaml:3:1"],
    },
    Bad {
        name: "second document",
        inventory: "cluster: c\nnodes:\n  a: { NODE }\n---\ncluster: d\n",
        files: NONE,
        said: &["a second document begins here", "inventory.yaml:4:1"],
    },
    Bad {
        name: "node without an address",
        inventory: "cluster: c\nnodes:\n  a: { NODE }\n  b: { groups: [] }\n",
        files: NONE,
        said: &["`b` has no `address`", "inventory.yaml:4:3"],
    },
    Bad {
        name: "address that is none",
        inventory: "cluster: c\nnodes:\n  a: { NODE }\n  b: { address: 300.1.1.1 }\n",
        files: NONE,
        said: &["\"300.1.1.1\" is not an address", "inventory.yaml:4:17"],
    },
    Bad {
        name: "two servers",
        inventory: "cluster: c\nkubernetes: { distribution: k3s, version: v1.33.5+k3s1 }\nnodes:\n  a: { NODE, kubernetes: server }\n  b: { address: b.lan, kubernetes: server }\n",
        files: NONE,
        said: &[
            "two servers: when either is down, both stop",
            "inventory.yaml:5:36",
            "declare 1 or 3 servers",
        ],
    },
    Bad {
        name: "address in the network of pods",
        inventory: "cluster: c\nkubernetes: { distribution: k3s, version: v1.33.5+k3s1 }\nnodes:\n  a: { NODE, kubernetes: server }\n  b: { address: 10.42.3.4, kubernetes: agent }\n",
        files: NONE,
        said: &[
            "the address of b lies in the network of pods, 10.42.0.0/16",
            "inventory.yaml:5:17",
            "cluster_cidr",
        ],
    },
    Bad {
        name: "address in the network of services",
        inventory: "cluster: c\nkubernetes: { distribution: k3s, version: v1.33.5+k3s1, service_cidr: 192.168.0.0/16 }\nnodes:\n  a: { NODE, kubernetes: server }\n  b: { address: 192.168.2.2, kubernetes: agent }\n",
        files: NONE,
        said: &[
            "the address of b lies in the network of services, 192.168.0.0/16",
            "inventory.yaml:5:17",
            "service_cidr",
        ],
    },
    Bad {
        name: "bad label",
        inventory: "cluster: c\nkubernetes: { distribution: k3s, version: v1.33.5+k3s1 }\nnodes:\n  a: { NODE, kubernetes: server }\n  b:\n    address: b.lan\n    kubernetes: agent\n    labels: { -disk: nvme }\n",
        files: NONE,
        said: &["-disk", "inventory.yaml:8:15"],
    },
    Bad {
        name: "bad taint",
        inventory: "cluster: c\nkubernetes: { distribution: k3s, version: v1.33.5+k3s1 }\nnodes:\n  a: { NODE, kubernetes: server }\n  b:\n    address: b.lan\n    kubernetes: agent\n    taints: [slow=yes:Never]\n",
        files: NONE,
        said: &["slow=yes:Never", "NoSchedule", "inventory.yaml:8:14"],
    },
    Bad {
        name: "a key of k3s that is picluster's",
        inventory: "cluster: c\nkubernetes: { distribution: k3s, version: v1.33.5+k3s1, config: { node-label: [a=b] } }\nnodes:\n  a: { NODE, kubernetes: server }\n",
        files: NONE,
        said: &[
            "`node-label` is picluster's to decide",
            "inventory.yaml:2:",
            "write `labels` on the node or its group",
        ],
    },
];

/// Somebody who would notice being called.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    (
        listener,
        format!("address: 127.0.0.1, ssh: {{ port: {port} }}"),
    )
}

/// What a refused run has to look like; `what` for messages of the test.
#[track_caller]
fn refused(desk: &Desk, verb: &str, what: &str, said: &[&str], called: &TcpListener) {
    let before = files(desk);
    let ran = desk.run(&[verb]).expect(1);
    for part in said.iter().chain(&["no node was contacted"]) {
        assert!(
            ran.err.contains(part),
            "{what}, {verb}: {part:?} is missing in:\n{}",
            ran.err
        );
    }
    assert_eq!(ran.out, "", "{what}, {verb}");
    assert_eq!(files(desk), before, "{what}, {verb}: something was written");
    let nobody = called.accept().map_err(|e| e.kind());
    assert!(
        matches!(nobody, Err(std::io::ErrorKind::WouldBlock)),
        "{what}, {verb}: a node was called"
    );
}

fn files(desk: &Desk) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![desk.path().to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.display().to_string());
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_mistake_is_named_at_its_line_before_any_connection() {
    let (called, address) = listener();
    for bad in ALL {
        // A jump is one more ssh setting of the same node.
        let text = bad
            .inventory
            .replace("NODE, jump: b", &address.replace(" }", ", jump: b }"));
        let desk = Desk::new(&text.replace("NODE", &address));
        for (path, text) in bad.files {
            desk.write(path, text);
        }
        for verb in ["validate", "plan", "apply"] {
            refused(&desk, verb, bad.name, bad.said, &called);
        }
    }
}

/// Without a mistake the node is called: the test above would notice.
#[test]
fn who_makes_no_mistake_gets_through() {
    let (called, address) = listener();
    let desk = Desk::new(&format!("cluster: c\nnodes:\n  a: {{ {address} }}\n"));
    desk.run(&["validate"]).expect(0);
    assert!(called.accept().is_err());
    let hang_up = std::thread::spawn(move || {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while std::time::Instant::now() < until {
            if called.accept().is_ok() {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        false
    });
    let ran = desk.run(&["plan", "--accept-new"]);
    assert_ne!(ran.code, 1, "{}", ran.err);
    assert!(hang_up.join().unwrap(), "nobody called:\n{}", ran.err);
}

#[test]
fn what_is_no_file_of_text_is_named_with_the_cure() {
    let (called, _) = listener();
    let folder = Desk::new("");
    std::fs::remove_file(folder.inventory()).unwrap();
    std::fs::create_dir(folder.inventory()).unwrap();
    let said = &[
        "inventory.yaml is a directory, not a file",
        "name the file in it",
    ];
    refused(&folder, "plan", "directory", said, &called);

    let bytes = Desk::new("");
    std::fs::write(bytes.inventory(), b"cluster: c\nnodes: {}\n# \xe9\n").unwrap();
    let said = &[
        "inventory.yaml is not UTF-8 text (line 3)",
        "save the file as UTF-8",
    ];
    refused(&bytes, "plan", "not UTF-8", said, &called);

    let missing = Desk::new("");
    std::fs::remove_file(missing.inventory()).unwrap();
    let said = &["inventory.yaml does not exist", "the smallest is"];
    refused(&missing, "plan", "missing", said, &called);
}
