//! The home directory that picluster has inside a lab: lent keys, own pins, nothing of the user's.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use picluster_lab::LabOptions;
use picluster_model::inventory::Project;

use crate::error::Failure;
use crate::verbs::lab::which;

/// `home/` in the lab's state directory.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Makes it: one lent key under every name the inventory uses below `~`, and the user's ssh
    /// configuration as it is.
    pub fn of(project: &Project, options: &LabOptions) -> Result<Self, Failure> {
        let home = Self::named(&which::name(project)?, options);
        home.furnish(project).map_err(|e| {
            Failure::usage(format!("cannot prepare {}: {e}", home.root.display()))
                .hint("the lab was not started; name another place with XDG_STATE_HOME=DIR")
        })?;
        Ok(home)
    }

    /// The home of the lab of this name, whether it is there or not.
    pub fn named(lab: &str, options: &LabOptions) -> Self {
        Self {
            root: options.state_root.join(format!("{lab}.home")),
        }
    }

    /// The inventory a lab was made from; `None` when nothing is known about it.
    pub fn inventory_of(lab: &str, options: &LabOptions) -> Option<PathBuf> {
        let note = Self::named(lab, options).root.join("inventory");
        fs::read(note)
            .ok()
            .map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
    }

    /// Takes it away, with the pins and journals in it.
    pub fn remove(&self) -> std::io::Result<()> {
        match fs::remove_dir_all(&self.root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Where the stores of runs inside stand.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Where caches of runs inside stand.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    fn furnish(&self, project: &Project) -> std::io::Result<()> {
        let ssh = self.root.join(".ssh");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&ssh)?;
        fs::write(
            self.root.join("inventory"),
            which::place(&project.inventory.path)?
                .as_os_str()
                .as_bytes(),
        )?;
        if !self.key().exists() {
            let made = Command::new("ssh-keygen")
                .args([
                    "-q",
                    "-t",
                    "ed25519",
                    "-N",
                    "",
                    "-C",
                    "lent by the lab",
                    "-f",
                ])
                .arg(self.key())
                .stdin(Stdio::null())
                .status()?;
            if !made.success() {
                return Err(std::io::Error::other("ssh-keygen failed"));
            }
        }
        for node in project.inventory.nodes.values() {
            for identity in &node.ssh.identity {
                if let Ok(rest) = identity.strip_prefix("~") {
                    self.lend(&self.root.join(rest))?;
                }
            }
        }
        self.lend(&ssh.join("id_ed25519"))?;
        if let Some(config) = real_home()
            .map(|h| h.join(".ssh/config"))
            .filter(|c| c.exists())
        {
            let copy = ssh.join("config");
            fs::copy(config, copy)?;
        }
        Ok(())
    }

    /// The lent key stands under another name, too.
    fn lend(&self, path: &Path) -> std::io::Result<()> {
        // A `.pub` file selects a key of an agent; here it is the lent key's public half.
        let target = if path.extension().is_some_and(|e| e == "pub") {
            self.key().with_extension("pub")
        } else {
            self.key()
        };
        if path.symlink_metadata().is_ok() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        symlink(target, path)
    }

    /// The lent private key.
    pub fn key(&self) -> PathBuf {
        self.root.join(".ssh/lent")
    }

    /// What the nodes let in: the lent key, and every public key the inventory names that is there.
    pub fn authorized_keys(&self, project: &Project) -> Vec<String> {
        let mut keys = Vec::new();
        let mut add = |path: &Path| {
            if let Ok(text) = fs::read_to_string(path) {
                let line = text.trim().to_owned();
                if !line.is_empty() && !line.contains('\n') && !keys.contains(&line) {
                    keys.push(line);
                }
            }
        };
        add(&self.root.join(".ssh/lent.pub"));
        for node in project.inventory.nodes.values() {
            for identity in &node.ssh.identity {
                let real = match (identity.strip_prefix("~"), real_home()) {
                    (Ok(rest), Some(home)) => home.join(rest),
                    _ => identity.clone(),
                };
                let mut public = real.clone().into_os_string();
                public.push(".pub");
                add(Path::new(&public));
            }
        }
        keys
    }

    /// Lets a command see this home and this store instead of the user's.
    pub fn dress(&self, command: &mut Command, _project: &Project) {
        // Secrets of the inventory are opened with the user's own identity.
        if std::env::var_os("PICLUSTER_AGE_IDENTITY").is_none()
            && let Some(home) = real_home()
        {
            let config = std::env::var_os("XDG_CONFIG_HOME")
                .map_or_else(|| home.join(".config"), PathBuf::from);
            let found = [
                config.join("picluster/age.txt"),
                home.join(".ssh/id_ed25519"),
            ]
            .into_iter()
            .find(|p| p.exists());
            if let Some(path) = found {
                command.env("PICLUSTER_AGE_IDENTITY", path);
            }
        }
        command
            .env("HOME", &self.root)
            .env("PICLUSTER_STORE", self.store())
            .env("KUBECONFIG", self.root.join("kubeconfig"))
            .env("XDG_CACHE_HOME", self.cache())
            .env("XDG_STATE_HOME", self.root.join("state"))
            .env("XDG_CONFIG_HOME", self.root.join("config"))
            .env_remove("SSH_AUTH_SOCK");
    }

    /// Forgets pins and journals: a lab that starts anew has new cards.
    pub fn forget_store(&self) {
        let _ = fs::remove_dir_all(self.store());
    }
}

fn real_home() -> Option<PathBuf> {
    std::env::home_dir().filter(|h| h.is_absolute())
}
