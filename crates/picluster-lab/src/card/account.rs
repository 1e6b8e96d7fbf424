//! The login user: account, keys, sudo.

use std::os::unix::fs::chown;
use std::path::Path;

use super::Card;
use crate::error::{Attempt, Trouble};
use crate::linux::tool::{feed, tool};
use crate::spec::{NodeSpec, SudoMode};

/// First account's uid and gid on Debian, Raspberry Pi OS and Ubuntu.
const ID: u32 = 1000;
/// Groups of Raspberry Pi OS's first user, as far as Debian has them.
const GROUPS: [&str; 11] = [
    "adm", "dialout", "cdrom", "sudo", "audio", "video", "plugdev", "games", "users", "input",
    "netdev",
];

pub(crate) fn create(card: &Card<'_>, node: &NodeSpec, keys: &[String]) -> Result<(), Trouble> {
    let user = node.user.as_str();
    let keys: String = keys.iter().map(|k| format!("{}\n", k.trim())).collect();
    if user == "root" {
        card.put("root/.ssh/authorized_keys", 0o600, &keys)?;
        return directory_mode(card, "root/.ssh", 0);
    }
    let hash = match &node.sudo {
        // No password logs in, and the account is not locked: `!` would be.
        SudoMode::NoPassword => "*".to_owned(),
        SudoMode::Password(password) => hash(card.image, password)?,
    };
    let passwd = card.read("etc/passwd");
    if passwd.lines().any(|l| l.split(':').next() == Some(user)) {
        return Err(Trouble(format!(
            "the image has a system account `{user}` already: choose another login user"
        )));
    }
    card.put(
        "etc/passwd",
        0o644,
        &format!("{passwd}{user}:x:{ID}:{ID}:,,,:/home/{user}:/bin/bash\n"),
    )?;
    // 19800 days after 1970: in the past for every card.
    let shadow = card.read("etc/shadow");
    card.put(
        "etc/shadow",
        0o640,
        &format!("{shadow}{user}:{hash}:19800:0:99999:7:::\n"),
    )?;
    for (file, mode) in [("etc/group", 0o644), ("etc/gshadow", 0o640)] {
        let mut text = String::new();
        for line in card.read(file).lines() {
            text.push_str(line);
            if line.split(':').next().is_some_and(|g| GROUPS.contains(&g)) {
                if !line.ends_with(':') {
                    text.push(',');
                }
                text.push_str(user);
            }
            text.push('\n');
        }
        let own = if file == "etc/group" {
            format!("{user}:x:{ID}:\n")
        } else {
            format!("{user}:!::\n")
        };
        card.put(file, mode, &(text + &own))?;
    }
    let shadow_group = card
        .read("etc/group")
        .lines()
        .find_map(|l| l.strip_prefix("shadow:x:")?.split(':').next()?.parse().ok());
    for file in ["etc/shadow", "etc/gshadow"] {
        chown(card.root.join(file), Some(0), shadow_group).attempt(|| format!("own {file}"))?;
    }
    let home = format!("home/{user}");
    card.put(&format!("{home}/.ssh/authorized_keys"), 0o600, &keys)?;
    directory_mode(card, &format!("{home}/.ssh"), ID)?;
    for skeleton in [".bashrc", ".profile", ".bash_logout"] {
        let text = card.read(&format!("etc/skel/{skeleton}"));
        let path = format!("{home}/{skeleton}");
        card.put(&path, 0o644, &text)?;
        chown(card.root.join(&path), Some(ID), Some(ID)).attempt(|| format!("own {path}"))?;
    }
    directory_mode(card, &home, ID)?;
    if node.sudo == SudoMode::NoPassword {
        let file = if node.pi.cloud_init {
            "90-cloud-init-users"
        } else {
            "010_pi-nopasswd"
        };
        card.put(
            &format!("etc/sudoers.d/{file}"),
            0o440,
            &format!("{user} ALL=(ALL) NOPASSWD: ALL\n"),
        )?;
    }
    Ok(())
}

fn directory_mode(card: &Card<'_>, dir: &str, owner: u32) -> Result<(), Trouble> {
    use std::os::unix::fs::PermissionsExt;
    let path = card.root.join(dir);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))
        .attempt(|| format!("set the mode of {dir}"))?;
    let keys = path.join("authorized_keys");
    if keys.exists() {
        chown(&keys, Some(owner), Some(owner)).attempt(|| format!("own {dir}/authorized_keys"))?;
    }
    chown(&path, Some(owner), Some(owner)).attempt(|| format!("own {dir}"))
}

/// crypt(3) with SHA-512, by the image's own perl: `perl-base` is essential on Debian and links the right libcrypt.
fn hash(image: &Path, password: &str) -> Result<String, Trouble> {
    if password.contains('\n') {
        return Err(Trouble(
            "a sudo password with a line break cannot be typed".into(),
        ));
    }
    // Script and password on stdin: neither shows in a process list, and `-e` would want a /dev/null in the image.
    let script = "chomp(my $p = <DATA>); my $s = join '', map { ('a'..'z', 0..9)[rand 36] } 1..12; print crypt($p, '$6$rounds=5000$' . $s . '$')";
    let out = feed(
        tool("chroot").arg(image).arg("/usr/bin/perl"),
        format!("{script}\n__END__\n{password}\n").as_bytes(),
    )?;
    let hash = String::from_utf8_lossy(&out).trim().to_owned();
    if hash.starts_with("$6$") {
        Ok(hash)
    } else {
        Err(Trouble("the sudo password could not be hashed".into()))
    }
}
