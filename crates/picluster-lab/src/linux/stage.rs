//! The step before the supervisor: shows the lab the few directories it may use, under short names.
//!
//! Paths below `/root` or a user's home may be closed to the lab's ids (0700 directories of an unmapped owner); a bind
//! mount is reached through its mount point's path alone. Done while still root, or as root of the user namespace.

use std::ffi::{CString, OsString};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, mount, mount_bind_recursive};

use crate::error::{Attempt, Trouble};
use crate::linux::tool::tool;
use crate::linux::userns::{Mapping, UserNs, self_path};

/// Where the binds are seen.
pub(crate) const DIR: &str = "/run/lab";
/// This program, as seen inside.
pub(crate) const PROGRAM: &str = "/run/lab/program";

/// The command that stages `binds` and goes on with `inside` as root of the user namespace.
pub(crate) fn command(
    ns: &UserNs,
    mapping: &Mapping,
    program: &Path,
    binds: &[(PathBuf, &str)],
    join: Option<&Path>,
    inside: impl IntoIterator<Item = String>,
) -> Command {
    let unshare = [
        self_path("unshare"),
        "--mount".into(),
        "--propagation=private".into(),
        "--".into(),
    ];
    let (uid, gid) = match mapping {
        Mapping::Shifted => mapping.root_ids(),
        Mapping::Sub { .. } => (0, 0),
    };
    let mut stage: Vec<OsString> = vec![
        program.into(),
        crate::INTERNAL_ARGUMENT.into(),
        "stage".into(),
    ];
    stage.extend([uid.to_string().into(), gid.to_string().into()]);
    stage.push(join.map_or_else(OsString::new, |p| p.into()));
    stage.push((binds.len() + 1).to_string().into());
    stage.extend([program.into(), OsString::from("program")]);
    for (from, name) in binds {
        stage.extend([from.into(), OsString::from(name)]);
    }
    let enter = ns.enter().into_iter().map(OsString::from);
    let unshare = unshare.into_iter().map(OsString::from);
    let args: Vec<OsString> = match mapping {
        // Root's binds must be made before the change of user, a user's after it gained the right to mount.
        Mapping::Shifted => unshare.chain(stage).chain(enter).collect(),
        Mapping::Sub { .. } => enter.chain(unshare).chain(stage).collect(),
    };
    let mut args = args.into_iter();
    let mut command = tool(args.next().unwrap_or_default());
    command
        .args(args)
        .args(inside.into_iter().map(OsString::from))
        .current_dir("/");
    command
}

/// Runs inside: `UID GID JOIN COUNT (FROM NAME)… COMMAND…`.
pub(crate) fn main(args: &[OsString]) -> Result<(), Trouble> {
    let text = |i: usize| {
        args.get(i)
            .map(|a| a.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let (uid, gid, join) = (text(0), text(1), text(2));
    let count: usize = text(3)
        .parse()
        .attempt(|| "read the stage's arguments".into())?;
    if !join.is_empty() {
        fs::write(&join, "0").attempt(|| format!("join {join}"))?;
    }
    let options =
        CString::new(format!("mode=755,uid={uid},gid={gid}")).attempt(|| "mount options".into())?;
    mount(
        "lab",
        "/run",
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        options.as_c_str(),
    )
    .attempt(|| "mount a tmpfs on /run".into())?;
    let owned = |p: &Path| std::os::unix::fs::chown(p, uid.parse().ok(), gid.parse().ok());
    for dir in [DIR, "/run/netns"] {
        fs::create_dir(dir).attempt(|| format!("create {dir}"))?;
        owned(Path::new(dir)).attempt(|| format!("own {dir}"))?;
    }
    for i in 0..count {
        let (from, to) = (
            Path::new(
                args.get(4 + 2 * i)
                    .ok_or_else(|| Trouble("too few arguments".into()))?,
            ),
            Path::new(DIR).join(text(5 + 2 * i)),
        );
        let what = || format!("show {} as {}", from.display(), to.display());
        if from.is_dir() {
            fs::create_dir(&to).attempt(what)?;
        } else {
            fs::write(&to, "").attempt(what)?;
        }
        mount_bind_recursive(from, &to).attempt(what)?;
    }
    let rest = args.get(4 + 2 * count..).unwrap_or_default();
    let (program, rest) = rest
        .split_first()
        .ok_or_else(|| Trouble("nothing to go on with".into()))?;
    Err(Trouble(format!(
        "run {}: {}",
        program.to_string_lossy(),
        Command::new(program).args(rest).exec()
    )))
}
