//! A kubeconfig is edited as text: what is not ours stays as it is, to the byte.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::Arc;

use picluster::kubeconfig::edit::{has, merge, remove};
use picluster::kubeconfig::file::{Obstacle, Target, Written};
use picluster::kubeconfig::{Credentials, Refusal};
use picluster_model::span::SourceFile;
use picluster_model::yaml::{Yaml, parse};
use proptest::prelude::*;

fn server_file(authority: &str, key: &str) -> String {
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {authority}\n    server: https://127.0.0.1:6443\n  name: default\ncontexts:\n- context:\n    cluster: default\n    user: default\n  name: default\ncurrent-context: default\nkind: Config\npreferences: {{}}\nusers:\n- name: default\n  user:\n    client-certificate-data: Q0VSVA==\n    client-key-data: {key}\n"
    )
}

fn credentials(authority: &str, key: &str, endpoint: &str) -> Credentials {
    Credentials::read(&server_file(authority, key))
        .unwrap()
        .at(endpoint)
}

fn ours() -> Credentials {
    credentials("T1VSUw==", "S0VZ", "192.168.2.1")
}

fn yaml(text: &str) -> Yaml {
    let file = Arc::new(SourceFile {
        name: "kubeconfig".into(),
        text: text.trim_start_matches('\u{feff}').to_owned(),
    });
    parse::parse(&file).unwrap_or_else(|found| panic!("{found:?}\n{text}"))
}

fn item<'y>(root: &'y Yaml, list: &str, name: &str) -> Option<&'y Yaml> {
    root.get(list)?
        .items()
        .iter()
        .find(|i| i.get("name").and_then(Yaml::as_str) == Some(name))
}

/// As kubectl writes it.
const KUBECTL: &str = "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: V09SSw==
    server: https://work.example:6443
  name: work
contexts:
- context:
    cluster: work
    namespace: web
    user: me@work
  name: work
current-context: work
kind: Config
preferences: {}
users:
- name: me@work
  user:
    token: abc
";

#[test]
fn it_is_put_behind_what_is_there() {
    let text = merge(KUBECTL, "homelab", &ours()).unwrap();
    insta::assert_snapshot!("merged", text);
    assert_eq!(merge(&text, "homelab", &ours()).unwrap(), text);
    assert_eq!(remove(&text, "homelab").unwrap(), KUBECTL);
}

#[test]
fn it_makes_a_whole_one_where_there_is_none() {
    for nothing in ["", "\n", "# mine\n"] {
        let text = merge(nothing, "homelab", &ours()).unwrap();
        let root = yaml(&text);
        assert_eq!(
            root.get("current-context").unwrap().as_str(),
            Some("homelab")
        );
        assert_eq!(root.get("kind").unwrap().as_str(), Some("Config"));
        assert!(text.starts_with(nothing));
        assert_eq!(merge(&text, "homelab", &ours()).unwrap(), text);
    }
    insta::assert_snapshot!("made", merge("", "homelab", &ours()).unwrap());
}

#[test]
fn what_is_empty_is_filled_and_can_be_emptied_again() {
    // What kubectl writes into a kubeconfig that has nothing.
    for text in [
        "apiVersion: v1\nclusters: null\ncontexts: null\ncurrent-context: \"\"\nkind: Config\npreferences: {}\nusers: null\n",
        "apiVersion: v1\nclusters: []  # none\ncontexts:\nkind: Config\nusers: [ ]",
        "kind: Config\r\nclusters: ~\r\n",
        "kind: Config",
        "\u{feff}kind: Config\n\n# the end\n",
    ] {
        let merged = merge(text, "homelab", &ours()).unwrap();
        let root = yaml(&merged);
        for list in ["clusters", "contexts", "users"] {
            assert!(item(&root, list, "homelab").is_some(), "{merged}");
        }
        assert_eq!(merge(&merged, "homelab", &ours()).unwrap(), merged);
        assert_eq!(remove(&merged, "homelab").unwrap(), text);
        assert_eq!(merged.contains("\r\n"), text.contains("\r\n"));
        assert_eq!(
            merged.matches('\n').count(),
            merged.lines().count() - usize::from(!merged.ends_with('\n'))
        );
    }
}

