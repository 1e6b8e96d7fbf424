//! A folder with an inventory, a lab that boots it, and the program run inside.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use picluster_engine::{Event, EventKind};
use picluster_lab::{Entry, Lab, LabOptions, LabSpec};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_picluster-under-test");

/// How a run of the program ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Fails with everything that was said when the code is another one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.out, self.err
        );
        self
    }
}

/// Collects how a command ends.
pub fn ran(output: &Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A folder of documents, thrown away at the end.
pub struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    /// With this text as `inventory.yaml`.
    pub fn new(inventory: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("inventory.yaml"), inventory).unwrap();
        Self { folder }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The inventory.
    pub fn inventory(&self) -> PathBuf {
        self.path().join("inventory.yaml")
    }

    /// Writes a file below the folder.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs the program on this machine, in the folder, without a terminal.
    pub fn run(&self, args: &[&str]) -> Ran {
        let output = Command::new(PROGRAM)
            .args(args)
            .current_dir(self.path())
            .env("HOME", self.path().join(".home"))
            .env("USER", "operator")
            .env_remove("SSH_AUTH_SOCK")
            .env("PICLUSTER_NO_TTY", "1")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        ran(&output)
    }
}

/// A desk and the running lab of its inventory. The lab ends with the value.
pub struct Rig {
    /// The documents.
    pub desk: Desk,
    /// The nodes.
    pub lab: Lab,
    home: tempfile::TempDir,
}

impl Rig {
    /// Boots every node of the inventory; `os` are the `--os` words of `picluster lab up`.
    pub fn up(inventory: &str, os: &[&str]) -> Self {
        Self::up_from(Desk::new(inventory), os)
    }

    /// The same for documents that are already there.
    pub fn up_from(desk: Desk, os: &[&str]) -> Self {
        Self::up_with(desk, os, |_| {})
    }

    /// The same with a say in what the nodes are.
    pub fn up_with(desk: Desk, os: &[&str], tweak: impl FnOnce(&mut LabSpec)) -> Self {
        use picluster::verbs::lab;
        let mut options = LabOptions::from_environment().unwrap();
        options.program = PROGRAM.into();
        // Labs of tests that run at the same time are told apart by their state, not their names.
        let home = tempfile::Builder::new().prefix("pcl").tempdir().unwrap();
        options.state_root = state_root(&home);
        let project = picluster::project::load_as_written(&desk.inventory())
            .unwrap_or_else(|e| panic!("{e}: {:?}", e.diagnostics));
        let keys = lab::home::Home::of(&project, &options).unwrap();
        let made = picluster::cli::LabMade {
            os: os.iter().map(ToString::to_string).collect(),
            // The same tests over a real API server: see docs/lab.md.
            kubernetes: std::env::var_os("PICLUSTER_TEST_KUBERNETES").is_some(),
            k3s: None,
        };
        let mut spec = lab::specification(&project, &made, &keys).unwrap();
        tweak(&mut spec);
        let lab =
            Lab::up_foreground(&spec, &options, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
        Self { desk, lab, home }
    }

    /// Puts a file into the controller's cache for the inventory's release of k3s.
    pub fn lend_k3s(&self, file: &std::path::Path) {
        let file = file.display().to_string();
        self.run(&["fetch", "--from", &file]).expect(0);
    }

    /// The program inside the lab, ready to be started.
    pub fn command(&self, args: &[&str]) -> Command {
        let project = picluster::project::load_as_written(&self.desk.inventory())
            .unwrap_or_else(|e| panic!("{e}: {:?}", e.diagnostics));
        let mut options = LabOptions::from_environment().unwrap();
        options.state_root = state_root(&self.home);
        let keys = picluster::verbs::lab::home::Home::of(&project, &options).unwrap();
        let mut command = self.lab.controller_command(PROGRAM);
        keys.dress(&mut command, &project);
        command
            .args(args)
            .current_dir(self.desk.path())
            .env("PICLUSTER_NO_TTY", "1")
            // First contact is the matter of few tests; they take this away.
            .env("PICLUSTER_ACCEPT_NEW", "true")
            .stdin(Stdio::null());
        command
    }

    /// Runs the program inside the lab.
    pub fn run(&self, args: &[&str]) -> Ran {
        ran(&self.command(args).output().unwrap())
    }

    /// Starts the program inside the lab and reads along; `args` must ask for `--json` where events
    /// are wanted.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::of(self.command(args))
    }

    /// `XDG_STATE_HOME` of this lab: a `picluster lab` that is given it finds the lab.
    pub fn state_home(&self) -> &Path {
        self.home.path()
    }

    /// The cluster's store that runs inside the lab use.
    pub fn store(&self) -> PathBuf {
        let project = picluster::project::load_as_written(&self.desk.inventory())
            .unwrap_or_else(|e| panic!("{e}: {:?}", e.diagnostics));
        let lab = self.lab.name();
        state_root(&self.home)
            .join(format!("{lab}.home/store"))
            .join(project.inventory.cluster.as_str())
    }

    /// Every path of a node that differs from its card, but for what sshd, sudo and journald write.
    pub fn outside(&self, node: &str) -> BTreeMap<String, Entry> {
        let all = self.lab.outside_listing(node).unwrap();
        all.into_iter()
            .filter(|e| !crate::unchanged::is_noise(&e.path))
            .map(|e| (e.path.clone(), e))
            .collect()
    }

