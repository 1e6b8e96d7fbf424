//! `kubeconfig`: the administrator's credentials, fetched from a server.

use picluster_engine::ExitCode;
use picluster_model::inventory::Node;
use picluster_resource::facts::RootAccess;

use crate::cli::KubeconfigArgs;
use crate::error::Failure;
use crate::kubeconfig::{Intent, Target, Written, edit};
use crate::store::Store;
use crate::term::Style;
use crate::{connect, project, secrets, show, survey, verbs};

/// Fetches the credentials and merges or prints them; or takes them out of the kubeconfig.
///
/// # Errors
/// Documents, no server that has any, or a kubeconfig that cannot be written.
pub fn run(args: &KubeconfigArgs, out: Style) -> Result<ExitCode, Failure> {
    let project = project::load(&args.source.inventory)?;
    let Some(mut intent) = Intent::of(&project) else {
        return Err(if project.inventory.kubernetes.is_none() {
            Failure::usage(format!(
                "{}: there is no kubernetes section",
                args.source.inventory.display()
            ))
            .hint("no node was contacted")
        } else {
            Failure::usage(
                "nothing says where your kubeconfig is: neither KUBECONFIG nor HOME is set",
            )
            .hint("no node was contacted; name a file with --out FILE")
        });
    };
    if let Some(path) = &args.out {
        intent.target.path.clone_from(path);
    }
    if args.remove {
        return remove(&intent.target);
    }
    let store = Store::of(&args.source.inventory, &project.inventory.cluster);
    let secrets = secrets::resolve(&project, &project.secrets())?;
    let engine = verbs::engine(&project, &store, &args.meeting)?;
    let (read, said) = verbs::block_on(async {
        let nodes: Vec<&Node> = intent
            .servers()
            .filter_map(|name| project.inventory.nodes.get(name))
            .collect();
        let found = survey::facts(&engine, nodes.iter().copied(), false).await;
        let mut said = Vec::new();
        let mut roots: Vec<(&Node, RootAccess)> = Vec::new();
        for node in nodes {
            match found.get(&node.name) {
                Some(Ok((facts, _))) => roots.push((node, facts.now.root)),
                Some(Err(state)) => said.extend(survey::reason(&node.name, state)),
                None => {}
            }
        }
        let access = connect::access(&project, &secrets, &roots);
        let read = intent.read(&engine, &access).await;
        verbs::close(&engine).await;
        (read, said)
    })?;
    let credentials = intent
        .credentials(&read)
        .map_err(|(node, why)| {
            Failure::usage(format!("{node}: {} makes no sense: {why}", intent.place()))
                .hint("your kubeconfig was not changed")
        })?
        .ok_or_else(|| {
            let servers: Vec<&str> = intent.servers().map(|n| n.as_str()).collect();
            let mut failure = Failure::usage(format!(
                "no credentials on {}: there is no {}",
                servers.join(", "),
                intent.place()
            ))
            .hint("your kubeconfig was not changed; bring the cluster up first: picluster apply");
            failure.hints.splice(0..0, said);
            failure
        })?;
    let context = intent.target.context.clone();
    if args.print {
        let text = edit::merge("", &context, &credentials)
            .map_err(|refusal| Failure::usage(format!("{context}: {refusal:?}")))?;
        verbs::print(&text);
        return Ok(ExitCode::Done);
    }
    let written = intent
        .target
        .merge(&credentials)
        .map_err(|obstacle| Failure::usage(obstacle.to_string()).hint(obstacle.hint()))?;
    match &written {
        Written::Unchanged | Written::Beside { changed: false, .. } => {
            verbs::print(&format!(
                "{}: context {context} is there already\n",
                intent.target.path.display()
            ));
        }
        _ => verbs::print(&show::kubeconfig::written(&written, &context, out)),
    }
    Ok(ExitCode::Done)
}

fn remove(target: &Target) -> Result<ExitCode, Failure> {
    let gone = target
        .remove()
        .map_err(|obstacle| Failure::usage(obstacle.to_string()).hint(obstacle.hint()))?;
    let (path, context) = (target.path.display(), &target.context);
    verbs::print(&if gone {
        format!("{path}: context {context} taken out\n")
    } else {
        format!("{path}: there is no context {context}\n")
    });
    Ok(ExitCode::Done)
}
