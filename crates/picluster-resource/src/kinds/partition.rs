//! `partition`: a partition with a file system, in space that nobody uses.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::facts::Facts;
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::Token;

mod table;

pub use table::{Disk, Table};
use table::{Gap, MIB, human, what};

/// A partition with an ext4 file system of the same name. It is made in unallocated space only, also
/// on the disk that holds `/`, in a GPT or an MBR. Nothing is ever shrunk, moved or deleted, and
/// nothing that holds any signature is formatted: a file system of this name that is there already is
/// taken as it is. The partition table before is kept in `/var/lib/picluster/partitions`. Leaving the
/// documents leaves the partition and what is on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// The disk: `root` for the one that holds `/`, or a device such as `/dev/nvme0n1` or
    /// `/dev/disk/by-id/…`.
    pub disk: String,
    /// Its name: of the file system, and of the partition in a GPT. `mount` finds it by
    /// `LABEL=`.
    pub label: String,
    /// Its size when it is made: `100GiB`, `512MiB`, or `rest`: all of the largest unallocated place.
    #[serde(default = "rest")]
    pub size: String,
}

fn rest() -> String {
    "rest".into()
}

/// What was seen of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionSeen {
    /// The disk.
    pub disk: Disk,
    /// First sector and size of ours.
    pub ours: Option<(u64, u64)>,
    /// It has its file system.
    pub formatted: bool,
}

/// What is left over at the end of a disk is no room.
const LEAST: u64 = 1024 * MIB;

const CLAIMS: &str = "/var/lib/picluster/partitions";

/// Bytes of `100GiB`.
fn bytes(size: &str) -> Option<u64> {
    let (number, unit) = [
        ("MiB", MIB),
        ("GiB", 1024 * MIB),
        ("TiB", 1024 * 1024 * MIB),
    ]
    .into_iter()
    .find_map(|(name, unit)| Some((size.strip_suffix(name)?, unit)))?;
    number.trim().parse::<u64>().ok()?.checked_mul(unit)
}

/// What keeps an image from growing its root at the first boot.
fn first_boot_setting(facts: &Facts) -> &'static str {
    let grown_by_cloud_init = facts.os.cloud_init || facts.os.id == "ubuntu";
    match facts.os.version.as_str() {
        _ if grown_by_cloud_init && facts.os.raspberry_pi_os => {
            "`growpart: { mode: \"off\" }` and `resize_rootfs: false` in user-data, and no `resize` in cmdline.txt"
        }
        _ if grown_by_cloud_init => {
            "`growpart: { mode: \"off\" }` and `resize_rootfs: false` in user-data"
        }
        "13" if facts.os.raspberry_pi_os => "no `resize` in cmdline.txt",
        _ if facts.os.raspberry_pi_os => {
            "no `init=…/firstboot` (bookworm) or `init=…/init_resize.sh` (bullseye) in cmdline.txt, which grow it"
        }
        _ => "the image's own setting against growing its root",
    }
}

impl Partition {
    fn probe(&self) -> String {
        format!(
            "# partition {}\nR=\nd={} claim={}\n{}",
            self.label,
            quote(&self.disk),
            quote(&self.claim()),
            include_str!("partition/probe.sh")
        )
    }

    fn claim(&self) -> String {
        // An image of a disk may be another machine's tomorrow, and takes its claim along.
        let dir = match self.disk.strip_suffix(".img") {
            Some(image) => format!("{image}.claims"),
            None => CLAIMS.into(),
        };
        format!("{dir}/{}", self.label)
    }

