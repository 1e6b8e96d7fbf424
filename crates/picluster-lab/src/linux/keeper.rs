//! The outermost process of a lab: owns its life, its way out for apt, and the cleaning up.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::control::short;
use crate::error::{Attempt, Trouble};
use crate::image::{Tree, recipe};
use crate::lab::Record;
use crate::linux::cgroup::LabCgroup;
use crate::linux::supervisor::SupervisorOrder;
use crate::linux::userns::{Mapping, UserNs, self_path};
use crate::linux::{procs, stage};
use crate::options::LabDir;
use crate::progress::StartLine;
use crate::proxy::{Cache, serve_unix};
use crate::spec::{LabSpec, NodeSpec};

/// Everything the keeper is told, as the first line of its input: passwords are in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeeperOrder {
    pub spec: LabSpec,
    pub dir: PathBuf,
    pub apt: PathBuf,
    pub program: PathBuf,
    pub images: Vec<(Tree, PathBuf)>,
    pub ready_seconds: u64,
}

/// What the starter says when the lab is to go on without it.
pub(crate) const STAY: &str = "stay";

/// Set once the lab is meant to end, so that its end is no failure.
static ENDING: AtomicBool = AtomicBool::new(false);

/// `[scope]`
pub(crate) fn main(args: &[OsString]) -> Result<(), Trouble> {
    let mut input = BufReader::new(std::io::stdin());
    let mut line = String::new();
    input
        .read_line(&mut line)
        .attempt(|| "read the order".into())?;
    let order: KeeperOrder = serde_json::from_str(&line).attempt(|| "read the order".into())?;
    // A session of its own: no terminal's Ctrl-C or hang-up reaches it.
    let _ = rustix::process::setsid();
    let result = keep(order, input, args.first().is_some_and(|a| a == "scope"));
    if let Err(trouble) = &result {
        tell(&StartLine::Failed {
            what: trouble.to_string(),
        });
    }
    result
}

fn tell(line: &StartLine) {
    if let Ok(text) = serde_json::to_string(line) {
        let mut out = std::io::stdout();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

fn keep(
    order: KeeperOrder,
    input: BufReader<std::io::Stdin>,
    in_scope: bool,
) -> Result<(), Trouble> {
    let dir = LabDir {
        root: order.dir.clone(),
    };
    let lock = File::create(dir.lock()).attempt(|| format!("open {}", dir.lock().display()))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| Trouble("a lab of this name is running already".into()))?;
    let mapping = Mapping::mine()?;
    let inner = dir.inner();
    fs::create_dir_all(&inner).attempt(|| format!("create {}", inner.display()))?;
    let (uid, gid) = mapping.root_ids();
    std::os::unix::fs::chown(&inner, Some(uid), Some(gid))
        .attempt(|| format!("hand over {}", inner.display()))?;
    let mut holds = Vec::new();
    for (_, image) in &order.images {
        holds.push(crate::image::hold(image)?);
    }
    let cgroup = LabCgroup::make(&order.spec.name, &mapping, in_scope)?;
    fetcher(&order, &inner, uid, gid)?;
    let ns = UserNs::new(&order.program, &mapping)?;
    let mut child = start_supervisor(&order, &mapping, &ns, &cgroup)?;
    drop(ns);
    let result = watch(&order, &dir, input, &mut child, &cgroup);
    let _ = child.kill();
    let _ = child.wait();
    let _ = fs::remove_file(dir.record());
    drop(cgroup);
    drop(holds);
    result
}

/// Serves the apt cache on a socket in the lab's directory.
fn fetcher(
    order: &KeeperOrder,
    inner: &std::path::Path,
    uid: u32,
    gid: u32,
) -> Result<(), Trouble> {
    let cache = Cache::open(&order.apt)?;
    let socket = inner.join("apt.sock");
    let _ = fs::remove_file(&socket);
    let listener = short(&socket, |p| UnixListener::bind(p))
        .attempt(|| format!("listen on {}", socket.display()))?;
    std::os::unix::fs::chown(&socket, Some(uid), Some(gid))
        .attempt(|| format!("hand over {}", socket.display()))?;
    serve_unix(listener, cache);
    Ok(())
}

/// A device node for taps that belongs to the lab's root, where the machine's is closed to it. Root alone can make one;
/// a user's lab uses the machine's, as any program of that user could.
fn own_tun(order: &KeeperOrder, mapping: &Mapping) -> Result<Option<PathBuf>, Trouble> {
    if *mapping != Mapping::Shifted {
        return Ok(None);
    }
    let tun = order.dir.join("tun");
    let _ = fs::remove_file(&tun);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &tun,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::from_raw_mode(0o600),
        rustix::fs::makedev(10, 200),
    )
    .attempt(|| format!("create the device node {}", tun.display()))?;
    let (uid, gid) = mapping.root_ids();
    std::os::unix::fs::chown(&tun, Some(uid), Some(gid))
        .attempt(|| format!("hand over {}", tun.display()))?;
    Ok(Some(tun))
}

