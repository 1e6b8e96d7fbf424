//! A folder with an inventory, a lab that boots it, and the program run inside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use picluster_lab::{Lab, LabOptions};

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
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
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
        use picluster::verbs::lab;
        let mut options = LabOptions::from_environment().unwrap();
        options.program = PROGRAM.into();
        // Labs of tests that run at the same time are told apart by their state, not their names.
        let home = tempfile::Builder::new().prefix("pcl").tempdir().unwrap();
        options.state_root = home.path().join("lab");
        let project = picluster::project::load(&desk.inventory()).unwrap_or_else(|e| panic!("{e}: {:?}", e.diagnostics));
        let keys = lab::home::Home::of(&project, &options).unwrap();
        let made = picluster::cli::LabMade {
            os: os.iter().map(ToString::to_string).collect(),
        };
        let spec = lab::specification(&project, &made, &keys).unwrap();
        let lab = Lab::up_foreground(&spec, &options, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
        Self { desk, lab, home }
    }

    /// The program inside the lab, ready to be started.
    pub fn command(&self, args: &[&str]) -> Command {
        let project = picluster::project::load(&self.desk.inventory()).unwrap_or_else(|e| panic!("{e}: {:?}", e.diagnostics));
        let mut options = LabOptions::from_environment().unwrap();
        options.state_root = self.home.path().join("lab");
        let keys = picluster::verbs::lab::home::Home::of(&project, &options).unwrap();
        let mut command = self.lab.controller_command(PROGRAM);
        keys.dress(&mut command, &project);
        command
            .args(args)
            .current_dir(self.desk.path())
            .env("PICLUSTER_NO_TTY", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs the program inside the lab.
    pub fn run(&self, args: &[&str]) -> Ran {
        ran(&self.command(args).output().unwrap())
    }

    /// Runs a command as root on a node, over a plain ssh of the system.
    pub fn on(&self, node: &str, script: &str) -> Ran {
        let (address, user) = self.lab.ssh_target(node).unwrap();
        let project = picluster::project::load(&self.desk.inventory()).unwrap_or_else(|e| panic!("{e}"));
        let mut options = LabOptions::from_environment().unwrap();
        options.state_root = self.home.path().join("lab");
        let keys = picluster::verbs::lab::home::Home::of(&project, &options).unwrap();
        let output = self
            .lab
            .controller_command("ssh")
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-i"])
            .arg(keys.key())
            .args(["-p", &address.port().to_string(), &format!("{user}@{}", address.ip())])
            .arg(format!("sudo -n sh -c {}", picluster_resource::shell::quote(script)))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        ran(&output)
    }
}
