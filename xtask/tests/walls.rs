//! Invariant 10, and what of the others can be seen in the sources: who may depend on whom, and which
//! words may not stand where.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Libraries that speak to a network, a terminal or the system. None of them may be found below the
/// crates that decide and carry out.
const OUTSIDE: &[&str] = &[
    "russh",
    "indicatif",
    "console",
    "mio",
    "socket2",
    "rustix",
    "nix",
    "libc",
    "clap",
    "tracing-subscriber",
    "chrono",
    "time",
    "jiff",
    "rand",
    "rand_core",
    "getrandom",
    "fastrand",
    "age",
    "reqwest",
    "hyper",
    "ureq",
    "rustls",
];

/// Who may name whom, tests aside.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("picluster-model", &[]),
    ("picluster-resource", &["picluster-model"]),
    ("picluster-plan", &["picluster-model", "picluster-resource"]),
    (
        "picluster-engine",
        &["picluster-model", "picluster-plan", "picluster-resource"],
    ),
    ("picluster-ssh", &["picluster-engine", "picluster-model"]),
    ("picluster-artifact", &[]),
    ("picluster-lab", &[]),
];

fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&package).parent().unwrap().to_owned()
}

/// The names of all crates below one, itself included, without those that only its tests need.
fn below(package: &str, depth: Option<&str>) -> BTreeSet<String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "tree",
            "--offline",
            "--package",
            package,
            "--edges",
            "normal",
        ])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(root());
    if let Some(depth) = depth {
        cargo.args(["--depth", depth]);
    }
    let output = cargo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// The sources of a crate, tests left out: a file's tests stand at its end.
fn sources(package: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("crates").join(package).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "tests" {
                    folders.push(path);
                }
            } else if !matches!(name.as_str(), "tests.rs" | "testing.rs" | "cases.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let text = text
                    .split("#[cfg(test)]\nmod tests {")
                    .next()
                    .unwrap()
                    .to_owned();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 5, "{package}");
    found
}

