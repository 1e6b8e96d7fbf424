//! `exec`: a command on all nodes at once.

use std::sync::Arc;

use picluster_engine::host::Exit;
use picluster_engine::{Access, ExitCode, Line, NodeError, Stream};
use picluster_resource::facts::RootAccess;
use picluster_resource::shell;
use tokio::task::JoinSet;

use crate::cli::ExecArgs;
use crate::error::Failure;
use crate::store::Store;
use crate::survey;
use crate::term::{Style, count};
use crate::{connect, project, secrets, verbs};

/// Runs the command everywhere; each line of output carries its node's name.
///
/// # Errors
/// Documents, or a pattern that names nothing.
pub fn run(args: &ExecArgs, out: Style, err: Style) -> Result<ExitCode, Failure> {
    let project = project::load(&args.inventory)?;
    let nodes = project::nodes_matching(&project, &args.on)?;
    let store = Store::of(&args.inventory, &project.inventory.cluster);
    let engine = verbs::engine(&project, &store, &args.meeting)?;
    let command = match args.command.as_slice() {
        [one] => one.clone(),
        several => shell::words(several),
    };
    let widest = nodes
        .iter()
        .map(|n| n.name.as_str().len())
        .max()
        .unwrap_or(0);
    verbs::block_on(async {
        let mut access = std::collections::BTreeMap::new();
        let mut codes = Vec::new();
        let mut targets: Vec<_> = nodes
            .iter()
            .filter(|n| n.expected == picluster_model::inventory::Expected::Present)
            .map(|n| n.name.clone())
            .collect();
        if args.root {
            let secrets = secrets::resolve(&project, &project.secrets())?;
            let found = survey::facts(&engine, nodes.iter().copied(), false).await;
            let roots: Vec<_> = nodes
                .iter()
                .filter_map(|n| match found.get(&n.name) {
                    Some(Ok((facts, _))) => Some((*n, facts.now.root)),
                    _ => None,
                })
                .collect();
            access = connect::access(&project, &secrets, &roots);
            for name in &targets {
                match found.get(name) {
                    Some(Ok((facts, _))) if facts.now.root != RootAccess::None => {}
                    Some(Ok(_)) => {
                        verbs::say(&format!(
                            "{} {name}: the login user cannot become root; not run there\n",
                            err.red("error:")
                        ));
                        codes.push(ExitCode::NodeFailed);
                    }
                    _ => {
                        verbs::say(&format!(
                            "{} {name}: unreachable; not run there\n",
                            err.red("error:")
                        ));
                        codes.push(ExitCode::Unreachable);
                    }
                }
            }
            targets.retain(
                |n| matches!(found.get(n), Some(Ok((f, _))) if f.now.root != RootAccess::None),
            );
        }
        let mut tasks = JoinSet::new();
        for name in targets {
            let (engine, command, as_root) = (Arc::clone(&engine), command.clone(), args.root);
            let access = access.get(&name).cloned().unwrap_or_else(Access::default);
            tasks.spawn(async move {
                let label = format!("{:widest$}", name.as_str());
                let mut sink = |line: Line| match line.stream {
                    Stream::Out => verbs::print(&format!("{} {}\n", out.bold(&label), line.text)),
                    Stream::Err => verbs::say(&format!("{} {}\n", err.bold(&label), line.text)),
                };
                let exit = engine
                    .exec(&name, &access, &command, as_root, &mut sink)
                    .await;
                (name, exit)
            });
        }
        let mut failed = 0;
        while let Some(joined) = tasks.join_next().await {
            let Ok((name, exit)) = joined else { continue };
            let (text, code) = match exit {
                Ok(Exit::Status(0)) => continue,
                Ok(Exit::Status(n)) => (format!("{name}: exit {n}"), ExitCode::NodeFailed),
                Ok(Exit::Signal(signal)) => (
                    format!("{name}: ended by SIG{signal}"),
                    ExitCode::NodeFailed,
                ),
                Ok(Exit::Lost) => (
                    format!("{name}: connection lost; it is not known how the command ended"),
                    ExitCode::NodeFailed,
                ),
                Err(e) => (e.to_string(), code_of(&e)),
            };
            failed += 1;
            codes.push(code);
            verbs::say(&format!("{} {text}\n", err.red("failed:")));
        }
        verbs::close(&engine).await;
        if failed > 0 {
            verbs::say(&format!("{} failed\n", count(failed, "node")));
        }
        Ok(ExitCode::worst(codes))
    })?
}

fn code_of(error: &NodeError) -> ExitCode {
    match survey::closed(error) {
        picluster_plan::NodeState::Unreachable { .. } => ExitCode::Unreachable,
        picluster_plan::NodeState::HostKeyChanged { .. } => ExitCode::IdentityChanged,
        _ => ExitCode::NodeFailed,
    }
}
