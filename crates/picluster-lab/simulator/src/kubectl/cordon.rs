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
    for named in &all {
        let path = format!(
            "/api/v1/pods?fieldSelector={}",
            encode(&format!("spec.nodeName={}", named.name))
        );
        let pods = session.get(&path)?;
        let sorted = sort(
            pods["items"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default(),
        );
        let mut against = vec![];
        if !sorted.daemons.is_empty() && !arguments.is_on("ignore-daemonsets") {
            against.push(format!(
                "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): {}",
                sorted.daemons.join(", ")
            ));
        }
        let local = arguments.is_on("delete-emptydir-data") || arguments.is_on("delete-local-data");
        if !sorted.local.is_empty() && !local {
            against.push(format!("cannot delete Pods with local storage (use --delete-emptydir-data to override): {}", sorted.local.join(", ")));
        }
        if !sorted.lonely.is_empty() && !arguments.is_on("force") {
            against.push(format!(
                "cannot delete Pods that declare no controller (use --force to override): {}",
                sorted.lonely.join(", ")
            ));
        }
        if !against.is_empty() {
            let why = if against.len() == 1 {
                against.remove(0)
            } else {
                format!("[{}]", against.join(", "))
            };
            eprintln!(
                "error: unable to drain node {:?} due to error: {why}, continuing command...",
                named.name
            );
            eprintln!("There are pending nodes to be drained:\n {}", named.name);
            eprintln!("{why}");
            return Err(Failure::Said);
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
        for (namespace, name) in &sorted.evict {
            println!("evicting pod {namespace}/{name}");
            let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}});
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
            match session.send(
                "POST",
                &path,
                "application/json",
                eviction.to_string().as_bytes(),
            ) {
                Ok(_) => {}
                Err(Failure::Server { reason, .. }) if reason == "NotFound" => {}
                Err(failure) => return Err(failure),
            }
        }
        wait_gone(session, arguments, &sorted.evict)?;
        for (_, name) in &sorted.evict {
            println!("pod/{name} evicted");
        }
        // Before 1.23 the last pod's word was said of the node, too (kubernetes/kubernetes#105736).
        let evicted = !sorted.evict.is_empty() && Release::ours().minor() < 23;
        println!(
            "{} {}",
            named.shown(),
            if evicted { "evicted" } else { "drained" }
        );
    }
    Ok(())
}

fn wait_gone(session: &Session, arguments: &Arguments, pods: &[(String, String)]) -> Done {
    let limit = arguments
        .seconds("timeout")
        .filter(|s| *s > 0.0)
        .unwrap_or(60.0);
    let end = Instant::now() + Duration::from_secs_f64(limit);
    for (namespace, name) in pods {
        loop {
            match session.get(&format!("/api/v1/namespaces/{namespace}/pods/{name}")) {
                Err(Failure::Server { reason, .. }) if reason == "NotFound" => break,
                Err(failure) => return Err(failure),
                Ok(_) if Instant::now() > end => {
                    return Err(Failure::Plain(format!(
                        "error when waiting for pod {name:?} in namespace {namespace:?} to terminate: global timeout reached: {limit}s"
                    )));
                }
                Ok(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
    Ok(())
}