    /// Where it would be made.
    fn place(&self, disk: &Disk, facts: &Facts) -> Result<Gap, Diagnosis> {
        let wanted = bytes(&self.size);
        let least = wanted.unwrap_or(LEAST) / disk.sector;
        let best = disk.gaps().into_iter().next();
        let Some(gap) = best.filter(|gap| gap.size >= least) else {
            let room = best.map_or(0, |gap| gap.size);
            let need = match wanted {
                Some(bytes) => human(bytes),
                None => format!("at least {}", human(LEAST)),
            };
            let what = format!(
                "{} has {} unallocated in one piece, and {} needs {need}",
                disk.device,
                disk.size(room),
                self.label
            );
            return Err(if disk.root_is_last() {
                Diagnosis::new(format!(
                    "{what}: / has taken the whole disk, and nothing is ever shrunk"
                ))
                .cure(format!(
                    "flash the card again with {} before its first boot, then make room for / by hand as far as it needs it; or use another disk",
                    first_boot_setting(facts)
                ))
            } else {
                Diagnosis::new(what)
                    .cure(format!("look at it: sfdisk -F {0}; lsblk {0}", disk.device))
            });
        };
        if disk
            .table
            .as_ref()
            .is_some_and(|t| t.kind == "dos" && t.partitions.len() >= 4)
        {
            return Err(Diagnosis::new(format!(
                "{} has an MBR with four partitions, which is all it can hold",
                disk.device
            ))
            .cure("use another disk, or one with a GPT"));
        }
        let size = wanted.map_or(gap.size, |bytes| bytes.div_ceil(MIB) * MIB / disk.sector);
        let gap = Gap {
            size: size.min(gap.size),
            ..gap
        };
        // A blank disk is looked at as a whole.
        let place = if disk.table.is_some() { gap.start } else { 0 };
        match disk.leftovers.get(&place) {
            None => Ok(gap),
            Some(found) if disk.table.is_none() => Err(Diagnosis::new(format!(
                "{} has no partition table but holds {}; nothing was formatted",
                disk.device,
                what(found)
            ))
            .cure(format!(
                "if nobody needs it: wipefs --all {}",
                disk.device
            ))),
            Some(found) => Err(Diagnosis::new(format!(
                "the unallocated space of {} at sector {} holds {}, of a partition that was deleted; nothing was formatted",
                disk.device,
                gap.start,
                what(found)
            ))
            .cure(format!(
                "if nobody needs it, overwrite its beginning: dd if=/dev/zero of={} bs={} seek={} count={} conv=notrunc",
                disk.device,
                disk.sector,
                gap.start,
                (MIB / disk.sector).min(gap.size)
            ))),
        }
    }

    /// Which of the partitions is ours: by the file system's name, by the partition's, by the place it
    /// was claimed for.
    fn ours<'a>(&self, disk: &'a Disk) -> Result<Option<&'a table::Partition>, Diagnosis> {
        let all = || disk.table.iter().flat_map(|t| &t.partitions);
        let labelled: Vec<_> = all()
            .filter(|p| p.found.get("LABEL") == Some(&self.label))
            .collect();
        match labelled[..] {
            [] => {}
            [one] => return Ok(Some(one)),
            _ => {
                return Err(Diagnosis::new(format!(
                    "{} has {} file systems called {}",
                    disk.device,
                    labelled.len(),
                    self.label
                ))
                .cure(format!(
                    "give all but one another name: lsblk -o NAME,LABEL {}; e2label",
                    disk.device
                )));
            }
        }
        Ok(all()
            .find(|p| p.name == self.label)
            .or_else(|| all().find(|p| disk.claim == Some((p.start, p.size)))))
    }

    fn shown(&self, disk: &Disk, size: u64) -> String {
        let table = disk
            .table
            .as_ref()
            .map_or("a new GPT", |t| match t.kind.as_str() {
                "gpt" => "its GPT",
                _ => "its MBR",
            });
        format!("{} of {}, in {table}", disk.size(size), disk.device)
    }
}

impl Kind for Partition {
    const NAME: &'static str = "partition";
    type Observation = PartitionSeen;

