//! `kubectl delete`.

use std::time::Duration;

use serde_json::Value;

use super::arguments::Arguments;
use super::session::{Named, Session};
use super::{Done, Failure, apply};
use crate::release::Release;

pub(super) fn run(session: &Session, arguments: &Arguments, words: &[String]) -> Done {
    let targets: Vec<Named> = if arguments.flag("filename").is_some() {
        let mut all = vec![];
        for (object, source) in apply::read(arguments)? {
            let kind = session.kind_of(&object, &source)?;
            all.push(apply::named(session, kind, &object));
        }
        all
    } else {
        session.targets(words, arguments)?
    };
    if targets.is_empty() && !words.is_empty() {
        println!("No resources found");
    }
    let mut failures = vec![];
    for named in targets {
        match session.send("DELETE", &named.path(), "", &[]) {
            Ok(answer) => {
                let kind = &named.kind;
                let full = if kind.group.is_empty() {
                    kind.singular.clone()
                } else {
                    format!("{}.{}", kind.singular, kind.group)
                };
                // The namespace is told since 1.34.
                let place = if kind.namespaced && Release::ours().minor() >= 34 {
                    format!(" from {} namespace", named.namespace)
                } else {
                    String::new()
                };
                match arguments.flag("output") {
                    Some("name") => println!("{full}/{}", named.name),
                    _ => println!("{full} \"{}\" deleted{place}", named.name),
                }
                if arguments.flag("wait") != Some("false") {
                    gone(session, &named, &answer)?;
                }
            }
            Err(Failure::Server { reason, .. })
                if reason == "NotFound" && arguments.is_on("ignore-not-found") => {}
            Err(failure) => failures.push(failure),
        }
    }
    super::get::fail(failures)
}

/// Waits for what somebody still has to see to before it goes (`--wait`, which is on by itself).
fn gone(session: &Session, named: &Named, answer: &[u8]) -> Done {
    let object: Value = serde_json::from_slice(answer).unwrap_or_default();
    if !object["metadata"]["deletionTimestamp"].is_string() {
        return Ok(());
    }
    loop {
        match session.get(&named.path()) {
            Ok(_) => std::thread::sleep(Duration::from_millis(200)),
            Err(Failure::Server { reason, .. }) if reason == "NotFound" => return Ok(()),
            Err(failure) => return Err(failure),
        }
    }
}
