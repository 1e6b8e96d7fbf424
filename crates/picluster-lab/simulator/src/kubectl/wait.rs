//! `kubectl wait`.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::arguments::Arguments;
use super::session::{Named, Session};
use super::{Done, Failure, jsonpath};

fn holds(object: &Value, condition: &str) -> bool {
    let (name, wanted) = condition.split_once('=').unwrap_or((condition, "true"));
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| {
            c["type"]
                .as_str()
                .is_some_and(|t| t.eq_ignore_ascii_case(name))
                && c["status"]
                    .as_str()
                    .is_some_and(|s| s.eq_ignore_ascii_case(wanted))
        })
}

fn met(session: &Session, named: &Named, what: &str) -> Done<bool> {
    let found = match session.get(&named.path()) {
        Ok(object) => Some(object),
        Err(Failure::Server { reason, .. }) if reason == "NotFound" => None,
        Err(failure) => return Err(failure),
    };
    match (what.split_once('='), found) {
        (None, found) if what == "delete" => Ok(found.is_none()),
        (None, found) if what == "create" => Ok(found.is_some()),
        (_, None) => Err(Failure::Server {
            reason: "NotFound".into(),
            message: format!("{} {:?} not found", named.kind.plural, named.name),
        }),
        (Some(("condition", condition)), Some(object)) => Ok(holds(&object, condition)),
        (Some(("jsonpath", rest)), Some(object)) => {
            let (path, wanted) = rest
                .trim_matches('\'')
                .rsplit_once('=')
                .map_or((rest, None), |(p, w)| (p, Some(w)));
            let is = jsonpath::fill(path, &object).unwrap_or_default();
            Ok(wanted.map_or(!is.is_empty(), |w| is == w))
        }
        _ => Err(Failure::Plain(format!("unrecognized condition: {what:?}"))),
    }
}

pub(super) fn run(session: &Session, arguments: &Arguments, words: &[String]) -> Done {
    let Some(what) = arguments.flag("for") else {
        return Err(Failure::Plain("you must specify a --for condition".into()));
    };
    let limit = arguments.seconds("timeout").unwrap_or(30.0);
    let limit = if limit < 0.0 { 7.0 * 86400.0 } else { limit };
    let end = Instant::now() + Duration::from_secs_f64(limit);
    let targets = session.targets(words, arguments)?;
    if targets.is_empty() {
        return Err(Failure::Plain("no matching resources found".into()));
    }
    let mut late = vec![];
    for named in &targets {
        loop {
            if met(session, named, what)? {
                println!("{} condition met", named.shown());
                break;
            }
            if Instant::now() >= end {
                late.push(Failure::Plain(format!(
                    "timed out waiting for the condition on {}/{}",
                    named.kind.plural, named.name
                )));
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    super::get::fail(late)
}
