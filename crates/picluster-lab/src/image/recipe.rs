//! What an image is made of. Any change here changes the digest, and with it the image.

use sha2::{Digest, Sha256};

use crate::image::Tree;
use crate::spec::{ImageName, OsFlavour, PiPersonality};

/// Raised by hand when the builder's code, rather than the data below, changes what comes out.
const REVISION: u32 = 1;

/// Packages beyond `minbase`: what every Pi image has and the lab or a role needs before it can install anything.
pub(crate) const PACKAGES: [&str; 18] = [
    "systemd",
    "systemd-sysv",
    "systemd-timesyncd",
    "dbus",
    "udev",
    "kmod",
    "openssh-server",
    "sudo",
    "iproute2",
    "iputils-ping",
    "ca-certificates",
    "nftables",
    "iptables",
    "procps",
    "util-linux",
    "e2fsprogs",
    "less",
    "tzdata",
];

/// Units that would work in vain or at random times on a lab node.
pub(crate) const MASKED: [&str; 6] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_reap.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-remount-fs.service",
];

/// A file of the image: path, mode, content.
pub(crate) type ImageFile = (&'static str, u32, &'static str);

/// Files written into every image.
pub(crate) const FILES: [ImageFile; 4] = [
    (
        "etc/systemd/system/ssh.service.d/hostkeys.conf",
        0o644,
        "# The first boot makes the host key; ed25519 alone, as RSA takes seconds.\n[Service]\nExecStartPre=\nExecStartPre=/bin/sh -c \"[ -e /etc/ssh/ssh_host_ed25519_key ] || /usr/bin/ssh-keygen -q -t ed25519 -N \\\"\\\" -f /etc/ssh/ssh_host_ed25519_key\"\nExecStartPre=/usr/sbin/sshd -t\n",
    ),
    (
        "etc/initramfs-tools/update-initramfs.conf",
        0o644,
        "update_initramfs=no\n",
    ),
    ("usr/sbin/swapon", 0o755, SWAPON),
    ("usr/sbin/swapoff", 0o755, SWAPOFF),
];

/// Programs whose packaged version moves aside for a stand-in above.
pub(crate) const DIVERTED: [&str; 2] = ["/usr/sbin/swapon", "/usr/sbin/swapoff"];

/// Stand-in for swapon(8): the node's swap is a line in a file, as the real one would be the whole machine's.
const SWAPON: &str = r#"#!/bin/sh
# Stand-in of the lab for swapon(8): switches swap on in this node's /proc/swaps only.
views=/run/lab/swaps
[ -f "$views" ] || exec /usr/sbin/swapon.distrib "$@"
names=
for a in "$@"; do
  case $a in
    -a|--all|-v|--verbose|-e|--ifexists) ;;
    -*) exec /usr/sbin/swapon.distrib "$@" ;;
    *) names="$names $a" ;;
  esac
done
[ $# -gt 0 ] || exec /usr/sbin/swapon.distrib
for n in $names; do
  [ -e /run/lab/no-swap ] && continue
  if ! [ -e "$n" ]; then echo "swapon: cannot open $n: No such file or directory" >&2; exit 255; fi
  if ! [ -w "$views" ]; then echo "swapon: $n: swapon failed: Operation not permitted" >&2; exit 255; fi
  if grep -q "^$n " "$views"; then echo "swapon: $n: swapon failed: Device or resource busy" >&2; exit 255; fi
  kib=$(($(stat -c %s "$n") / 1024 - 4))
  printf '%-39s file\t\t%s\t\t0\t\t-2\n' "$n" "$kib" >> "$views"
  sed "s/^Swap\(Total\|Free\):.*/Swap\1: $kib kB/" /run/lab/meminfo > /run/lab/meminfo.new && cat /run/lab/meminfo.new > /run/lab/meminfo && rm /run/lab/meminfo.new
done
exit 0
"#;

/// Stand-in for swapoff(8), with its exit codes.
const SWAPOFF: &str = r#"#!/bin/sh
# Stand-in of the lab for swapoff(8): switches swap off in this node's /proc/swaps only.
views=/run/lab/swaps
[ -f "$views" ] || exec /usr/sbin/swapoff.distrib "$@"
all= names=
for a in "$@"; do
  case $a in
    -a|--all) all=1 ;;
    -v|--verbose) ;;
    -*) exec /usr/sbin/swapoff.distrib "$@" ;;
    *) names="$names $a" ;;
  esac
