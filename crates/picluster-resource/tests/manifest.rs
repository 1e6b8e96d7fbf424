//! When a manifest does not become what it should be: the script that waits for k3s, against a kubectl and a journal
//! that say what upstream's do, under the shells that may stand behind `/bin/sh`; and what a person reads of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod shells;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use picluster_model::secret::SecretValues;
use picluster_resource::program::{PRELUDE_SH, Raw, sha256_hex};
use picluster_resource::{Action, Answers, Change, Ctx, Diagnosis, Facts, Query, Resource, Shown};
use shells::shells;

const TEXT: &str = "kind: X\n";
/// In kubectl's place: it answers from files, and counts the questions for the checksum.
const KUBECTL: &str = r#"#!/bin/sh
w=${0%/bin/*}
case "$*" in
    *'get addons.k3s.cattle.io '*)
        echo x >> "$w/asked"
        if [ "$(wc -l < "$w/asked")" -gt "$(cat "$w/taken-after")" ]; then cat "$w/sum"; fi ;;
    *'get -f '*) cat "$w/table"; cat "$w/objects.err" >&2 ;;
    *) echo "unexpected: $*" >&2; exit 1 ;;
esac
"#;
/// A journal with a cursor, and what stands behind it.
const JOURNALCTL: &str = r#"#!/bin/sh
case "$*" in
    *--show-cursor*) echo '-- cursor: s=1' ;;
    *--after-cursor=s=1*) cat "${0%/bin/*}/log" ;;
esac
"#;
/// The header of the columns that are asked for.
const HEAD: &str = "KIND NS NAME GEN SEEN WANT NEW UP DWANT DNEW DUP DONE JOBS CRD\n";

/// What is found on the server.
#[derive(Default)]
struct Server<'a> {
    /// Beside the manifest.
    skip: bool,
    /// What `journalctl -o cat` prints.
    log: &'a str,
    /// k3s has taken the text after so many questions; `None`: never.
    taken_after: Option<u32>,
    /// Rows of `kubectl get -f`.
    table: &'a str,
    /// Its errors.
    errors: &'a str,
}

fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The script of "k3s takes it up", run there, under one shell. `None`: all is well; else what is said of it, and how long
/// it took.
fn applied_by(shell: &[&str], server: &Server<'_>, timeout: u32) -> Option<(Diagnosis, f32)> {
    let (facts, secrets) = (Facts::default(), SecretValues::default());
    let ctx = Ctx {
        facts: &facts,
        secrets: &secrets,
    };
    let dir = tempfile::tempdir().unwrap();
    let w = dir.path().to_str().unwrap();
    let file = format!("{w}/manifests/pool.yaml");
    fs::create_dir_all(format!("{w}/manifests")).unwrap();
    fs::write(&file, TEXT).unwrap();
    if server.skip {
        fs::write(format!("{file}.skip"), "").unwrap();
    }
    program(&dir.path().join("bin/kubectl"), KUBECTL);
    program(&dir.path().join("bin/journalctl"), JOURNALCTL);
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let never = u32::MAX >> 1;
    put("kubeconfig", "x");
    put("sum", &sha256_hex(TEXT.as_bytes()));
    put(
        "taken-after",
        &server.taken_after.unwrap_or(never).to_string(),
    );
    put("asked", "");
    put("table", &format!("{HEAD}{}", server.table));
    put("objects.err", server.errors);
    put("log", &server.log.replace("FILE", &file));

    let resource: Resource = serde_json::from_value(serde_json::json!({"manifest": {
        "path": file, "content": TEXT, "wait": true, "timeout": timeout,
        "kubeconfig": format!("{w}/kubeconfig"), "kubectl": [format!("{w}/bin/kubectl")],
    }}))
    .unwrap();
    let mut answers = Answers::default();
    for query in resource.queries(ctx).unwrap() {
        let text = match &query {
            Query::Path(path) => format!("81a4 root root 8 {}", path.as_str()),
            Query::Content { path, .. } => {
                format!("{}  {}", sha256_hex(TEXT.as_bytes()), path.as_str())
            }
            _ => String::new(),
        };
        let raw = Raw { status: 0, text };
        answers.0.insert(query.clone(), query.parse(&raw).unwrap());
    }
    let seen = resource.observe(&answers, ctx).unwrap();
    let change = Change::new(Action::Update).field("applied", Shown::Absent, Shown::text("x"));
    let operation = resource.operation(&seen, &change, ctx).unwrap();
    let script = format!("{PRELUDE_SH}(\nset -eu\n{}\n)\n", operation.script)
        .replace("/run/picluster", &format!("{w}/run"));
    put("script", &script);
    let began = Instant::now();
    let out = Command::new(shell[0])
        .args(&shell[1..])
        .arg(dir.path().join("script"))
        .env("LC_ALL", "C")
        .env("PATH", format!("{w}/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
        .output()
        .unwrap();
    let took = began.elapsed().as_secs_f32();
    let text = String::from_utf8(out.stdout).unwrap();
    match out.status.code() {
        Some(0) => None,
        Some(70) => {
            let said = resource.explain(70, &text, ctx).unwrap();
            let said = Diagnosis {
                what: said.what.replace(w, "DIR"),
                cure: said.cure.map(|cure| cure.replace(w, "DIR")),
            };
            Some((said, took))
        }
        other => panic!(
            "{shell:?}: {other:?}: {text}{}",
            String::from_utf8_lossy(&out.stderr)
        ),
    }
}

/// The same under every shell.
fn applied(server: &Server<'_>, timeout: u32) -> Option<(Diagnosis, f32)> {
    let mut found = std::thread::scope(|scope| {
        let shells = shells().into_iter();
        let running: Vec<_> = shells
            .map(|shell| scope.spawn(move || (applied_by(&shell, server, timeout), shell)))
            .collect();
        let found: Vec<_> = running.into_iter().map(|r| r.join().unwrap()).collect();
        found
    });
    let (first, _) = found.remove(0);
    for (other, shell) in found {
        assert_eq!(
            other.map(|(said, _)| said),
            first.as_ref().map(|(said, _)| said.clone()),
            "{shell:?}"
        );
    }
    first
}

#[track_caller]
fn diagnosis(server: &Server<'_>, timeout: u32) -> (Diagnosis, f32) {
    let (diagnosis, took) = applied(server, timeout).expect("something is wrong there");
    let cure = diagnosis.cure.as_deref().unwrap_or_default();
    assert!(cure.ends_with("then: picluster apply"), "{cure}");
    (diagnosis, took)
}

/// k3s-io/k3s, pkg/deploy/controller.go (listFilesIn, deploy), as logrus writes it.
fn log(errors: &str) -> String {
    format!(
        "time=\"2026-11-21T12:00:15Z\" level=error msg=\"Failed to process config: {errors}\"\n"
    )
}

#[test]
fn a_skip_file_beside_it_is_named_at_once() {
    let (said, took) = diagnosis(
        &Server {
            skip: true,
            ..Server::default()
        },
        300,
    );
    assert_eq!(
        said.what,
        "k3s passes over the manifest pool: DIR/manifests/pool.yaml.skip is there"
    );
    assert!(
        said.cure
            .unwrap()
            .contains("rm DIR/manifests/pool.yaml.skip")
    );
    assert!(took < 60.0, "nobody waits for what cannot come");
}

#[test]
fn what_k3s_says_of_it_is_told_without_what_it_says_of_others() {
    // wrangler, pkg/apply/desiredset_process.go; apimachinery, pkg/api/meta/errors.go (NoKindMatchError).
    let refusal = r#"failed to process FILE: failed to create default/x example.org/v1, Kind=Nonsense for  kube-system/pool: no matches for kind \"Nonsense\" in version \"example.org/v1\""#;
    let wanted = r#"k3s cannot deploy the manifest pool: failed to create default/x example.org/v1, Kind=Nonsense for  kube-system/pool: no matches for kind "Nonsense" in version "example.org/v1""#;
    let other = r#"failed to process /var/lib/rancher/k3s/server/manifests/zother.yaml: yaml: line 2: mapping values are not allowed in this context"#;
    let first = r#"failed to process /var/lib/rancher/k3s/server/manifests/aother.yaml: Object 'Kind' is missing in '{\"a\":1}'"#;
    for said in [
        log(refusal),
        // Go, errors.Join.
        log(&format!(r"{first}\n{refusal}\n{other}")),
        // Releases before that.
        log(&format!("{first}, {refusal}, {other}")),
        log(&format!(
            r"{refusal}\nfailed to delete /var/lib/rancher/k3s/server/manifests/traefik.yaml: x"
        )),
    ] {
        let (found, _) = diagnosis(
            &Server {
                log: &said,
                ..Server::default()
            },
            1,
        );
        assert_eq!(found.what, wanted, "{said}");
    }
    // Nothing of it, only of others.
    let (found, _) = diagnosis(
        &Server {
            log: &log(other),
            ..Server::default()
        },
        1,
    );
    assert_eq!(
        found.what,
        "k3s has not taken up the manifest pool within 1 s"
    );
    assert!(found.cure.unwrap().contains("journalctl -u k3s"));
}

#[test]
fn text_that_is_no_object_is_not_waited_for() {
    // sigs.k8s.io/yaml; apimachinery, pkg/runtime/error.go (missingKindErr).
    for text in [
        r"error converting YAML to JSON: yaml: line 3: mapping values are not allowed in this context",
        r"yaml: line 3: found character that cannot start any token",
        r#"Object 'Kind' is missing in '{\"a\":\"b\\\\c\"}'"#,
    ] {
        let once = log(&format!("failed to process FILE: {text}"));
        let (found, took) = diagnosis(
            &Server {
                log: &format!("{once}{once}"),
                ..Server::default()
            },
            300,
        );
        let plain = text.replace("\\\"", "\"").replace("\\\\", "\\");
        assert_eq!(
            found.what,
            format!("k3s cannot deploy the manifest pool: {plain}")
        );
        assert!(took < 60.0, "{took}");
    }
    // Once may have been the text before this one.
    let once = log("failed to process FILE: yaml: line 3: did not find expected key");
    let taken = Server {
        log: &once,
        taken_after: Some(2),
        ..Server::default()
    };
    assert!(applied(&taken, 300).is_none());
}

#[test]
fn what_comes_late_is_waited_for_and_what_never_comes_is_named() {
    let ready = "Deployment kube-system web 1 1 2 2 2 <none> <none> <none> <none> <none> <none>\n";
    let late = "Deployment kube-system web 1 1 2 2 1 <none> <none> <none> <none> <none> <none>\n";
    let others = "Deployment kube-system old 2 2 2 1 2 <none> <none> <none> <none> <none> <none>\nDaemonSet kube-system speaker 2 1 <none> <none> <none> 3 3 3 <none> <none> <none>\nStatefulSet <none> db 1 1 <none> 1 <none> <none> <none> <none> <none> <none> <none>\nJob default once 1 <none> <none> <none> <none> <none> <none> <none> <none> 3 <none>\nCustomResourceDefinition <none> pools.metallb.io 1 <none> <none> <none> <none> <none> <none> <none> <none> <none> False\nConfigMap default plain <none> <none> <none> <none> <none> <none> <none> <none> <none> <none> <none>\n";
    // k3s refused it while something it needs was not there yet, and took it at the next look.
    let refusal = log("failed to process FILE: failed calling webhook x: connection refused");
    let server = |table, errors, taken_after| Server {
        log: &refusal,
        taken_after,
        table,
        errors,
        skip: false,
    };
    assert!(applied(&server(ready, "", Some(2)), 60).is_none());
    // What was refused once is no news when it has been taken.
    let (found, _) = diagnosis(&server(late, "", Some(0)), 1);
    assert_eq!(
        found.what,
        "after 1 s, of the manifest pool: Deployment kube-system/web: 1 of 2 ready"
    );
    assert!(found.cure.unwrap().contains("kubectl get events"));
    let (found, _) = diagnosis(&server(others, "", Some(0)), 1);
    assert_eq!(
        found.what,
        "after 1 s, of the manifest pool: Deployment kube-system/old: 1 of 2 ready; DaemonSet kube-system/speaker: 0 of 3 ready; StatefulSet db: 0 of 1 ready; Job default/once: 0 of 3 ready; CustomResourceDefinition pools.metallb.io: not established"
    );
    let errors = "Error from server (NotFound): deployments.apps \"controller\" not found\nerror: resource mapping not found for name: \"p\" namespace: \"\" from \"x\": no matches for kind \"IPAddressPool\" in version \"metallb.io/v1beta1\"\n";
    let (found, _) = diagnosis(&server(ready, errors, Some(0)), 1);
    assert_eq!(
        found.what,
        "after 1 s, of the manifest pool: IPAddressPool (metallb.io/v1beta1): missing; deployments.apps controller: missing"
    );
}
