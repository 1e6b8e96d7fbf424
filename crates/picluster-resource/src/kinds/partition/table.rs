//! A disk as sfdisk(8) and blkid(8) tell of it, and where there is room on it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A MiB in bytes; partitions begin at multiples of it, as all partitioning programs make them.
pub(super) const MIB: u64 = 1 << 20;

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its device (or a file that holds the image of one).
    pub device: String,
    /// Size in sectors.
    pub sectors: u64,
    /// Bytes in a sector.
    pub sector: u64,
    /// Its partition table; `None`: it has none.
    pub table: Option<Table>,
    /// SHA-256 of what `sfdisk --json` printed.
    pub digest: String,
    /// What blkid finds in places that belong to no partition, by first sector: signatures of what
    /// once stood there. `0` is the disk as a whole where it has no table.
    pub leftovers: BTreeMap<u64, BTreeMap<String, String>>,
    /// First sector of the partition that holds `/`, when this is its disk.
    pub root: Option<u64>,
    /// First sector and size of the partition picluster made under this name, or was about to make.
    pub claim: Option<(u64, u64)>,
}

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// `gpt` or `dos`.
    pub kind: String,
    /// Last sector its partitions may use, as it says itself.
    pub last: u64,
    /// Its partitions, by first sector.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its device.
    pub node: String,
    /// First sector.
    pub start: u64,
    /// Sectors.
    pub size: u64,
    /// Its name in a GPT.
    pub name: String,
    /// What blkid finds on it: `TYPE`, `LABEL`, …; empty: nothing at all.
    pub found: BTreeMap<String, String>,
}

/// Unallocated sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub start: u64,
    pub size: u64,
}

/// sfdisk's own words.
#[derive(Deserialize)]
struct Json {
    partitiontable: JsonTable,
}

#[derive(Deserialize)]
struct JsonTable {
    label: String,
    lastlba: Option<u64>,
    #[serde(default = "usual_sector")]
    sectorsize: u64,
    #[serde(default)]
    partitions: Vec<JsonPartition>,
}

fn usual_sector() -> u64 {
    512
}

#[derive(Deserialize)]
struct JsonPartition {
    node: String,
    start: u64,
    size: u64,
    #[serde(default)]
    name: String,
}

/// `KEY=value KEY=value …` of `blkid -o export`; the device's own name says nothing.
fn found(text: &str) -> BTreeMap<String, String> {
    text.split(' ')
        .filter_map(|word| word.split_once('='))
        .filter(|(key, _)| *key != "DEVNAME")
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// What stands there, in a word.
pub(super) fn what(found: &BTreeMap<String, String>) -> String {
    match (found.get("TYPE"), found.get("PTTYPE")) {
        (Some(kind), _) => kind.clone(),
        (None, Some(table)) => format!("{table} partition table"),
        (None, None) => "unknown data".into(),
    }
}

impl Disk {
    /// From the probe's lines. `None`: they make no sense.
    pub(super) fn read(text: &str) -> Option<Self> {
        let value = |word: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
        };
        let json: String = text
            .lines()
            .filter_map(|line| line.strip_prefix('|'))
            .flat_map(|line| [line, "\n"])
            .collect();
        let places = |word: &str| -> BTreeMap<u64, BTreeMap<String, String>> {
            text.lines()
                .filter_map(|line| {
                    let (start, rest) = line
                        .strip_prefix(word)?
                        .strip_prefix(' ')?
                        .split_once(' ')?;
                    Some((start.parse().ok()?, found(rest)))
                })
                .collect()
        };
        let bytes = value("size")?.trim().parse::<u64>().ok()? * 512;
        let mut sector = 512;
        let mut table = None;
        if !json.is_empty() {
            let read: Json = serde_json::from_str(&json).ok()?;
            let read = read.partitiontable;
            sector = read.sectorsize.max(1);
            let all = bytes / sector;
            let mut signatures = places("part");
            let mut partitions: Vec<Partition> = read
                .partitions
                .into_iter()
                .map(|p| Partition {
                    found: signatures.remove(&p.start).unwrap_or_default(),
                    node: p.node,
                    start: p.start,
                    size: p.size,
                    name: p.name,
                })
                .collect();
            partitions.sort_by_key(|p| p.start);
            table = Some(Table {
                kind: read.label,
                last: read.lastlba.unwrap_or(all.saturating_sub(1)),
                partitions,
            });
        }
        let mut leftovers = places("gap");
        leftovers.retain(|_, found| !found.is_empty());
        let claim = value("claim").and_then(|claim| {
            let (start, size) = claim.trim().split_once(' ')?;
            Some((start.parse().ok()?, size.parse().ok()?))
        });
        Some(Self {
            device: value("disk")?.to_owned(),
            sectors: bytes / sector,
            sector,
            table,
            digest: crate::program::sha256_hex(json.as_bytes()),
            leftovers,
            root: value("root")
                .and_then(|start| start.trim().parse::<u64>().ok())
                .map(|start| start * 512 / sector),
            claim,
        })
    }

    fn is_gpt(&self) -> bool {
        self.table.as_ref().is_none_or(|t| t.kind == "gpt")
    }

    /// The last sector a partition may use. A GPT keeps its second header and table behind them, in 33
    /// sectors; on an image that was written to a larger disk that place is still where the image
    /// ended. An MBR counts sectors in 32 bits.
    fn last(&self) -> u64 {
        if self.is_gpt() {
            self.sectors
                .saturating_sub(34 * 512_u64.div_ceil(self.sector).max(1))
        } else {
            self.sectors.min(1 << 32).saturating_sub(1)
        }
    }

    /// The second header of the GPT has to go to the end of the disk first.
    pub(super) fn must_move(&self) -> bool {
        self.table
            .as_ref()
            .is_some_and(|t| t.kind == "gpt" && t.last + MIB / self.sector < self.last())
    }

    /// Unallocated places, aligned; the largest first.
    pub(super) fn gaps(&self) -> Vec<Gap> {
        let unit = MIB / self.sector;
        let mut gaps = Vec::new();
        let mut at = unit;
        let partitions = self.table.iter().flat_map(|t| &t.partitions);
        let taken = partitions.map(|p| (p.start, p.start + p.size));
        for (start, end) in taken.chain([(self.last() + 1, self.last() + 1)]) {
            let room = start.saturating_sub(at) / unit * unit;
            if room > 0 {
                gaps.push(Gap {
                    start: at,
                    size: room,
                });
            }
            at = at.max(end.div_ceil(unit) * unit);
        }
        gaps.sort_by_key(|gap| (std::cmp::Reverse(gap.size), gap.start));
        gaps
    }

    /// `/` stands on this disk and nothing lies behind its partition but what `gaps` finds.
    pub(super) fn root_is_last(&self) -> bool {
        let partitions = self.table.iter().flat_map(|t| &t.partitions);
        self.root.is_some() && partitions.last().map(|p| p.start) == self.root
    }

    pub(super) fn size(&self, sectors: u64) -> String {
        human(sectors * self.sector)
    }
}

/// Bytes as people read them.
pub(super) fn human(bytes: u64) -> String {
    if bytes < 10 * 1024 * MIB {
        format!("{} MiB", bytes / MIB)
    } else {
        format!("{} GiB", bytes / (1024 * MIB))
    }
}
