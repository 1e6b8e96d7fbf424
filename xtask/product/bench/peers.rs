//! Other tools doing the same work on the same nodes: Ansible (pipelining, as many forks as nodes), the same with
//! Mitogen, and pyinfra, each in a throw-away environment below `target/`.
//!
//! What they need on the nodes (Python) is put there before, and is not counted; so is what makes a node blank again:
//! the work of one tool is undone by a script of our own before the next one starts.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::figures::Figures;
use super::measure::Spent;
use super::rack::Rack;
use super::{load, work};
use crate::Outcome;

/// The tools, their names in the table, and what design and documents promise: unchanged, from blank.
const TOOLS: [(Tool, &str, &str, f64, f64); 3] = [
    (
        Tool::Ansible,
        "Ansible, from blank",
        "Ansible, unchanged",
        60.0,
        20.0,
    ),
    (
        Tool::Mitogen,
        "Ansible + Mitogen, from blank",
        "Ansible + Mitogen, unchanged",
        25.0,
        8.0,
    ),
    (
        Tool::Pyinfra,
        "pyinfra, from blank",
        "pyinfra, unchanged",
        10.0,
        4.0,
    ),
];
const OURS: (&str, &str) = ("picluster apply, from blank", "picluster apply, unchanged");

const DEPLOY: &str = include_str!("peers/deploy.py");
/// Python, and what Ansible's `apt` module is made of.
const PYTHON: &str = "sudo -n sh -c \"apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
                      install python3 python3-apt\" >/dev/null 2>&1";

#[derive(Clone, Copy)]
enum Tool {
    Ansible,
    Mitogen,
    Pyinfra,
}

/// Measures all of them, and returns a page.
pub(crate) fn measure(nodes: usize, runs: usize) -> Outcome<String> {
    let environment = environment()?;
    let rack = Rack::up(nodes)?;
    eprintln!("  Python for the nodes (not counted)");
    rack.ssh_everywhere(PYTHON, None)?;
    let mut figures = Figures::new(nodes, runs);
    for round in 1..=runs {
        let note = |figures: &mut Figures, name: &'static str, spent: Spent| {
            eprintln!(
                "  {nodes} nodes, round {round} of {runs}: {name}: {:.2} s",
                spent.wall
            );
            figures.add(name, spent);
        };
        blank(&rack)?;
        note(&mut figures, OURS.0, rack.picluster(&["apply", "--yes"])?);
        figures.resources = write(&rack)?;
        load::settle(|| rack.node_seconds())?;
        note(&mut figures, OURS.1, rack.picluster(&["apply", "--yes"])?);
        for (tool, first, second, ..) in TOOLS {
            blank(&rack)?;
            for name in [first, second] {
                let spent = rack.other(environment.start(tool, &rack, nodes))?;
                note(&mut figures, name, spent);
                let said = rack.said();
                if name == second && said.contains("changed=") && changed(&said) {
                    eprintln!("  {name}: it was not unchanged:\n{said}");
                }
                load::settle(|| rack.node_seconds())?;
            }
        }
    }
    let page = figures.table(OURS.1) + &ratios(&figures);
    rack.down()?;
    Ok(page)
}

fn ratios(figures: &Figures) -> String {
    let mut list = String::from("\n");
    for (_, first, second, unchanged, from_blank) in TOOLS {
        for (name, ours, wanted) in [(second, OURS.1, unchanged), (first, OURS.0, from_blank)] {
            let times = figures.wall(name) / figures.wall(ours);
            let verdict = if times >= wanted {
                "kept"
            } else {
                "**missed**"
            };
            list.push_str(&format!(
                "- {verdict}: {name}: {times:.1} × as long, budget {wanted:.0} ×\n"
            ));
        }
    }
    list
}

/// Whether Ansible's recap speaks of changes.
fn changed(said: &str) -> bool {
    said.split("changed=")
        .skip(1)
        .any(|rest| !rest.starts_with("0 "))
}

