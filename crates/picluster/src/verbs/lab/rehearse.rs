//! `lab rehearse`: up, plan, apply, a second apply that must find nothing, down, verdict.

use std::time::Instant;

use picluster_engine::ExitCode;
use picluster_lab::Lab;
use picluster_model::NodeName;
use picluster_model::inventory::{Expected, Node, Project};
use picluster_model::kubernetes::KubernetesRole;

use crate::cli::LabRehearse;
use crate::error::Failure;
use crate::term::{Style, count};
use crate::verbs::lab::home::Home;
use crate::verbs::lab::{
    failure, introduce, lend, options, picluster_inside, progress, specification, wait,
};
use crate::{project, verbs};

/// The server that is told to found the cluster where agents are declared absent: outside they may remember one, and in a new
/// lab there is nobody who could.
fn founder(project: &Project) -> Option<NodeName> {
    let nodes = || project.inventory.nodes.values();
    let absent = |node: &&Node| {
        node.kubernetes == Some(KubernetesRole::Agent) && node.expected == Expected::Absent
    };
    nodes().find(absent)?;
    project.inventory.servers().next()
}

/// Rehearses an inventory. The lab lives no longer than this process, unless `--keep`.
pub fn run(args: &LabRehearse, out: Style, err: Style) -> Result<ExitCode, Failure> {
    let project = project::load_as_written(&args.lab.inventory)?;
    let options = options()?;
    let home = Home::of(&project, &options)?;
    home.forget_store();
    let spec = specification(&project, &args.made, &home)?;
    lend::k3s(&project, &home, args.made.k3s.as_deref())?;
    let start = Instant::now();
    let lab = if args.keep {
        Lab::up(&spec, &options, &mut progress(err))
    } else {
        Lab::up_foreground(&spec, &options, &mut progress(err))
    }
    .map_err(failure)?;
    introduce(&lab, &home, &project, args.ask, err)?;
    let up = start.elapsed().as_secs_f64();
    let inventory = args.lab.inventory.display().to_string();
    let founder = founder(&project).map(|node| node.to_string());
    let founds: Vec<&str> = founder.iter().flat_map(|n| ["--bootstrap", n]).collect();
    let acts = [
        (
            "plan",
            [vec!["plan"], founds.clone(), vec![&inventory]].concat(),
        ),
        (
            "apply",
            [vec!["apply", "--yes"], founds, vec![&inventory]].concat(),
        ),
        ("second apply", vec!["apply", "--yes", &inventory]),
        (
            "second plan is empty",
            vec!["plan", "--detailed-exitcode", &inventory],
        ),
    ];
    let mut times = vec![("up", up)];
    let mut verdict = Ok(());
    for (name, words) in acts {
        verbs::say(&format!(
            "\n{} picluster {}\n",
            out.cyan("»"),
            words.join(" ")
        ));
        let start = Instant::now();
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let code = act(&lab, &home, &project, &words, out)?;
        times.push((name, start.elapsed().as_secs_f64()));
        if code != 0 {
            verdict = Err((name, code));
            break;
        }
    }
    if args.keep {
        verbs::say(&format!(
            "the lab runs on; end it with: picluster lab down {inventory}\n"
        ));
    } else {
        lab.down().map_err(failure)?;
        // After a failure its journal is worth a look.
        if verdict.is_ok() {
            let _ = home.remove();
        }
    }
    let times: Vec<String> = times.iter().map(|(n, s)| format!("{n} {s:.1} s")).collect();
    let nodes = count(project.inventory.nodes.len(), "node");
    match verdict {
        Ok(()) => {
            verbs::print(&format!(
                "\n{} {inventory} prepares {nodes}, and a second apply changes nothing ({})\n",
                out.green("rehearsed:"),
                times.join(", ")
            ));
            Ok(ExitCode::Done)
        }
        Err((name, code)) => {
            verbs::print(&format!(
                "\n{} {inventory}: {name} ended with {code} ({})\n",
                out.red("not ready:"),
                times.join(", ")
            ));
            Ok(ExitCode::NodeFailed)
        }
    }
}

fn act(
    lab: &Lab,
    home: &Home,
    project: &Project,
    words: &[String],
    style: Style,
) -> Result<i32, Failure> {
    let mut words = words.to_vec();
    if style.color {
        words.insert(0, "--color=always".into());
    }
    let status = wait(picluster_inside(lab, home, project, &words)?)?;
    Ok(status.code().unwrap_or(-1))
}
