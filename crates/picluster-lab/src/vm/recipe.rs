//! What a virtual machine's image is made of, beyond what every image has.

use crate::image::recipe::{ImageFile, Layer, RPI_SWAP};
use crate::spec::ImageName;

/// Raised by hand when code, rather than the data below, changes what comes out.
const REVISION: u32 = 1;

/// Debian's kernel for virtual machines: a third of the full one, with everything Kubernetes asks for.
pub(crate) const KERNEL: &str = "linux-image-cloud-arm64";

/// Program of the initrd, from the archive like all else.
pub(crate) const BUSYBOX: &str = "busybox-static";

/// Modules the initrd needs to reach the root partition, with their dependencies; built-in ones are skipped.
pub(crate) const BOOT_MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "ext4"];

/// The program that would build an initramfs at every kernel package's set-up: half an hour under emulation, and the
/// machine boots with an initrd of ours.
pub(crate) const NO_INITRAMFS: &str = "/usr/sbin/update-initramfs";

/// Its replacement.
pub(crate) const NO_INITRAMFS_SCRIPT: &str =
    "#!/bin/sh\n# The lab boots this machine with an initrd of its own.\nexit 0\n";

/// Units that would work in vain or at random times.
pub(crate) const MASKED: [&str; 3] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_reap.service",
];

/// Files of the image, beside the ones every image has.
pub(crate) const FILES: [ImageFile; 3] = [
    // What `raspi-config` does for "predictable network interface names: no", the default of Raspberry Pi OS.
    (
        "etc/udev/rules.d/80-net-setup-link.rules",
        0o644,
        "# eth0 stays eth0.\n",
    ),
    (
        "etc/systemd/system/lab-button.service",
        0o644,
        "# Stands for somebody who sits at the machine and asks it to restart.\n[Unit]\nDescription=The lab's reboot button\n\n[Service]\nExecStart=/bin/sh -c 'until [ -e /dev/virtio-ports/lab.button ]; do sleep 1; done; read -r word < /dev/virtio-ports/lab.button && exec systemctl --no-block reboot'\n\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "etc/systemd/system/lab-network.service",
        0o644,
        "# Stands for DHCP.\n[Unit]\nDescription=The machine's address in its lab\nDefaultDependencies=no\nAfter=systemd-udevd.service\nWants=network.target\nBefore=network.target shutdown.target\nConflicts=shutdown.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'i=0; until [ -e /sys/class/net/eth0 ] || [ $i = 600 ]; do sleep 0.1; i=$((i+1)); done'\nExecStart=/bin/ip -batch /etc/lab-network\n\n[Install]\nWantedBy=sysinit.target\n",
    ),
];

/// Units of ours, switched on.
pub(crate) const ENABLED: [(&str, &str); 2] = [
    ("multi-user.target.wants", "lab-button.service"),
    ("sysinit.target.wants", "lab-network.service"),
];

/// First steps of the machine: modules, root file system, systemd. It stands for the initramfs that Debian and its
/// descendants build (initramfs-tools, `scripts/local` and `scripts/functions`): the root file system is the one the
/// command line names; one that does not come within half a minute ends in a shell, which nobody types into here, or,
/// with `panic=N` on the command line, in a reboot N seconds later. Not part of the image: it is added at each start.
pub(crate) const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for m in /mod/*; do $b insmod $m; done
root= panic=
for w in $($b cat /proc/cmdline); do
  case $w in root=*) root=${w#root=};; panic=*) panic=${w#panic=};; esac
done
seek() {
  case $root in
    /dev/*) dev=$root; [ -b "$dev" ];;
    PARTUUID=*)
      for d in /dev/vd?; do
        # The identifier of an MBR's disk stands at 440 of its first sector, little endian.
        id=$($b dd if=$d bs=1 skip=440 count=4 2>/dev/null | $b hexdump -e '1/4 "%08x"')
        n=${root##*-}
        dev=$d${n#0}
        [ "$root" != "PARTUUID=$id-$n" ] || [ ! -b "$dev" ] || return 0
      done
      return 1;;
    *) dev=$($b findfs "$root" 2>/dev/null) && [ -b "$dev" ];;
  esac
}
i=0
until seek || [ $i -ge 300 ]; do $b usleep 100000; i=$((i+1)); done
if ! seek || ! $b mount -t ext4 -o rw "$dev" /root; then
  echo "lab: no root file system $root" > /dev/console
  case $panic in
    ''|0|-*) while :; do $b sleep 3600; done;;
  esac
  echo "lab: rebooting in $panic seconds" > /dev/console
  $b sleep "$panic"
  $b reboot -f
fi
$b mount --move /dev /root/dev
$b umount /proc
exec $b switch_root /root /sbin/init
"#;

/// The packages of each OS, as in `image::recipe`, but for cloud-init, whose boot stages are the launcher's. On
/// trixie zram-generator itself makes the swap: rpi-swap brings its configuration alone.
pub(crate) fn layers(image: ImageName) -> &'static [Layer] {
    match image {
        ImageName::Bookworm => &[Layer {
            name: "dphys",
            archive: &["dphys-swapfile", "dc"],
            made: &[],
        }],
        ImageName::Trixie => &[Layer {
            name: "rpiswap",
            archive: &["systemd-zram-generator"],
            made: &[RPI_SWAP],
        }],
    }
}

/// Everything above, for the image's digest.
pub(crate) fn fingerprint() -> String {
    format!(
        "{REVISION} {KERNEL} {BUSYBOX} {BOOT_MODULES:?} {NO_INITRAMFS_SCRIPT} {MASKED:?} {FILES:?} {ENABLED:?}"
    )
}
