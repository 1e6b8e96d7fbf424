//! The same kinds on a real shell: what is asked, answered, worked out and done must close the
//! circle, in every shell a node may have as `sh`, and a second time nothing may be left to do.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod shells;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use picluster_model::secret::SecretValues;
use picluster_model::yaml::parse;
use picluster_model::{Secret, SecretRef, SourceFile};
use picluster_resource::frame::{FRAME_SH, FrameReader};
use picluster_resource::program::PRELUDE_SH;
use picluster_resource::shell::{quote, words};
use picluster_resource::{
    Answers, Ctx, Diff, Facts, NodePath, Observation, Operation, Payload, ProbeProgram, Query,
    Resource,
};
use proptest::prelude::*;
use shells::shells;

/// Runs a script from a file, as the node-side program does, and gives stdout.
fn sh(shell: &[&str], script: &str, stdin: &[u8]) -> (bool, Vec<u8>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), script).unwrap();
    let mut child = Command::new(shell[0])
        .args(&shell[1..])
        .arg(file.path())
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    let writer = std::thread::spawn(move || {
        // A script that reads nothing closes the pipe.
        let _ = pipe.write_all(&stdin);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), output.stdout, stderr)
}

fn ask(shell: &[&str], queries: Vec<Query>) -> Answers {
    let program = ProbeProgram::new(queries);
    let (_, stdout, stderr) = sh(
        shell,
        &format!("{FRAME_SH}{PRELUDE_SH}{}", program.script),
        b"",
    );
    let mut reader = FrameReader::default();
    reader.push(&stdout);
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        frames.push(frame);
    }
    assert!(
        frames.last().is_some_and(ProbeProgram::is_end),
        "{shell:?}: the program ended early: {stderr}\n{}",
        program.script
    );
    assert!(reader.rest().is_empty());
    program.parse(program.queries(), &frames).unwrap()
}

fn operate(shell: &[&str], operation: &Operation) -> Result<(), String> {
    let payload = match &operation.payload {
        Payload::None => Vec::new(),
        Payload::Bytes(bytes) => bytes.reveal().clone(),
    };
    let mut staged = String::new();
    if let Some(upload) = &operation.staged {
        fs::write(upload.path.as_str(), UPLOADED).unwrap();
        staged = format!("staged={}\n", quote(upload.path.as_str()));
    }
    let script = format!(
        "{FRAME_SH}{PRELUDE_SH}(\nset -eu\n{staged}{}\n)\n",
        operation.script
    );
    match sh(shell, &script, &payload) {
        (true, _, _) => Ok(()),
        (false, _, stderr) => Err(stderr),
    }
}

/// What stands in for the bytes of every artifact.
const UPLOADED: &str = "k3s\n";

/// What a test needs besides the resource.
struct World {
    shell: Vec<&'static str>,
    dir: tempfile::TempDir,
    facts: Facts,
    secrets: SecretValues,
}

