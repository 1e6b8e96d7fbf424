//! `exec`: a command on all nodes at once.

use std::sync::Arc;

use picluster_engine::host::Exit;
use picluster_engine::mask::Masker;
use picluster_engine::{Access, ExitCode, Line, Stream};
use picluster_model::inventory::Project;
use picluster_model::secret::SecretValues;
use picluster_resource::facts::RootAccess;
use picluster_resource::shell;
use tokio::task::JoinSet;

use crate::cli::ExecArgs;
use crate::error::Failure;
use crate::show::closed::{closed, exit_code};
use crate::store::Store;
use crate::survey;
use crate::term::{Style, count};
use crate::{connect, project, secrets, verbs};

/// Runs the command everywhere; each line of output carries its node's name.
///
/// # Errors
/// Documents, or a pattern that names nothing.
pub fn run(args: &ExecArgs, out: Style, err: Style) -> Result<ExitCode, Failure> {
    let project = project::load(&args.source.inventory)?;
    let nodes = project::nodes_matching(&project, &args.on)?;
    let store = Store::of(&args.source.inventory, &project.inventory.cluster);
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
    let secrets = known(&project, args, err)?;
    verbs::block_on(async {
        let mut access = std::collections::BTreeMap::new();
        let mut codes = Vec::new();
        let mut failed = 0;
        let mut targets: Vec<_> = nodes
            .iter()
            .filter(|n| n.expected == picluster_model::inventory::Expected::Present)
            .map(|n| n.name.clone())
            .collect();
        if args.root {
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
                            "  {} the login user cannot become root; not run there\n    {} make it one of group sudo on the node (adduser USER sudo), or leave out --root\n",
                            err.red(name.as_str()),
                            err.cyan("next:")
                        ));
                        codes.push(ExitCode::NodeFailed);
                    }
                    Some(Err(state)) => {
                        verbs::say(&closed(name, state, err));
                        codes.extend(exit_code(state));
                    }
                    None => {}
                }
            }
            failed = codes.len();
            targets.retain(
                |n| matches!(found.get(n), Some(Ok((f, _))) if f.now.root != RootAccess::None),
            );
        }
        // A password that was typed is no less a secret than one of a file.
        let typed = access.values().filter_map(|a: &Access| a.password.as_ref());
        let masker = Arc::new(if args.show_secrets {
            Masker::default()
        } else {
            Masker::new(&secrets, typed)
        });
        let mut tasks = JoinSet::new();
        for name in targets {
            let (engine, command, as_root) = (Arc::clone(&engine), command.clone(), args.root);
            let masker = Arc::clone(&masker);
            let access = access.get(&name).cloned().unwrap_or_else(Access::default);
            tasks.spawn(async move {
                let label = format!("{:widest$}", name.as_str());
                let mut sink = |line: Line| {
                    let text = masker.mask(&line.text);
                    match line.stream {
                        Stream::Out => verbs::print(&format!("{} {text}\n", out.bold(&label))),
                        Stream::Err => verbs::say(&format!("{} {text}\n", err.bold(&label))),
                    }
                };
                let exit = engine
                    .exec(&name, &access, &command, as_root, &mut sink)
                    .await;
                (name, exit)
            });
        }
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
                Err(e) => {
                    let state = survey::closed(&e);
                    failed += 1;
                    codes.extend(exit_code(&state));
                    verbs::say(&closed(&name, &state, err));
                    continue;
                }
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

/// The secrets whose values must not be printed, and the passwords sudo may want. Without a sudo
/// password to find, a secret that has no value here keeps nobody from an `uptime`.
fn known(project: &Project, args: &ExecArgs, err: Style) -> Result<SecretValues, Failure> {
    if args.root {
        return secrets::resolve(project, &project.secrets());
    }
    if args.show_secrets {
        return Ok(SecretValues::default());
    }
    let (values, missing) = secrets::resolve_some(project, &project.secrets());
    for why in missing {
        verbs::say(&format!(
            "{} a secret without a value cannot be masked in what is printed: {why}\n",
            err.yellow("note:")
        ));
    }
    Ok(values)
}
