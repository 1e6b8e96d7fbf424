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
