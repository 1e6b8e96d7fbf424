//! Numbers that tell whether a machine can do its part in a cluster.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::query::{Answer, Answers, Query};

const NUMBERS_SH: &str = include_str!("numbers.sh");
const FLUSH_SH: &str = include_str!("flush.sh");

/// Where k3s keeps all it has.
const DATA: &str = "/var/lib/rancher/k3s";

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Numbers {
    /// It has been a member of a cluster.
    pub member: bool,
    /// The folder of the datastore, or the nearest one above where it will be.
    pub place: String,
    /// Where the file system of that folder is mounted; empty: not known.
    pub mount: String,
    /// Free space there, in MiB.
    pub free_mib: u64,
    /// All space there, in MiB, without what is kept for root.
    pub all_mib: u64,
    /// The disk it is on; empty: not known.
    pub disk: String,
    /// What sort of disk that is.
    pub medium: DataMedium,
    /// How long it takes to flush; `None`: nobody knows.
    pub flushes: Option<Flushes>,
    /// Ports of a cluster on which something listens, each with the name of the process; empty where that is not known.
    pub ports: Vec<(u16, String)>,
}

/// Flushes, and how long they took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flushes {
    /// How many.
    pub count: u64,
    /// Microseconds, all together.
    pub micros: u64,
    /// They were made to be measured. Otherwise the disk has counted them since the node started (fields 16 and 17 of
    /// `/sys/block/DISK/stat`, Documentation/block/stat.rst of Linux), which a card without a cache of its own does not.
    pub measured: bool,
}

impl Flushes {
    /// Their mean, in tenths of a millisecond.
    #[must_use]
    pub fn mean_tenths(self) -> u64 {
        self.micros / 100 / self.count.max(1)
    }
}

/// The sort of a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataMedium {
    /// Not known.
    #[default]
    Unknown,
    /// An SD card or an eMMC.
    Sd,
    /// Something on USB.
    Usb,
    /// An NVMe.
    Nvme,
    /// Another disk that turns.
    Turning,
    /// Another disk.
    Disk,
}

impl DataMedium {
    fn of(disk: &str, turns: bool, usb: bool) -> Self {
        match disk {
            _ if disk.starts_with("mmcblk") => Self::Sd,
            _ if disk.starts_with("nvme") => Self::Nvme,
            _ if usb => Self::Usb,
            "" => Self::Unknown,
            _ if turns => Self::Turning,
            _ => Self::Disk,
        }
    }

    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Unknown | Self::Disk => "a disk",
            Self::Sd => "an SD card or eMMC",
            Self::Usb => "a USB disk",
            Self::Nvme => "an NVMe disk",
            Self::Turning => "a disk that turns",
        }
    }
}

impl Numbers {
    /// What to ask, of every node of a cluster: read, and nothing written.
    #[must_use]
    pub fn query() -> Query {
        Query::Fragment(NUMBERS_SH.to_owned())
    }

    /// What to ask of a machine that is to hold an etcd and has none: how long its medium takes to flush. It writes one file of
    /// 144 KiB into the folder above etcd's, then over it in 64 pieces of 2300 bytes (the size that etcd's own measure takes,
    /// <https://etcd.io/docs/v3.5/op-guide/hardware/#disks>), each flushed, for two seconds at most, and removes it. A machine that
    /// has a datastore writes nothing.
    #[must_use]
    pub fn flush_query() -> Query {
        Query::Fragment(FLUSH_SH.to_owned())
    }

    /// Reads the answers; `None`: it was not asked.
    #[must_use]
    pub fn of(answers: &Answers) -> Option<Self> {
        let text = |query: &Query| match answers.0.get(query) {
            Some(Answer::Fragment { stdout, .. }) => Some(stdout.as_str()),
            _ => None,
        };
        let mut found = Self::parse(text(&Self::query())?);
        let measured = text(&Self::flush_query()).and_then(flushed);
        found.flushes = measured.or(found.flushes);
        Some(found)
    }

