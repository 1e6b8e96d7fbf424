//! A virtual machine's card: two images with a partition table each, so that both partitions have the very numbers
//! and identifiers a Pi's card has, and the boot partition can be read from outside at any time.
//!
//! `boot.img` holds partition 1 (vfat) and `disk.qcow2` partition 2 (ext4); both tables carry the same disk identifier.
//! `disk.qcow2` is what the node wrote since it was flashed, over `root.img`; a wipe makes it anew.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, unmount};

use crate::error::{Attempt, Trouble};
use crate::linux::mounts;
use crate::linux::tool::{self, tool};
use crate::spec::OsFlavour;

/// First four digits pairs of the PARTUUIDs in `fstab` and `cmdline.txt` of Raspberry Pi OS (see `card::files`).
const DISK_ID: u32 = 0x4d80_97e2;
/// Where a partition starts, as on every card since 2012.
const START: u64 = 1 << 20;
const SECTOR: u64 = 512;
const BOOT_MIB: u64 = 64;
/// Size of a card nobody gave a size.
const CARD_MIB: u32 = 4096;

/// The files of one node's card.
pub(crate) struct Disk {
    dir: PathBuf,
}

impl Disk {
    pub(crate) fn new(dir: &Path) -> Self {
        Disk {
            dir: dir.to_owned(),
        }
    }

    /// The boot partition's image.
    pub(crate) fn boot(&self) -> PathBuf {
        self.dir.join("boot.img")
    }

    /// The root partition's image.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("disk.qcow2")
    }

    fn flashed(&self, name: &str) -> PathBuf {
        self.dir.join(format!("flashed-{name}.img"))
    }

    /// Makes the card out of `layers`, topmost first.
    pub(crate) fn flash(
        &self,
        layers: &[PathBuf],
        os: OsFlavour,
        mib: Option<u32>,
    ) -> Result<(), Trouble> {
        let work = self.dir.join("flash");
        let [upper, inner, merged] = ["upper", "work", "merged"].map(|d| work.join(d));
        for dir in [&upper, &inner, &merged] {
            fs::create_dir_all(dir).attempt(|| format!("create {}", dir.display()))?;
        }
        let lower: Vec<String> = layers.iter().map(|p| p.display().to_string()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={},userxattr",
            lower.join(":"),
            upper.display(),
            inner.display()
        );
        mounts::mount("overlay", &merged, MountFlags::empty(), &options)?;
        let (boot_label, root_label) = labels(os);
        let written = self
            .write_boot(&merged.join("boot/firmware"), boot_label)
            .and_then(|()| self.write_root(&merged, root_label, mib.unwrap_or(CARD_MIB)));
        unmount(&merged, UnmountFlags::DETACH).attempt(|| "unmount the card".into())?;
        let _ = fs::remove_dir_all(&work);
        written
    }

    /// Puts the flashed card in: nothing of what the node wrote is left.
    pub(crate) fn blank(&self) -> Result<(), Trouble> {
        for file in [self.root(), self.boot()] {
            let _ = fs::remove_file(file);
        }
        fs::copy(self.flashed("boot"), self.boot()).attempt(|| "copy the boot partition".into())?;
        tool::run(
            tool("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
                .arg(self.flashed("root"))
                .arg(self.root()),
        )
    }

    /// Moves the files of `from` to a boot partition; what is left is the mount point.
    fn write_boot(&self, from: &Path, label: &str) -> Result<(), Trouble> {
        let image = self.flashed("boot");
        partitioned(&image, 1, 0x0c, BOOT_MIB)?;
        let kib = (BOOT_MIB << 10).to_string();
        tool::run(
            tool("mkfs.vfat")
                .args(["-F", "32", "-n", label, "--offset", "2048"])
                .arg(&image)
                .arg(kib),
        )?;
        for entry in fs::read_dir(from)
            .attempt(|| "read the boot files".into())?
            .flatten()
        {
            let path = entry.path();
            tool::run(mtools("mcopy", &image).arg("-s").arg(&path).arg("::/"))?;
            let gone = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            gone.attempt(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    fn write_root(&self, from: &Path, label: &str, mib: u32) -> Result<(), Trouble> {
        let image = self.flashed("root");
        let mib = u64::from(mib).saturating_sub(BOOT_MIB);
        partitioned(&image, 2, 0x83, mib)?;
        tool::run(
            tool("mke2fs")
                .args([
                    "-q", "-F", "-t", "ext4", "-m", "0", "-J", "size=4", "-L", label,
                ])
                .arg("-E")
                .arg(format!(
                    "offset={START},lazy_itable_init=1,lazy_journal_init=1"
                ))
                .arg("-d")
                .arg(from)
                .arg(&image)
                .arg(format!("{}k", mib << 10)),
        )
    }
}

/// An mtools command on the partition in `image`.
pub(super) fn mtools(program: &str, image: &Path) -> std::process::Command {
    let mut command = tool(program);
    command
        .arg("-i")
        .arg(format!("{}@@{START}", image.display()))
        // Its tests of geometry are for floppies.
        .env("MTOOLS_SKIP_CHECK", "1");
    command
}

/// Names the file systems go by in `fstab` and `cmdline.txt` of each OS.
fn labels(os: OsFlavour) -> (&'static str, &'static str) {
    match os {
        OsFlavour::RpiOsBookworm | OsFlavour::RpiOsTrixie => ("bootfs", "rootfs"),
        OsFlavour::Ubuntu2404 => ("system-boot", "writable"),
        OsFlavour::Debian => ("RASPIFIRM", "RASPIROOT"),
    }
}

/// An empty image with one partition of `mib` in slot `slot` of its table.
fn partitioned(image: &Path, slot: usize, kind: u8, mib: u64) -> Result<(), Trouble> {
    let what = || format!("create {}", image.display());
    let mut file = File::create(image).attempt(what)?;
    file.write_all(&table(slot, kind, mib)).attempt(what)?;
    file.set_len(START + (mib << 20)).attempt(what)
}

/// A master boot record.
fn table(slot: usize, kind: u8, mib: u64) -> [u8; 512] {
    let mut sector = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in sector.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    put(440, &DISK_ID.to_le_bytes());
    let entry = 446 + 16 * (slot - 1);
    // Cylinders mean nothing any more: the largest value says so.
    put(entry + 1, &[0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff]);
    put(entry + 8, &number(START / SECTOR));
    put(entry + 12, &number((mib << 20) / SECTOR));
    put(510, &[0x55, 0xaa]);
    sector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_one_partition_in_its_slot() {
        let sector = table(2, 0x83, 100);
        assert_eq!(&sector[440..444], &[0xe2, 0x97, 0x80, 0x4d]);
        assert!(sector[446..462].iter().all(|b| *b == 0));
        assert_eq!(sector[466], 0x83);
        assert_eq!(sector[470..474], 2048u32.to_le_bytes());
        assert_eq!(sector[474..478], 204_800u32.to_le_bytes());
        assert_eq!(&sector[510..], &[0x55, 0xaa]);
    }
}
