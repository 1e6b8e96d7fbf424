//! `kubectl get`.

use serde_json::{Value, json};

use super::arguments::Arguments;
use super::session::Session;
use super::{Done, Failure, apply, jsonpath, print, yaml};
use crate::api::kinds::Kind;
use crate::api::tables;
use crate::text;

/// One kind's objects, as they will be shown.
struct Group {
    kind: Kind,
    items: Vec<Value>,
}

pub(super) fn run(session: &Session, arguments: &Arguments, words: &[String]) -> Done {
    if let Some(path) = arguments.flag("raw") {
        let bytes = session.send("GET", path, "", &[])?;
        print!("{}", String::from_utf8_lossy(&bytes));
        return Ok(());
    }
    let filed = arguments.flag("filename").is_some();
    let Some(first) = words.first().map(String::as_str).or(filed.then_some("")) else {
        return Err(Failure::Bare(
            "You must specify the type of resource to get. Use \"kubectl api-resources\" for a complete list of supported resources.\n\nerror: Required resource not specified.\nUse \"kubectl explain <resource>\" for a detailed description of that resource (e.g. kubectl explain pods).\nSee 'kubectl get -h' for help and examples".into(),
        ));
    };
    let by_name = filed || first.contains('/') || words.len() > 1;
    let mut failures = vec![];
    let mut groups: Vec<Group> = vec![];
    let mut named_by_file = 0;
    if by_name {
        let mut targets = vec![];
        if filed {
            for (object, source) in apply::read(arguments)? {
                match session.kind_of(&object, &source) {
                    Ok(kind) => targets.push(apply::named(session, kind, &object)),
                    Err(failure) => failures.push(failure),
                }
            }
            named_by_file = targets.len() + failures.len();
        } else {
            targets = session.targets(words, arguments)?;
        }
        for named in targets {
            match session.get(&named.path()) {
                Ok(object) => match groups.iter_mut().find(|g| g.kind == named.kind) {
                    Some(group) => group.items.push(object),
                    None => groups.push(Group {
                        kind: named.kind,
                        items: vec![object],
                    }),
                },
                Err(Failure::Server { reason, .. })
                    if reason == "NotFound" && arguments.is_on("ignore-not-found") => {}
                Err(failure) => failures.push(failure),
            }
        }
    } else {
        let all = "pods,services,deployments,daemonsets,replicasets,statefulsets,jobs,cronjobs";
        let list = if first == "all" { all } else { first };
        for word in list.split(',') {
            let kind = session.kind(word)?;
            let items = session.list(&kind, arguments)?;
            groups.push(Group { kind, items });
        }
    }
    let output = arguments.flag("output").unwrap_or_default();
    let count: usize = groups.iter().map(|g| g.items.len()).sum();
    let single = by_name && (words_name_one(words) || named_by_file == 1);
    if output.is_empty() || output == "wide" {
        if count == 0 && !by_name {
            nothing(session, arguments, &groups);
        }
        tabulate(arguments, &groups, output == "wide", first);
    } else if filed && !failures.is_empty() {
        // One path counts as one item, of which nothing is printed when something of it fails (upstream
        // staging/src/k8s.io/kubectl/pkg/cmd/get/get.go, printGeneric).
    } else if count > 0 || !by_name {
        emit(output, groups, single)?;
    }
    fail(failures)
}

/// Several failures are told one by one.
pub(super) fn fail(failures: Vec<Failure>) -> Done {
    let many = failures.len() > 1;
    for failure in failures {
        if !many {
            return Err(failure);
        }
        match failure {
            Failure::Plain(text) => eprintln!("error: {text}"),
            Failure::Server { reason, message } => {
                eprintln!("Error from server ({reason}): {message}")
            }
            Failure::Bare(text) => eprintln!("{text}"),
            Failure::Said => {}
        }
    }
    if many { Err(Failure::Said) } else { Ok(()) }
}

fn words_name_one(words: &[String]) -> bool {
    if words.first().is_some_and(|w| w.contains('/')) {
        words.len() == 1
    } else {
        words.len() == 2
    }
}

fn nothing(session: &Session, arguments: &Arguments, groups: &[Group]) {
    if arguments.is_on("ignore-not-found") {
        return;
    }
    let namespaced = groups.iter().any(|g| g.kind.namespaced);
    if namespaced && !arguments.is_on("all-namespaces") {
        eprintln!("No resources found in {} namespace.", session.namespace);
    } else {
        eprintln!("No resources found");
    }
}