done
[ $# -gt 0 ] || { echo "swapoff: bad usage" >&2; exit 16; }
if ! [ -w "$views" ]; then echo "swapoff: Not superuser." >&2; exit 4; fi
[ -z "$all" ] || names=$(awk 'NR > 1 { print $1 }' "$views")
status=0
for n in $names; do
  if ! grep -q "^$n[[:space:]]" "$views"; then echo "swapoff: $n: swapoff failed: Invalid argument" >&2; status=4; continue; fi
  awk -v n="$n" 'NR == 1 || $1 != n' "$views" > /run/lab/swaps.new && cat /run/lab/swaps.new > "$views" && rm /run/lab/swaps.new
done
kib=$(awk 'NR > 1 { s += $3 } END { print s + 0 }' "$views")
sed "s/^Swap\(Total\|Free\):.*/Swap\1: $kib kB/" /run/lab/meminfo > /run/lab/meminfo.new && cat /run/lab/meminfo.new > /run/lab/meminfo && rm /run/lab/meminfo.new
exit $status
"#;

/// An OS's own packages on top of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Directory name of the layer.
    pub name: &'static str,
    /// Packages of the archive.
    pub archive: &'static [&'static str],
    /// Packages the archive does not have, or has in a weight no node needs.
    pub made: &'static [Package],
}

/// A package made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub name: &'static str,
    pub version: &'static str,
    pub depends: &'static str,
    pub files: &'static [ImageFile],
    pub conffiles: &'static [&'static str],
}

/// Raspberry Pi's package for swap on trixie. Its generator's work is done by the node's launcher, which reads the
/// same configuration.
pub(crate) const RPI_SWAP: Package = Package {
    name: "rpi-swap",
    version: "1.4+lab1",
    depends: "systemd-zram-generator",
    files: &[
        (
            "etc/rpi/swap.conf",
            0o644,
            "# Configuration file for rpi-swap\n#\n# See swap.conf(5) for details.\n\n[Main]\n#Mechanism=auto\n\n[File]\n#Path=/var/swap\n#RamMultiplier=1\n#MaxSizeMiB=2048\n#MaxDiskPercent=50\n#FixedSizeMiB=\n\n[Zram]\n#RamMultiplier=1\n#MaxSizeMiB=2048\n#FixedSizeMiB=\n",
        ),
        (
            "usr/lib/systemd/system-generators/rpi-swap-generator",
            0o755,
            "#!/bin/sh\n# Stand-in of the lab: no swap device can be made on a node.\nexit 0\n",
        ),
    ],
    conffiles: &["/etc/rpi/swap.conf"],
};

