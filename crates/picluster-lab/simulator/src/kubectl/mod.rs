//! `kubectl`, in the forms that one uses by hand and in scripts.

mod apply;
mod arguments;
mod cordon;
mod delete;
mod edit;
mod get;
mod jsonpath;
mod print;
mod real;
mod session;
mod wait;
mod yaml;

use std::process::ExitCode;

use crate::fault::Fault;
use arguments::Arguments;
use session::Session;

/// How a command ends when it does not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// `error: text`.
    Plain(String),
    /// `Error from server (Reason): text`.
    Server { reason: String, message: String },
    /// The text as it is.
    Bare(String),
    /// Everything was said already.
    Said,
}

type Done<T = ()> = Result<T, Failure>;

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Plain(fault.0)
    }
}

/// Runs the words after `kubectl`.
pub(crate) fn run(words: &[String]) -> ExitCode {
    if let Some(ended) = real::run(words) {
        return ended;
    }
    match command(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match failure {
                Failure::Plain(text) => eprintln!("error: {text}"),
                Failure::Server { reason, message } if reason.is_empty() => {
                    eprintln!("Error from server: {message}")
                }
                Failure::Server { reason, message } => {
                    eprintln!("Error from server ({reason}): {message}")
                }
                Failure::Bare(text) => eprintln!("{text}"),
                Failure::Said => {}
            }
            ExitCode::FAILURE
        }
    }
}

fn command(words: &[String]) -> Done {
    let arguments = Arguments::parse(words)?;
    let Some(verb) = arguments.words.first() else {
        println!(
            "kubectl controls the Kubernetes cluster manager.\n\nUsage:\n  kubectl [flags] [options]"
        );
        return Ok(());
    };
    if arguments.is_on("help") {
        println!("Usage:\n  kubectl {verb} [options]");
        return Ok(());
    }
    let rest = &arguments.words[1..];
    match verb.as_str() {
        "version" => version(&arguments),
        "get" => get::run(&Session::open(&arguments)?, &arguments, rest),
        "label" => edit::label(&Session::open(&arguments)?, &arguments, rest),
        "annotate" => edit::annotate(&Session::open(&arguments)?, &arguments, rest),
        "taint" => edit::taint(&Session::open(&arguments)?, &arguments, rest),
        "patch" => edit::patch(&Session::open(&arguments)?, &arguments, rest),
        "cordon" => cordon::cordon(&Session::open(&arguments)?, &arguments, rest, true),
        "uncordon" => cordon::cordon(&Session::open(&arguments)?, &arguments, rest, false),
        "drain" => cordon::drain(&Session::open(&arguments)?, &arguments, rest),
        "delete" => delete::run(&Session::open(&arguments)?, &arguments, rest),
        "apply" => apply::apply(&Session::open(&arguments)?, &arguments),
        "create" => apply::create(&Session::open(&arguments)?, &arguments, rest),
        "wait" => wait::run(&Session::open(&arguments)?, &arguments, rest),
        "cluster-info" => {
            let session = Session::open(&arguments)?;
            session.get("/version")?;
            println!("Kubernetes control plane is running at {}", session.base());
            Ok(())
        }
        "exec" | "logs" | "attach" | "cp" | "port-forward" | "proxy" | "top" | "run" | "debug" => {
            Err(Failure::Plain(format!(
                "{verb}: not simulated: no containers run here"
            )))
        }
        "config" | "api-resources" | "api-versions" | "describe" | "edit" | "explain"
        | "rollout" | "scale" | "set" | "auth" | "diff" | "replace" | "expose" | "autoscale"
        | "certificate" | "events" | "kustomize" | "plugin" | "options" | "completion" => {
            Err(Failure::Plain(format!("{verb}: not simulated")))
        }
        other => Err(Failure::Plain(format!(
            "unknown command {other:?} for \"kubectl\""
        ))),
    }
}

fn version(arguments: &Arguments) -> Done {
    let ours = crate::release::Release::ours();
    let kustomize = "v5.6.0";
    let server = if arguments.is_on("client") {
        None
    } else {
        Some(Session::open(arguments).and_then(|s| s.get("/version")))
    };
    let (found, failure) = match server {
        None => (None, None),
        Some(Ok(value)) => (Some(value), None),
        Some(Err(failure)) => (None, Some(failure)),
    };
    match arguments.flag("output") {
        Some(format @ ("json" | "yaml")) => {
            let mut all = serde_json::json!({"clientVersion": {"gitVersion": ours.as_str(), "gitCommit": "simulator", "goVersion": ours.go(),
                "major": "1", "minor": ours.minor().to_string(), "platform": format!("linux/{}", crate::machine::architecture())},
                "kustomizeVersion": kustomize});
            if let Some(server) = found {
                all["serverVersion"] = server;
            }
            print!(
                "{}",
                if format == "json" {
                    print::json(&all, 2)
                } else {
                    yaml::write(&all)
                }
            );
        }
        _ => {
            println!("Client Version: {ours}\nKustomize Version: {kustomize}");
            if let Some(server) = found {
                println!(
                    "Server Version: {}",
                    server["gitVersion"].as_str().unwrap_or_default()
                );
            }
        }
    }
    failure.map_or(Ok(()), Err)
}
