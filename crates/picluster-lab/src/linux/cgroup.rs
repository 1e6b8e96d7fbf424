//! The cgroup2 directory a lab's nodes run in: systemd as PID 1 needs one of its own to write to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::{Attempt, Trouble};
use crate::linux::userns::Mapping;

/// Where labs have their directories, below whatever is ours.
const PARENT: &str = "picluster-lab";

/// How the keeper gets a cgroup that it may divide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Below this directory, as we are.
    Below(PathBuf),
    /// In a delegated scope that systemd makes; `user`: the user's systemd.
    Scope { user: bool },
}

/// Finds the way for whoever runs this process; the error says what was looked for.
pub(crate) fn way() -> Result<Way, Trouble> {
    let root = rustix::process::getuid().is_root();
    let systemd = Path::new("/run/systemd/system").is_dir()
        && crate::linux::tool::find("systemd-run".as_ref()).is_some();
    let user_bus = || {
        std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .is_some_and(|d| d.join("systemd/private").exists() || d.join("bus").exists())
    };
    if systemd && root {
        return Ok(Way::Scope { user: false });
    }
    if systemd && user_bus() {
        return Ok(Way::Scope { user: true });
    }
    let mount = mount_point().ok_or_else(|| Trouble("no cgroup2 file system is mounted".into()))?;
    if root && writable_dir(&mount) {
        return Ok(Way::Below(mount));
    }
    if root {
        return Err(Trouble(format!(
            "{} is read-only here, as in a container",
            mount.display()
        )));
    }
    let own = own(&mount)?;
    if own != mount
        && rustix::fs::access(own.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok()
        && writable_dir(&own)
    {
        return Ok(Way::Below(own));
    }
    Err(Trouble(format!(
        "no systemd gives this user a scope, and its own cgroup {} is not its to write",
        own.display()
    )))
}

fn writable_dir(dir: &Path) -> bool {
    rustix::fs::access(
        dir,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
    )
    .is_ok()
}

/// First mount point of a cgroup2 file system.
fn mount_point() -> Option<PathBuf> {
    // Format: id parent major:minor root mountpoint options [optional…] - fstype source superoptions.
    fs::read_to_string("/proc/self/mountinfo")
        .ok()?
        .lines()
        .find_map(|l| {
            let (left, right) = l.split_once(" - ")?;
            right
                .starts_with("cgroup2 ")
                .then(|| left.split(' ').nth(4).map(PathBuf::from))?
        })
}

fn own(mount: &Path) -> Result<PathBuf, Trouble> {
    let text =
        fs::read_to_string("/proc/self/cgroup").attempt(|| "read /proc/self/cgroup".into())?;
    let path = text
        .lines()
        .find_map(|l| l.strip_prefix("0::/"))
        .ok_or_else(|| Trouble("this process is in no cgroup2 group".into()))?;
    Ok(if path.is_empty() {
        mount.to_owned()
    } else {
        mount.join(path)
    })
}

/// A lab's directory; removed, with everything below, when dropped.
pub(crate) struct LabCgroup {
    pub dir: PathBuf,
}

impl LabCgroup {
    /// Makes the directory of lab `name`, owned by the lab's root. `in_scope`: this process is the only one in a scope
    /// made for it.
    pub(crate) fn make(name: &str, mapping: &Mapping, in_scope: bool) -> Result<Self, Trouble> {
        let mount =
            mount_point().ok_or_else(|| Trouble("no cgroup2 file system is mounted".into()))?;
        let base = if in_scope {
            let base = own(&mount)?;
            // Controllers can only be passed on by a group without processes of its own.
            let aside = base.join("keeper");
            fs::create_dir_all(&aside).attempt(|| format!("create {}", aside.display()))?;
            fs::write(aside.join("cgroup.procs"), "0")
                .attempt(|| format!("join {}", aside.display()))?;
            base
        } else {
            match way()? {
                Way::Below(base) => base,
                Way::Scope { .. } => own(&mount)?,
            }
        };
        let parent = base.join(PARENT);
        fs::create_dir_all(&parent).attempt(|| format!("create {}", parent.display()))?;
        sweep(&parent);
        let dir = parent.join(format!("{name}.{}", std::process::id()));
        fs::create_dir(&dir).attempt(|| format!("create {}", dir.display()))?;
        let cgroup = LabCgroup { dir };
        pass_on(&base);
        pass_on(&parent);
        let supervisor = cgroup.supervisor();
        fs::create_dir(&supervisor).attempt(|| format!("create {}", supervisor.display()))?;
        let (uid, gid) = mapping.root_ids();
        for dir in [&cgroup.dir, &supervisor] {
            for file in [
                "",
                "cgroup.procs",
                "cgroup.subtree_control",
                "cgroup.threads",
            ] {
                let path = if file.is_empty() {
                    dir.clone()
                } else {
                    dir.join(file)
                };
                std::os::unix::fs::chown(&path, Some(uid), Some(gid))
                    .attempt(|| format!("hand over {}", path.display()))?;
            }
        }
        Ok(cgroup)
    }

    /// Group of the supervisor itself.
    pub(crate) fn supervisor(&self) -> PathBuf {
        self.dir.join("supervisor")
    }
}

impl Drop for LabCgroup {
    fn drop(&mut self) {
        // The last processes may still be on their way out.
        let end = Instant::now() + Duration::from_secs(5);
        while remove_tree(&self.dir).is_err() && Instant::now() < end {
            sleep(Duration::from_millis(20));
        }
        if let Some(parent) = self.dir.parent() {
            // Fails, rightly, while another lab lives there.
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Removes what labs left behind whose keeper is gone.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let keeper: Option<u32> = name.rsplit_once('.').and_then(|(_, pid)| pid.parse().ok());
        if keeper.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = remove_tree(&entry.path());
        }
    }
}

/// Passes every controller there is on to the children of `dir`; on a hybrid host there is none, which is fine.
pub(crate) fn pass_on(dir: &Path) {
    let controllers = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    for c in controllers.split_ascii_whitespace() {
        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{c}"));
    }
}

/// Removes a group and all below it; fails while a process is in any of them.
pub(crate) fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

/// Kills every process in `dir` and below.
pub(crate) fn kill_all(dir: &Path) {
    // cgroup.kill is atomic but younger (Linux 5.14) than everything else a lab needs.
    if fs::write(dir.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for pid in pids(dir) {
        if let Some(pid) = i32::try_from(pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Pids in `dir` and below, as this pid namespace numbers them.
pub(crate) fn pids(dir: &Path) -> Vec<u32> {
    let mut all: Vec<u32> = fs::read_to_string(dir.join("cgroup.procs"))
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|w| w.parse().ok())
        .filter(|p| *p != 0)
        .collect();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            all.extend(pids(&entry.path()));
        }
    }
    all
}