/// Undoes the work of whichever tool did it.
fn blank(rack: &Rack) -> Outcome {
    rack.write(work::BLANK, work::BLANK_SH)?;
    rack.ssh_everywhere("sudo -n sh -s", Some(work::BLANK))?;
    load::settle(|| rack.node_seconds())
}

/// Where the tools are.
struct Environment {
    bin: PathBuf,
    mitogen: PathBuf,
}

/// Installs the tools once, from the index pip is set up with.
fn environment() -> Outcome<Environment> {
    let own =
        std::env::current_exe().map_err(|e| format!("cannot find this program's own file: {e}"))?;
    let target = own
        .ancestors()
        .nth(2)
        .ok_or("this program stands outside of target/")?;
    let home = target.join("peers/venv");
    let bin = home.join("bin");
    if !bin.join("pyinfra").exists() || !bin.join("ansible-playbook").exists() {
        let run = |command: &mut Command| match command.status() {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("{}: {other:?}", command.get_program().display())),
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
        run(Command::new(bin.join("pip")).args([
            "install",
            "--quiet",
            "ansible-core",
            "mitogen",
            "pyinfra",
        ]))?;
    }
    let found = Command::new(bin.join("python"))
        .args([
            "-c",
            "import ansible_mitogen, os; print(os.path.dirname(ansible_mitogen.__file__))",
        ])
        .output()
        .map_err(|e| format!("{}: {e}", bin.join("python").display()))?;
    let mitogen =
        PathBuf::from(String::from_utf8_lossy(&found.stdout).trim()).join("plugins/strategy");
    if mitogen.is_dir() {
        Ok(Environment { bin, mitogen })
    } else {
        Err(format!(
            "{} holds no Mitogen; remove it and start again",
            home.display()
        ))
    }
}

/// Writes inventories, playbook and deploy beside ours, made from our own resources.
fn write(rack: &Rack) -> Outcome<usize> {
    let all = rack.resources()?;
    let count = all
        .values()
        .next()
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    let mut hosts = Map::new();
    let mut list = Vec::new();
    for (name, address, user) in rack.targets()? {
        let host = json!({ "ansible_host": address, "ansible_user": user });
        hosts.insert(name.clone(), host);
        let data = json!({ "ssh_hostname": address, "ssh_user": user, "ssh_key": rack.key(),
            "ssh_strict_host_key_checking": "no", "ssh_known_hosts_file": "/dev/null" });
        list.push(format!("    ({name:?}, {data}),\n"));
    }
    // The work differs in the node's name alone, which a template of theirs puts in, too.
    let (first, resources) = all.iter().next().ok_or("no nodes")?;
    let mut tasks = Vec::new();
    for resource in resources.as_array().into_iter().flatten() {
        tasks.extend(ansible(resource)?);
    }
    let play = json!([{ "hosts": "all", "become": true, "gather_facts": false, "tasks": tasks }]);
    let play = play
        .to_string()
        .replace(first.as_str(), "{{ inventory_hostname }}");
    rack.write(
        "hosts.json",
        &json!({ "all": { "hosts": hosts } }).to_string(),
    )?;
    rack.write("play.yml", &play)?;
    rack.write("hosts.py", &format!("nodes = [\n{}]\n", list.concat()))?;
    rack.write("resources.json", &Value::Object(all).to_string())?;
    rack.write("deploy.py", DEPLOY)?;
    Ok(count)
}

