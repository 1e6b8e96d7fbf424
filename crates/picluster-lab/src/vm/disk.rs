//! A virtual machine's card, laid out as a Pi's: one disk with an MBR, a boot partition (vfat) and a root partition
//! (ext4), with the very numbers and identifiers they have there. It is a plain image, so that the boot partition can be
//! read from outside between two boots.
//!
//! `card.img` is what the node works on, a copy of `flashed-card.img`; a wipe copies it anew. `data.img`, where there is
//! one, is a second disk, which a new card leaves as it is.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, unmount};

use crate::error::{Attempt, Trouble};
use crate::linux::mounts;
use crate::linux::tool::{self, tool};
use crate::spec::{NodeSpec, OsFlavour};

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

    /// The card's image.
    pub(crate) fn card(&self) -> PathBuf {
        self.dir.join("card.img")
    }

    /// The second disk's image, where there is one.
    pub(crate) fn data(&self) -> Option<PathBuf> {
        Some(self.dir.join("data.img")).filter(|p| p.exists())
    }

    fn flashed(&self) -> PathBuf {
        self.dir.join("flashed-card.img")
    }

    /// Makes the card out of `layers`, topmost first, and the second disk.
    pub(crate) fn flash(&self, layers: &[PathBuf], node: &NodeSpec) -> Result<(), Trouble> {
        if let Some(mib) = node.data_mib {
            let path = self.dir.join("data.img");
            let file = File::create(&path).attempt(|| format!("create {}", path.display()))?;
            file.set_len(u64::from(mib) << 20)
                .attempt(|| format!("size {}", path.display()))?;
        }
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
        let (boot_label, root_label) = labels(node.pi.os);
        let whole = u64::from(node.disk_mib.unwrap_or(CARD_MIB));
        let root_mib = whole.saturating_sub(BOOT_MIB + u64::from(node.spare_mib));
        let written = partitioned(&self.flashed(), root_mib)
            .and_then(|()| self.write_boot(&merged.join("boot/firmware"), boot_label))
            .and_then(|()| self.write_root(&merged, root_label, root_mib, whole));
        unmount(&merged, UnmountFlags::DETACH).attempt(|| "unmount the card".into())?;
        let _ = fs::remove_dir_all(&work);
        written
    }

    /// Puts the flashed card in: nothing of what the node wrote is left.
    pub(crate) fn blank(&self) -> Result<(), Trouble> {
        tool::run(
            tool("cp")
                .args(["--sparse=always", "--reflink=auto"])
                .arg(self.flashed())
                .arg(self.card()),
        )
    }

    /// Moves the files of `from` to a boot partition; what is left is the mount point.
    fn write_boot(&self, from: &Path, label: &str) -> Result<(), Trouble> {
        let image = self.flashed();
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

    fn write_root(&self, from: &Path, label: &str, mib: u64, whole: u64) -> Result<(), Trouble> {
        let image = self.flashed();
        size(&image, whole)?;
        let start = START + (BOOT_MIB << 20);
        tool::run(
            tool("mke2fs")
                .args([
                    "-q", "-F", "-t", "ext4", "-m", "0", "-J", "size=4", "-L", label,
                ])
                .arg("-E")
                .arg(format!(
                    "offset={start},lazy_itable_init=1,lazy_journal_init=1"
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

/// An image with both partitions in its table that ends behind the first: mkfs.vfat chooses its clusters by the size of
/// the whole file.
fn partitioned(image: &Path, root_mib: u64) -> Result<(), Trouble> {
    fs::write(image, table(root_mib)).attempt(|| format!("create {}", image.display()))?;
    size(image, BOOT_MIB)
}

/// Gives the image the size of a card with this many MiB for partitions.
fn size(image: &Path, mib: u64) -> Result<(), Trouble> {
    File::options()
        .write(true)
        .open(image)
        .and_then(|file| file.set_len(START + (mib << 20)))
        .attempt(|| format!("size {}", image.display()))
}

/// A master boot record.
fn table(root_mib: u64) -> [u8; 512] {
    let mut sector = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in sector.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    put(440, &DISK_ID.to_le_bytes());
    let parts = [
        (0x0c, START, BOOT_MIB),
        (0x83, START + (BOOT_MIB << 20), root_mib),
    ];
    for (slot, (kind, start, mib)) in parts.into_iter().enumerate() {
        let entry = 446 + 16 * slot;
        // Cylinders mean nothing any more: the largest value says so.
        put(entry + 1, &[0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff]);
        put(entry + 8, &number(start / SECTOR));
        put(entry + 12, &number((mib << 20) / SECTOR));
    }
    put(510, &[0x55, 0xaa]);
    sector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_boot_partition_and_the_root_behind_it() {
        let sector = table(100);
        assert_eq!(&sector[440..444], &[0xe2, 0x97, 0x80, 0x4d]);
        assert_eq!(sector[450], 0x0c);
        assert_eq!(sector[454..458], 2048u32.to_le_bytes());
        assert_eq!(sector[458..462], (64u32 * 2048).to_le_bytes());
        assert_eq!(sector[466], 0x83);
        assert_eq!(sector[470..474], (65u32 * 2048).to_le_bytes());
        assert_eq!(sector[474..478], 204_800u32.to_le_bytes());
        assert!(sector[478..510].iter().all(|b| *b == 0));
        assert_eq!(&sector[510..], &[0x55, 0xaa]);
    }
}
