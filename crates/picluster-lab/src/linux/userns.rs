//! The user namespace everything in a lab lives in.
//!
//! Root here maps a range of its own that no account uses; an ordinary user maps itself to root and its range of
//! `/etc/subuid` to the rest. Either way root in the lab is nobody special on this machine.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::{Attempt, Trouble};
use crate::linux::tool::{run, tool};

/// First host uid and gid of a lab that root started. Systemd's table of uid ranges leaves 1879048192 to
/// 2147483647 unused, so neither accounts, `/etc/subuid` ranges nor systemd's containers are in the way.
const ROOT_BASE: u32 = 1_900_000_000;
/// Ids 0 to 65534 and `nobody`.
const COUNT: u32 = 65_536;

/// How ids in the lab become ids of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// Started by root: everything is shifted.
    Shifted,
    /// Started by a user: root is the user, the rest is its range.
    Sub {
        uid: u32,
        gid: u32,
        sub_uid: (u32, u32),
        sub_gid: (u32, u32),
    },
}

impl Mapping {
    /// The mapping for whoever runs this process.
    pub(crate) fn mine() -> Result<Self, Trouble> {
        let uid = rustix::process::getuid().as_raw();
        let gid = rustix::process::getgid().as_raw();
        if uid == 0 {
            return Ok(Mapping::Shifted);
        }
        let user = user_name(uid);
        let range = |file: &str| {
            sub_range(
                &fs::read_to_string(file).unwrap_or_default(),
                uid,
                user.as_deref(),
            )
            .ok_or_else(|| {
                Trouble(format!(
                    "{file} gives user {uid} no range of at least {} ids",
                    COUNT - 1
                ))
            })
        };
        Ok(Mapping::Sub {
            uid,
            gid,
            sub_uid: range("/etc/subuid")?,
            sub_gid: range("/etc/subgid")?,
        })
    }

    /// This machine's ids of the lab's root.
    pub(crate) fn root_ids(&self) -> (u32, u32) {
        match self {
            Mapping::Shifted => (ROOT_BASE, ROOT_BASE),
            Mapping::Sub { uid, gid, .. } => (*uid, *gid),
        }
    }

    /// A word that differs whenever files of one mapping are useless to another.
    pub(crate) fn fingerprint(&self) -> String {
        match self {
            Mapping::Shifted => format!("root+{ROOT_BASE}"),
            Mapping::Sub {
                uid,
                gid,
                sub_uid,
                sub_gid,
            } => format!("{uid}:{gid}+{}:{}", sub_uid.0, sub_gid.0),
        }
    }

    fn write(&self, pid: u32) -> Result<(), Trouble> {
        match self {
            Mapping::Shifted => {
                for map in ["uid_map", "gid_map"] {
                    let path = format!("/proc/{pid}/{map}");
                    fs::write(&path, format!("0 {ROOT_BASE} {COUNT}"))
                        .attempt(|| format!("write {path}"))?;
                }
                Ok(())
            }
            Mapping::Sub {
                uid,
                gid,
                sub_uid,
                sub_gid,
            } => {
                for (program, own, sub) in
                    [("newuidmap", uid, sub_uid), ("newgidmap", gid, sub_gid)]
                {
                    let count = sub.1.min(COUNT - 1);
                    run(tool(program)
                        .args([pid, 0, *own, 1, 1, sub.0, count].map(|n| n.to_string())))?;
                }
                Ok(())
            }
        }
    }
}

/// A mapped user namespace, held open by a process that does nothing else.
pub(crate) struct UserNs {
    holder: Child,
}

impl UserNs {
    /// Makes one.
    pub(crate) fn new(program: &Path, mapping: &Mapping) -> Result<Self, Trouble> {
        let mut holder = tool("unshare")
            .arg("--user")
            .arg("--")
            .arg(program)
            .args([crate::INTERNAL_ARGUMENT, "hold"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .attempt(|| "run unshare --user".into())?;
        // The holder speaks once the namespace is made; before that a map would be written to this machine's own.
        let mut line = String::new();
        if let Some(out) = holder.stdout.take() {
            let _ = BufReader::new(out).read_line(&mut line);
        }
        let ns = UserNs { holder };
        if line.trim() != "held" {
            return Err(Trouble(
                "a user namespace could not be made: `unshare --user true` shows why".into(),
            ));
        }
        mapping.write(ns.holder.id())?;
        Ok(ns)
    }

    /// `nsenter` into it as its root; what follows as arguments is run there.
    pub(crate) fn enter(&self) -> Vec<String> {
        vec![
            self_path("nsenter"),
            format!("--user=/proc/{}/ns/user", self.holder.id()),
            "--setuid=0".into(),
            "--setgid=0".into(),
            "--".into(),
        ]
    }
}

impl Drop for UserNs {
    fn drop(&mut self) {
        // End of input ends the holder; processes inside keep the namespace.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Absolute path of a tool as an argument of another.
pub(crate) fn self_path(name: &str) -> String {
    crate::linux::tool::find(name.as_ref())
        .map_or_else(|| name.to_owned(), |p| p.to_string_lossy().into_owned())
}

/// A command that runs `program __lab verb…` as root of a fresh user namespace with this machine's network, in a pid
/// namespace that ends with it. `binds` are visible as `/run/lab/NAME`.
pub(crate) fn command_inside(
    ns: &UserNs,
    mapping: &Mapping,
    program: &Path,
    binds: &[(PathBuf, &str)],
    verb: &[String],
) -> Command {
    let inside = [self_path("unshare")]
        .into_iter()
        .chain(
            [
                "--mount",
                "--pid",
                "--ipc",
                "--uts",
                "--fork",
                "--kill-child=SIGKILL",
                "--mount-proc",
                "--",
            ]
            .map(String::from),
        )
        .chain([
            crate::linux::stage::PROGRAM.to_owned(),
            crate::INTERNAL_ARGUMENT.to_owned(),
        ])
        .chain(verb.iter().cloned());
    crate::linux::stage::command(ns, mapping, program, binds, None, inside)
}

/// Login name of a uid, from `/etc/passwd`.
fn user_name(uid: u32) -> Option<String> {
    fs::read_to_string("/etc/passwd")
        .ok()?
        .lines()
        .find_map(|l| {
            let mut f = l.split(':');
            let name = f.next()?;
            (f.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        })
}

/// The first range of at least 65535 ids that a subuid(5) file gives to a user, named or by number.
pub(crate) fn sub_range(text: &str, uid: u32, user: Option<&str>) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut f = line.trim().split(':');
        let owner = f.next()?;
        let (start, count) = (f.next()?.parse().ok()?, f.next()?.parse().ok()?);
        let mine = Some(owner) == user || owner.parse() == Ok(uid);
        (mine && count >= COUNT - 1).then_some((start, count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number_and_must_be_large() {
        let text = "alice:100000:65536\nbob:165536:1000\n1002:300000:65536\n";
        assert_eq!(
            sub_range(text, 1000, Some("alice")),
            Some((100_000, 65_536))
        );
        assert_eq!(sub_range(text, 1001, Some("bob")), None);
        assert_eq!(
            sub_range(text, 1002, Some("carol")),
            Some((300_000, 65_536))
        );
    }
}