/// Lines of a crate's sources that hold one of these words, comments left out.
fn lines_with(package: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources(package) {
        for (n, line) in text.lines().enumerate() {
            if !line.trim_start().starts_with("//") && words.iter().any(|w| line.contains(w)) {
                found.push(format!("{}:{}: {}", path.display(), n + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn what_decides_and_carries_out_depends_on_no_network_terminal_or_clock() {
    for package in [
        "picluster-model",
        "picluster-resource",
        "picluster-plan",
        "picluster-engine",
    ] {
        let below = below(package, None);
        let outside: Vec<&&str> = OUTSIDE
            .iter()
            .filter(|name| below.contains(**name))
            .collect();
        assert!(outside.is_empty(), "{package} depends on {outside:?}");
    }
    // The list still means something: these do stand below the crate that may have them.
    let ssh = below("picluster-ssh", None);
    assert!(
        ["russh", "mio", "socket2"]
            .iter()
            .all(|name| ssh.contains(*name))
    );
}

#[test]
fn only_the_binary_names_a_transport_or_the_lab() {
    for (package, may) in MAY_NAME {
        let named: BTreeSet<String> = below(package, Some("1"))
            .into_iter()
            .filter(|name| name.starts_with("picluster") && name != package)
            .collect();
        let wrong: Vec<&String> = named
            .iter()
            .filter(|name| !may.contains(&name.as_str()))
            .collect();
        assert!(wrong.is_empty(), "{package} names {wrong:?}");
    }
}

#[test]
fn no_source_asks_a_clock_a_die_or_the_system() {
    let clock = [
        "SystemTime",
        "std::time::Instant",
        "Instant::now",
        "time::{Duration, Instant}",
        "UNIX_EPOCH",
    ];
    let dice = [
        "rand::",
        "RandomState",
        "DefaultHasher",
        "getrandom",
        "thread_rng",
        "Uuid",
    ];
    let system = [
        "std::env",
        "std::process",
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "std::thread",
        "std::io::std",
        "is_terminal",
    ];
    // Their order is another one in each process.
    let unordered = ["HashMap", "HashSet"];
    let all: Vec<&str> = [&clock[..], &dice, &system, &unordered].concat();
    for package in ["picluster-plan", "picluster-resource"] {
        let found = lines_with(package, &all);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
    // It reads documents.
    let reads: Vec<&str> = all
        .iter()
        .copied()
        .filter(|w| *w != "std::fs" && !unordered.contains(w))
        .collect();
    let found = lines_with("picluster-model", &reads);
    assert!(found.is_empty(), "{}", found.join("\n"));
    // It writes a journal and a lock file, and waits with tokio's timers, which tests can stop.
    let timers = [
        "std::time::Instant",
        "time::{Duration, Instant}",
        "SystemTime",
        "UNIX_EPOCH",
    ];
    let engine: Vec<&str> = [
        &timers[..],
        &dice,
        &[
            "std::env",
            "std::process",
            "std::net",
            "tokio::net",
            "tokio::process",
            "is_terminal",
        ],
    ]
    .concat();
    let found = lines_with("picluster-engine", &engine);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_product_code_knows_that_a_lab_exists() {
    let is_word = |line: &str| {
        line.split(|c: char| !c.is_ascii_alphanumeric())
            .any(|word| word.eq_ignore_ascii_case("lab") || word.eq_ignore_ascii_case("labs"))
    };
    let mut found = Vec::new();
    for package in [
        "picluster-model",
        "picluster-resource",
        "picluster-plan",
        "picluster-engine",
        "picluster-ssh",
        "picluster",
    ] {
        for (path, text) in sources(package) {
            let name = path
                .strip_prefix(root().join("crates").join(package).join("src"))
                .unwrap();
            // The verbs of the lab, the words that lead to them, and where the program starts.
            let may = package == "picluster"
                && (name.starts_with("verbs/lab")
                    || ["cli.rs", "run.rs", "verbs/mod.rs"]
                        .iter()
                        .any(|n| name == Path::new(n)));
            if !may {
                let lines = text.lines().enumerate().filter(|(_, line)| is_word(line));
                found
                    .extend(lines.map(|(n, line)| format!("{}:{}: {line}", path.display(), n + 1)));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Invariant 8: one function quotes. Whoever writes a quotation mark of its own has a second one.
#[test]
fn one_function_builds_shell_text() {
    for package in [
        "picluster-resource",
        "picluster-plan",
        "picluster-engine",
        "picluster-ssh",
        "picluster",
    ] {
        let by_hand = lines_with(
            package,
            &[r"'\\''", r#"push('\'')"#, "shlex", "shell_words"],
        );
        let by_hand: Vec<String> = by_hand
            .into_iter()
            .filter(|line| !line.contains("picluster-resource/src/shell.rs:"))
            .collect();
        assert!(by_hand.is_empty(), "{}", by_hand.join("\n"));
    }
}

/// Invariant 12: whoever applies says which nodes are servers.
#[test]
fn every_apply_has_the_guard_of_the_declared_servers() {
    assert!(lines_with("picluster", &["NoGuard"]).is_empty());
    let applies = lines_with("picluster", &[".apply_guarded("]).len();
    let guards = lines_with(
        "picluster",
        &["Quorum::of_plan(plan, opening.project.inventory.servers())"],
    )
    .len();
    assert_eq!((applies, guards), (1, 1));
}

/// A number names one decision: other texts refer to it by the number alone.
#[test]
fn every_decision_has_a_number_of_its_own() {
    let mut numbers = std::collections::BTreeMap::<String, Vec<String>>::new();
    let folder = root().join("docs/decisions");
    let mut texts = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        texts.push((name.clone(), fs::read_to_string(&path).unwrap()));
        if name == "README.md" {
            continue;
        }
        let (number, rest) = name.split_once('-').unwrap_or((&name, ""));
        assert!(
            number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit()) && !rest.is_empty(),
            "docs/decisions/{name} is not named NNNN-what-it-is-about.md"
        );
        numbers.entry(number.to_owned()).or_default().push(name);
    }
    assert!(numbers.len() > 10, "{numbers:?}");
    let twice: Vec<String> = numbers
        .values()
        .filter(|names| names.len() > 1)
        .map(|names| names.join(" and "))
        .collect();
    assert!(twice.is_empty(), "one number, two decisions: {twice:?}");
    // Four digits that begin with a zero are such a reference, unless a quotation mark makes them a
    // file mode.
    let dangling: Vec<String> = texts
        .iter()
        .flat_map(|(name, text)| {
            text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '"' | '`' | '.')))
                .map(|word| word.trim_end_matches('.'))
                .filter(|word| {
                    word.len() == 4
                        && word.starts_with('0')
                        && word.bytes().all(|b| b.is_ascii_digit())
                        && !numbers.contains_key(*word)
                })
                .map(move |word| format!("{name}: there is no decision {word}"))
        })
        .collect();
    assert!(dangling.is_empty(), "{}", dangling.join("\n"));
}
