//! The configuration cases: files in `cases/`, each asked about several hosts. What is expected is
//! written in the file, and OpenSSH's own `ssh -G` has to agree with it where it is installed.
//!
//! ```text
//! #? HOST [USER]        a question: what holds for this host (and login user)?
//! #> SETTING VALUE      one line per setting that the file decides
//! #! TEXT               instead: an error that holds this text (the file is not put to `ssh`)
//! ```
//! `@DIR@` stands for the directory of the cases.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tokens::{Tokens, expand};
use super::{Proxy, Settings, SshConfig, pattern};
use crate::Environment;
use crate::address::Family;

struct Question {
    host: String,
    user: Option<String>,
    expected: Vec<String>,
    error: Option<String>,
}

fn questions(text: &str) -> Vec<Question> {
    let mut questions: Vec<Question> = Vec::new();
    for line in text.lines() {
        if let Some(asked) = line.strip_prefix("#? ") {
            let mut words = asked.split_whitespace().map(ToOwned::to_owned);
            questions.push(Question {
                host: words.next().expect("a host"),
                user: words.next(),
                expected: Vec::new(),
                error: None,
            });
        } else if let Some(line) = line.strip_prefix("#> ") {
            questions
                .last_mut()
                .expect("a question")
                .expected
                .push(line.trim().to_owned());
        } else if let Some(text) = line.strip_prefix("#! ") {
            questions.last_mut().expect("a question").error = Some(text.trim().to_owned());
        }
    }
    questions
}

fn environment() -> Environment {
    Environment {
        // `ssh -G` judges `Match user` by whoever runs it.
        user: Environment::of_this_process().user,
        home: Some("/home/someone".into()),
        ..Environment::default()
    }
}

fn rendered(settings: &Settings, host: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(name) = &settings.host_name {
        let tokens = Tokens {
            host: Some(host.to_owned()),
            original: Some(host.to_owned()),
            ..Tokens::default()
        };
        lines.push(format!(
            "hostname {}",
            expand(name, &tokens, &environment()).expect("expands")
        ));
    }
    if let Some(user) = &settings.user {
        lines.push(format!("user {user}"));
    }
    if let Some(port) = settings.port {
        lines.push(format!("port {port}"));
    }
    for file in &settings.identity_files {
        lines.push(format!("identityfile {file}"));
    }
    if let Some(only) = settings.identities_only {
        lines.push(format!(
            "identitiesonly {}",
            if only { "yes" } else { "no" }
        ));
    }
    if let Some(agent) = &settings.identity_agent {
        lines.push(format!("identityagent {agent}"));
    }
    match &settings.proxy {
        Some(Proxy::Jump(text, _)) => lines.push(format!("proxyjump {text}")),
        Some(Proxy::Command(_)) => lines.push("proxycommand".into()),
        Some(Proxy::Direct) => lines.push("proxyjump none".into()),
        None => {}
    }
    if let Some(limit) = settings.connect_timeout {
        lines.push(format!("connecttimeout {}", limit.as_secs()));
    }
    if let Some(family) = settings.family {
        let family = match family {
            Family::Any => "any",
            Family::Inet => "inet",
            Family::Inet6 => "inet6",
        };
        lines.push(format!("addressfamily {family}"));
    }
    lines
}

/// What OpenSSH makes of the same question, in the same form, for the settings both can show.
fn openssh(file: &Path, question: &Question) -> Option<BTreeMap<String, Vec<String>>> {
    let mut ssh = Command::new("ssh");
    ssh.arg("-G").arg("-F").arg(file);
    if let Some(user) = &question.user {
        ssh.args(["-l", user]);
    }
    let done = ssh.arg(&question.host).output().ok()?;
    assert!(
        done.status.success(),
        "ssh -G {}: {}",
        question.host,
        String::from_utf8_lossy(&done.stderr)
    );
    let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&done.stdout).lines() {
        if let Some((name, value)) = line.split_once(' ') {
            settings
                .entry(name.to_owned())
                .or_default()
                .push(value.to_owned());
        }
    }
    Some(settings)
}