fn me() -> (String, String) {
    let id = |flag: &str| {
        let out = Command::new("id").arg(flag).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    (id("-un"), id("-gn"))
}

impl World {
    fn new(shell: Vec<&'static str>) -> Self {
        let mut secrets = SecretValues::default();
        secrets.0.insert(
            SecretRef::Env("TOKEN".into()),
            Secret::new("s3cr'et\n$x".into()),
        );
        Self {
            shell,
            dir: tempfile::tempdir().unwrap(),
            facts: Facts::default(),
            secrets,
        }
    }

    fn ctx(&self) -> Ctx<'_> {
        Ctx {
            facts: &self.facts,
            secrets: &self.secrets,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A resource from YAML in which `@` stands for the directory and `OWN` for owner and group.
    fn resource(&self, kind: &str, body: &str) -> Resource {
        let (owner, group) = me();
        let body = body
            .replace('@', self.dir.path().to_str().unwrap())
            .replace("OWN", &format!("owner: {owner}, group: {group}"));
        let file = Arc::new(SourceFile {
            name: "test".into(),
            text: body,
        });
        let token = SecretRef::Env("TOKEN".into()).placeholder();
        let yaml = parse::parse(&file)
            .unwrap()
            .map_strings(&mut |t| t.replace("TOKEN", &token));
        Resource::from_yaml(kind, &yaml).unwrap()
    }

    fn look(&self, resource: &Resource) -> Result<Observation, picluster_resource::Diagnosis> {
        let answers = ask(&self.shell, resource.queries(self.ctx()).unwrap());
        resource.observe(&answers, self.ctx())
    }

    fn operation(&self, resource: &Resource) -> Operation {
        let seen = self.look(resource).unwrap();
        let Diff::Change(change) = resource.diff(&seen, self.ctx()) else {
            panic!("nothing to do for {resource:?}");
        };
        resource.operation(&seen, &change, self.ctx()).unwrap()
    }

    fn diff(&self, resource: &Resource) -> Diff {
        let seen = self.look(resource).unwrap();
        assert_eq!(seen.not_yet(), None, "{resource:?}");
        resource.diff(&seen, self.ctx())
    }

    /// Applies once; then nothing may differ, and the same operation again must change nothing.
    fn settle(&self, resource: &Resource) {
        let seen = self.look(resource).unwrap();
        let Diff::Change(change) = resource.diff(&seen, self.ctx()) else {
            panic!("{:?}: nothing to do for {resource:?}", self.shell);
        };
        let operation = resource.operation(&seen, &change, self.ctx()).unwrap();
        operate(&self.shell, &operation).unwrap_or_else(|e| {
            panic!("{:?}: {e}\n{}", self.shell, operation.script);
        });
        let left = self.diff(resource);
        assert_eq!(left, Diff::NoOp, "{:?}: {}", self.shell, operation.script);
        // The directory holds no temporary of ours.
        for entry in fs::read_dir(self.dir.path()).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(
                !name.to_string_lossy().starts_with(".picluster"),
                "{name:?} was left"
            );
        }
    }
}

fn each(test: impl Fn(&World)) {
    let shells = shells();
    assert!(shells.len() >= 2, "only {shells:?} here");
    for shell in shells {
        test(&World::new(shell));
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn file() {
    each(|w| {
        let file = w.resource(
            "file",
            "{ path: '@/a b', content: \"it's $x\\n`y`\\n\\\\n\", mode: '0640', OWN }",
        );
        w.settle(&file);
        let path = w.path("a b");
        assert_eq!(fs::read_to_string(&path).unwrap(), "it's $x\n`y`\n\\n");
        assert_eq!(mode(&path), 0o640);
        // Damage of every sort is seen and healed.
        fs::write(&path, "other").unwrap();
        w.settle(&file);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        w.settle(&file);
        assert_eq!(
            fs::metadata(&path).unwrap().ino(),
            inode,
            "a mode is changed in place"
        );
        fs::remove_file(&path).unwrap();
        w.settle(&file);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/nowhere", &path).unwrap();
        w.settle(&file);
        assert!(path.symlink_metadata().unwrap().is_file());
        w.settle(&w.resource("file", "{ path: '@/a b', state: absent }"));
        assert!(!path.exists());
    });
}

#[test]
fn artifact() {
    each(|w| {
        let sha256 = picluster_resource::program::sha256_hex(UPLOADED.as_bytes());
        let artifact = w.resource(
            "artifact",
            &format!("{{ path: '@/a b', sha256: \"{sha256}\", size: 4, mode: '0755', OWN }}"),
        );
        w.settle(&artifact);
        let path = w.path("a b");
        assert_eq!(fs::read_to_string(&path).unwrap(), UPLOADED);
        assert_eq!(mode(&path), 0o755);
        fs::write(&path, "other").unwrap();
        w.settle(&artifact);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        w.settle(&artifact);
        fs::rename(&path, w.path("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        w.settle(&artifact);
        assert!(path.symlink_metadata().unwrap().is_file());
        // Removed together with what an upload left behind.
        let gone = artifact.removal().unwrap();
        let Some(picluster_resource::Staged { path: part, .. }) = w
            .operation(&w.resource(
                "artifact",
                &format!(
                    "{{ path: '@/a b', sha256: \"{}\", size: 4, OWN }}",
                    "0".repeat(64)
                ),
            ))
            .staged
        else {
            panic!("nothing is staged")
        };
        fs::write(part.as_str(), "half").unwrap();
        w.settle(&gone);
        assert!(!path.exists());
    });
}

#[test]
fn file_with_a_secret_and_validation() {
    each(|w| {
        w.settle(&w.resource(
            "file",
            "{ path: '@/t', content: 'a=TOKEN', mode: '0600', OWN }",
        ));
        assert_eq!(fs::read_to_string(w.path("t")).unwrap(), "a=s3cr'et\n$x");

        // The new text is checked in a directory only root may make.
        if fs::create_dir_all("/run/picluster").is_err() {
            println!("skipped: no /run/picluster here");
            return;
        }
        let good = w.resource(
            "file",
            "{ path: '@/v', content: \"ok\\n\", validate: 'grep -qx ok {}', OWN }",
        );
        w.settle(&good);
        let bad = w.resource(
            "file",
            "{ path: '@/v', content: \"no\\n\", validate: 'grep -x ok {}', OWN }",
        );
        let seen = w.look(&bad).unwrap();
        let Diff::Change(change) = bad.diff(&seen, w.ctx()) else {
            panic!("no change")
        };
        let operation = bad.operation(&seen, &change, w.ctx()).unwrap();
        let refused = operate(&w.shell, &operation).unwrap_err();
        assert!(refused.contains("the file is as it was"), "{refused}");
        assert_eq!(fs::read_to_string(w.path("v")).unwrap(), "ok\n");
    });
}

#[test]
fn leftovers_of_a_killed_run_are_swept() {
    each(|w| {
        fs::write(w.path(".picluster.0123456789"), "half").unwrap();
        fs::write(w.path(".picluster.notours"), "a user's").unwrap();
        let file = w.resource("file", "{ path: '@/a', content: x, OWN }");
        let seen = w.look(&file).unwrap();
        let Diff::Change(change) = file.diff(&seen, w.ctx()) else {
            panic!("no change")
        };
        operate(&w.shell, &file.operation(&seen, &change, w.ctx()).unwrap()).unwrap();
        assert!(!w.path(".picluster.0123456789").exists());
        assert!(w.path(".picluster.notours").exists());
    });
}

#[test]
fn directory() {
    each(|w| {
        let dir = w.resource("directory", "{ path: '@/d', mode: '2750', OWN }");
        w.settle(&dir);
        assert_eq!(mode(&w.path("d")), 0o2750);
        fs::set_permissions(w.path("d"), fs::Permissions::from_mode(0o755)).unwrap();
        w.settle(&dir);
        let below = w.resource("directory", "{ path: '@/x/y', OWN }");
        assert!(w.look(&below).unwrap().not_yet().is_some());

        let gone = w.resource("directory", "{ path: '@/d', state: absent }");
        fs::write(w.path("d/left"), "").unwrap();
        let seen = w.look(&gone).unwrap();
        let Diff::Change(change) = gone.diff(&seen, w.ctx()) else {
            panic!("no change")
        };
        let refused = gone.operation(&seen, &change, w.ctx()).unwrap_err();
        assert!(refused.what.contains("left"), "{refused}");
        fs::remove_file(w.path("d/left")).unwrap();
        w.settle(&gone);
    });
}

#[test]
fn link() {
    each(|w| {
        let link = w.resource("link", "{ path: '@/l', target: \"to it's $x\" }");
        w.settle(&link);
        assert_eq!(fs::read_link(w.path("l")).unwrap(), Path::new("to it's $x"));
        fs::remove_file(w.path("l")).unwrap();
        std::os::unix::fs::symlink("other", w.path("l")).unwrap();
        w.settle(&link);
        fs::remove_file(w.path("l")).unwrap();
        fs::write(w.path("l"), "").unwrap();
        assert!(w.look(&link).is_err());
        w.settle(&w.resource("link", "{ path: '@/l', target: x, force: true }"));
        w.settle(&w.resource("link", "{ path: '@/l', state: absent }"));
    });
}

#[test]
fn edits() {
    each(|w| {
        let path = w.path("f");
        let body = "a=1\r\n\r\n[S]\r\nx = 1\r\nlast";
        fs::write(&path, body).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        w.settle(&w.resource("line", "{ path: '@/f', match: '^a=', line: \"a='$2'\" }"));
        w.settle(&w.resource("ini", "{ path: '@/f', section: S, key: x, value: '2' }"));
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "a='$2'\r\n\r\n[S]\r\nx = 2\r\nlast"
        );
        w.settle(&w.resource("block", "{ path: '@/f', name: n, content: \"1\\n2\\n\" }"));
        assert_eq!(mode(&path), 0o604);
        w.settle(&w.resource("block", "{ path: '@/f', name: n, state: absent }"));
        w.settle(&w.resource(
            "line",
            "{ path: '@/f', match: '^(a=|last)', state: absent }",
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "\r\n[S]\r\nx = 2\r\n");
        // Bytes that are no text are never written back.
        fs::write(&path, b"a\0b\n").unwrap();
        assert!(
            w.look(&w.resource("line", "{ path: '@/f', line: x }"))
                .is_err()
        );
        fs::write(&path, b"caf\xe9\n").unwrap();
        assert!(
            w.look(&w.resource("line", "{ path: '@/f', line: x }"))
                .is_err()
        );
    });
}

#[test]
fn an_edit_of_a_file_that_moved_is_refused() {
    each(|w| {
        fs::write(w.path("f"), "one\n").unwrap();
        let line = w.resource("line", "{ path: '@/f', line: two }");
        let seen = w.look(&line).unwrap();
        let Diff::Change(change) = line.diff(&seen, w.ctx()) else {
            panic!("no change")
        };
        let operation = line.operation(&seen, &change, w.ctx()).unwrap();
        fs::write(w.path("f"), "someone else's\n").unwrap();
        assert!(
            operate(&w.shell, &operation)
                .unwrap_err()
                .contains("changed while")
        );
        assert_eq!(fs::read_to_string(w.path("f")).unwrap(), "someone else's\n");
    });
}

#[test]
fn command() {
    each(|w| {
        let body =
            "{ name: n, run: \"cat > '@/c'\\n\", probe: \"test -s '@/c' #' ) (\", stdin: in }";
        w.settle(&w.resource("command", body));
        assert_eq!(fs::read_to_string(w.path("c")).unwrap(), "in");
        w.settle(&w.resource(
            "command",
            "{ run: \"false || touch '@/d'\", creates: '@/d' }",
        ));
        // Text that is no shell breaks itself, not the program around it.
        let broken = w.resource("command", "{ name: n, run: x, probe: \") ; } fi '\" }");
        assert!(matches!(w.diff(&broken), Diff::Change(_)));
        let dash = w.resource("command", "{ name: n, run: x, probe: '-c true' }");
        assert!(matches!(w.diff(&dash), Diff::Change(_)));
        // The first command that fails ends it.
        let fails = w.resource("command", "{ run: \"false; touch '@/e'\", creates: '@/e' }");
        let seen = w.look(&fails).unwrap();
        let Diff::Change(change) = fails.diff(&seen, w.ctx()) else {
            panic!("no change")
        };
        operate(&w.shell, &fails.operation(&seen, &change, w.ctx()).unwrap()).unwrap_err();
        assert!(!w.path("e").exists());
    });
}

/// Nothing here may block or break the program of a whole node.
#[test]
fn odd_things_at_a_path() {
    each(|w| {
        let pipe = w.path("pipe");
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        assert!(
            w.look(&w.resource("file", "{ path: '@/pipe', content: x, OWN }"))
                .is_err()
        );
        assert!(
            w.look(&w.resource("line", "{ path: '@/pipe', line: x }"))
                .is_err()
        );
        fs::create_dir(w.path("dir")).unwrap();
        assert!(
            w.look(&w.resource("file", "{ path: '@/dir', content: x, OWN }"))
                .is_err()
        );
        let loop_ = w.path("loop");
        std::os::unix::fs::symlink(&loop_, &loop_).unwrap();
        assert!(matches!(
            w.diff(&w.resource("file", "{ path: '@/loop', content: x, OWN }")),
            Diff::Change(_)
        ));
    });
}

#[test]
#[cfg(target_os = "linux")]
fn numbers_of_the_kernel_are_read_whole() {
    // dash's own `read` would see the first digit alone.
    let key = "kernel.pid_max";
    let wanted = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    for shell in shells() {
        let answers = ask(&shell, vec![Query::Sysctl(key.into())]);
        assert_eq!(
            answers.sysctl(key).unwrap(),
            Some(wanted.trim()),
            "{shell:?}"
        );
    }
}

/// What is asked in one process is answered for each alone, whatever the others are.
#[test]
fn texts_in_one_process() {
    each(|w| {
        let plain: [(&str, &[u8]); 7] = [
            ("a", b"one\n"),
            ("b b", b"no newline at the end"),
            ("c", b""),
            ("d", b"\n\n\n"),
            ("-e", b"@12 0 5\nhello\n"),
            ("f'", b"4 /etc/passwd\n"),
            ("g", b"caf\xe9\n"),
        ];
        let path = |name: &str| NodePath::new(w.path(name).to_str().unwrap()).unwrap();
        let text = |name: &str| Query::Text(path(name));
        for (name, bytes) in plain {
            fs::write(w.path(name), bytes).unwrap();
        }
        std::os::unix::fs::symlink("a", w.path("to-a")).unwrap();
        std::os::unix::fs::symlink("nothing", w.path("to-nothing")).unwrap();
        fs::create_dir(w.path("dir")).unwrap();
        let mut queries: Vec<Query> = plain.iter().map(|(name, _)| text(name)).collect();
        queries.extend(["to-a", "to-nothing", "dir", "missing"].map(text));
        let check = |answers: &Answers| {
            for (name, bytes) in plain {
                let wanted = String::from_utf8_lossy(bytes);
                let found = answers.text(&path(name)).unwrap();
                assert_eq!(found, Some(&*wanted), "{:?} {name}", w.shell);
            }
            assert_eq!(answers.text(&path("to-a")).unwrap(), Some("one\n"));
            for name in ["to-nothing", "dir", "missing"] {
                assert_eq!(answers.text(&path(name)).unwrap(), None, "{name}");
            }
        };
        check(&ask(&w.shell, queries.clone()));
        // Alone.
        let alone = ask(&w.shell, vec![text("d")]);
        assert_eq!(alone.text(&path("d")).unwrap(), Some("\n\n\n"));
        // A file that has no size, and one whose NUL is lost on the way: the others keep theirs.
        let kernel = NodePath::new("/proc/version").unwrap();
        queries.push(Query::Text(kernel.clone()));
        let answers = ask(&w.shell, queries.clone());
        check(&answers);
        let version = fs::read_to_string("/proc/version").unwrap();
        assert_eq!(answers.text(&kernel).unwrap(), Some(&*version));
        queries.pop();
        fs::write(w.path("e"), b"x\0y\n").unwrap();
        queries.push(text("e"));
        let answers = ask(&w.shell, queries);
        check(&answers);
        assert_eq!(answers.text(&path("e")).unwrap(), Some("xy\n"));
    });
}

#[test]
fn links_in_one_process() {
    each(|w| {
        let path = |name: &str| NodePath::new(w.path(name).to_str().unwrap()).unwrap();
        let mut wanted = vec![
            ("a", "target"),
            ("b b", "-n"),
            ("-c", "a b  c "),
            ("d", "/"),
        ];
        fs::write(w.path("file"), "").unwrap();
        for odd in [None, Some(("e", "two\nlines")), Some(("f", "1 x\n"))] {
            wanted.extend(odd);
            for (name, target) in &wanted {
                let _ = std::os::unix::fs::symlink(target, w.path(name));
            }
            let names = wanted.iter().map(|(name, _)| *name);
            let queries = names.chain(["file", "missing"]);
            let answers = ask(&w.shell, queries.map(|n| Query::Link(path(n))).collect());
            for (name, target) in &wanted {
                let found = answers.link(&path(name)).unwrap();
                assert_eq!(found, Some(*target), "{:?} {name}", w.shell);
            }
            assert_eq!(answers.link(&path("file")).unwrap(), None);
            assert_eq!(answers.link(&path("missing")).unwrap(), None);
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn kernel_settings_in_one_process() {
    let one = |key: &str| {
        let file = format!("/proc/sys/{}", key.replace('.', "/"));
        let text = fs::read_to_string(file).ok()?;
        Some(text.lines().next().unwrap_or("").trim().to_owned())
    };
    // Several lines, several words, none, and names that begin alike.
    let keys = [
        "dev.cdrom.info",
        "kernel.printk",
        "kernel.no_such_key",
        "kernel.hostname",
        "fs.file-nr",
        "fs.file-max",
        "kernel.pid_max",
    ];
    for shell in shells() {
        let answers = ask(&shell, keys.map(|k| Query::Sysctl(k.into())).to_vec());
        for key in keys.into_iter().filter(|k| *k != "fs.file-nr") {
            assert_eq!(
                answers.sysctl(key).unwrap(),
                one(key).as_deref(),
                "{shell:?} {key}"
            );
        }
        assert_eq!(
            answers
                .sysctl("fs.file-nr")
                .unwrap()
                .unwrap()
                .split('\t')
                .count(),
            3
        );
        // Nothing that exists.
        let none = ask(&shell, vec![Query::Sysctl("no.such".into())]);
        assert_eq!(none.sysctl("no.such").unwrap(), None);
    }
}

/// All questions of many resources in one program: everyone gets their own answer.
#[test]
fn many_at_once() {
    each(|w| {
        let names = ["a", "b b", "c'c", "-d", "e  /x", "@1 0 5", "$f", "*"];
        let mut resources = Vec::new();
        for (n, name) in names.iter().enumerate() {
            let name = name.replace('/', "_").replace('@', "%");
            fs::write(w.path(&name), format!("{n}\n@{n} 0 3\n")).unwrap();
        }
        for (n, name) in names.iter().enumerate() {
            let name = name.replace('/', "_").replace('\'', "''");
            // `\x40` is a `@` that does not stand for the directory.
            let body = format!(
                "{{ path: '@/{}', content: \"{n}\\n\\x40{n} 0 3\\n\", OWN }}",
                name.replace('@', "%")
            );
            resources.push(w.resource("file", &body));
        }
        let queries = resources
            .iter()
            .flat_map(|r| r.queries(w.ctx()).unwrap())
            .collect();
        let answers = ask(&w.shell, queries);
        for resource in &resources {
            let seen = resource.observe(&answers, w.ctx()).unwrap();
            match resource.diff(&seen, w.ctx()) {
                Diff::NoOp => {}
                Diff::Change(change) => assert!(
                    change.fields.iter().all(|f| f.field == "mode"),
                    "{:?} {resource:?}: {change:?}",
                    w.shell
                ),
            }
        }
    });
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,40}",
        // Short ones: what is special alone, or beside what is not.
        "[ -~]{1,2}",
        "[!-/:-@\\[-`{-~][a-z]",
        "[\\x01-\\x7f]{0,60}",
        "\\PC{0,30}",
        Just("'".to_owned()),
        Just("\n".to_owned()),
        Just("a\n\n".to_owned()),
        Just("-n".to_owned()),
        Just("@1 0 5\nhello".to_owned()),
        Just("'\\''\"$(id)`id`${x}\\".to_owned()),
    ]
}

/// NUL cannot be an argument; everything else must arrive as it is.
#[test]
fn quoted_text_arrives_as_it_is() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1));
    for shell in shells() {
        // Many texts a process: starting one is what takes time.
        let texts = proptest::collection::vec(any_text(), 2000..2001);
        runner
            .run(&texts, |texts| {
                let mut script = String::new();
                let mut wanted = Vec::new();
                for text in &texts {
                    script.push_str(&format!("printf '%s\\0' {}\n", quote(text)));
                    wanted.extend_from_slice(text.as_bytes());
                    wanted.push(0);
                }
                script.push_str(&format!("printf '<%s>\\0' {}\n", words(&texts[..50])));
                for text in &texts[..50] {
                    wanted.extend_from_slice(format!("<{text}>\0").as_bytes());
                }
                let (ok, stdout, stderr) = sh(&shell, &script, b"");
                prop_assert!(ok, "{:?}: {}", shell, stderr);
                prop_assert!(stdout == wanted, "{:?} read something else", shell);
                Ok(())
            })
            .unwrap();
    }
}

/// Whatever a command prints, its frame holds exactly that.
#[test]
fn frames_carry_any_text() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(1));
    for shell in shells() {
        let texts = proptest::collection::vec((any_text(), 0u32..4), 400..401);
        runner
            .run(&texts, |texts| {
                let mut script = String::from(FRAME_SH);
                script.push_str("p() { printf %s \"$1\"; return $2; }\n");
                for (n, (text, status)) in texts.iter().enumerate() {
                    script.push_str(&format!("frame {n} p {} {status}\n", quote(text)));
                }
                let (_, stdout, _) = sh(&shell, &script, b"");
                let mut reader = FrameReader::default();
                reader.push(&stdout);
                for (n, (text, status)) in texts.iter().enumerate() {
                    let frame = reader.next_frame().unwrap().unwrap();
                    prop_assert_eq!(frame.id as usize, n);
                    prop_assert_eq!(frame.status, *status);
                    prop_assert_eq!(String::from_utf8(frame.bytes).unwrap(), text.as_str());
                }
                prop_assert!(reader.rest().is_empty());
                Ok(())
            })
            .unwrap();
    }
}

/// An image of a disk, sparse, with a table by sfdisk(8) (or none).
fn disk(world: &World, mib: u64, table: &str) -> PathBuf {
    let image = world.path("disk.img");
    fs::File::create(&image)
        .unwrap()
        .set_len(mib << 20)
        .unwrap();
    if !table.is_empty() {
        tool(&format!("sfdisk -q {}", image.display()), table);
    }
    image
}

#[track_caller]
fn tool(command: &str, stdin: &str) -> String {
    let (good, out, err) = sh(
        &["sh"],
        &format!("PATH=$PATH:/usr/sbin:/sbin\n{command}"),
        stdin.as_bytes(),
    );
    assert!(good, "{command}: {err}");
    String::from_utf8(out).unwrap()
}

/// Partitions as `START SIZE`, whatever else the table says of them.
fn partitions(image: &Path) -> Vec<String> {
    tool(&format!("sfdisk -d {}", image.display()), "")
        .lines()
        .filter_map(|line| line.split_once("start="))
        .map(|(_, rest)| {
            let numbers: Vec<&str> = rest
                .split([' ', ',', '='])
                .filter(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_digit()))
                .collect();
            numbers[..2].join(" ")
        })
        .collect()
}

#[test]
fn partitions_are_made_where_nobody_is() {
    for shell in shells() {
        let world = World::new(shell);
        // A card whose root was kept small: MBR, vfat and ext4 in front.
        let image = disk(
            &world,
            4096,
            "label: dos\nstart=8192,size=204800,type=c\nstart=212992,size=2097152,type=83\n",
        );
        tool(
            &format!(
                "mkfs.ext4 -q -F -L rootfs -E offset=$((212992*512)) {} 1048576k",
                image.display()
            ),
            "",
        );
        let root_before = tool(
            &format!(
                "dd if={} bs=1M skip=104 count=8 status=none | sha256sum",
                image.display()
            ),
            "",
        );
        let data = world.resource("partition", "{ disk: @/disk.img, label: data }");
        world.settle(&data);
        assert_eq!(
            partitions(&image),
            ["8192 204800", "212992 2097152", "2310144 6078464"]
        );
        let label = format!(
            "blkid -p -o value -s LABEL -O $((2310144*512)) {}",
            image.display()
        );
        assert_eq!(tool(&label, ""), "data\n");
        // The root's file system is whole.
        let root_after = tool(
            &format!(
                "dd if={} bs=1M skip=104 count=8 status=none | sha256sum",
                image.display()
            ),
            "",
        );
        assert_eq!(root_before, root_after);
        // The file system's beginning is lost: it is made again, in the same place.
        tool(
            &format!(
                "dd if=/dev/zero of={} bs=1M seek=1128 count=1 conv=notrunc status=none",
                image.display()
            ),
            "",
        );
        assert!(matches!(world.diff(&data), Diff::Change(_)));
        world.settle(&data);
        assert_eq!(partitions(&image).len(), 3);
    }
}

#[test]
fn partitions_of_a_gpt_and_of_a_blank_disk() {
    for shell in shells() {
        let world = World::new(shell);
        let image = disk(&world, 8192, "");
        let small = world.resource(
            "partition",
            "{ disk: @/disk.img, label: logs, size: 512MiB }",
        );
        world.settle(&small);
        world.settle(&world.resource("partition", "{ disk: @/disk.img, label: data }"));
        assert_eq!(partitions(&image), ["2048 1048576", "1050624 15724544"]);
        let names = tool(&format!("sfdisk -d {}", image.display()), "");
        assert!(
            names.contains("name=\"logs\"") && names.contains("name=\"data\""),
            "{names}"
        );
        assert_eq!(world.diff(&small), Diff::NoOp);
    }
}

#[test]
fn an_image_on_a_larger_disk_gets_its_second_header_moved() {
    let world = World::new(vec!["sh"]);
    let image = disk(
        &world,
        1024,
        "label: gpt\nstart=2048,size=1048576,type=L,name=writable\n",
    );
    fs::OpenOptions::new()
        .write(true)
        .open(&image)
        .unwrap()
        .set_len(4096 << 20)
        .unwrap();
    world.settle(&world.resource("partition", "{ disk: @/disk.img, label: data, size: 2GiB }"));
    assert_eq!(partitions(&image), ["2048 1048576", "1050624 4194304"]);
    tool(&format!("sfdisk --verify {}", image.display()), "");
}

#[test]
fn nothing_that_holds_anything_is_formatted() {
    let world = World::new(vec!["sh"]);
    let refused = |body: &str, words: &str| {
        let before = fs::read(world.path("disk.img")).unwrap();
        let why = world.look(&world.resource("partition", body)).unwrap_err();
        assert!(why.what.contains(words), "{}", why.what);
        assert!(why.cure.is_some());
        assert!(fs::read(world.path("disk.img")).unwrap() == before);
    };
    let data = "{ disk: @/disk.img, label: data, size: 64MiB }";
    // A file system on the bare disk.
    let image = disk(&world, 256, "");
    tool(&format!("mkfs.ext4 -q -F {}", image.display()), "");
    refused(data, "no partition table but holds ext4");
    // Somebody's swap in a partition that has our name.
    let image = disk(
        &world,
        256,
        "label: gpt\nstart=2048,size=204800,type=L,name=data\n",
    );
    tool(
        &format!(
            "dd if={0} of={0}.p bs=512 skip=2048 count=204800 status=none && mkswap -q {0}.p && dd if={0}.p of={0} bs=512 seek=2048 conv=notrunc status=none; rm {0}.p",
            image.display()
        ),
        "",
    );
    refused(data, "holds swap");
    // What stood in a partition that was deleted.
    let image = disk(&world, 256, "label: gpt\n");
    tool(
        &format!(
            "mkfs.ext4 -q -F -E offset=$((2048*512)) {} 65536k",
            image.display()
        ),
        "",
    );
    refused(data, "of a partition that was deleted");
    // No room.
    disk(&world, 256, "label: gpt\nstart=2048,size=+,type=L\n");
    refused(data, "unallocated in one piece");
    // Four are all an MBR holds.
    disk(
        &world,
        256,
        "label: dos\nsize=16M\nsize=16M\nsize=16M\nsize=16M\n",
    );
    refused(data, "four partitions");
}

#[test]
fn a_power_cut_between_partition_and_file_system_is_made_good() {
    let world = World::new(vec!["sh"]);
    let image = disk(&world, 256, "label: dos\nstart=2048,size=20480,type=83\n");
    let data = world.resource(
        "partition",
        "{ disk: @/disk.img, label: data, size: 64MiB }",
    );
    // An MBR has no names: what was claimed is ours, the empty partition beside it is not.
    fs::create_dir(world.path("disk.claims")).unwrap();
    fs::write(world.path("disk.claims/data"), "22528 131072\n").unwrap();
    tool(
        &format!("sfdisk -q --append {}", image.display()),
        "start=22528,size=131072,type=83\n",
    );
    world.settle(&data);
    assert_eq!(partitions(&image), ["2048 20480", "22528 131072"]);
    let label = format!(
        "blkid -p -o value -s LABEL -O $((22528*512)) {}",
        image.display()
    );
    assert_eq!(tool(&label, ""), "data\n");
}
