//! `lab`: disposable nodes on this machine.
//!
//! Only this folder and the tests know that a lab exists: it turns an inventory into a lab's
//! specification and then runs this very program inside, like any user would.

pub mod home;
mod lend;
pub mod meet;
mod rehearse;
mod spec;
mod status;
pub mod which;

use std::net::IpAddr;
use std::process::Command;

use picluster_engine::ExitCode;
use picluster_lab::{Lab, LabError, LabOptions, Progress, Wait};
use picluster_model::inventory::Project;

use crate::cli::{LabArgs, LabOne, LabRun, LabSsh, LabVerb};
use crate::error::Failure;
use crate::term::{Style, count};
use crate::{project, verbs};

pub use spec::specification;

/// Runs a verb of the lab.
///
/// # Errors
/// What this machine lacks, what is wrong with the inventory, or with a node of the lab.
pub fn run(args: LabArgs, out: Style, err: Style) -> Result<ExitCode, Failure> {
    match args.verb {
        LabVerb::Up(args) => {
            let project = project::load_as_written(&args.lab.inventory)?;
            let options = options()?;
            let home = home::Home::of(&project, &options)?;
            // New cards have new host keys: what was pinned of an earlier lab is worth nothing.
            home.forget_store();
            let spec = specification(&project, &args.made, &home)?;
            lend::k3s(&project, &home, args.made.k3s.as_deref())?;
            let lab = Lab::up(&spec, &options, &mut progress(err)).map_err(failure)?;
            introduce(&lab, &home, &project, args.ask, err)?;
            let inventory = args.lab.inventory.display();
            verbs::print(&format!(
                "{} {} of {} answer. Next: picluster lab run {inventory} -- apply\n",
                out.green("up:"),
                count(spec.nodes.iter().filter(|n| !n.absent).count(), "node"),
                project.inventory.cluster
            ));
            Ok(ExitCode::Done)
        }
        LabVerb::Run(args) => inside(&args),
        LabVerb::Rehearse(args) => rehearse::run(&args, out, err),
        LabVerb::Status(args) => status::run(&args, out),
        LabVerb::Ssh(args) => ssh(&args),
        LabVerb::Cut(n) => with(&n.lab, |lab| lab.cut(&n.node)),
        LabVerb::Heal(n) => with(&n.lab, |lab| lab.heal(&n.node)),
        LabVerb::Kill(n) => with(&n.lab, |lab| lab.kill(&n.node)),
        LabVerb::Start(n) => with(&n.lab, |lab| lab.start(&n.node, Wait::Ready)),
        LabVerb::Wipe(n) => with(&n.lab, |lab| lab.wipe(&n.node, Wait::Ready)),
        LabVerb::Reboot(n) => with(&n.lab, |lab| lab.reboot(&n.node, Wait::Ready)),
        LabVerb::Down(one) => {
            let lab = which::open(&one.inventory)?;
            let home = home::Home::named(lab.name(), &options()?);
            lab.down().map_err(failure)?;
            home.remove()
                .map_err(|e| Failure::usage(format!("the lab is down, but its home stays: {e}")))?;
            Ok(ExitCode::Done)
        }
        LabVerb::Check(args) => {
            let missing = picluster_lab::preflight(args.nodes);
            if missing.is_empty() {
                verbs::print(&format!(
                    "this machine can run a lab of {}\n",
                    count(args.nodes, "node")
                ));
                return Ok(ExitCode::Done);
            }
            Err(failure(LabError::Missing(missing)))
        }
    }
}

/// The lab's options from the environment.
pub(super) fn options() -> Result<LabOptions, Failure> {
    LabOptions::from_environment().map_err(failure)
}

/// A lab error in this program's words.
pub(super) fn failure(error: LabError) -> Failure {
    Failure::usage(error.to_string())
}

fn with(one: &LabOne, act: impl FnOnce(&Lab) -> Result<(), LabError>) -> Result<ExitCode, Failure> {
    act(&which::open(&one.inventory)?).map_err(failure)?;
    Ok(ExitCode::Done)
}

/// Pins the nodes' host keys, unless first contact itself is to be rehearsed.
pub(super) fn introduce(
    lab: &Lab,
    home: &home::Home,
    project: &Project,
    ask: bool,
    err: Style,
) -> Result<(), Failure> {
    if ask {
        return Ok(());
    }
    for name in meet::pin(lab, home, project)? {
        verbs::say(&format!(
            "{} {name} did not show its host key and is not pinned; its first contact will ask\n",
            err.yellow("note:")
        ));
    }
    Ok(())
}

