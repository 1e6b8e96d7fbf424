//! Things that go wrong on a node, on demand.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread::{self, sleep};
use std::time::Duration;

use crate::error::{Attempt, Trouble};
use crate::linux::node::Node;
use crate::linux::tool::run;

/// Where [`fill_disk`] puts what fills it.
const FILLER: &str = "/var/tmp/lab-filler";

/// Holds dpkg's locks as `unattended-upgr` does, for `seconds`; returns once they are held.
pub(crate) fn hold_apt_lock(node: &Node, seconds: u32) -> Result<(), Trouble> {
    // dpkg and apt lock with fcntl(2); perl-base, essential on Debian, can do that and show a name of its choice.
    let script = r#"
        use Fcntl; $| = 1; $0 = "unattended-upgr";
        for my $f ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock") {
            open(my $h, "+>>", $f) or die "$f: $!\n"; push @held, $h;
            my $l = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0);
            fcntl($h, F_SETLK, $l) or die "$f is locked already: $!\n";
        }
        print "held\n"; sleep $ARGV[0];"#;
    let mut child = node
        .inside(&["/usr/bin/perl", "-e", script, &seconds.to_string()])?
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .attempt(|| "take the lock".into())?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        let _ = BufReader::new(out).read_line(&mut line);
    }
    if line.trim() == "held" {
        thread::spawn(move || child.wait());
        return Ok(());
    }
    let out = child
        .wait_with_output()
        .attempt(|| "take the lock".into())?;
    Err(Trouble(format!(
        "apt's lock was not taken: {}",
        String::from_utf8_lossy(&out.stderr).trim()
    )))
}

/// Fills the card to the last block.
pub(crate) fn fill_disk(node: &Node) -> Result<(), Trouble> {
    node.not_a_vm()?;
    if node.spec.disk_mib.is_none() {
        return Err(Trouble("its disk is this machine's own and will not be filled; give the node a `disk_mib` and start the lab again".into()));
    }
    // Ends with `No space left on device`, which is the point; small blocks last, so that nothing is left.
    let script = format!(
        "dd if=/dev/zero of={FILLER} bs=1M 2>/dev/null; dd if=/dev/zero of={FILLER}.rest bs=512 2>/dev/null; ! echo x 2>/dev/null >{FILLER}.probe"
    );
    run(&mut node.inside(&["/bin/sh", "-c", &script])?)
}

/// Undoes [`fill_disk`].
pub(crate) fn free_disk(node: &Node) -> Result<(), Trouble> {
    run(&mut node.inside(&[
        "/bin/rm",
        "-f",
        FILLER,
        &format!("{FILLER}.rest"),
        &format!("{FILLER}.probe"),
    ])?)
}

/// Makes `/` read-only, as ext4 does after an error on a failing card, or writable again.
pub(crate) fn remount_root(node: &Node, read_only: bool) -> Result<(), Trouble> {
    let option = if read_only {
        "remount,ro"
    } else {
        "remount,rw"
    };
    // Source and target both: with one alone mount(8) would look into the node's fstab, which describes a Pi's card.
    let mount = || {
        node.inside(&[
            "/bin/mount",
            "-n",
            "-t",
            "overlay",
            "-o",
            option,
            "overlay",
            "/",
        ])
        .and_then(|mut c| run(&mut c))
    };
    if read_only {
        // The kernel's own emergency remount asks nobody; from outside, files open for writing are in the way.
        // The journal's is the one every node has.
        let _ = node
            .inside(&["/bin/journalctl", "--relinquish-var"])
            .and_then(|mut c| run(&mut c));
    }
    let mut result = mount();
    for _ in 0..20 {
        if result.is_ok() {
            break;
        }
        sleep(Duration::from_millis(100));
        result = mount();
    }
    result.map_err(|t| {
        Trouble(format!(
            "{t}; something on it keeps a file open for writing"
        ))
    })
}