/// A resource in the words of Ansible's own modules (those of ansible-core).
fn ansible(resource: &Value) -> Outcome<Vec<Value>> {
    let (kind, r) = resource
        .as_object()
        .and_then(|o| o.iter().next())
        .ok_or_else(|| format!("{resource} is no resource"))?;
    let text = |key: &str| r.get(key).and_then(Value::as_str).unwrap_or_default();
    Ok(match kind.as_str() {
        "hostname" => vec![json!({ "hostname": { "name": r["name"], "use": "systemd" } })],
        "timezone" => vec![
            json!({ "file": { "src": format!("/usr/share/zoneinfo/{}", text("name")), "dest": "/etc/localtime", "state": "link", "force": true } }),
            json!({ "copy": { "content": format!("{}\n", text("name")), "dest": "/etc/timezone" } }),
        ],
        "line" => {
            let mut task = json!({ "path": r["path"], "line": r["line"] });
            if !text("match").is_empty() {
                task["regexp"] = r["match"].clone();
            }
            vec![json!({ "lineinfile": task })]
        }
        "block" => vec![json!({ "blockinfile": { "path": r["path"], "block": r["content"] } })],
        "ini" => vec![
            json!({ "lineinfile": { "path": r["path"], "line": format!("{}={}", text("key"), text("value")),
            "regexp": format!("^#?{}=", text("key")), "insertafter": format!("^\\[{}\\]", text("section")) } }),
        ],
        "group" => vec![json!({ "group": { "name": r["name"] } })],
        "user" => vec![
            json!({ "user": { "name": r["name"], "groups": r["groups"], "append": true, "shell": r["shell"] } }),
        ],
        "authorized_keys" => {
            let (user, home) = (text("user"), format!("/home/{}/.ssh", text("user")));
            vec![
                json!({ "file": { "path": home, "state": "directory", "owner": user, "group": user, "mode": "0700" } }),
                json!({ "lineinfile": { "path": format!("{home}/authorized_keys"), "line": r["keys"][0], "create": true,
                    "owner": user, "group": user, "mode": "0600" } }),
            ]
        }
        "directory" => vec![
            json!({ "file": { "path": r["path"], "state": "directory", "mode": r["mode"], "owner": r["owner"], "group": r["group"] } }),
        ],
        "file" => {
            let mut task = json!({ "dest": r["path"], "content": r["content"], "mode": r["mode"], "owner": r["owner"], "group": r["group"] });
            if !text("validate").is_empty() {
                task["validate"] = text("validate").replace("{}", "%s").into();
            }
            vec![json!({ "copy": task })]
        }
        "link" => {
            vec![json!({ "file": { "src": r["target"], "dest": r["path"], "state": "link" } })]
        }
        // Its module is not among those of ansible-core.
        "sysctl" => vec![
            json!({ "copy": { "dest": r["file"], "content": format!("{} = {}\n", text("key"), text("value")) } }),
            json!({ "shell": format!("[ \"$(sysctl -n {0})\" = {1} ] || sysctl -w {0}={1}", text("key"), text("value")), "changed_when": false }),
        ],
        "package" => vec![json!({ "apt": { "name": r["names"] } })],
        "unit" => vec![
            json!({ "systemd_service": { "name": r["name"], "enabled": true, "state": "started" } }),
        ],
        "command" => vec![json!({ "command": { "cmd": r["run"], "creates": r["creates"] } })],
        other => return Err(format!("there are no words of Ansible's for {other}")),
    })
}

impl Environment {
    /// The command line and its environment.
    fn start(&self, tool: Tool, rack: &Rack, nodes: usize) -> Command {
        if let Tool::Pyinfra = tool {
            let mut command = rack.inside(&self.bin.join("pyinfra"));
            command.args([
                "-y",
                "--parallel",
                &nodes.to_string(),
                "hosts.py",
                "deploy.py",
            ]);
            return command;
        }
        let mut command = rack.inside(&self.bin.join("ansible-playbook"));
        command
            .args(["-i", "hosts.json", "play.yml"])
            .env("ANSIBLE_FORKS", nodes.to_string())
            .env("ANSIBLE_PIPELINING", "True")
            .env("ANSIBLE_HOST_KEY_CHECKING", "False")
            .env("ANSIBLE_PRIVATE_KEY_FILE", rack.key())
            .env("ANSIBLE_PYTHON_INTERPRETER", "/usr/bin/python3")
            .env("LC_ALL", "C.UTF-8");
        if let Tool::Mitogen = tool {
            command
                .env("ANSIBLE_STRATEGY_PLUGINS", &self.mitogen)
                .env("ANSIBLE_STRATEGY", "mitogen_linear");
        }
        command
    }
}