#[test]
fn every_case_says_what_openssh_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/cases");
    let scratch = tempfile::tempdir().expect("dir");
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .expect("cases")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    // Parts first: cases include them.
    let parts = scratch.path().join("parts");
    fs::create_dir(&parts).expect("dir");
    for part in fs::read_dir(directory.join("parts"))
        .expect("parts")
        .flatten()
    {
        fs::copy(part.path(), parts.join(part.file_name())).expect("copied");
    }
    let mut asked = 0;
    for file in &files {
        let text = fs::read_to_string(file).expect("case");
        let text = text.replace("@DIR@", &scratch.path().display().to_string());
        let copy = scratch.path().join(file.file_name().expect("name"));
        fs::write(&copy, &text).expect("written");
        for question in questions(&text) {
            asked += 1;
            let at = format!(
                "{}: {}",
                file.file_name().expect("name").display(),
                question.host
            );
            let found = SshConfig::of_file(&copy, &environment()).and_then(|config| {
                config.lookup(&question.host, question.user.as_deref(), &environment())
            });
            match (&question.error, found) {
                (Some(text), Err(error)) => {
                    assert!(error.to_string().contains(text), "{at}: {error}");
                    continue;
                }
                (Some(text), Ok(found)) => panic!("{at}: no error {text:?}, but {found:?}"),
                (None, Err(error)) => panic!("{at}: {error}"),
                (None, Ok(found)) => {
                    assert_eq!(rendered(&found, &question.host), question.expected, "{at}");
                }
            }
            // OpenSSH refuses a damaged file for every host, we only for hosts the damage is about.
            let damaged = text.lines().any(|line| line.starts_with("#! "));
            let Some(theirs) = (!damaged).then(|| openssh(&copy, &question)).flatten() else {
                continue;
            };
            let mut ours: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for line in &question.expected {
                let (name, value) = line.split_once(' ').unwrap_or((line, ""));
                ours.entry(name).or_default().push(value.to_owned());
            }
            for (name, values) in &ours {
                // `-l` overrides the file; shown only under conditions of their own.
                if (*name == "user" && question.user.is_some())
                    || *name == "proxycommand"
                    || values == &["none"]
                {
                    continue;
                }
                assert_eq!(theirs.get(*name), Some(values), "{at}: {name}");
            }
            if !ours.contains_key("port") {
                assert_eq!(theirs["port"], ["22"], "{at}");
            }
            if !ours.contains_key("hostname") {
                assert_eq!(theirs["hostname"], [question.host.to_lowercase()], "{at}");
            }
            if !ours.contains_key("proxyjump") {
                assert!(!theirs.contains_key("proxyjump"), "{at}: {theirs:?}");
            }
            if !ours.contains_key("identitiesonly") {
                assert_eq!(theirs["identitiesonly"], ["no"], "{at}");
            }
        }
    }
    assert!(asked >= 30, "only {asked} questions");
}

#[test]
fn patterns() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("*", "pi", true),
        ("pi?", "pi1", true),
        ("pi?", "pi", false),
        ("pi*.lan", "pi1.lan", true),
        ("pi*.lan", "pi.lan.example", false),
        ("*.*", "pi.lan", true),
        ("a*b*c", "axxbxxc", true),
        ("a*b*c", "axxcxxb", false),
        ("**a", "aaa", true),
        ("", "", true),
        ("", "a", false),
        ("192.168.2.?", "192.168.2.11", false),
    ] {
        assert_eq!(
            pattern::matches(pattern, text),
            expected,
            "{pattern} {text}"
        );
    }
    // A pattern made to be slow is not.
    assert!(!pattern::matches(&"*a".repeat(40), &"b".repeat(2_000)));
    assert!(!pattern::matches(
        &format!("{}c", "*a".repeat(40)),
        &"a".repeat(2_000)
    ));
    assert!(pattern::list_matches(["pi*", "!pi9"], "pi1"));
    assert!(!pattern::list_matches(["pi*", "!pi9"], "pi9"));
    assert!(!pattern::list_matches(["!pi9"], "pi1"));
}
