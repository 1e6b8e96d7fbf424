//! `k3s etcd-snapshot` (pkg/cli/etcdsnapshot/etcd_snapshot.go): the server that runs does it.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::fault::{Fault, Outcome};
use crate::token::Token;
use crate::{agent, files, log, machine};

/// `save [--name NAME]` and `ls`.
pub(super) fn run(words: &[String]) -> ExitCode {
    let mut name = "on-demand".to_owned();
    let mut data = PathBuf::from("/var/lib/rancher/k3s");
    let mut command = "save".to_owned();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = || {
            value
                .clone()
                .or_else(|| rest.next().cloned())
                .unwrap_or_default()
        };
        match flag.trim_start_matches('-') {
            "save" | "ls" | "list" | "l" => command = flag.to_owned(),
            "name" => name = value(),
            "data-dir" | "d" => data = value().into(),
            other => {
                log::error(format!("k3s etcd-snapshot {other}: not simulated"));
                return ExitCode::FAILURE;
            }
        }
    }
    match asked(&data, &command, &name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => log::fatal(format!("Error: see server log for details: {fault}")),
    }
}

fn asked(data: &std::path::Path, command: &str, name: &str) -> Outcome {
    let token = files::read(&data.join("server/token"))?;
    let token = token.trim();
    let url = "https://127.0.0.1:6443";
    let mut client = agent::validated(url, token)?;
    client.authorization = Some(Token::parse(token)?.authorization("server"));
    let operation = if command == "save" { "save" } else { "list" };
    let node = std::fs::read_to_string(data.join("server/db/etcd/name")).unwrap_or_default();
    let node = node
        .rsplit_once('-')
        .map_or(machine::hostname(), |(n, _)| n.to_owned());
    let body = json!({"operation": operation, "name": [name], "node": node});
    let answer = client.send("POST", "/db/snapshot", &[], body.to_string().as_bytes())?;
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status != 200 {
        let why = said["message"].as_str().unwrap_or_default();
        return Err(Fault(format!("{url}/db/snapshot: {} {why}", answer.status)));
    }
    if operation == "save" {
        for one in said["created"].as_array().into_iter().flatten() {
            log::info(format!(
                "Snapshot {} saved.",
                one.as_str().unwrap_or_default()
            ));
        }
        return Ok(());
    }
    println!("Name Location Size Created");
    for one in said.as_array().into_iter().flatten() {
        println!(
            "{} {} {}",
            one["name"].as_str().unwrap_or_default(),
            one["location"].as_str().unwrap_or_default(),
            one["size"]
        );
    }
    Ok(())
}
