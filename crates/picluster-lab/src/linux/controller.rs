//! A program of this machine inside the lab's network, with the lab's names.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::error::{Attempt, Trouble};
use crate::lab::Record;
use crate::linux::mounts;
use crate::linux::userns::self_path;

/// The command that runs `program` in the network of the lab described by `record`.
pub(crate) fn command(record: &Record, hosts: &str, program: &Path) -> Command {
    let root = rustix::process::getuid().is_root();
    let ns = format!("/proc/{}/ns", record.supervisor);
    let mut command = Command::new(self_path("nsenter"));
    command.arg(format!("--net={ns}/net"));
    if !root {
        // A user may enter the network only together with the user namespace that owns it, where it is root and
        // still the owner of its own files.
        command
            .arg(format!("--user={ns}/user"))
            .arg("--preserve-credentials");
    }
    command
        .arg("--")
        .arg(self_path("unshare"))
        .args(["--mount", "--propagation=private", "--"]);
    command
        .arg(&record.program)
        .args([crate::INTERNAL_ARGUMENT, "controller", hosts])
        .arg(program);
    command
}

/// `HOSTS COMMAND…`: puts the lab's names over this machine's, and becomes the command.
pub(crate) fn main(args: &[OsString]) -> Result<(), Trouble> {
    let [hosts, program, rest @ ..] = args else {
        return Err(Trouble("too few arguments".into()));
    };
    // A memory file would do, were it mountable; a tmpfs needs a place that exists everywhere.
    let place = Path::new("/dev/shm");
    mounts::tmpfs(place, "mode=1777")?;
    for (name, content) in [
        ("hosts", hosts.to_string_lossy().into_owned()),
        (
            "resolv.conf",
            "# The lab has no way out, so no name server.\n".to_owned(),
        ),
    ] {
        let etc = Path::new("/etc").join(name);
        // On many machines a link to somewhere under /run.
        let Ok(target) = fs::canonicalize(&etc) else {
            continue;
        };
        mounts::shadow(&place.join(name), content, &target)?;
    }
    // The binds keep their files; the place itself is the program's again.
    rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH)
        .attempt(|| "clear /dev/shm".into())?;
    let error = Command::new(program).args(rest).exec();
    Err(Trouble(format!(
        "run {}: {error}",
        program.to_string_lossy()
    )))
}
