//! `kubectl cordon`, `uncordon` and `drain` (kubectl/pkg/cmd/drain, kubectl/pkg/drain/filters.go).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::arguments::Arguments;
use super::session::{Named, Session, encode};
use super::{Done, Failure};
use crate::release::Release;

fn nodes(
    session: &Session,
    arguments: &Arguments,
    words: &[String],
    verb: &str,
) -> Done<Vec<Named>> {
    let kind = session.kind("nodes")?;
    if words.is_empty() && arguments.flag("selector").is_none() {
        return Err(Failure::Plain(format!(
            "USAGE: {verb} NODE [flags]\nSee 'kubectl {verb} -h' for help and examples"
        )));
    }
    if words.is_empty() {
        return session.targets(&["nodes".to_owned()], arguments);
    }
    Ok(words
        .iter()
        .filter(|w| !matches!(w.as_str(), "node" | "nodes"))
        .map(|w| {
            session.named(
                &kind,
                w.trim_start_matches("node/").trim_start_matches("nodes/"),
            )
        })
        .collect())
}

fn set(session: &Session, named: &Named, on: bool) -> Done {
    let node = session.get(&named.path())?;
    let word = if on { "cordoned" } else { "uncordoned" };
    if (node["spec"]["unschedulable"] == true) == on {
        println!("{} already {word}", named.shown());
        return Ok(());
    }
    let value = if on { Value::Bool(true) } else { Value::Null };
    session.patch(named, &json!({"spec": {"unschedulable": value}}))?;
    println!("{} {word}", named.shown());
    Ok(())
}

/// `kubectl cordon` and `uncordon`.
pub(super) fn cordon(session: &Session, arguments: &Arguments, words: &[String], on: bool) -> Done {
    let verb = if on { "cordon" } else { "uncordon" };
    let mut failures = vec![];
    for named in nodes(session, arguments, words, verb)? {
        if let Err(failure) = set(session, &named, on) {
            failures.push(failure);
        }
    }
    super::get::fail(failures)
}

/// Pods to evict, warnings, and reasons against it.
#[derive(Default)]
struct Sorted {
    evict: Vec<(String, String)>,
    daemons: Vec<String>,
    local: Vec<String>,
    lonely: Vec<String>,
}

