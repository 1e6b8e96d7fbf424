//! `line`, `ini`, `block` and `authorized_keys` over arbitrary texts: twice is once, and what is not
//! theirs stays.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use picluster_model::SourceFile;
use picluster_model::secret::SecretValues;
use picluster_model::yaml::parse;
use picluster_resource::query::{PathKind, PathState};
use picluster_resource::{Answer, Answers, Ctx, Diff, Facts, Payload, Query, Resource};
use proptest::prelude::*;

fn resource(kind: &str, body: &serde_json::Value) -> Option<Resource> {
    let file = Arc::new(SourceFile {
        name: "test".into(),
        text: body.to_string(),
    });
    Resource::from_yaml(kind, &parse::parse(&file).ok()?).ok()
}

/// The text after one apply; `None` when there is nothing to do; `Err` when it is refused.
fn apply(resource: &Resource, text: &str) -> Result<Option<String>, String> {
    let (facts, secrets) = (Facts::default(), SecretValues::default());
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let state = |kind, size| {
        Some(PathState {
            kind,
            mode: 0o644,
            owner: "root".into(),
            group: "root".into(),
            size,
        })
    };
    let mut answers = Answers::default();
    for query in resource.queries(ctx).unwrap() {
        let answer = match &query {
            Query::Path(path) if path.as_str() == "/f/x" => {
                Answer::Path(state(PathKind::File, text.len() as u64))
            }
            Query::Path(_) => Answer::Path(state(PathKind::Directory, 0)),
            Query::Text(_) => Answer::Text(Some(text.to_owned())),
            Query::Fragment(_) => Answer::Fragment {
                status: 0,
                stdout: format!(
                    "/home/a\na\n41c0 a a 0 /home/a\n41c0 a a 0 /home/a/.ssh\n8180 a a {} f\n{text}",
                    text.len()
                ),
            },
            other => panic!("{other}"),
        };
        answers.0.insert(query, answer);
    }
    let seen = resource.observe(&answers, ctx).map_err(|d| d.what)?;
    match resource.diff(&seen, ctx) {
        Diff::NoOp => Ok(None),
        Diff::Change(change) => {
            assert!(!change.fields.is_empty());
            match resource.operation(&seen, &change, ctx).unwrap().payload {
                Payload::None => panic!("no text in {resource:?}"),
                Payload::Bytes(bytes) => {
                    Ok(Some(String::from_utf8(bytes.reveal().clone()).unwrap()))
                }
            }
        }
    }
}

/// Applies, checks that a second time does nothing, and gives the text.
fn settled(resource: &Resource, text: &str) -> Result<Option<String>, TestCaseError> {
    let Ok(after) = apply(resource, text) else {
        return Ok(None);
    };
    let after = after.unwrap_or_else(|| text.to_owned());
    prop_assert_eq!(
        apply(resource, &after),
        Ok(None),
        "{:?} from {:?}",
        resource,
        text
    );
    Ok(Some(after))
}

/// Texts made of lines that matter to one of the editors, and of others.
fn text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "[ -~]{0,12}",
        "\\PC{0,6}",
        Just("a=1".to_owned()),
        Just(" a = 2 \\".to_owned()),
        Just("#a=3".to_owned()),
        Just("a=1\\".to_owned()),
        Just("[S]".to_owned()),
        Just("[T]".to_owned()),
        Just("# BEGIN picluster n".to_owned()),
        Just("# END picluster n".to_owned()),
        Just("one".to_owned()),
        Just("two".to_owned()),
        Just(format!("ssh-ed25519 {KEY} me")),
        Just(format!("no-pty ssh-ed25519 {KEY}")),
        Just(format!("ssh-ed25519 {OTHER}")),
    ];
    (
        proptest::collection::vec(line, 0..8),
        prop_oneof![Just("\n"), Just("\r\n")],
        any::<bool>(),
    )
        .prop_map(|(lines, end, ended)| {
            let mut text = lines.join(end);
            if ended && !text.is_empty() {
                text.push_str(end);
            }
            // Refused, since it may be what was left of something else.
            text.replace('\u{FFFD}', "?")
        })
}