/// Shows a lab's progress on stderr.
pub(super) fn progress(err: Style) -> impl FnMut(Progress) {
    let mut shown = 0_usize;
    move |event| match event {
        Progress::ImageBuilding { image } => {
            verbs::say(&format!(
                "building the image {image} (once; about a minute, Kubernetes several)\n"
            ));
        }
        Progress::ImageLine { line, .. } => {
            shown += 1;
            // mmdebstrap talks a lot; every tenth line shows that it lives.
            if shown.is_multiple_of(10) {
                verbs::say(&format!("  {}\n", err.dim(&line)));
            }
        }
        Progress::ImageBuilt { image, seconds } => {
            verbs::say(&format!("built {image} in {seconds:.0} s\n"));
        }
        Progress::Notice { text } => verbs::say(&format!("{text}\n")),
        Progress::Starting { nodes } => verbs::say(&format!("starting {}\n", count(nodes, "node"))),
        Progress::NodeReady { node, seconds } => {
            verbs::say(&format!(
                "  {} {node} ({seconds:.1} s)\n",
                err.green("ready")
            ));
        }
        _ => {}
    }
}

/// picluster as it runs inside a lab: with pins, journals, cache and kubeconfig of the lab's own.
pub(super) fn picluster_inside(
    lab: &Lab,
    home: &home::Home,
    project: &Project,
    args: &[String],
) -> Result<Command, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Failure::usage(format!("cannot find this program's own file: {e}")))?;
    let mut command = lab.controller_command(program);
    command.args(args);
    home.dress(&mut command, project);
    Ok(command)
}

fn code_of(status: std::process::ExitStatus) -> ExitCode {
    ExitCode::ALL
        .into_iter()
        .find(|c| status.code() == Some(i32::from(c.number())))
        .unwrap_or(ExitCode::NodeFailed)
}

fn inside(args: &LabRun) -> Result<ExitCode, Failure> {
    let project = project::load_as_written(&args.lab.inventory)?;
    let lab = which::open(&args.lab.inventory)?;
    let home = home::Home::of(&project, &options()?)?;
    let mut words = args.args.clone();
    // `lab run FILE -- apply` means that file unless another one is named.
    add_inventory(&mut words, &args.lab.inventory);
    Ok(code_of(wait(picluster_inside(
        &lab, &home, &project, &words,
    )?)?))
}

/// Runs a command to its end. Ctrl-C is the command's business: it gets the signal, too, and what
/// it makes of it is waited for.
pub(super) fn wait(command: Command) -> Result<std::process::ExitStatus, Failure> {
    verbs::block_on(async {
        let deaf = tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
        let status = tokio::process::Command::from(command).status().await;
        deaf.abort();
        status.map_err(|e| Failure::usage(format!("cannot enter the lab: {e}")))
    })?
}

/// Gives a verb the lab's inventory when none is named.
fn add_inventory(words: &mut Vec<String>, inventory: &std::path::Path) {
    let path = inventory.display().to_string();
    let named = words
        .iter()
        .skip(1)
        .take_while(|w| *w != "--")
        .any(|w| !w.starts_with('-') && std::path::Path::new(w).is_file());
    if named {
        return;
    }
    match words.first().map(String::as_str) {
        Some("validate" | "plan" | "apply" | "facts" | "graph") => words.insert(1, path),
        Some("exec" | "explain" | "forget-key") => {
            words.insert(1, path);
            words.insert(1, "--inventory".into());
        }
        _ => {}
    }
}

fn ssh(args: &LabSsh) -> Result<ExitCode, Failure> {
    let lab = which::open(&args.lab.inventory)?;
    let home = home::Home::named(lab.name(), &options()?);
    let (address, user) = lab.ssh_target(&args.node).map_err(failure)?;
    let mut command = lab.controller_command("ssh");
    let host = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => ip.to_string(),
    };
    command
        .args(["-F", "none", "-i"])
        .arg(home.key())
        // Lab nodes get a new key at every wipe, and nothing secret is ever typed at them.
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ])
        .args(["-p", &address.port().to_string(), &format!("{user}@{host}")])
        .args(&args.command);
    let status = command
        .status()
        .map_err(|e| Failure::usage(format!("cannot run ssh: {e}")))?;
    Ok(if status.success() {
        ExitCode::Done
    } else {
        ExitCode::NodeFailed
    })
}