fn emit(output: &str, groups: Vec<Group>, single: bool) -> Done {
    let mut items: Vec<(Kind, Value)> = vec![];
    for group in groups {
        for mut item in group.items {
            if let Some(meta) = item["metadata"].as_object_mut() {
                meta.shift_remove("managedFields");
            }
            items.push((group.kind.clone(), item));
        }
    }
    let (format, template) = output.split_once('=').unwrap_or((output, ""));
    if format == "name" {
        for (kind, item) in &items {
            let name = item["metadata"]["name"].as_str().unwrap_or_default();
            let full = if kind.group.is_empty() {
                kind.singular.clone()
            } else {
                format!("{}.{}", kind.singular, kind.group)
            };
            println!("{full}/{name}");
        }
        return Ok(());
    }
    let whole = if single && items.len() == 1 {
        items.remove(0).1
    } else {
        let items: Vec<Value> = items.into_iter().map(|(_, i)| i).collect();
        json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}})
    };
    match format {
        "json" => print!("{}", print::json(&whole, 4)),
        "yaml" => print!("{}", yaml::write(&whole)),
        "jsonpath" => print!(
            "{}",
            jsonpath::fill(template, &whole).map_err(|why| Failure::Plain(format!(
                "error parsing jsonpath {template}, {why}"
            )))?
        ),
        "custom-columns" => columns(template, &whole)?,
        "go-template" => return Err(Failure::Plain("go-template: not simulated".into())),
        other => {
            return Err(Failure::Plain(format!(
                "unable to match a printer suitable for the output format {other:?}, allowed formats are: custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,name,template,templatefile,wide,yaml"
            )));
        }
    }
    Ok(())
}

fn columns(template: &str, whole: &Value) -> Done {
    let heads: Vec<(&str, String)> = template
        .split(',')
        .filter_map(|c| c.split_once(':'))
        .map(|(h, p)| {
            (
                h,
                if p.starts_with('{') {
                    p.to_owned()
                } else {
                    format!("{{{}{p}}}", if p.starts_with('.') { "" } else { "." })
                },
            )
        })
        .collect();
    let mut rows = vec![
        heads
            .iter()
            .map(|(h, _)| (*h).to_owned())
            .collect::<Vec<_>>(),
    ];
    let one = [whole.clone()];
    for item in whole["items"].as_array().map_or(&one[..], Vec::as_slice) {
        let mut row = vec![];
        for (_, path) in &heads {
            let cell = jsonpath::fill(path, item).map_err(Failure::Plain)?;
            row.push(if cell.is_empty() {
                "<none>".into()
            } else {
                cell.replace(' ', ",")
            });
        }
        rows.push(row);
    }
    print!("{}", text::table(&rows));
    Ok(())
}

fn tabulate(arguments: &Arguments, groups: &[Group], wide: bool, asked: &str) {
    let with_kind = groups.len() > 1 || asked == "all" || arguments.is_on("show-kind");
    let mut first = true;
    for group in groups.iter().filter(|g| !g.items.is_empty()) {
        let columns = tables::columns(&group.kind.kind);
        let chosen: Vec<usize> = (0..columns.len())
            .filter(|i| wide || !columns[*i].1)
            .collect();
        let mut rows = vec![];
        let extra: Vec<&str> = arguments
            .all("label-columns")
            .iter()
            .flat_map(|l| l.split(','))
            .collect();
        let spaced = arguments.is_on("all-namespaces") && group.kind.namespaced;
        if !arguments.is_on("no-headers") {
            let mut head: Vec<String> = if spaced {
                vec!["NAMESPACE".into()]
            } else {
                vec![]
            };
            head.extend(chosen.iter().map(|i| columns[*i].0.to_uppercase()));
            head.extend(
                extra
                    .iter()
                    .map(|l| l.rsplit('/').next().unwrap_or(l).to_uppercase()),
            );
            if arguments.is_on("show-labels") {
                head.push("LABELS".into());
            }
            rows.push(head);
        }
        for item in &group.items {
            let cells = tables::row(&group.kind.kind, item);
            let meta = &item["metadata"];
            let mut row: Vec<String> = if spaced {
                vec![meta["namespace"].as_str().unwrap_or_default().into()]
            } else {
                vec![]
            };
            row.extend(chosen.iter().map(|i| cells[*i].clone()));
            if with_kind && let Some(name) = row.get_mut(usize::from(spaced)) {
                let full = if group.kind.group.is_empty() {
                    group.kind.singular.clone()
                } else {
                    format!("{}.{}", group.kind.singular, group.kind.group)
                };
                *name = format!("{full}/{name}");
            }
            row.extend(
                extra
                    .iter()
                    .map(|l| meta["labels"][*l].as_str().unwrap_or_default().to_owned()),
            );
            if arguments.is_on("show-labels") {
                let mut all: Vec<String> = meta["labels"]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
                    .collect();
                all.sort();
                row.push(if all.is_empty() {
                    "<none>".into()
                } else {
                    all.join(",")
                });
            }
            rows.push(row);
        }
        if !first {
            println!();
        }
        first = false;
        print!("{}", text::table(&rows));
    }
}