fn sort(pods: &[Value]) -> Sorted {
    let mut out = Sorted::default();
    for pod in pods {
        let part = |f: &str| pod["metadata"][f].as_str().unwrap_or_default().to_owned();
        let full = format!("{}/{}", part("namespace"), part("name"));
        let owner = pod["metadata"]["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|o| o["controller"] == true);
        let finished = matches!(
            pod["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        );
        match owner.and_then(|o| o["kind"].as_str()) {
            Some("DaemonSet") => {
                out.daemons.push(full);
                continue;
            }
            Some(_) => {}
            None if finished => {}
            None => out.lonely.push(full.clone()),
        }
        let volumes = pod["spec"]["volumes"].as_array();
        if !finished
            && volumes
                .into_iter()
                .flatten()
                .any(|v| !v["emptyDir"].is_null())
        {
            out.local.push(full);
        }
        out.evict.push((part("namespace"), part("name")));
    }
    out
}

/// `kubectl drain`.
pub(super) fn drain(session: &Session, arguments: &Arguments, words: &[String]) -> Done {
    let all = nodes(session, arguments, words, "drain")?;
    for named in &all {
        session.get(&named.path())?;
    }
    for named in &all {
        set(session, named, true)?;
    }
    let mut fatal: Vec<String> = vec![];
    let mut left: Vec<&str> = vec![];
    for named in &all {
        match drained(session, arguments, named) {
            Ok(evicted) => println!(
                "{} {}",
                named.shown(),
                if evicted { "evicted" } else { "drained" }
            ),
            Err(why) => {
                let one = match why.as_slice() {
                    [one] => one.clone(),
                    many => format!("[{}]", many.join(", ")),
                };
                left.push(&named.name);
                eprintln!(
                    "error: unable to drain node {:?} due to error: {one}, continuing command...",
                    named.name
                );
                eprintln!("There are pending nodes to be drained:");
                for name in &left {
                    eprintln!(" {name}");
                }
                fatal.extend(why);
            }
        }
    }
    if fatal.is_empty() {
        return Ok(());
    }
    for why in fatal {
        eprintln!("{why}");
    }
    Err(Failure::Said)
}

fn pods_of(session: &Session, node: &str) -> Result<Sorted, String> {
    let path = format!(
        "/api/v1/pods?fieldSelector={}",
        encode(&format!("spec.nodeName={node}"))
    );
    let pods = session.get(&path).map_err(told)?;
    Ok(sort(
        pods["items"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default(),
    ))
}

fn told(failure: Failure) -> String {
    match failure {
        Failure::Server { reason, message } if !reason.is_empty() => {
            format!("Error from server ({reason}): {message}")
        }
        Failure::Server { message, .. } => message,
        Failure::Plain(text) | Failure::Bare(text) => text,
        Failure::Said => String::new(),
    }
}

/// One node. Returns whether what is said of it is the word of its last pod.
fn drained(session: &Session, arguments: &Arguments, named: &Named) -> Result<bool, Vec<String>> {
    let sorted = pods_of(session, &named.name).map_err(|why| vec![why])?;
    let mut against = vec![];
    if !sorted.daemons.is_empty() && !arguments.is_on("ignore-daemonsets") {
        against.push(format!(
            "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): {}",
            sorted.daemons.join(", ")
        ));
    }
    let local = arguments.is_on("delete-emptydir-data") || arguments.is_on("delete-local-data");
    if !sorted.local.is_empty() && !local {
        against.push(format!(
            "cannot delete Pods with local storage (use --delete-emptydir-data to override): {}",
            sorted.local.join(", ")
        ));
    }
    if !sorted.lonely.is_empty() && !arguments.is_on("force") {
        against.push(format!(
            "cannot delete Pods that declare no controller (use --force to override): {}",
            sorted.lonely.join(", ")
        ));
    }
    if !against.is_empty() {
        return Err(against);
    }
    let mut warnings = vec![];
    if !sorted.daemons.is_empty() {
        warnings.push(format!(
            "ignoring DaemonSet-managed Pods: {}",
            sorted.daemons.join(", ")
        ));
    }
    if !sorted.lonely.is_empty() {
        warnings.push(format!(
            "deleting Pods that declare no controller: {}",
            sorted.lonely.join(", ")
        ));
    }
    if !warnings.is_empty() {
        eprintln!("Warning: {}", warnings.join("; "));
    }
    let wrong = evict(session, arguments, &sorted.evict);
    if !wrong.is_empty() {
        let pending = pods_of(session, &named.name)
            .map(|s| s.evict)
            .unwrap_or_default();
        if !pending.is_empty() {
            eprintln!(
                "There are pending pods in node {:?} when an error occurred: {}",
                named.name,
                match wrong.as_slice() {
                    [one] => one.clone(),
                    many => format!("[{}]", many.join(", ")),
                }
            );
            for (_, name) in pending {
                eprintln!("pod/{name}");
            }
        }
        return Err(wrong);
    }
    // Before 1.23 the last pod's word was said of the node, too (kubernetes/kubernetes#105736).
    Ok(!sorted.evict.is_empty() && Release::ours().minor() < 23)
}

/// A duration as Go prints it: `5s`, `1m30s`, `5m0s`.
fn go_duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

/// How far a pod is on its way.
enum Going {
    /// To be evicted, at this time or later.
    Asked(Instant),
    /// Evicted; until it is gone.
    Leaving,
    Gone,
}

/// Evicts pods, all at once, each again and again while its budget does not let it go
/// (kubernetes/kubectl/pkg/drain/drain.go, `evictPods`). Returns what went wrong.
fn evict(session: &Session, arguments: &Arguments, pods: &[(String, String)]) -> Vec<String> {
    // No time given, or 0, is all the time there is.
    let limit = arguments.seconds("timeout").filter(|s| *s > 0.0);
    let end = limit.map(|s| Instant::now() + Duration::from_secs_f64(s));
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of seconds that somebody typed"
    )]
    let shown = go_duration(limit.unwrap_or(0.0) as u64);
    let now = Instant::now();
    let mut all: Vec<(&str, &str, Going)> = pods
        .iter()
        .map(|(namespace, name)| (namespace.as_str(), name.as_str(), Going::Asked(now)))
        .collect();
    // Since 1.21 with the namespace.
    let called = |namespace: &str, name: &str| match Release::ours().minor() {
        ..21 => format!("pod {name:?}"),
        _ => format!("pods/{name:?} -n {namespace:?}"),
    };
    let mut wrong = vec![];
    while all.iter().any(|(.., g)| !matches!(g, Going::Gone)) {
        let late = end.is_some_and(|end| Instant::now() >= end);
        for (namespace, name, going) in &mut all {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
            match going {
                Going::Gone => {}
                Going::Asked(at) if *at > Instant::now() => {}
                Going::Asked(_) => {
                    println!("evicting pod {namespace}/{name}");
                    if late {
                        wrong.push(format!(
                            "error when evicting {}: global timeout reached: {shown}",
                            called(namespace, name)
                        ));
                        *going = Going::Gone;
                        continue;
                    }
                    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}});
                    let sent = session.send(
                        "POST",
                        &format!("{path}/eviction"),
                        "application/json",
                        eviction.to_string().as_bytes(),
                    );
                    *going = match sent {
                        Ok(_) => Going::Leaving,
                        Err(Failure::Server { reason, .. }) if reason == "NotFound" => Going::Gone,
                        Err(Failure::Server { reason, message }) if reason == "TooManyRequests" => {
                            eprintln!(
                                "error when evicting {} (will retry after 5s): {message}",
                                called(namespace, name)
                            );
                            Going::Asked(Instant::now() + Duration::from_secs(5))
                        }
                        Err(failure) => {
                            let why = match failure {
                                Failure::Server { message, .. } => message,
                                other => told(other),
                            };
                            wrong.push(format!(
                                "error when evicting {}: {why}",
                                called(namespace, name)
                            ));
                            Going::Gone
                        }
                    };
                }
                Going::Leaving => match session.get(&path) {
                    Err(Failure::Server { reason, .. }) if reason == "NotFound" => {
                        println!("pod/{name} evicted");
                        *going = Going::Gone;
                    }
                    Err(failure) => {
                        wrong.push(format!("error when waiting for pod {name:?} in namespace {namespace:?} to terminate: {}", told(failure)));
                        *going = Going::Gone;
                    }
                    Ok(_) if late => {
                        wrong.push(format!("error when waiting for pod {name:?} in namespace {namespace:?} to terminate: global timeout reached: {shown}"));
                        *going = Going::Gone;
                    }
                    Ok(_) => {}
                },
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    wrong
}