    /// Whether a mount at this path will put the datastore elsewhere than where these numbers are from.
    #[must_use]
    pub fn moved_by(&self, mount: &str) -> bool {
        let below = |path: &str, above: &str| {
            path.strip_prefix(above.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.mount != mount && (below(DATA, mount) || below(mount, DATA))
    }

    /// Reads what the program printed. What is missing or makes no sense stays unknown.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            let words: Vec<&str> = rest.split_whitespace().collect();
            let number = |i: usize| words.get(i).and_then(|w| w.parse::<u64>().ok());
            match name {
                "member" => found.member = true,
                "place" => rest.clone_into(&mut found.place),
                "mount" => rest.clone_into(&mut found.mount),
                "space" => {
                    if let (Some(ours), Some(free), Some(all), Some(block)) =
                        (number(0), number(1), number(2), number(3))
                    {
                        let mib = |blocks: u64| blocks.saturating_mul(block) >> 20;
                        // As df(1) counts: without what is kept for root, or beyond a quota.
                        found.free_mib = mib(ours);
                        found.all_mib = mib(all.saturating_sub(free).saturating_add(ours));
                    }
                }
                "disk" => {
                    let disk = words.first().copied().unwrap_or("");
                    let usb = words.contains(&"usb");
                    found.medium = DataMedium::of(disk, number(1) == Some(1), usb);
                    disk.clone_into(&mut found.disk);
                }
                "stat" => {
                    found.flushes = number(15).zip(number(16)).map(|(count, ms)| Flushes {
                        count,
                        micros: ms.saturating_mul(1000),
                        measured: false,
                    });
                }
                "port" => {
                    if let Some(port) = number(0).and_then(|n| u16::try_from(n).ok()) {
                        // A process names itself.
                        let plain = |c: &char| c.is_ascii_alphanumeric() || "-_.:/".contains(*c);
                        let process: String = words
                            .get(1)
                            .map(|w| w.chars().filter(plain).collect())
                            .unwrap_or_default();
                        if !found.ports.iter().any(|(p, _)| *p == port) {
                            found.ports.push((port, process));
                        }
                    }
                }
                _ => {}
            }
        }
        found.ports.sort();
        found
    }
}

/// Reads `flushed COUNT SECONDS`.
fn flushed(text: &str) -> Option<Flushes> {
    let mut words = text.trim().strip_prefix("flushed ")?.split_whitespace();
    let count: u64 = words.next()?.parse().ok()?;
    let (whole, part) = words.next()?.split_once('.')?;
    let micros: String = part.chars().chain("000000".chars()).take(6).collect();
    let micros =
        whole.parse::<u64>().ok()?.saturating_mul(1_000_000) + micros.parse::<u64>().ok()?;
    (count > 0).then_some(Flushes {
        count,
        micros,
        measured: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_prints_is_read() {
        let found = Numbers::parse(
            "member\nplace /var/lib/rancher/k3s/server/db\nmount /\nspace 1000000 1200000 7700000 4096\ndisk mmcblk0 0 \nstat 11942 4061 873450 30155 25219 25114 930930 304480 0 64012 341900 0 0 0 0 3120 48360\nport 6443 k3s-server\nport 6443 k3s-server\nport 10250 ng\u{1b}inx\n",
        );
        assert!(found.member);
        assert_eq!((found.free_mib, found.all_mib), (3906, 29296));
        assert_eq!(
            (found.disk.as_str(), found.medium),
            ("mmcblk0", DataMedium::Sd)
        );
        let flushes = found
            .flushes
            .map(|f| (f.count, f.mean_tenths(), f.measured));
        assert_eq!(flushes, Some((3120, 155, false)));
        assert_eq!(
            found.ports,
            [(6443, "k3s-server".to_owned()), (10250, "nginx".to_owned())]
        );
        // Kernels before 5.5 count no flushes; of what is not printed nothing is known.
        let old = Numbers::parse("disk sda 0 usb\nstat 1 2 3 4 5 6 7 8 9 10 11\nport 2379\n");
        assert_eq!((old.medium, old.flushes), (DataMedium::Usb, None));
        assert_eq!(old.ports, [(2379, String::new())]);
        assert_eq!(Numbers::parse("nonsense\nspace x\n"), Numbers::default());
    }

    #[test]
    fn what_was_measured_counts_before_what_the_disk_has_counted() {
        let fragment = |stdout: &str| Answer::Fragment {
            status: 0,
            stdout: stdout.into(),
        };
        let of = |measured: &str| {
            let mut answers = Answers::default();
            let counted = "stat 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 100 50\n";
            answers.0.insert(Numbers::query(), fragment(counted));
            answers.0.insert(Numbers::flush_query(), fragment(measured));
            let flushes = Numbers::of(&answers).and_then(|n| n.flushes);
            flushes.map(|f| (f.count, f.micros, f.measured))
        };
        assert_eq!(of("flushed 64 0.0266738\n"), Some((64, 26_673, true)));
        assert_eq!(of("flushed 20 2.1\n"), Some((20, 2_100_000, true)));
        // It has a datastore, or no dd that can; or not one was over in time.
        for nothing in ["", "flushed 0 2.0\n", "flushed x\n"] {
            assert_eq!(of(nothing), Some((100, 50_000, false)), "{nothing:?}");
        }
    }

    #[test]
    fn a_disk_that_is_to_be_mounted_is_another_place() {
        let of = |mount: &str| Numbers {
            mount: mount.into(),
            ..Numbers::default()
        };
        assert!(of("/").moved_by("/var/lib/rancher"));
        assert!(of("/").moved_by("/var/lib/rancher/k3s/server"));
        assert!(!of("/var/lib/rancher").moved_by("/var/lib/rancher"));
        assert!(!of("/").moved_by("/mnt/data"));
        assert!(!of("/").moved_by("/var/lib/rancher-x"));
    }
}
