//! What belongs to the kernel alone, and that is this machine's: parameters a node may set without this machine noticing,
//! and the modules a Pi's kernel has.

/// Parameters outside `net.*` that cluster nodes are given, below `/proc/sys`, with the kernel's documented defaults
/// (Documentation/admin-guide/sysctl). A node writes to a file of its own; at a boot it begins with these again.
pub(crate) const PARAMETERS: &[(&str, &str)] = &[
    ("fs/file-max", "97816"),
    ("fs/inotify/max_user_instances", "128"),
    ("fs/inotify/max_user_watches", "8192"),
    ("kernel/keys/root_maxbytes", "20000"),
    ("kernel/keys/root_maxkeys", "200"),
    ("kernel/panic", "0"),
    ("kernel/panic_on_oops", "0"),
    ("vm/dirty_background_ratio", "10"),
    ("vm/dirty_ratio", "20"),
    ("vm/max_map_count", "65530"),
    ("vm/overcommit_memory", "0"),
    ("vm/panic_on_oom", "0"),
    ("vm/swappiness", "60"),
    ("vm/vfs_cache_pressure", "100"),
];

/// Modules of Raspberry Pi kernels that nodes of clusters ask for (bcm2711_defconfig). Nothing can be loaded from inside a
/// user namespace, so on a node they count as built in.
const MODULES: &[&str] = &[
    "drivers/block/loop.ko",
    "drivers/block/rbd.ko",
    "drivers/block/zram/zram.ko",
    "drivers/md/dm-crypt.ko",
    "drivers/md/dm-mod.ko",
    "drivers/md/dm-thin-pool.ko",
    "drivers/net/dummy.ko",
    "drivers/net/ipvlan/ipvlan.ko",
    "drivers/net/macvlan.ko",
    "drivers/net/tun.ko",
    "drivers/net/veth.ko",
    "drivers/net/vxlan/vxlan.ko",
    "drivers/net/wireguard/wireguard.ko",
    "drivers/scsi/iscsi_tcp.ko",
    "drivers/scsi/libiscsi.ko",
    "drivers/scsi/scsi_transport_iscsi.ko",
    "fs/btrfs/btrfs.ko",
    "fs/ceph/ceph.ko",
    "fs/fuse/fuse.ko",
    "fs/nfs/nfs.ko",
    "fs/nfs/nfsv4.ko",
    "fs/overlayfs/overlay.ko",
    "fs/smb/client/cifs.ko",
    "fs/xfs/xfs.ko",
    "net/bridge/br_netfilter.ko",
    "net/bridge/bridge.ko",
    "net/ipv4/netfilter/ip_tables.ko",
    "net/ipv4/netfilter/iptable_filter.ko",
    "net/ipv4/netfilter/iptable_nat.ko",
    "net/ipv6/netfilter/ip6_tables.ko",
    "net/netfilter/ipset/ip_set.ko",
    "net/netfilter/ipvs/ip_vs.ko",
    "net/netfilter/ipvs/ip_vs_rr.ko",
    "net/netfilter/ipvs/ip_vs_sh.ko",
    "net/netfilter/ipvs/ip_vs_wrr.ko",
    "net/netfilter/nf_conntrack.ko",
    "net/netfilter/nf_nat.ko",
    "net/netfilter/nf_tables.ko",
];

/// `modules.builtin` of the running kernel.
pub(crate) fn modules_builtin() -> String {
    MODULES.iter().map(|m| format!("kernel/{m}\n")).collect()
}

/// The release `uname -r` prints on a node too.
pub(crate) fn release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}
