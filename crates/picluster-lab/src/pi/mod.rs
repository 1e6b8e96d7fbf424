//! What a Raspberry Pi and its operating system show that this machine does not.

pub(crate) mod cgroups;
pub(crate) mod cloud_init;
pub(crate) mod cmdline;
pub(crate) mod firmware;
pub(crate) mod kernel;
pub(crate) mod memory;
pub(crate) mod swap;

use std::path::Path;

use crate::error::Trouble;
use crate::spec::PiPersonality;

/// What the OS's own services would do early in a boot and the stand-ins on the card cannot: `root` is the node's
/// assembled root.
pub(crate) fn boot_stages(root: &Path, pi: &PiPersonality) -> Result<(), Trouble> {
    if pi.cloud_init {
        cloud_init::at_boot(root)
    } else {
        Ok(())
    }
}

/// Options of the line for `/` in fstab(5).
pub(crate) fn root_options(fstab: &str) -> impl Iterator<Item = &str> {
    fstab
        .lines()
        .map(str::split_whitespace)
        .filter_map(|mut fields| {
            let source = fields.next()?;
            let path = fields.next()?;
            (!source.starts_with('#') && path == "/").then(|| fields.nth(1).unwrap_or(""))
        })
        .flat_map(|options| options.split(','))
}

#[cfg(test)]
mod tests {
    #[test]
    fn options_of_the_root() {
        let fstab = "#LABEL=a / ext4 ro\nproc /proc proc defaults 0 0\nPARTUUID=4d80-02  /  ext4    defaults,noatime  0  1\nLABEL=d /mnt/d ext4 nofail\n";
        let options: Vec<&str> = super::root_options(fstab).collect();
        assert_eq!(options, ["defaults", "noatime"]);
    }
}