/// cloud-init's command and configuration; its boot stages are the launcher's (see `pi/cloud_init.rs`).
const CLOUD_INIT: Package = Package {
    name: "cloud-init",
    version: "25.3-1+lab1",
    depends: "",
    files: &[
        (
            "etc/cloud/cloud.cfg",
            0o644,
            "# The top level settings are used as module\n# and base configuration.\n\nusers:\n  - default\n\ndisable_root: true\n\n# This will cause the set+update hostname module to not operate (if true)\npreserve_hostname: false\n\ncloud_init_modules:\n  - set_hostname\n  - update_hostname\n  - update_etc_hosts\n  - users_groups\n  - ssh\n",
        ),
        (
            "etc/cloud/cloud.cfg.d/README",
            0o644,
            "# All files with the '.cfg' extension in this directory will be read by\n# cloud-init. They are read in lexical order. Later files overwrite values in\n# earlier files.\n",
        ),
        (
            "etc/cloud/templates/hosts.debian.tmpl",
            0o644,
            "## template:jinja\n127.0.1.1 {{fqdn}} {{hostname}}\n127.0.0.1 localhost\n",
        ),
        (
            "usr/bin/cloud-init",
            0o755,
            "#!/bin/sh\n# Stand-in of the lab for cloud-init's command: the interface of `status`, nothing else.\ns=done\n[ -e /etc/cloud/cloud-init.disabled ] && s=disabled\ncase $1 in\n  status)\n    case \"$*\" in\n      *json*) printf '{\\n  \"boot_status_code\": \"enabled-by-generator\",\\n  \"errors\": [],\\n  \"extended_status\": \"%s\",\\n  \"status\": \"%s\"\\n}\\n' $s $s ;;\n      *) echo \"status: $s\" ;;\n    esac ;;\n  --version|-v) echo '/usr/bin/cloud-init 25.3-1+lab1' ;;\n  clean) [ \"$(id -u)\" = 0 ] && rm -rf /var/lib/cloud ;;\n  *) echo \"cloud-init: the lab has no '$1'\" >&2; exit 2 ;;\nesac\n",
        ),
    ],
    conffiles: &["/etc/cloud/cloud.cfg"],
};

/// The layers an image is built with.
pub(crate) fn layers(tree: Tree) -> &'static [Layer] {
    match tree {
        Tree::Vm(image) => crate::vm::recipe::layers(image),
        Tree::Kubernetes | Tree::Etcd => &[],
        Tree::Shared(ImageName::Bookworm) => &[
            Layer {
                name: "dphys",
                archive: &["dphys-swapfile", "dc"],
                made: &[],
            },
            Layer {
                name: "dphys-cloud",
                archive: &["dphys-swapfile", "dc"],
                made: &[CLOUD_INIT],
            },
            Layer {
                name: "cloud",
                archive: &[],
                made: &[CLOUD_INIT],
            },
        ],
        Tree::Shared(ImageName::Trixie) => &[
            Layer {
                name: "rpiswap",
                archive: &["systemd-zram-generator"],
                made: &[RPI_SWAP],
            },
            Layer {
                name: "rpiswap-cloud",
                archive: &["systemd-zram-generator"],
                made: &[RPI_SWAP, CLOUD_INIT],
            },
            Layer {
                name: "cloud",
                archive: &[],
                made: &[CLOUD_INIT],
            },
        ],
    }
}

/// The layer a personality needs, if any.
pub(crate) fn layer(pi: &PiPersonality) -> Option<&'static str> {
    match (pi.os, pi.cloud_init) {
        (OsFlavour::RpiOsBookworm, false) => Some("dphys"),
        (OsFlavour::RpiOsBookworm, true) => Some("dphys-cloud"),
        (OsFlavour::RpiOsTrixie, false) => Some("rpiswap"),
        (OsFlavour::RpiOsTrixie, true) => Some("rpiswap-cloud"),
        (OsFlavour::Ubuntu2404 | OsFlavour::Debian, true) => Some("cloud"),
        (OsFlavour::Ubuntu2404 | OsFlavour::Debian, false) => None,
    }
}

/// Digest of the recipe for one mapping of ids (whose trees are of no use to another).
pub(crate) fn digest(tree: Tree, mapping: &str) -> String {
    let of_trees = || {
        format!(
            "{REVISION} {tree} {mapping} {PACKAGES:?} {MASKED:?} {FILES:?} {DIVERTED:?} {:?}",
            layers(tree)
        )
    };
    let text = match tree {
        Tree::Shared(_) => of_trees(),
        Tree::Vm(_) => format!("{}{}", of_trees(), crate::vm::recipe::fingerprint()),
        Tree::Kubernetes => format!("{mapping} {}", crate::kubernetes::fingerprint()),
        Tree::Etcd => format!("{mapping} {}", crate::kubernetes::etcd_fingerprint()),
    };
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
