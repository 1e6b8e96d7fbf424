//! The initrd: busybox and the modules that reach the root partition, from the image; and a script, which is added at
//! each start, so that a change to it costs no image.

use std::path::Path;

use super::cpio::Archive;
use super::recipe::{BOOT_MODULES, INIT};
use crate::error::{Attempt, Trouble};
use crate::linux::tool::{self, tool};

/// The initrd of a start. `image` is what [`make`] made.
///
/// # Errors
/// The image's part cannot be read, or the whole not be written.
pub(crate) fn complete(image: &Path, to: &Path) -> Result<(), Trouble> {
    let mut bytes = std::fs::read(image).attempt(|| format!("read {}", image.display()))?;
    let mut archive = Archive::default();
    archive.file("init", INIT.as_bytes());
    // The kernel unpacks archives one after the other.
    bytes.extend(archive.finish());
    std::fs::write(to, bytes).attempt(|| format!("write {}", to.display()))
}

/// Puts the image's part together. `modules` is the kernel's directory below `/lib/modules`, `busybox` a static program.
pub(super) fn make(modules: &Path, busybox: &Path) -> Result<Vec<u8>, Trouble> {
    let read = |p: &Path| std::fs::read(p).attempt(|| format!("read {}", p.display()));
    let list = String::from_utf8_lossy(&read(&modules.join("modules.dep"))?).into_owned();
    let mut archive = Archive::default();
    for dir in ["bin", "dev", "mod", "proc", "root"] {
        archive.directory(dir);
    }
    archive.file("bin/busybox", &read(busybox)?);
    for (number, path) in load_order(&list).iter().enumerate() {
        let file = modules.join(path);
        let content = if path.ends_with(".xz") {
            tool::output(tool("xz").arg("-dc").arg(&file))?
        } else {
            read(&file)?
        };
        // The script loads them in the order of their names.
        archive.file(&format!("mod/{number:02}.ko"), &content);
    }
    Ok(archive.finish())
}

/// Paths of the wanted modules and all they depend on, in the order they have to be loaded in. `list` is
/// modules.dep(5): a module's own dependencies stand behind it, the deepest last.
fn load_order(list: &str) -> Vec<&str> {
    let mut order: Vec<&str> = Vec::new();
    for wanted in BOOT_MODULES {
        let line = list.lines().find_map(|line| {
            let (path, needs) = line.split_once(':')?;
            let name = path.rsplit('/').next()?.split(".ko").next()?;
            (name.replace('-', "_") == wanted).then_some((path, needs))
        });
        let Some((path, needs)) = line else { continue };
        let needs: Vec<&str> = needs.split_ascii_whitespace().collect();
        for module in needs.into_iter().rev().chain([path]) {
            if !order.contains(&module) {
                order.push(module);
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first_and_once() {
        let list = "kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio_pci_modern_dev.ko.xz kernel/drivers/virtio/virtio.ko.xz\nkernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko.xz\n";
        let names: Vec<&str> = load_order(list)
            .iter()
            .map(|p| p.rsplit('/').next().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "virtio.ko.xz",
                "virtio_pci_modern_dev.ko.xz",
                "virtio_pci.ko.xz",
                "virtio_blk.ko"
            ]
        );
    }
}