#[test]
fn only_values_that_changed_are_replaced_and_what_was_added_by_hand_stays() {
    let text = merge(KUBECTL, "homelab", &ours())
        .unwrap()
        .replace(
            "    user: homelab\n",
            "    namespace: media # films\n    user: homelab\n",
        )
        .replace(
            "    server: https://192.168.2.1:6443\n",
            "    server: \"https://192.168.2.1:6443\"\n    proxy-url: socks5://localhost:1080\n",
        );
    assert_eq!(merge(&text, "homelab", &ours()).unwrap(), text);
    let renewed = credentials("T1VSUw==", "TkVX", "k8s.lan");
    let after = merge(&text, "homelab", &renewed).unwrap();
    let expected = text
        .replace("client-key-data: S0VZ", "client-key-data: TkVX")
        .replace("\"https://192.168.2.1:6443\"", "https://k8s.lan:6443");
    assert_eq!(after, expected);
    // A field that was deleted by hand comes back.
    let without = after.replace("    client-key-data: TkVX\n", "");
    let back = merge(&without, "homelab", &renewed).unwrap();
    let root = yaml(&back);
    let user = item(&root, "users", "homelab")
        .unwrap()
        .get("user")
        .unwrap();
    assert_eq!(user.get("client-key-data").unwrap().as_str(), Some("TkVX"));
}

#[test]
fn a_rebuilt_cluster_is_ours_and_another_one_is_not() {
    let text = merge(KUBECTL, "homelab", &ours()).unwrap();
    // New authority at the same address: built anew. New address, same authority: it moved.
    assert!(
        merge(
            &text,
            "homelab",
            &credentials("TkVX", "S0VZ", "192.168.2.1")
        )
        .is_ok()
    );
    assert!(
        merge(
            &text,
            "homelab",
            &credentials("T1VSUw==", "S0VZ", "192.168.9.9")
        )
        .is_ok()
    );
    let refused = merge(
        &text,
        "homelab",
        &credentials("TkVX", "S0VZ", "192.168.9.9"),
    );
    assert!(
        matches!(refused, Err(Refusal::Foreign(what)) if what.contains("https://192.168.2.1:6443"))
    );
    // Made by somebody else: only the same cluster is taken over.
    let refused = merge(KUBECTL, "work", &ours());
    assert!(
        matches!(refused, Err(Refusal::Foreign(what)) if what.contains("https://work.example:6443"))
    );
    let same = credentials("V09SSw==", "S0VZ", "work.example");
    let refused = merge(KUBECTL, "work", &same);
    assert!(
        matches!(&refused, Err(Refusal::Foreign(what)) if what.contains("of this cluster")),
        "{refused:?}"
    );
    // Copied from the server by hand, under our name: taken over, and only the address is corrected.
    let by_hand = server_file("T1VSUw==", "S0VZ").replace("default", "homelab");
    let corrected = by_hand.replace("127.0.0.1", "192.168.2.1");
    assert_eq!(merge(&by_hand, "homelab", &ours()).unwrap(), corrected);
    let other_user = by_hand.replace("S0VZ", "T1RIRVI=");
    assert!(matches!(
        merge(&other_user, "homelab", &ours()),
        Err(Refusal::Foreign(_))
    ));
    assert!(matches!(remove(KUBECTL, "work"), Err(Refusal::Foreign(_))));
    for part in [
        "kind: Config\nusers:\n- name: homelab\n  user: {}\n",
        "kind: Config\ncontexts:\n- name: homelab\n  context: {}\n",
    ] {
        assert!(
            matches!(merge(part, "homelab", &ours()), Err(Refusal::Foreign(_))),
            "{part}"
        );
    }
}

#[test]
fn what_kubectl_writes_anew_is_still_ours() {
    let text = merge(KUBECTL, "homelab", &ours()).unwrap();
    // kubectl sorts by name and quotes as it likes.
    let rewritten = text
        .replace("provider: picluster", "provider: \"picluster\"")
        .replace("name: picluster", "name: 'picluster'");
    assert_eq!(
        merge(
            &rewritten,
            "homelab",
            &credentials("TkVX", "S0VZ", "192.168.2.1")
        )
        .map(|_| ()),
        Ok(())
    );
    assert_eq!(remove(&rewritten, "homelab").unwrap(), KUBECTL);
}

