//! What the program was called for.

mod config;
mod etcd_snapshot;
pub(crate) mod flags;
mod token;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::heart::programs;
use crate::release::Release;
use crate::{agent, kubectl, log, server};
pub(crate) use flags::Settings;

/// Runs as `argv[0]` says: `kubectl`, `crictl` and `ctr` are other names of this program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> = arguments
        .into_iter()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    let name = words
        .first()
        .and_then(|w| Path::new(w).file_name())
        .map_or("k3s".into(), |n| n.to_string_lossy().into_owned());
    let rest = words.get(1..).unwrap_or_default();
    match name.as_str() {
        "kubectl" => kubectl::run(rest),
        programs::CHILD => programs::become_child(rest),
        "crictl" | "ctr" => not_simulated(&name),
        "k3s-simulator" if rest.first().is_some_and(|w| w == "stamp") => stamp(&rest[1..]),
        _ => k3s(&name, rest),
    }
}

/// `k3s-simulator stamp RELEASE FOLDER`: only under the program's own name, so that k3s has no such command.
fn stamp(words: &[String]) -> ExitCode {
    let [release, folder] = words else {
        eprintln!("usage: k3s-simulator stamp RELEASE FOLDER");
        return ExitCode::from(2);
    };
    let written = Release::parse(release)
        .map_err(|e| e.to_string())
        .and_then(|release| {
            let program = std::env::current_exe().map_err(|e| e.to_string())?;
            crate::artifact::write(&program, &release, Path::new(folder)).map_err(|e| e.to_string())
        });
    match written {
        Ok(artifact) => {
            println!("{}  {}", artifact.sha256, artifact.path.display());
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("k3s-simulator: {why}");
            ExitCode::FAILURE
        }
    }
}

fn not_simulated(what: &str) -> ExitCode {
    log::error(format!("{what}: not simulated: no containers run here"));
    ExitCode::FAILURE
}

fn k3s(name: &str, words: &[String]) -> ExitCode {
    let Some((command, rest)) = words.split_first() else {
        print!("{}", usage(name));
        return ExitCode::SUCCESS;
    };
    match command.as_str() {
        "--version" | "-v" => {
            let release = Release::ours();
            println!(
                "{name} version {release} (simulator)\ngo version {}",
                release.go()
            );
            ExitCode::SUCCESS
        }
        "--help" | "-h" | "help" => {
            print!("{}", usage(name));
            ExitCode::SUCCESS
        }
        "kubectl" => kubectl::run(rest),
        "server" => daemon(flags::Command::Server, rest),
        "agent" => daemon(flags::Command::Agent, rest),
        "token" => token::run(rest),
        "etcd-snapshot" => etcd_snapshot::run(rest),
        "crictl" | "ctr" | "secrets-encrypt" | "certificate" | "check-config" | "completion" => {
            not_simulated(&format!("k3s {command}"))
        }
        other => {
            // urfave/cli shows its help and ends well.
            println!("No help topic for '{other}'");
            ExitCode::from(3)
        }
    }
}

fn daemon(command: flags::Command, words: &[String]) -> ExitCode {
    log::warn(
        "SIMULATOR: this program stands in for k3s; it keeps a cluster's books and runs no containers",
    );
    if words.iter().any(|w| w == "--help" || w == "-h") {
        print!("{}", flags::help(command));
        return ExitCode::SUCCESS;
    }
    let words = match config::injected(command, words) {
        Ok(words) => words,
        Err(fault) => log::fatal(fault),
    };
    let settings = match Settings::parse(command, &words) {
        Ok(settings) => settings,
        Err(fault) => {
            println!("Incorrect Usage: {fault}\n\n{}", flags::help(command));
            log::fatal(fault)
        }
    };
    let ended = match command {
        flags::Command::Server => server::run(&settings),
        flags::Command::Agent => agent::run(&settings),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => log::fatal(fault),
    }
}

fn usage(name: &str) -> String {
    let release = Release::ours();
    format!(
        "NAME:\n   {name} - Kubernetes, but small and simple\n\nUSAGE:\n   {name} [global options] command [command options]\n\nVERSION:\n   {release} (simulator)\n\nCOMMANDS:\n   server           Run management server\n   agent            Run node agent\n   kubectl          Run kubectl\n   crictl           Run crictl\n   ctr              Run ctr\n   check-config     Run config check\n   token            Manage tokens\n   etcd-snapshot    Manage etcd snapshots\n   secrets-encrypt  Control secrets encryption and keys rotation\n   certificate      Manage K3s certificates\n   completion       Install shell completion script\n   help, h          Shows a list of commands or help for one command\n"
    )
}