    fn key(&self) -> String {
        self.label.clone()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let plain = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        // mke2fs(8): a label is at most 16 bytes long.
        if self.label.is_empty() || self.label.len() > 16 || !plain(&self.label) {
            wrong.push(format!(
                "label {:?} is not a name of at most 16 letters, digits, `_`, `-` and `.`",
                self.label
            ));
        }
        if self.disk != "root"
            && (NodePath::new(&self.disk).is_err()
                || !self
                    .disk
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-.:+/".contains(&b)))
        {
            wrong.push(format!(
                "disk {:?} is neither `root` nor a device such as /dev/nvme0n1",
                self.disk
            ));
        }
        if self.size != "rest" && bytes(&self.size).is_none_or(|b| b < 16 * MIB) {
            wrong.push(format!(
                "size {:?} is neither `rest` nor a size of 16MiB or more, such as 100GiB",
                self.size
            ));
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![Query::Fragment(self.probe())])
    }

    fn observe(&self, answers: &Answers, ctx: Ctx<'_>) -> Result<Seen<PartitionSeen>, Diagnosis> {
        let (_, text) = answers.fragment(&self.probe())?;
        let value = |word: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
        };
        let has = |word: &str| text.lines().any(|line| line == word);
        if let Some(tool) = value("missing") {
            let package = match tool {
                "sfdisk" => "fdisk",
                "mkfs.ext4" => "e2fsprogs",
                _ => "util-linux",
            };
            return Ok(Seen::NotYet(Token::Package(package.into())));
        }
        if has("no-root") {
            return Err(Diagnosis::new("/ stands on no partition of a disk")
                .cure("name the disk: lsblk -d -o NAME,SIZE,MODEL; ls -l /dev/disk/by-id"));
        }
        if let Some(disk) = value("no-disk") {
            return Err(Diagnosis::new(format!("there is no disk {disk}")).cure(
                "lsblk -d -o NAME,SIZE,MODEL; a missing NVMe: dmesg | grep -i -e nvme -e pcie",
            ));
        }
        let disk = has("end")
            .then(|| Disk::read(text))
            .flatten()
            .ok_or_else(|| {
                Diagnosis::new(format!(
                    "the node did not say all about the disk for {}",
                    self.label
                ))
            })?;
        if has("partition") {
            return Err(
                Diagnosis::new(format!("{} is a partition, not a disk", disk.device))
                    .cure("name the disk it is on: lsblk"),
            );
        }
        if let Some(table) = &disk.table
            && !matches!(table.kind.as_str(), "gpt" | "dos")
        {
            return Err(Diagnosis::new(format!(
                "{} has a partition table of type {}, which is neither GPT nor MBR",
                disk.device, table.kind
            )));
        }
        let mut seen = PartitionSeen {
            disk,
            ours: None,
            formatted: false,
        };
        match self.ours(&seen.disk)? {
            None => {
                self.place(&seen.disk, ctx.facts)?;
            }
            Some(ours) => {
                let place = Some((ours.start, ours.size));
                let found = ours.found.get("TYPE").map(String::as_str);
                let label = ours.found.get("LABEL");
                // Of an empty partition blkid may still tell the table's entry.
                let blank = ours.found.keys().all(|key| key.starts_with("PART_ENTRY_"));
                let formatted = found == Some("ext4") && label == Some(&self.label);
                if !blank && !formatted {
                    // An MBR has no names: there it is the place that was claimed.
                    let named = match ours.name == self.label {
                        true => "is called",
                        false => "was made for",
                    };
                    return Err(Diagnosis::new(format!(
                        "{} {named} {} and holds {}{}; it was not formatted",
                        ours.node,
                        self.label,
                        what(&ours.found),
                        label.map(|l| format!(" named {l}")).unwrap_or_default()
                    ))
                    .cure(format!(
                        "if it is the right one, name its file system: e2label {0} {1}; if nobody needs it: wipefs --all {0}",
                        ours.node, self.label
                    )));
                }
                seen.ours = place;
                seen.formatted = formatted;
            }
        }
        Ok(Seen::Now(seen))
    }

    fn diff(&self, seen: &PartitionSeen, ctx: Ctx<'_>) -> Diff {
        if seen.formatted {
            return Diff::NoOp;
        }
        let mut change = Change::new(Action::Update);
        if seen.ours.is_none() {
            let size = self.place(&seen.disk, ctx.facts).map_or(0, |gap| gap.size);
            change.action = Action::Create;
            change = change
                .field(
                    "partition",
                    Shown::Absent,
                    Shown::text(self.shown(&seen.disk, size)),
                )
                .because("space that belongs to no partition");
        }
        change
            .field(
                "file system",
                Shown::Absent,
                Shown::text(format!("ext4, LABEL={}", self.label)),
            )
            .into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        Change::new(Action::Create)
            .field("partition", Shown::Absent, Shown::Later)
            .field(
                "file system",
                Shown::Absent,
                Shown::text(format!("ext4, LABEL={}", self.label)),
            )
    }

    fn operation(
        &self,
        seen: &PartitionSeen,
        _change: &Change,
        ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let disk = &seen.disk;
        let (start, size) = match seen.ours {
            Some(place) => place,
            None => {
                let gap = self.place(disk, ctx.facts)?;
                (gap.start, gap.size)
            }
        };
        let table = match &disk.table {
            None => "",
            Some(_) if disk.must_move() => "move",
            Some(table) => &table.kind,
        };
        let mut script = include_str!("partition/create.sh").to_owned();
        script.push_str(&format!(
            "d={} claim={} u={} b={start} l={size} table={table}\n",
            quote(&disk.device),
            quote(&self.claim()),
            disk.sector
        ));
        if disk.table.is_some() {
            script.push_str(&format!("unchanged {}\n", disk.digest));
        }
        if seen.ours.is_none() {
            let name = match &disk.table {
                Some(table) if table.kind == "dos" => String::new(),
                _ => format!(", name=\"{}\"", self.label),
            };
            script.push_str(&format!("add {}\n", quote(&name)));
        }
        script.push_str(&format!("format {}\n", quote(&self.label)));
        // Slow sticks: inode tables are made lazily, the journal is not.
        Ok(Operation::script(script).within(Duration::from_secs(10 * 60)))
    }

    fn provides(&self) -> Vec<Token> {
        ["LABEL", "PARTLABEL"]
            .iter()
            .map(|tag| Token::FileSystem(format!("{tag}={}", self.label)))
            .collect()
    }

    fn requires(&self) -> Vec<Token> {
        vec![
            Token::FirstBoot,
            Token::Package("fdisk".into()),
            Token::Package("e2fsprogs".into()),
        ]
    }
}
