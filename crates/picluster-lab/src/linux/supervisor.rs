//! PID 1 of the lab: builds the hub, flashes cards, runs nodes, answers verbs. When it ends, all of it ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::{Request, Response};
use crate::error::{Attempt, Trouble};
use crate::image::Tree;
use crate::linux::node::{Node, open_tun};
use crate::linux::{cgroup, hub, stage, verbs};
use crate::network::{self, PROXY_PORT};
use crate::progress::{Progress, StartLine};
use crate::proxy;
use crate::spec::{LabSpec, NodeSpec};

/// What the supervisor is told, as the first line of its input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SupervisorOrder {
    pub spec: LabSpec,
    pub cgroup: PathBuf,
    pub ready_seconds: u64,
    /// Per node: the image's layer it stands on.
    pub layers: Vec<Option<String>>,
}

/// The running lab.
pub(crate) struct Supervisor {
    pub nodes: Vec<Arc<Node>>,
    pub ready: Duration,
}

/// Ends this process when its input does.
pub(crate) fn end_with_stdin() {
    thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}

pub(crate) fn main() -> Result<(), Trouble> {
    let mut line = String::new();
    // Unbuffered beyond the line: the watcher takes over the rest.
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .attempt(|| "read the order".into())?;
    end_with_stdin();
    // Tells the keeper that the namespace is entered.
    let _ = std::io::stdout()
        .write_all(b"\n")
        .and_then(|()| std::io::stdout().flush());
    let order: SupervisorOrder = serde_json::from_str(&line).attempt(|| "read the order".into())?;
    match run(order) {
        Ok(never) => match never {},
        Err(trouble) => {
            tell(&StartLine::Failed {
                what: trouble.to_string(),
            });
            Err(trouble)
        }
    }
}

pub(crate) fn tell(line: &StartLine) {
    if let Ok(text) = serde_json::to_string(line) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

fn run(order: SupervisorOrder) -> Result<std::convert::Infallible, Trouble> {
    let state = Path::new(stage::DIR).join("state");
    let nodes_dir = state.join("nodes");
    // Whatever a killed predecessor left.
    let _ = fs::remove_dir_all(&nodes_dir);
    fs::create_dir(&nodes_dir).attempt(|| "create the nodes' directory".into())?;
    cgroup::pass_on(&order.cgroup);
    let supervisor = Arc::new(prepare(&order, &nodes_dir)?);
    proxy::listen(PROXY_PORT, state.join("apt.sock"))?;
    let control = state.join("control.sock");
    let _ = fs::remove_file(&control);
    let listener = UnixListener::bind(&control).attempt(|| "listen for verbs".into())?;
    fs::set_permissions(&control, fs::Permissions::from_mode(0o600))
        .attempt(|| "close the control socket to others".into())?;
    boot_all(&supervisor, &order)?;
    tell(&StartLine::Ready);
    for stream in listener.incoming().flatten() {
        let supervisor = Arc::clone(&supervisor);
        thread::spawn(move || converse(stream, &supervisor));
    }
    Err(Trouble("the control socket closed".into()))
}

fn prepare(order: &SupervisorOrder, nodes_dir: &Path) -> Result<Supervisor, Trouble> {
    let spec = &order.spec;
    let mut addresses = Vec::with_capacity(spec.nodes.len());
    for node in &spec.nodes {
        addresses.push(node.ipv4().map_err(|e| Trouble(e.to_string()))?);
    }
    let reserved: Vec<_> = spec
        .dns
        .iter()
        .filter_map(|(_, a)| {
            if let std::net::IpAddr::V4(a) = a {
                Some(*a)
            } else {
                None
            }
        })
        .collect();
    let (plan, nets) = network::plan(&addresses, &reserved);
    hub::up(&plan)?;
    if spec.nodes.iter().any(NodeSpec::is_vm) {
        open_tun(&Path::new(stage::DIR).join("tun"))?;
    }
    let mut nodes = Vec::with_capacity(spec.nodes.len());
    for (index, ((node, net), layer)) in spec.nodes.iter().zip(nets).zip(&order.layers).enumerate()
    {
        let image = Path::new(stage::DIR).join(format!("image-{}", Tree::of(node)));
        let mut lower = vec![image.join("root")];
        if let Some(layer) = layer {
            lower.insert(0, image.join("layers").join(layer));
        }
        if let Some(programs) = spec.programs().filter(|_| !node.is_vm()) {
            let programs = format!("image-{programs}");
            lower.insert(0, Path::new(stage::DIR).join(programs).join("root"));
        }
        nodes.push(Arc::new(Node::new(
            index,
            node.clone(),
            net,
            lower,
            nodes_dir,
            &order.cgroup,
        )));
    }
    Ok(Supervisor {
        nodes,
        ready: Duration::from_secs(order.ready_seconds),
    })
}

fn boot_all(supervisor: &Arc<Supervisor>, order: &SupervisorOrder) -> Result<(), Trouble> {
    let present: Vec<&Arc<Node>> = supervisor.nodes.iter().filter(|n| !n.spec.absent).collect();
    tell(&StartLine::Progress(Progress::Starting {
        nodes: present.len(),
    }));
    let failures: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut waiters = Vec::new();
    for node in present {
        node.flash(&order.spec.authorized_keys)
            .map_err(|t| Trouble(format!("node {}: {t}", node.spec.name)))?;
        node.run();
        node.power_on();
        let (node, failures, patience) =
            (Arc::clone(node), Arc::clone(&failures), supervisor.ready);
        waiters.push(thread::spawn(move || match node.wait_ready(1, patience) {
            Ok(took) => tell(&StartLine::Progress(Progress::NodeReady {
                node: node.spec.name.clone(),
                seconds: took.as_secs_f64(),
            })),
            Err(t) => {
                if let Ok(mut list) = failures.lock() {
                    list.push(format!("node {}: {t}", node.spec.name));
                }
            }
        }));
    }
    for waiter in waiters {
        let _ = waiter.join();
    }
    let list = failures.lock().map(|l| l.clone()).unwrap_or_default();
    match list.as_slice() {
        [] => Ok(()),
        [first] => Err(Trouble(first.clone())),
        [first, rest @ ..] => Err(Trouble(format!(
            "{first}\nand {} more nodes alike",
            rest.len()
        ))),
    }
}

fn converse(stream: UnixStream, supervisor: &Supervisor) {
    let mut line = String::new();
    if BufReader::new(&stream).read_line(&mut line).is_err() {
        return;
    }
    let request: Result<Request, _> = serde_json::from_str(&line);
    let down = matches!(request, Ok(Request::Down));
    let response = match request {
        Ok(request) => verbs::perform(supervisor, request),
        Err(e) => Response::Failed(crate::error::Failure {
            node: None,
            what: format!(
                "this lab was started by another version of the program ({e}); end it and start it again"
            ),
        }),
    };
    if let Ok(mut text) = serde_json::to_vec(&response) {
        text.push(b'\n');
        let _ = (&stream).write_all(&text);
    }
    if down {
        std::process::exit(0);
    }
}
