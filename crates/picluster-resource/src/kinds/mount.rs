//! `mount`: a file system that is mounted, now and at every boot.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Effect, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::edit::{self, EditSeen};
use crate::kinds::file::Presence;
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::{quote, words};
use crate::token::Token;

mod fstab;
mod options;

/// A file system that is mounted, now and, through `/etc/fstab`, at every boot. A line that is there
/// keeps what is not asked for; its options are merged. Nothing is mounted over files, and nothing is
/// unmounted to make room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Where it is seen.
    pub path: NodePath,
    /// What is mounted: `LABEL=data`, `UUID=…`, `PARTUUID=…`, `PARTLABEL=…`, `tmpfs`, or a directory that
    /// is shown here too (a bind mount). Never a device such as /dev/sda1, which another disk may be
    /// tomorrow. Left out: as the line in `/etc/fstab` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The file system: `ext4`, `xfs`, `vfat`, …; `auto` when left out.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Options it must have: `noatime`, `nofail`, `ro`, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// `false`: the next boot mounts it, which the plan then shows. For directories in use, such as
    /// `/tmp`.
    #[serde(default = "yes")]
    pub now: bool,
    /// `present`, or `absent`: unmounted, and no line.
    #[serde(default)]
    pub state: Presence,
}

fn yes() -> bool {
    true
}

/// What was seen of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSeen {
    /// `/etc/fstab`.
    pub fstab: EditSeen,
    /// What is mounted at the path: type and options, as `/proc/mounts` has them.
    pub mounted: Option<(String, Vec<String>)>,
    /// It is something else than the source.
    pub other: Option<String>,
}

const FSTAB: &str = "/etc/fstab";

/// Names of file systems that stay the same when disks change places: fstab(5).
const TAGS: &[(&str, &str)] = &[
    ("LABEL=", "by-label"),
    ("UUID=", "by-uuid"),
    ("PARTUUID=", "by-partuuid"),
    ("PARTLABEL=", "by-partlabel"),
];

/// What a source is.
enum Source<'a> {
    /// A tag and the directory below `/dev/disk` that udev(7) keeps for it.
    Tag(&'a str, &'static str),
    Directory(&'a str),
    /// A file system of its own: `tmpfs`.
    Virtual(&'a str),
}

fn fstab_path() -> Result<NodePath, Diagnosis> {
    NodePath::new(FSTAB).map_err(|e| Diagnosis::new(e.to_string()))
}

impl Mount {
    fn source(&self) -> Option<Source<'_>> {
        let text = self.source.as_deref()?;
        if text.starts_with('/') {
            return Some(Source::Directory(text));
        }
        let tag = TAGS
            .iter()
            .find_map(|(tag, dir)| Some(Source::Tag(text.strip_prefix(tag)?, dir)));
        Some(tag.unwrap_or(Source::Virtual(text)))
    }

    /// The fields of its line. `None` for what the line there may keep.
    fn wanted(&self) -> fstab::Wanted {
        let mut options = self.options.clone();
        let mut kind = self.kind.clone();
        if let Some(Source::Directory(_)) = self.source() {
            if !options.iter().any(|o| o == "bind" || o == "rbind") {
                options.insert(0, "bind".into());
            }
            kind.get_or_insert_with(|| "none".into());
        }
        if let Some(Source::Virtual(name)) = self.source() {
            kind.get_or_insert_with(|| name.to_owned());
        }
        fstab::Wanted {
            path: self.path.to_string(),
            source: self.source.clone(),
            kind,
            options,
        }
    }

    fn edited(&self, text: &str) -> Option<String> {
        match self.state {
            Presence::Present => fstab::with(text, &self.wanted()),
            Presence::Absent => Some(fstab::without(text, self.path.as_str())),
        }
    }

    fn probe(&self) -> String {
        let mut text = format!("# mount {}\nR=\n", self.path);
        text.push_str(&format!(
            "p={} e={}\n",
            quote(self.path.as_str()),
            quote(&fstab::escape(self.path.as_str()))
        ));
        text.push_str(include_str!("mount/probe.sh"));
        text.push_str(&match self.source() {
            Some(Source::Tag(name, dir)) => format!(
                "d=$(readlink -f $R/dev/disk/{dir}/{}) && [ -e \"$d\" ] || d=$(findfs {} 2>/dev/null) || d=\n\
                 [ -z \"$d\" ] || echo \"device $d\"\n",
                quote(name),
                quote(self.source.as_deref().unwrap_or(""))
            ),
            Some(Source::Directory(path)) => {
                let path = quote(path);
                format!(
                    "[ ! -d $R{path} ] || echo directory\n[ ! $R{path} -ef \"$R$p\" ] || echo same\n"
                )
            }
            _ => String::new(),
        });
        text.push_str("echo end");
        text
    }

    /// Options of the mount itself that are missing from it.
    fn missing_now(&self, mounted: &[String]) -> Vec<&str> {
        self.options
            .iter()
            .map(String::as_str)
            .filter(|o| options::is_visible(o) && !mounted.iter().any(|m| m == o))
            .collect()
    }
}