fn start_supervisor(
    order: &KeeperOrder,
    mapping: &Mapping,
    ns: &UserNs,
    cgroup: &LabCgroup,
) -> Result<Child, Trouble> {
    let mut binds = vec![(order.dir.join("inner"), "state".to_owned())];
    for (image, path) in &order.images {
        binds.push((path.clone(), format!("image-{image}")));
    }
    if order.spec.nodes.iter().any(NodeSpec::is_vm)
        && let Some(tun) = own_tun(order, mapping)?
    {
        binds.push((tun, "tun".to_owned()));
    }
    let binds: Vec<(PathBuf, &str)> = binds.iter().map(|(p, n)| (p.clone(), n.as_str())).collect();
    let unshare = [self_path("unshare")]
        .into_iter()
        .chain(
            [
                "--mount",
                "--net",
                "--ipc",
                "--uts",
                "--pid",
                "--fork",
                "--kill-child=SIGKILL",
                "--mount-proc",
                "--",
            ]
            .map(String::from),
        )
        .chain([stage::PROGRAM, crate::INTERNAL_ARGUMENT, "supervisor"].map(String::from));
    let mut child = stage::command(
        ns,
        mapping,
        &order.program,
        &binds,
        Some(&cgroup.supervisor().join("cgroup.procs")),
        unshare,
    )
    // Our end of this pipe is what keeps the lab alive, however we go.
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .attempt(|| "start the supervisor".into())?;
    let told = SupervisorOrder {
        spec: order.spec.clone(),
        cgroup: cgroup.dir.clone(),
        ready_seconds: order.ready_seconds,
        layers: order
            .spec
            .nodes
            .iter()
            .map(|n| recipe::layer(&n.pi).map(str::to_owned))
            .collect(),
    };
    let line = serde_json::to_string(&told).attempt(|| "write the order".into())? + "\n";
    if let Some(stdin) = child.stdin.as_mut() {
        stdin
            .write_all(line.as_bytes())
            .attempt(|| "tell the supervisor".into())?;
    }
    // It has entered the namespace once it speaks.
    let mut first = [0; 1];
    let spoke = child
        .stdout
        .as_mut()
        .is_some_and(|out| std::io::Read::read(out, &mut first).is_ok_and(|n| n == 1));
    if spoke {
        Ok(child)
    } else {
        Err(Trouble("the supervisor ended at once".into()))
    }
}

fn watch(
    order: &KeeperOrder,
    dir: &LabDir,
    mut input: BufReader<std::io::Stdin>,
    child: &mut Child,
    cgroup: &LabCgroup,
) -> Result<(), Trouble> {
    let supervisor = procs::children(child.id())
        .first()
        .copied()
        .ok_or_else(|| Trouble("the supervisor ended at once".into()))?;
    let record = Record {
        keeper: std::process::id(),
        supervisor,
        supervisor_start: procs::start_time(supervisor).unwrap_or_default(),
        cgroup: cgroup.dir.clone(),
        program: order.program.clone(),
        spec: order.spec.without_secrets(),
    };
    let text = serde_json::to_vec_pretty(&record).attempt(|| "write the record".into())?;
    let new = dir.root.join("lab.json.new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, dir.record()))
        .attempt(|| format!("write {}", dir.record().display()))?;
    // The starter's end of this pipe is the lab's life until it says `stay`, which it does once the lab is ready and
    // meant to outlive it.
    let wrapper = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    thread::spawn(move || {
        let mut word = String::new();
        let _ = input.read_line(&mut word);
        if word.trim() == STAY {
            return;
        }
        ENDING.store(true, Ordering::Relaxed);
        if let Some(pid) = wrapper {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let mut ready = false;
    let mut why = "it ended before all nodes answered".to_owned();
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            match serde_json::from_str::<StartLine>(&line) {
                Ok(StartLine::Failed { what }) => why = what,
                Ok(other) => {
                    ready |= matches!(other, StartLine::Ready);
                    tell(&other);
                }
                Err(_) => {
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
            }
        }
    }
    let status = child.wait().attempt(|| "wait for the supervisor".into())?;
    let _ = writeln!(std::io::stderr(), "keeper: the supervisor ended: {status}");
    if ready || ENDING.load(Ordering::Relaxed) {
        Ok(())
    } else {
        Err(Trouble(why))
    }
}
