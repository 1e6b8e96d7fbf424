//! The lab of the benchmark, and what is done in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use picluster::verbs::lab::home::Home;
use picluster_lab::{Lab, LabOptions, Progress, Wait};
use picluster_model::Project;
use picluster_model::inventory::Expected;
use picluster_model::render::ClusterContext;
use picluster_model::secret::SecretValues;
use picluster_plan::build::questions;
use picluster_plan::declare;
use picluster_resource::frame::FRAME_SH;
use picluster_resource::program::PRELUDE_SH;
use picluster_resource::{Ctx, Facts, ProbeProgram};
use serde_json::Value;

use super::measure::{Spent, spent};
use super::work;
use crate::Outcome;

/// Nodes, documents, and the program under test.
pub(crate) struct Rack {
    project: Project,
    home: Home,
    lab: Lab,
    program: PathBuf,
    /// How many resources each node has.
    pub resources: usize,
    // Last, so that the lab in it has ended before it goes.
    folder: Folder,
}

/// A folder that goes with the value, also when something fails.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Rack {
    /// Boots the nodes.
    pub(crate) fn up(nodes: usize) -> Outcome<Self> {
        let folder =
            Folder(std::env::temp_dir().join(format!("picluster-bench-{}", std::process::id())));
        work::write(&folder.0, nodes)?;
        Self::boot(folder, Vec::new())
    }

    /// Boots the nodes of an inventory, with these systems (`--os` of `picluster lab up`).
    pub(crate) fn of(inventory: &str, os: &[&str]) -> Outcome<Self> {
        let folder =
            Folder(std::env::temp_dir().join(format!("picluster-bench-{}", std::process::id())));
        fs::create_dir_all(&folder.0)
            .and_then(|()| fs::copy(inventory, folder.0.join("inventory.yaml")))
            .map_err(|e| format!("cannot copy {inventory}: {e}"))?;
        Self::boot(folder, os.iter().map(ToString::to_string).collect())
    }

    fn boot(folder: Folder, os: Vec<String>) -> Outcome<Self> {
        let program = released()?;
        let project =
            picluster::project::load(&folder.0.join("inventory.yaml")).map_err(|e| say(&e))?;
        let mut options = LabOptions::from_environment().map_err(|e| e.to_string())?;
        options.state_root = folder.0.join("lab");
        let home = Home::of(&project, &options).map_err(|e| say(&e))?;
        let made = picluster::cli::LabMade {
            os,
            kubernetes: false,
            k3s: None,
        };
        let spec =
            picluster::verbs::lab::specification(&project, &made, &home).map_err(|e| say(&e))?;
        eprintln!("  booting {} nodes", project.inventory.nodes.len());
        let lab = Lab::up_foreground(&spec, &options, &mut |p| {
            if let Progress::ImageBuilding { image } = p {
                eprintln!("  building the image {image} (once, about a minute)");
            }
        })
        .map_err(|e| e.to_string())?;
        Ok(Self {
            project,
            home,
            lab,
            program,
            resources: 0,
            folder,
        })
    }

    /// New cards for all nodes, as many at once as there are processors.
    pub(crate) fn wipe(&mut self) -> Outcome {
        let names: Vec<&str> = self.names().collect();
        let crews = std::thread::available_parallelism().map_or(2, usize::from);
        let lab = &self.lab;
        std::thread::scope(|scope| {
            let share = names.len().div_ceil(crews).max(1);
            let crews: Vec<_> = names
                .chunks(share)
                .map(|names| {
                    scope.spawn(move || names.iter().try_for_each(|n| lab.wipe(n, Wait::Ready)))
                })
                .collect();
            for crew in crews {
                crew.join()
                    .map_err(|_| "a wipe panicked")?
                    .map_err(|e| e.to_string())?;
            }
            Ok::<(), String>(())
        })?;
        // New cards have new host keys, which the benchmark accepts as at first contact.
        self.home.forget_store();
        Ok(())
    }

    /// The end.
    pub(crate) fn down(self) -> Outcome {
        // Not taken apart: the folder goes after the lab in either case.
        let Self { lab, folder, .. } = self;
        let down = lab.down().map_err(|e| e.to_string());
        drop(folder);
        down
    }

    /// Those that are there.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.project
            .inventory
            .nodes
            .values()
            .filter(|node| node.expected == Expected::Present)
            .map(|node| node.name.as_str())
    }

    /// Processor seconds of all nodes so far.
    pub(crate) fn node_seconds(&self) -> Outcome<f64> {
        let each = self.names().map(|name| self.lab.node_cpu_seconds(name));
        each.sum::<Result<f64, _>>().map_err(|e| e.to_string())
    }

    /// A program inside the lab, beside the inventory.
    pub(crate) fn inside(&self, program: &Path) -> Command {
        let mut command = self.lab.controller_command(program);
        self.home.dress(&mut command, &self.project);
        command
            .env("PICLUSTER_ACCEPT_NEW", "true")
            .current_dir(&self.folder.0);
        command
    }

    fn measured(&self, command: &mut Command, peak: bool) -> Outcome<Spent> {
        let before = self.node_seconds()?;
        let mut spent = spent(command, peak)?;
        spent.node_cpu = self.node_seconds()? - before;
        Ok(spent)
    }

    /// picluster, with what it says in a file.
    pub(crate) fn picluster(&self, words: &[&str]) -> Outcome<Spent> {
        let log = self.folder.0.join("picluster.log");
        let counters = self.folder.0.join("counters.json");
        let _ = fs::remove_file(&counters);
        let out =
            fs::File::create(&log).map_err(|e| format!("cannot write {}: {e}", log.display()))?;
        let err = out.try_clone().map_err(|e| e.to_string())?;
        let mut command = self.inside(&self.program);
        // All nodes at once, as OpenSSH's clients are.
        command
            .args(words)
            .args(["--nodes-at-once", "1000"])
            .env("PICLUSTER_COUNTERS", &counters)
            .stdout(out)
            .stderr(err);
        let mut spent = self
            .measured(&mut command, true)
            .map_err(|e| format!("{e}\n{}", fs::read_to_string(&log).unwrap_or_default()))?;
        spent.wire = wire(&counters);
        Ok(spent)
    }

    /// picluster outside of what is measured; what it printed.
    pub(crate) fn aside(&self, words: &[&str]) -> Outcome<String> {
        let output = self
            .inside(&self.program)
            .args(words)
            .output()
            .map_err(|e| e.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(format!(
                "picluster {}: {}",
                words.join(" "),
                text(&output.stderr)
            ))
        }
    }

    /// What picluster printed in the act measured last.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(self.folder.0.join("picluster.log")).unwrap_or_default()
    }

    /// Another tool, started inside the lab beside the inventory, with what it says in a file.
    pub(crate) fn other(&self, mut command: Command) -> Outcome<Spent> {
        let log = self.folder.0.join("other.log");
        let out =
            fs::File::create(&log).map_err(|e| format!("cannot write {}: {e}", log.display()))?;
        let err = out.try_clone().map_err(|e| e.to_string())?;
        command.stdout(out).stderr(err);
        self.measured(&mut command, false)
            .map_err(|e| format!("{e}\n{}", fs::read_to_string(&log).unwrap_or_default()))
    }

    /// What the other tool said last.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.0.join("other.log")).unwrap_or_default()
    }

    /// What picluster said last.
    pub(crate) fn said_by_picluster(&self) -> String {
        fs::read_to_string(self.folder.0.join("picluster.log")).unwrap_or_default()
    }

    /// A file beside the inventory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.project.inventory.nodes.len()
    }

    /// picluster on this machine itself, with a home and a store of its own, and nothing to say.
    pub(crate) fn outside(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        self.home.dress(&mut command, &self.project);
        command
            .args(words)
            .env("PICLUSTER_STORE", self.folder.0.join("outside"))
            .env("PICLUSTER_ACCEPT_NEW", "true")
            .current_dir(&self.folder.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// The key all nodes let in.
    pub(crate) fn key(&self) -> String {
        self.home.key().display().to_string()
    }

    /// Writes a file beside the inventory.
    pub(crate) fn write(&self, name: &str, text: &str) -> Outcome {
        let path = self.folder.0.join(name);
        fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
    }

    /// Name, address and user of every node.
    pub(crate) fn targets(&self) -> Outcome<Vec<(String, String, String)>> {
        self.names()
            .map(|name| {
                let (address, user) = self.lab.ssh_target(name).map_err(|e| e.to_string())?;
                Ok((name.to_owned(), address.ip().to_string(), user))
            })
            .collect()
    }

    /// What every node should be, as data: lists of resources by the node's name.
    pub(crate) fn resources(&self) -> Outcome<serde_json::Map<String, Value>> {
        let facts = self.facts()?;
        let mut all = serde_json::Map::new();
        for node in self.project.inventory.nodes.values() {
            let declared = declare(
                &self.project,
                &ClusterContext::new(&self.project),
                node,
                &facts,
            )
            .map_err(|d| format!("the role of the benchmark: {d:?}"))?;
            let list: Result<Vec<Value>, _> = declared
                .iter()
                .map(|d| serde_json::to_value(&d.resource))
                .collect();
            let list = list.map_err(|e| e.to_string())?;
            all.insert(node.name.to_string(), Value::Array(list));
        }
        Ok(all)
    }

    /// One OpenSSH client a node, all at once.
    pub(crate) fn ssh_everywhere(&self, remote: &str, input: Option<&str>) -> Outcome<Spent> {
        self.ssh(self.names(), remote, input)
    }

    /// The same on the first node alone.
    pub(crate) fn ssh_first(&self, remote: &str, input: Option<&str>) -> Outcome<Spent> {
        self.ssh(self.names().take(1), remote, input)
    }

    fn ssh<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        remote: &str,
        input: Option<&str>,
    ) -> Outcome<Spent> {
        let input = input.map_or_else(
            || "/dev/null".to_owned(),
            |file| self.folder.0.join(file).display().to_string(),
        );
        let key = self.home.key().display().to_string();
        let mut script = String::new();
        for name in names {
            let (address, user) = self.lab.ssh_target(name).map_err(|e| e.to_string())?;
            script.push_str(&format!(
                "ssh -F none -i {key} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no \
                 -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR {user}@{} '{remote}' <{input} >/dev/null || echo {name} &\n",
                address.ip()
            ));
        }
        script.push_str("wait\n");
        let lost = self.folder.0.join("lost");
        let out =
            fs::File::create(&lost).map_err(|e| format!("cannot write {}: {e}", lost.display()))?;
        let mut command = self.inside(Path::new("sh"));
        command.args(["-c", &script]).stdout(out);
        let spent = self.measured(&mut command, false)?;
        let lost = fs::read_to_string(&lost).unwrap_or_default();
        if lost.is_empty() {
            Ok(spent)
        } else {
            Err(format!(
                "ssh failed on {}",
                lost.split_whitespace().collect::<Vec<_>>().join(", ")
            ))
        }
    }

    /// The bridge's port of the first node, in the lab's network: the node's number names it.
    pub(crate) fn first_port(&self) -> &'static str {
        "p0"
    }

    /// What every act pays for being started inside the lab.
    pub(crate) fn entry(&self) -> Outcome<Spent> {
        self.measured(&mut self.inside(Path::new("true")), false)
    }

    fn first(&self) -> Outcome<&picluster_model::inventory::Node> {
        let mut nodes = self.project.inventory.nodes.values();
        nodes.next().ok_or_else(|| "no nodes".to_owned())
    }

    /// The facts of the first node.
    fn facts(&self) -> Outcome<Facts> {
        let node = self.first()?;
        let output = self
            .inside(&self.program)
            .args(["facts", "--json", "--on", node.name.as_str()])
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| e.to_string())?;
        let all: Value = serde_json::from_slice(&output.stdout)
            .map_err(|e| format!("picluster facts --json: {e}"))?;
        let facts = &all["nodes"][node.name.as_str()]["observed"]["facts"];
        serde_json::from_value(facts.clone())
            .map_err(|e| format!("picluster facts --json: {e}: {all}"))
    }

    /// Writes the probe program of the first node: the very questions that picluster asks.
    pub(crate) fn ask_what_is_probed(&mut self) -> Outcome {
        let node = self.first()?;
        let facts = self.facts()?;
        let declared = declare(
            &self.project,
            &ClusterContext::new(&self.project),
            node,
            &facts,
        )
        .map_err(|d| format!("the role of the benchmark: {d:?}"))?;
        let secrets = SecretValues::default();
        let ctx = Ctx {
            facts: &facts,
            secrets: &secrets,
        };
        let program = ProbeProgram::new(questions(&declared, ctx));
        self.resources = declared.len();
        let path = self.folder.0.join(work::PROBE);
        fs::write(&path, format!("{FRAME_SH}{PRELUDE_SH}{}", program.script))
            .map_err(|e| format!("cannot write {}: {e}", path.display()))
    }
}

/// Per node: connections, sessions, round trips.
fn wire(counters: &Path) -> Option<[f64; 3]> {
    let counted: Value = serde_json::from_str(&fs::read_to_string(counters).ok()?).ok()?;
    let nodes = counted.get("nodes")?.as_object()?;
    let sum = |what: &str| -> f64 { nodes.values().filter_map(|n| n.get(what)?.as_f64()).sum() };
    #[allow(clippy::cast_precision_loss, reason = "a few hundred at most")]
    let each = nodes.len().max(1) as f64;
    Some([
        sum("connections") / each,
        sum("execs") / each,
        sum("round_trips") / each,
    ])
}

/// The release build, beside this program's own profile.
fn released() -> Outcome<PathBuf> {
    let own =
        std::env::current_exe().map_err(|e| format!("cannot find this program's own file: {e}"))?;
    let program = own
        .ancestors()
        .nth(2)
        .map(|t| t.join("release/picluster"))
        .unwrap_or_default();
    if program.exists() {
        Ok(program)
    } else {
        Err(format!("{} is not built", program.display()))
    }
}

fn say(failure: &picluster::error::Failure) -> String {
    format!("{failure}: {:?}", failure.diagnostics)
}