impl Kind for Mount {
    const NAME: &'static str = "mount";
    type Observation = MountSeen;

    fn key(&self) -> String {
        self.path.to_string()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let plain = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_.+:/=%-".contains(&b))
        };
        if let Some(source) = &self.source {
            let good = match self.source() {
                Some(Source::Tag(name, _)) => plain(name) && !name.contains('/'),
                Some(Source::Directory(path)) => {
                    NodePath::new(path).is_ok() && plain(path) && path != "/"
                }
                Some(Source::Virtual(name)) => name == "tmpfs",
                None => false,
            };
            if source.starts_with("/dev/") {
                wrong.push(format!(
                    "source {source} is a device's name, which may be another disk's tomorrow; take LABEL=, UUID=, PARTUUID= or PARTLABEL= (lsblk -o NAME,LABEL,UUID,PARTUUID)"
                ));
            } else if !good {
                wrong.push(format!(
                    "source {source:?} is neither LABEL=…, UUID=…, PARTUUID=…, PARTLABEL=… nor tmpfs nor a directory"
                ));
            }
        }
        if let Some(kind) = &self.kind
            && (!plain(kind) || kind == "swap")
        {
            wrong.push(format!("type {kind:?} is not a file system"));
        }
        for option in &self.options {
            if !plain(option) {
                wrong.push(format!("{option:?} is not one mount option"));
            }
        }
        if self.state == Presence::Absent
            && matches!(
                self.path.as_str(),
                "/" | "/boot" | "/boot/firmware" | "/usr" | "/var"
            )
        {
            wrong.push(format!("{} cannot be taken away", self.path));
        }
        if self.path.as_str() == "/" && self.source.is_some() {
            wrong.push("source of / is given by the kernel's command line".into());
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let mut queries = edit::queries(&fstab_path()?);
        queries.push(Query::Fragment(self.probe()));
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<MountSeen>, Diagnosis> {
        let fstab = match edit::observe(&fstab_path()?, edit::Missing::Create, answers)? {
            Seen::Now(fstab) => fstab,
            Seen::NotYet(token) => return Ok(Seen::NotYet(token)),
        };
        let (_, printed) = answers.fragment(&self.probe())?;
        let value = |word: &str| {
            printed
                .lines()
                .find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
        };
        let has = |word: &str| printed.lines().any(|line| line == word);
        if !has("end") {
            return Err(Diagnosis::new(format!(
                "the node did not say all about {}",
                self.path
            )));
        }
        let mut words = value("mounted").unwrap_or("").split(' ');
        let (source, kind, shown) = (words.next(), words.next(), words.next());
        let mounted = kind.zip(shown).map(|(kind, options)| {
            (
                kind.to_owned(),
                options.split(',').map(str::to_owned).collect::<Vec<_>>(),
            )
        });
        let mut seen = MountSeen {
            fstab,
            mounted,
            other: None,
        };
        if self.state == Presence::Absent {
            return Ok(Seen::Now(seen));
        }
        if value("kind").is_some_and(|kind| kind != "directory") {
            return Err(Diagnosis::new(format!(
                "{} is no directory, so nothing can be mounted there",
                self.path
            ))
            .cure(format!("look at it and move it away: ls -la {}", self.path)));
        }
        match self.source() {
            None if fstab::find(&seen.fstab.text, self.path.as_str()).is_none() => {
                return Err(Diagnosis::new(format!(
                    "{} has no line in {FSTAB}, and no source is given",
                    self.path
                ))
                .cure("say what is mounted there: source: LABEL=…"));
            }
            Some(Source::Tag(..)) => match value("device") {
                None => {
                    let source = self.source.clone().unwrap_or_default();
                    return Ok(Seen::NotYet(Token::FileSystem(source)));
                }
                Some(device) if seen.mounted.is_some() && source != Some(device) => {
                    seen.other = source.map(str::to_owned);
                }
                Some(_) => {}
            },
            Some(Source::Directory(path)) => {
                if !has("directory") {
                    let path = NodePath::new(path).map_err(|e| Diagnosis::new(e.to_string()))?;
                    return Ok(Seen::NotYet(Token::Path(path)));
                }
                if seen.mounted.is_some() && !has("same") {
                    seen.other = source.map(str::to_owned);
                }
            }
            Some(Source::Virtual(name))
                if seen.mounted.as_ref().is_some_and(|(kind, _)| kind != name) =>
            {
                seen.other = source.map(str::to_owned);
            }
            Some(Source::Virtual(_)) | None => {}
        }
        if let (Some(other), true) = (&seen.other, self.now) {
            return Err(Diagnosis::new(format!(
                "{other} is mounted at {}, not {}",
                self.path,
                self.source.as_deref().unwrap_or("")
            ))
            .cure(format!("see who uses it, then: umount {}", self.path)));
        }
        if seen.mounted.is_none() && self.now && has("full") {
            return Err(Diagnosis::new(format!(
                "{} holds files, which the mount would hide",
                self.path
            ))
            .cure(format!(
                "move them to where they belong, or away: ls -la {}",
                self.path
            )));
        }
        Ok(Seen::Now(seen))
    }

    fn diff(&self, seen: &MountSeen, _ctx: Ctx<'_>) -> Diff {
        let Ok(path) = fstab_path() else {
            return Diff::NoOp;
        };
        let after = self.edited(&seen.fstab.text);
        let edited = after
            .as_ref()
            .filter(|after| **after != seen.fstab.text || seen.fstab.path.is_none());
        let mut change = match edited {
            Some(after) => edit::change(&path, &seen.fstab, after),
            None => Change::new(Action::Update),
        };
        change.action = Action::Update;
        let line =
            |text: &str| fstab::find(text, self.path.as_str()).map(|l| Shown::text(l.shown()));
        if self.state == Presence::Absent {
            change.action = Action::Delete;
            if seen.mounted.is_some() {
                change = change.field("now", Shown::text("mounted"), Shown::Absent);
            }
            if let Some(before) = line(&seen.fstab.text) {
                change = change.field("at boot", before, Shown::Absent);
            } else {
                change.text = None;
            }
            return change.into_diff();
        }
        let right = seen.other.is_none();
        match &seen.mounted {
            Some((_, options)) if right => {
                let missing = self.missing_now(options);
                if !missing.is_empty() {
                    change = change.field(
                        "now",
                        Shown::text(options::visible(options).join(",")),
                        Shown::text(
                            options::merged(&options::visible(options), &missing).join(","),
                        ),
                    );
                }
            }
            _ if self.now => {
                if edited.is_some() && line(&seen.fstab.text).is_none() {
                    change.action = Action::Create;
                }
                change = change.field("now", Shown::text("not mounted"), Shown::text("mounted"));
            }
            _ => {
                if edited.is_some() {
                    change = change.effect(self.reboot());
                }
            }
        }
        if let Some(after) = edited {
            change = change
                .field(
                    "at boot",
                    line(&seen.fstab.text).unwrap_or(Shown::Absent),
                    line(after).unwrap_or(Shown::Absent),
                )
                .because(format!("its line in {FSTAB}"));
        }
        change.into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        let mut change = match self.state {
            Presence::Present => Change::new(Action::Create),
            Presence::Absent => Change::new(Action::Delete),
        };
        if self.now {
            change = change.field("now", Shown::Absent, Shown::text("mounted"));
        } else {
            change = change.effect(self.reboot());
        }
        let line = self
            .edited("")
            .and_then(|text| fstab::find(&text, self.path.as_str()).map(|l| l.shown()));
        change.field(
            "at boot",
            Shown::Absent,
            line.map_or(Shown::Later, Shown::text),
        )
    }

    fn operation(
        &self,
        seen: &MountSeen,
        change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let has = |field: &str| change.fields.iter().any(|f| f.field == field);
        let mut operation = match self.edited(&seen.fstab.text) {
            Some(after) if has("at boot") => edit::operation(&fstab_path()?, &seen.fstab, after),
            _ => Operation::script(""),
        };
        let script = &mut operation.script;
        let path = quote(self.path.as_str());
        if has("at boot") {
            // systemd makes mount units of the lines; with old ones it would unmount again.
            script.push_str("\n[ ! -d /run/systemd/system ] || systemctl daemon-reload\n");
        }
        if self.state == Presence::Absent {
            if has("now") {
                script.push_str(&format!("umount -- {path}\n"));
            }
            return Ok(operation);
        }
        if self.path.as_str() != "/" {
            script.push_str(&format!("mkdir -p -- {path}\n"));
        }
        if has("now") {
            match &seen.mounted {
                Some((_, mounted)) => {
                    let all =
                        options::merged(&options::visible(mounted), &self.missing_now(mounted));
                    // With source and target mount(8) takes nothing from fstab, which may describe
                    // what only the next boot brings.
                    script.push_str(&format!(
                        "s=; while read -r f t _; do [ \"$t\" != {} ] || s=$f; done < /proc/mounts\n\
                         mount -o remount,{} -- \"$s\" {path}\n",
                        quote(&fstab::escape(self.path.as_str())),
                        words([all.join(",")])
                    ));
                }
                None => script.push_str(&format!("mount -- {path}\n")),
            }
        }
        Ok(operation)
    }

    /// Mounts share a file: one after the other, each knowing that the ones before changed it.
    fn provides(&self) -> Vec<Token> {
        let fstab = fstab_path().ok().map(Token::Path);
        let own = (self.state == Presence::Present && self.path.as_str() != "/")
            .then(|| Token::Path(self.path.clone()));
        fstab.into_iter().chain(own).collect()
    }

    fn requires(&self) -> Vec<Token> {
        let mut needs = vec![Token::FirstBoot];
        match self.source() {
            Some(Source::Tag(..)) => {
                needs.extend(self.source.clone().map(Token::FileSystem));
            }
            Some(Source::Directory(path)) => {
                needs.extend(NodePath::new(path).ok().map(Token::Path));
            }
            _ => {}
        }
        needs
    }

    fn reboot_pending(&self, seen: &MountSeen, _ctx: Ctx<'_>) -> Option<String> {
        let due = !self.now
            && self.state == Presence::Present
            && (seen.mounted.is_none() || seen.other.is_some())
            && self.edited(&seen.fstab.text).as_ref() == Some(&seen.fstab.text);
        due.then(|| format!("{} is mounted at the next boot", self.path))
    }

    /// Without a source only options were asked for: they stay.
    fn removal(&self) -> Option<Self> {
        (self.state == Presence::Present && self.source.is_some() && self.path.as_str() != "/")
            .then(|| Self {
                state: Presence::Absent,
                ..self.clone()
            })
    }
}

impl Mount {
    fn reboot(&self) -> Effect {
        Effect::Reboot(format!("{} is in use; the boot mounts it", self.path))
    }
}
