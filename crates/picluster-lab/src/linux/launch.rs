//! Starting a lab from the caller's process, and removing what it leaves on disk.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::process::{Child, Command, Stdio};

use crate::error::LabError;
use crate::image::{self, Tree};
use crate::lab::{Lab, Record};
use crate::linux::cgroup::{self, Way};
use crate::linux::keeper::{KeeperOrder, STAY};
use crate::linux::preflight::raise_inotify;
use crate::linux::userns::{Mapping, self_path};
use crate::options::{LabDir, LabOptions};
use crate::progress::{Progress, StartLine};
use crate::spec::{LabSpec, NodeSpec};

/// See [`Lab::up`].
pub(crate) fn start(
    spec: &LabSpec,
    options: &LabOptions,
    foreground: bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Lab, LabError> {
    spec.validate()?;
    let name = spec.name.as_str();
    if Lab::open(name, options).is_ok() {
        return Err(LabError::AlreadyRunning {
            name: name.to_owned(),
        });
    }
    let present = spec.nodes.iter().filter(|n| !n.absent);
    let nodes = present.clone().count();
    if let Some(text) = raise_inotify(nodes) {
        progress(Progress::Notice { text });
    }
    let mut missing = crate::preflight(nodes);
    if present.clone().any(NodeSpec::is_vm) {
        missing.extend(crate::vm::preflight::to_run());
    }
    if !missing.is_empty() {
        return Err(LabError::Missing(missing));
    }
    let mut wanted: BTreeSet<Tree> = present.map(Tree::of).collect();
    wanted.extend(spec.programs());
    let mut images = Vec::new();
    for tree in wanted {
        images.push((tree, image::ensure(tree, options, progress)?.directory));
    }
    let dir = options.lab_dir(name);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir.root)
        .map_err(LabError::io(format!("create {}", dir.root.display())))?;
    let order = KeeperOrder {
        spec: spec.clone(),
        dir: dir.root.clone(),
        apt: options.apt_dir(),
        program: options.program.clone(),
        images,
        ready_seconds: options.ready_timeout.as_secs(),
    };
    let mut keeper = spawn(&order, &dir, name)?;
    let failed = match follow(&mut keeper, progress) {
        None => match read_record(&dir) {
            Some(record) => {
                let keeper = if foreground {
                    Some(keeper)
                } else {
                    if let Some(mut stdin) = keeper.stdin.take() {
                        let _ = writeln!(stdin, "{STAY}");
                    }
                    // Outlives this process, or is reaped by it.
                    std::thread::spawn(move || keeper.wait());
                    None
                };
                return Ok(Lab::new(options.clone(), dir, record, keeper));
            }
            None => "it left no record of itself".to_owned(),
        },
        Some(what) => what,
    };
    drop(keeper.stdin.take());
    let _ = keeper.wait();
    Err(LabError::Start {
        name: name.to_owned(),
        what: failed,
        log: dir.log(),
    })
}

fn spawn(order: &KeeperOrder, dir: &LabDir, name: &str) -> Result<Child, LabError> {
    let of = |what: String| LabError::Start {
        name: name.to_owned(),
        what,
        log: dir.log(),
    };
    let log =
        File::create(dir.log()).map_err(LabError::io(format!("create {}", dir.log().display())))?;
    let (mut command, scope) = match cgroup::way().map_err(|t| of(t.0))? {
        Way::Below(_) => (Command::new(&order.program), false),
        Way::Scope { user } => {
            let mut command = Command::new(self_path("systemd-run"));
            if user {
                command.arg("--user");
            }
            command
                .args([
                    "--scope",
                    "--quiet",
                    "--collect",
                    "--property=Delegate=yes",
                    "--",
                ])
                .arg(&order.program);
            (command, true)
        }
    };
    command.args([crate::INTERNAL_ARGUMENT, "keeper"]);
    if scope {
        command.arg("scope");
    }
    let mut keeper = command
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(LabError::io("start the lab's keeper"))?;
    let mut line = serde_json::to_vec(order).map_err(|e| of(e.to_string()))?;
    line.push(b'\n');
    if let Some(mut stdin) = keeper.stdin.take() {
        // A keeper that ended early says why on its stdout.
        let _ = stdin.write_all(&line);
        keeper.stdin = Some(stdin);
    }
    Ok(keeper)
}

/// Passes progress on until the lab is ready (`None`) or has failed.
fn follow(keeper: &mut Child, progress: &mut dyn FnMut(Progress)) -> Option<String> {
    let mut why = None;
    if let Some(out) = keeper.stdout.take() {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(StartLine::Progress(p)) => progress(p),
                Ok(StartLine::Ready) => return None,
                Ok(StartLine::Failed { what }) => why = Some(what),
                Err(_) => {}
            }
        }
    }
    Some(why.unwrap_or_else(|| "its keeper ended without a word".into()))
}

fn read_record(dir: &LabDir) -> Option<Record> {
    serde_json::from_slice(&fs::read(dir.record()).ok()?).ok()
}

/// Removes a lab's directory. Its nodes' files may belong to ids only its user namespace can remove.
pub(crate) fn remove_dir(dir: &LabDir, options: &LabOptions, name: &str) -> Result<(), LabError> {
    let of = |what: String| LabError::Lab {
        name: name.to_owned(),
        what: format!("its files are still in {}: {what}", dir.root.display()),
    };
    if !dir.root.exists() {
        return Ok(());
    }
    if dir.inner().exists() {
        let mapping = Mapping::mine().map_err(|t| of(t.0))?;
        image::remove_tree(&dir.inner(), &mapping, options).map_err(|t| of(t.0))?;
    }
    fs::remove_dir_all(&dir.root).map_err(|e| of(e.to_string()))
}
