//! What is taken away with a manifest that picluster applies itself: only what the cluster was seen to have besides.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod shells;

use std::fs;
use std::process::Command;

use shells::shells;

/// The script, against a cluster in two files: `noted` is what its notes say, `has` what it says of the manifest's objects;
/// `deaf` lists questions that stay without an answer, each as often as it is there.
const AROUND: &str = r#"set -eu
cd "$1"
file=f addon=a within=1 sum=s2
said() { printf '%s\n' "$*" >> log; }
deaf() { grep -q "^$1$" deaf || return; sed -i "0,/^$1$/{//d;}" deaf; echo "Unable to connect to the server" > run/kubectl.err; }
kc() {
  case "$*" in
    *'get configmap'*) if deaf noted; then return 1; fi; cat noted ;;
    *'get -f'*) if deaf objects; then return 1; fi; cat has ;;
    *apply*) ;;
    *delete*) said "$*" ;;
    *patch*) said "$*" ;;
  esac
}
amiss() { :; }
"#;

const HAS: &str = "ConfigMap v1 n new\n";
const NOTED: &str = "Namespace.v1/ /n;ConfigMap/n/old;ConfigMap/n/new;";

fn run(shell: &[&str], end: &str, deaf: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    fs::create_dir(dir.path().join("run")).unwrap();
    put("noted", NOTED.replace(' ', "").as_str());
    put("has", HAS);
    put("deaf", deaf);
    put("log", "");
    let body = include_str!("../src/kinds/manifest/kubectl.sh").replace("/run/picluster", "run");
    put("script", &format!("{AROUND}{body}\n{end}\n"));
    let out = Command::new(shell[0])
        .args(&shell[1..])
        .arg(dir.path().join("script"))
        .arg(dir.path())
        .output()
        .unwrap();
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    (out.status.code(), log)
}

#[test]
fn what_the_manifest_no_longer_has_goes_and_nothing_else() {
    for shell in shells() {
        let (code, log) = run(&shell, "deployed", "");
        assert_eq!(code, Some(0), "{shell:?}: {log}");
        assert_eq!(log.matches("delete").count(), 2, "{shell:?}: {log}");
        assert!(
            log.contains("delete ConfigMap old") && !log.contains("delete ConfigMap new"),
            "{log}"
        );
    }
}

#[test]
fn a_cluster_that_does_not_answer_loses_nothing() {
    for shell in shells() {
        // Once, and then it does.
        for deaf in ["objects\n", "noted\n"] {
            let (code, log) = run(&shell, "within=5; deployed", deaf);
            assert_eq!(code, Some(0), "{shell:?}: {log}");
            assert!(!log.contains("delete ConfigMap new"), "{shell:?}: {log}");
            assert!(log.contains("delete ConfigMap old"), "{shell:?}: {log}");
        }
        // Not at all.
        let (code, log) = run(&shell, "deployed", &"objects\n".repeat(99));
        assert_eq!((code, log.as_str()), (Some(70), ""), "{shell:?}");
        let (code, log) = run(&shell, "deployed", &"noted\n".repeat(99));
        assert_eq!((code, log.as_str()), (Some(70), ""), "{shell:?}");
        // Its notes stay until all of it is gone.
        let (code, log) = run(&shell, "take_away", "noted\n");
        assert_eq!((code, log.as_str()), (Some(1), ""), "{shell:?}");
        let (code, log) = run(&shell, "take_away", "");
        assert_eq!(
            (code, log.matches("delete").count()),
            (Some(0), 3),
            "{shell:?}: {log}"
        );
    }
}