#[test]
fn strange_ones_are_left_alone_and_their_secrets_unsaid() {
    for (text, says) in [
        ("{\"kind\": \"Config\", \"clusters\": []}", "flow style"),
        (
            "kind: Config\nclusters: [{name: a, cluster: {server: s3cret}}]\n",
            "flow style",
        ),
        ("kind: Config\nclusters: &all\n- name: a\nusers: *all\n", ""),
        ("kind: Config\nkind: Config\n", "twice"),
        ("kind: Config\nusers: !x []\n", "tag"),
        ("kind: Config\nclusters: s3cret\n", "no list"),
        ("kind: Config\n---\nkind: Config\n", "second document"),
        ("kind: Config\nusers:\n-\n  name: a\n", "dash"),
        ("kind: Secret\ndata: s3cret\n", "Secret"),
        ("- s3cret\n", "no mapping"),
        (
            "kind: Config\nusers:\n- name: a\n  user:\n    token: \"s3cret\n",
            "",
        ),
        ("kind: Config\n...\n", ""),
    ] {
        match merge(text, "homelab", &ours()) {
            Err(Refusal::Strange(why)) => {
                assert!(why.contains(says), "{text}: {why}");
                assert!(!why.contains("s3cret"), "{why}");
            }
            Ok(merged) => {
                // Then it must be right, whatever it looks like.
                assert!(says.is_empty(), "{text}");
                yaml(&merged);
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn files_are_private_whole_and_written_only_when_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let target = Target {
        path: dir.path().join("kube/config"),
        context: "homelab".into(),
    };
    let path = target.path.clone();
    assert_eq!(target.look(&ours()), Ok(Written::Added(path.clone())));
    assert!(!path.exists(), "looking writes nothing");
    assert_eq!(target.merge(&ours()), Ok(Written::Added(path.clone())));
    let meta = fs::metadata(&path).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert_eq!(target.merge(&ours()), Ok(Written::Unchanged));
    assert_eq!(fs::metadata(&path).unwrap().ino(), meta.ino());
    // A link stays one, and its target becomes private.
    let real = dir.path().join("real");
    fs::write(&real, KUBECTL).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o644)).unwrap();
    let link = dir.path().join("link");
    symlink(&real, &link).unwrap();
    let linked = Target {
        path: link.clone(),
        context: "homelab".into(),
    };
    assert!(matches!(linked.merge(&ours()), Ok(Written::Added(_))));
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(
        fs::metadata(&real).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let renewed = credentials("T1VSUw==", "TkVX", "192.168.2.1");
    assert!(matches!(linked.merge(&renewed), Ok(Written::Updated(_))));
    assert!(linked.remove().unwrap());
    assert_eq!(fs::read_to_string(&real).unwrap(), KUBECTL);
    assert!(!linked.remove().unwrap());
    // Nothing is left lying about.
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn one_that_cannot_be_edited_gets_a_neighbour() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    let text = "{\"kind\": \"Config\"}";
    fs::write(&path, text).unwrap();
    let target = Target {
        path: path.clone(),
        context: "homelab".into(),
    };
    let Ok(Written::Beside {
        path: beside,
        why,
        changed: true,
    }) = target.merge(&ours())
    else {
        panic!()
    };
    assert_eq!(beside, dir.path().join("homelab.kubeconfig"));
    assert!(why.contains("flow style"));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert!(has(&fs::read_to_string(&beside).unwrap(), "homelab"));
    assert!(matches!(
        target.merge(&ours()),
        Ok(Written::Beside { changed: false, .. })
    ));
}

#[test]
fn kubectls_lock_is_respected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    fs::write(dir.path().join("config.lock"), "").unwrap();
    let target = Target {
        path: path.clone(),
        context: "homelab".into(),
    };
    let refused = target.merge(&ours()).unwrap_err();
    assert!(
        matches!(&refused, Obstacle::Disk { why, .. } if why.contains("config.lock")),
        "{refused}"
    );
    assert!(!path.exists());
}

/// How somebody may have written an item.
fn written_item(
    list: &'static str,
    inner: &'static str,
) -> impl Strategy<Value = (String, String)> {
    let value = prop_oneof![
        Just("plain".to_owned()),
        Just("\"quo ted # no comment\"".to_owned()),
        Just("'it''s'".to_owned()),
        Just("TFMwdExTMUNSVWRKVGc9PQ==".to_owned()),
        Just("|-\n@@@@@@one\n@@@@@@two".to_owned()),
        Just("{ a: [1, 2], b: null }".to_owned()),
    ];
    ("[a-z]{1,6}", value, 0..4_u8).prop_map(move |(name, value, form)| {
        let name = format!("{list}-{name}");
        let text = match form {
            0 => format!("- {inner}:\n@@@@x: {value}\n@@name: {name}"),
            1 => format!("- name: {name} # its name\n@@{inner}:\n@@@@x: {value}\n\n@@@@y: 1"),
            2 => format!("-   name: {name}\n@@@@{inner}: {{ x: 1, y: \"}}\" }}"),
            _ => format!("# before\n- {{ name: {name}, {inner}: {{ x: 1 }} }}  # behind"),
        };
        (name, text)
    })
}

/// A list in some style: left out, empty in one of the ways, or with items.
fn written_list(list: &'static str, inner: &'static str) -> impl Strategy<Value = String> {
    let empty = prop_oneof![
        Just(String::new()),
        Just(format!("{list}:")),
        Just(format!("{list}: []")),
        Just(format!("{list} :  null   # none")),
        Just(format!("\"{list}\": ~")),
    ];
    let items = (
        prop::collection::vec(written_item(list, inner), 1..4),
        0..3_usize,
        any::<bool>(),
    )
        .prop_map(move |(items, indent, spaced)| {
            let indent = " ".repeat(indent);
            let mut seen = std::collections::BTreeSet::new();
            let mut lines = vec![format!("{list}:")];
            for (name, text) in items {
                if !seen.insert(name) {
                    continue;
                }
                for line in text.lines() {
                    let line = line.replace('@', " ");
                    lines.push(if line.is_empty() {
                        line
                    } else {
                        format!("{indent}{line}")
                    });
                }
                if spaced {
                    lines.push(format!("{indent}# between"));
                    lines.push(String::new());
                }
            }
            lines.join("\n")
        });
    prop_oneof![1 => empty, 3 => items]
}

fn written() -> impl Strategy<Value = String> {
    let current = prop_oneof![
        Just(String::new()),
        Just("current-context: \"\"".to_owned()),
        Just("current-context:".to_owned()),
        Just("current-context: contexts-a # mine".to_owned()),
    ];
    (
        written_list("clusters", "cluster"),
        written_list("contexts", "context"),
        written_list("users", "user"),
        current,
        any::<[bool; 5]>(),
        0..6_usize,
    )
        .prop_map(|(clusters, contexts, users, current, flags, turn)| {
            let mut parts = vec![
                "apiVersion: v1\nkind: Config\npreferences: {}".to_owned(),
                clusters,
                contexts,
                users,
                current,
                "# a comment of its own\n".to_owned(),
            ];
            parts.rotate_left(turn);
            parts.retain(|p| !p.is_empty());
            let mut text = parts.join("\n");
            if flags[0] {
                text.push('\n');
            } else {
                text = text.trim_end().to_owned();
            }
            if flags[1] {
                text = format!("---\n{text}");
            }
            if flags[2] && flags[3] {
                text = text.replace('\n', "\r\n");
            }
            text
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_keeps_everything_and_removing_gives_the_bytes_back(text in written()) {
        let before = yaml(&text);
        let merged = merge(&text, "homelab", &ours()).map_err(|e| TestCaseError::fail(format!("{e:?}\n{text}")))?;
        let root = yaml(&merged);
        let cluster = item(&root, "clusters", "homelab").unwrap().get("cluster").unwrap();
        prop_assert_eq!(cluster.get("server").unwrap().as_str(), Some("https://192.168.2.1:6443"));
        let context = item(&root, "contexts", "homelab").unwrap().get("context").unwrap();
        prop_assert_eq!(context.get("user").unwrap().as_str(), Some("homelab"));
        // Every line that was there is there, in its order.
        let mut lines = merged.lines();
        for line in text.lines() {
            let kept = lines.any(|l| l == line);
            let filled = ["clusters", "contexts", "users", "current-context"].iter().any(|k| line.trim_start_matches('"').starts_with(k));
            prop_assert!(kept || filled, "lost: {:?}\n{}", line, merged);
            if !kept {
                lines = merged.lines();
            }
        }
        let current = before.get("current-context").and_then(Yaml::as_str).filter(|c| !c.is_empty()).unwrap_or("homelab");
        prop_assert_eq!(root.get("current-context").unwrap().as_str(), Some(current));
        prop_assert_eq!(merge(&merged, "homelab", &ours()).unwrap(), merged.clone());
        prop_assert_eq!(remove(&merged, "homelab").unwrap(), text.clone());
        // A second cluster beside it does not disturb, in whatever order they go.
        let other = credentials("T1RIRVI=", "S0VZ", "192.168.3.1");
        let both = merge(&merged, "shed", &other).unwrap();
        prop_assert_eq!(remove(&both, "shed").unwrap(), merged);
        let left = remove(&both, "homelab").unwrap();
        prop_assert!(has(&left, "shed") && !has(&left, "homelab"));
        yaml(&left);
    }
}