    /// Runs a command as root on a node, over a plain ssh of the system.
    pub fn on(&self, node: &str, script: &str) -> Ran {
        let script = format!("sudo -n sh -c {}", picluster_resource::shell::quote(script));
        ran(&self.ssh(node, &script).output().unwrap())
    }

    /// The same where sudo wants a password: on stdin, never in an argument.
    pub fn on_with_password(&self, node: &str, script: &str, password: &str) -> Ran {
        let script = format!(
            "sudo -S -p '' sh -c {}",
            picluster_resource::shell::quote(script)
        );
        let mut child = self
            .ssh(node, &script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{password}").unwrap();
        drop(stdin);
        ran(&child.wait_with_output().unwrap())
    }

    /// Waits until a script on a node says yes, with a bound.
    #[track_caller]
    pub fn until(&self, node: &str, script: &str) {
        let end = Instant::now() + PATIENCE;
        while self.on(node, script).code != 0 {
            assert!(Instant::now() < end, "{node}: never came true: {script}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until nothing of ours runs on a node: its lock is free.
    #[track_caller]
    pub fn until_quiet(&self, node: &str) {
        self.until(
            node,
            "[ ! -e /run/lock/picluster.lock ] || flock -n /run/lock/picluster.lock true",
        );
    }

    /// The system's ssh as the login user.
    pub fn ssh(&self, node: &str, script: &str) -> Command {
        let (address, user) = self.lab.ssh_target(node).unwrap();
        let cluster = self.lab.name();
        let key = state_root(&self.home).join(format!("{cluster}.home/.ssh/lent"));
        let mut command = self.lab.controller_command("ssh");
        command
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "StrictHostKeyChecking=no",
            ])
            .args([
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
                "-i",
            ])
            .arg(key)
            .args([
                "-p",
                &address.port().to_string(),
                &format!("{user}@{}", address.ip()),
            ])
            .arg(script)
            .stdin(Stdio::null());
        command
    }
}

fn state_root(home: &tempfile::TempDir) -> PathBuf {
    home.path().join("picluster/lab")
}

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A run of the program that goes on. Killed with the value if it has not ended.
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
    err: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a command and reads its output.
    pub fn of(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let err = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Self {
            child,
            lines,
            said: Vec::new(),
            err: Some(err),
        }
    }

    /// Its process: the words before it (namespaces) have become it by `exec`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next event; `None` when the stream has ended.
    #[track_caller]
    pub fn event(&mut self) -> Option<EventKind> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                let event = serde_json::from_str::<Event>(&line)
                    .unwrap_or_else(|e| panic!("{e}: {line}"))
                    .event;
                self.said.push(line);
                Some(event)
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("no event for {PATIENCE:?} after:\n{}", self.said.join("\n"))
            }
        }
    }

    /// Reads events until one is the wanted one.
    #[track_caller]
    pub fn until(&mut self, wanted: impl Fn(&EventKind) -> bool) -> EventKind {
        while let Some(event) = self.event() {
            if wanted(&event) {
                return event;
            }
        }
        let words = self
            .err
            .take()
            .map(|e| e.join().unwrap())
            .unwrap_or_default();
        panic!(
            "it ended before that event:\n{}\nstderr:\n{words}",
            self.said.join("\n")
        );
    }

    /// Reads events until this step has started.
    #[track_caller]
    pub fn until_started(&mut self, step: &str) {
        self.until(|e| matches!(e, EventKind::StepStarted { addr } if addr.to_string() == step));
    }

    /// Sends it a signal, by its number or name.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([format!("-{signal}"), self.pid().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Kills it, at once.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ran {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it has not ended in {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(10));
        };
        self.said.extend(self.lines.iter());
        Ran {
            code: status.code().unwrap_or(-1),
            out: self.said.join("\n"),
            err: self
                .err
                .take()
                .map(|e| e.join().unwrap())
                .unwrap_or_default(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// The events that were printed.
    #[track_caller]
    pub fn events(&self) -> Vec<EventKind> {
        let parse = |line: &str| {
            serde_json::from_str::<Event>(line)
                .unwrap_or_else(|e| panic!("{e}: {line}"))
                .event
        };
        self.out.lines().map(parse).collect()
    }

    /// How the step with this address ended.
    #[track_caller]
    pub fn outcome(&self, step: &str) -> picluster_engine::Outcome {
        self.events()
            .into_iter()
            .find_map(|e| match e {
                EventKind::StepFinished { addr, outcome, .. } if addr.to_string() == step => {
                    Some(outcome)
                }
                _ => None,
            })
            .unwrap_or_else(|| panic!("no end of {step} in:\n{}", self.out))
    }
}

/// What two listings of a node tell apart, by path.
pub fn differing<'a>(
    before: &'a BTreeMap<String, Entry>,
    after: &'a BTreeMap<String, Entry>,
) -> Vec<&'a String> {
    after
        .iter()
        .filter(|(path, entry)| before.get(*path) != Some(entry))
        .map(|(path, _)| path)
        .chain(before.keys().filter(|path| !after.contains_key(*path)))
        .collect()
}
