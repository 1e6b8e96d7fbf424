//! The card as it was flashed: the layer between the Debian image and what the node itself writes.

mod account;
mod files;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::error::{Attempt, Trouble};
use crate::network::{NodeNet, PROXY_PORT};
use crate::spec::NodeSpec;

/// Flashes `card`, an empty directory, for a node on top of the image at `image`.
pub(crate) fn flash(
    card: &Path,
    image: &Path,
    node: &NodeSpec,
    net: &NodeNet,
    keys: &[String],
) -> Result<(), Trouble> {
    let c = Card { root: card, image };
    files::write(&c, &node.pi, node.disk_mib)?;
    c.put("etc/apt/apt.conf.d/01lab-proxy", 0o644, &format!("Acquire::http::Proxy \"http://{}:{PROXY_PORT}\";\n// Cached lists outlive their validity when the lab is offline.\nAcquire::Check-Valid-Until \"false\";\n", net.hub))?;
    if !node.is_vm() {
        let release = crate::pi::kernel::release();
        c.put(
            &format!("usr/lib/modules/{release}/modules.builtin"),
            0o644,
            &crate::pi::kernel::modules_builtin(),
        )?;
        c.put(
            "etc/systemd/system/fstrim.timer.d/lab.conf",
            0o644,
            "# The unit leaves itself out in containers; fstrim.service still does.\n[Unit]\nConditionVirtualization=\n",
        )?;
        // Debian's unit leaves itself out in a user namespace, where no kernel would talk to it.
        c.put(
            "etc/systemd/system/iscsid.service.d/lab.conf",
            0o644,
            "# Stand-in of the lab: a process in iscsid's place, without a kernel to serve.\n[Unit]\nConditionVirtualization=\n[Service]\nType=simple\nPIDFile=\nExecStartPre=\nExecStart=\nExecStart=/bin/sleep infinity\nExecStop=\n",
        )?;
    }
    if node.is_vm() {
        // What the launcher does from outside for a node made of namespaces (see `hub::configure`).
        c.put("etc/lab-network", 0o644, &format!("link set lo up\naddr replace {}/{} dev eth0\nlink set eth0 up\nroute replace default via {} dev eth0 onlink\n", net.address, net.prefix, net.hub))?;
        if node.pi.tryboot() {
            for (path, mode, text) in crate::vm::firmware::STAND_IN {
                c.put(path, mode, text)?;
            }
            let wants = c.path("etc/systemd/system/sysinit.target.wants/lab-firmware.service")?;
            symlink("/etc/systemd/system/lab-firmware.service", &wants)
                .attempt(|| format!("link {}", wants.display()))?;
        }
    }
    if node.ssh_port != 22 {
        c.put(
            "etc/ssh/sshd_config.d/10-port.conf",
            0o644,
            &format!("Port {}\n", node.ssh_port),
        )?;
    }
    account::create(&c, node, keys)
}

/// A card being written.
pub(crate) struct Card<'a> {
    root: &'a Path,
    image: &'a Path,
}

impl Card<'_> {
    /// Writes a file, owned by root.
    pub(crate) fn put(&self, path: &str, mode: u32, content: &str) -> Result<(), Trouble> {
        let target = self.path(path)?;
        fs::write(&target, content).attempt(|| format!("write {}", target.display()))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))
            .attempt(|| format!("set the mode of {}", target.display()))
    }

    /// A path on the card whose directory exists, with the mode the image gives that directory: an upper directory
    /// hides the lower one's attributes.
    pub(crate) fn path(&self, path: &str) -> Result<PathBuf, Trouble> {
        let mut at = PathBuf::new();
        for part in Path::new(path)
            .parent()
            .into_iter()
            .flat_map(Path::components)
        {
            at.push(part);
            let dir = self.root.join(&at);
            if dir.is_dir() {
                continue;
            }
            fs::create_dir(&dir).attempt(|| format!("create {}", dir.display()))?;
            let mode = fs::metadata(self.image.join(&at))
                .map_or(0o755, |m| m.permissions().mode() & 0o7777);
            fs::set_permissions(&dir, fs::Permissions::from_mode(mode))
                .attempt(|| format!("set the mode of {}", dir.display()))?;
        }
        Ok(self.root.join(path))
    }

    /// A file of the image, or of the card where that already has it.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path))
            .or_else(|_| fs::read_to_string(self.image.join(path)))
            .unwrap_or_default()
    }
}