const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIC4A1OAeTYSRCxnYcAeaxi3Z2tqyYFIJH09TkZ8WhwVj";
const OTHER: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIB+MYgTk6SSY9RrZtiHFS6Uhe+QZTsj54L/iF6DfAZQq";

fn presence() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("present"), Just("absent")]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn line(
        text in text(),
        wanted in prop_oneof![Just("a=9"), Just("one"), Just("# x")],
        pattern in prop_oneof![Just(None), Just(Some("^ *#?a *=")), Just(Some("o")), Just(Some("^nothing$"))],
        state in presence(),
    ) {
        let mut body = serde_json::json!({ "path": "/f/x", "line": wanted, "state": state });
        if let Some(pattern) = pattern {
            body["match"] = pattern.into();
        }
        let line = resource("line", &body).unwrap();
        let Some(after) = settled(&line, &text)? else { return Ok(()) };
        let count = after.lines().filter(|l| *l == wanted).count();
        prop_assert_eq!(count, usize::from(state == "present"));
        // All other lines are there, in order, with their ends.
        let regex = pattern.map(|p| regex_lite::Regex::new(p).unwrap());
        let foreign = |text: &str| -> Vec<String> {
            text.split_inclusive('\n')
                .filter(|l| {
                    let l = l.trim_end_matches('\n');
                    let l = l.strip_suffix('\r').unwrap_or(l);
                    l != wanted && regex.as_ref().is_none_or(|r| !r.is_match(l))
                })
                .map(|l| l.trim_end_matches(['\r', '\n']).to_owned())
                .collect()
        };
        prop_assert_eq!(foreign(&text), foreign(&after));
        let ends_blank = after.lines().next_back().is_none_or(str::is_empty);
        if !text.is_empty() && !ends_blank {
            prop_assert_eq!(text.ends_with('\n'), after.ends_with('\n'));
        }
    }

    #[test]
    fn ini(
        text in text(),
        section in prop_oneof![Just(""), Just("S"), Just("new")],
        key in prop_oneof![Just("a"), Just("b.c")],
        value in prop_oneof![Just(""), Just("1"), Just("x=y # z"), Just("[S]")],
        state in presence(),
    ) {
        let body = serde_json::json!({
            "path": "/f/x", "section": section, "key": key, "value": value, "state": state,
        });
        let ini = resource("ini", &body).unwrap();
        let Some(after) = settled(&ini, &text)? else { return Ok(()) };
        // Comments stay.
        let comments = |text: &str| text.lines().filter(|l| l.starts_with('#')).count();
        prop_assert!(comments(&after) <= comments(&text));
    }

    #[test]
    fn block(text in text(), content in prop_oneof![Just(""), Just("one\n"), Just("one\ntwo")]) {
        let body = |state: &str| serde_json::json!({
            "path": "/f/x", "name": "n", "content": content, "state": state,
        });
        let present = resource("block", &body("present")).unwrap();
        let absent = resource("block", &body("absent")).unwrap();
        let marked = text.contains("picluster n");
        let Some(after) = settled(&present, &text)? else {
            prop_assert!(marked, "only a damaged block is refused");
            return Ok(());
        };
        prop_assert_eq!(after.matches("# BEGIN picluster n").count(), 1);
        prop_assert_eq!(after.matches("# END picluster n").count(), 1);
        let Some(without) = settled(&absent, &after)? else {
            return Err(TestCaseError::fail("a whole block is removed"));
        };
        if !marked && (text.ends_with('\n') || text.is_empty()) {
            prop_assert_eq!(without, text);
        }
    }

    #[test]
    fn keys(text in text(), exclusive: bool) {
        let key = format!("ssh-ed25519 {KEY} wanted");
        let body = serde_json::json!({ "user": "a", "keys": [key], "exclusive": exclusive });
        let keys = resource("authorized_keys", &body).unwrap();
        let Some(after) = settled(&keys, &text)? else { return Ok(()) };
        prop_assert_eq!(after.matches(KEY).count(), 1);
        if exclusive {
            prop_assert!(!after.contains(OTHER));
        } else {
            prop_assert_eq!(after.matches(OTHER).count(), text.matches(OTHER).count());
        }
    }
}
