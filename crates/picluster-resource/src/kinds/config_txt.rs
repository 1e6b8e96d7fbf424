//! `config_txt`: a setting of the Raspberry Pi's firmware.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Effect, Shown};
use crate::facts::Board;
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::file::{Presence, text_diff};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::program::sha256_hex;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::Token;

mod filter;
mod text;

use filter::Applies;
pub use text::ConfigFile;
use text::{Id, Setting, Wish};

/// A setting of the firmware, in `/boot/firmware/config.txt` or `/boot/config.txt`, whichever the
/// firmware reads. Foreign lines and their order stay; a line that says the same, also in an included
/// file, is left alone; one that would overrule it is overruled. The text before is kept beside it as
/// `.bak`. Every change needs a reboot. When it leaves the documents, its line goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigTxt {
    /// One setting as it stands in the file: `gpu_mem=16`, `dtparam=pciex1_gen=3`,
    /// `dtoverlay=disable-wifi`.
    pub setting: String,
    /// The conditional filter it stands under: `all`, `pi4`, `pi5`, `cm4`, `gpio4=1`, …
    #[serde(default = "all")]
    pub section: String,
    /// `present`, or `absent`: the section says nothing about it, whatever the value.
    #[serde(default)]
    pub state: Presence,
}

fn all() -> String {
    "all".into()
}

/// What was seen of the firmware's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigTxtSeen {
    /// `config.txt` and the files it includes.
    pub files: Vec<ConfigFile>,
    /// The same files as this boot found them, when we have edited them since.
    pub booted: Vec<ConfigFile>,
    /// Bytes in a page of the running kernel: 4096 or 16384.
    pub page_size: Option<u32>,
}

const PROBE_SH: &str = include_str!("config_txt/probe.sh");

/// Holds the files as this boot found them, from before the first edit; `/run` is emptied by a boot.
const BOOTED: &str = "/run/picluster/config-txt";

/// The firmware cuts longer lines (chapter "config.txt" of Raspberry Pi's documentation).
const LONGEST_LINE: usize = 98;

/// Said the same way before and after the files can be looked at.
fn reboot() -> Effect {
    Effect::Reboot("the firmware reads config.txt at boot".into())
}

/// What the probe printed, apart.
#[derive(Debug, Default)]
struct Printed {
    files: Vec<ConfigFile>,
    booted: Vec<ConfigFile>,
    mounts: Vec<(String, bool)>,
    fstab: Vec<String>,
    page_size: Option<u32>,
    complete: bool,
}

impl Printed {
    fn read(text: &str) -> Self {
        let mut printed = Self::default();
        let mut booted = false;
        for line in text.split('\n') {
            if let Some(body) = line.strip_prefix(['|', '+']) {
                let list = if booted {
                    &mut printed.booted
                } else {
                    &mut printed.files
                };
                if let Some(file) = list.last_mut() {
                    file.text.push_str(body);
                    if line.starts_with('|') {
                        file.text.push('\n');
                    }
                }
                continue;
            }
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "file" => {
                    booted = false;
                    printed.files.push(ConfigFile {
                        path: rest.to_owned(),
                        text: String::new(),
                    });
                }
                "was" => {
                    booted = true;
                    printed.booted.push(ConfigFile {
                        path: rest.replace('%', "/"),
                        text: String::new(),
                    });
                }
                "mount" => {
                    let mut words = rest.split(' ');
                    if let (Some(at), Some(_), Some(options)) =
                        (words.next(), words.next(), words.next())
                    {
                        let read_only = options.split(',').any(|o| o == "ro");
                        printed.mounts.push((at.to_owned(), read_only));
                    }
                }
                "fstab" => printed.fstab.push(rest.to_owned()),
                "pages" => printed.page_size = rest.trim().parse().ok(),
                "end" => printed.complete = true,
                _ => {}
            }
        }
        printed
    }

    /// The directory the firmware reads: `/boot/firmware`, unless there is none or only the note that
    /// bookworm and trixie leave where the file has moved away from (pi-gen stage1/00-boot-files).
    fn dir(&self) -> Option<&'static str> {
        ["/boot/firmware", "/boot"].into_iter().find(|dir| {
            let path = format!("{dir}/config.txt");
            let file = self.files.iter().find(|f| f.path == path);
            file.is_some_and(|f| !f.text.starts_with("DO NOT EDIT"))
        })
    }

    /// The files of that directory, `config.txt` first; included ones may lie deeper.
    fn below(files: &[ConfigFile], dir: &str) -> Vec<ConfigFile> {
        let root = format!("{dir}/config.txt");
        let mut found: Vec<ConfigFile> = files
            .iter()
            .filter(|f| {
                let rest = f.path.strip_prefix(dir).unwrap_or("");
                rest.starts_with('/') && !(dir == "/boot" && rest.starts_with("/firmware/"))
            })
            .cloned()
            .collect();
        found.sort_by_key(|f| (f.path != root, f.path.clone()));
        found
    }

    fn not_found(&self) -> Diagnosis {
        let unmounted = self
            .fstab
            .iter()
            .find(|at| !self.mounts.iter().any(|(mounted, _)| mounted == *at));
        match unmounted {
            Some(at) => Diagnosis::new(format!(
                "{at}, where config.txt stands, is in /etc/fstab and is not mounted"
            ))
            .cure(format!("look why: findmnt {at}; mount {at}")),
            None => Diagnosis::new(
                "there is no config.txt in /boot/firmware or /boot: this machine's firmware is not a Raspberry Pi's",
            )
            .cure("leave the setting to Raspberry Pis: when: facts.board.model is startingwith \"Raspberry Pi\""),
        }
    }

    fn read_only(&self, path: &str) -> Option<&str> {
        self.mounts
            .iter()
            .filter(|(at, _)| {
                path.strip_prefix(at.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
            })
            .max_by_key(|(at, _)| at.len())
            .filter(|(_, read_only)| *read_only)
            .map(|(at, _)| at.as_str())
    }
}

impl ConfigTxt {
    fn parsed(&self) -> Setting {
        // `absent` may name a key alone; `check` has refused everything else that is no setting.
        Setting::read(&self.setting).unwrap_or_else(|| Setting {
            id: Id::Key(self.setting.trim().to_owned()),
            value: String::new(),
        })
    }

    /// What it is called in plans and records: without its value.
    fn name(&self) -> String {
        let name = match self.parsed().id {
            Id::Key(key) => key,
            Id::Param(name) => format!("dtparam={name}"),
            Id::Overlay(name) => format!("dtoverlay={name}"),
            Id::Pins(pins) => format!("gpio={pins}"),
        };
        match self.section.as_str() {
            "all" => name,
            section => format!("{section}:{name}"),
        }
    }

    fn with<T>(&self, board: &Board, ask: impl FnOnce(Wish<'_>) -> T) -> T {
        let setting = self.parsed();
        ask(Wish {
            setting: &setting,
            section: &self.section,
            board,
        })
    }

    fn is_right(&self, seen: &ConfigTxtSeen, board: &Board) -> bool {
        self.with(board, |wish| match self.state {
            Presence::Present => wish.is_set(&seen.files),
            Presence::Absent => !wish.is_said(&seen.files),
        })
    }

    fn edited(&self, seen: &ConfigTxtSeen, board: &Board) -> Vec<ConfigFile> {
        self.with(board, |wish| match self.state {
            Presence::Present => wish.set(&seen.files),
            Presence::Absent => wish.unset(&seen.files),
        })
    }

    /// Files before and after, those that change.
    fn edits<'a>(
        &self,
        seen: &'a ConfigTxtSeen,
        board: &Board,
    ) -> Vec<(&'a ConfigFile, ConfigFile)> {
        let after = self.edited(seen, board);
        seen.files
            .iter()
            .zip(after)
            .filter(|(before, after)| *before != after)
            .collect()
    }

    /// What it says now, for people.
    fn now(&self, seen: &ConfigTxtSeen, board: &Board) -> Shown {
        let values = self.with(board, |wish| wish.effective(&seen.files));
        match self.parsed().id {
            Id::Overlay(_) | Id::Pins(_) if !values.is_empty() => {
                let shown: Vec<&str> = values
                    .iter()
                    .map(|v| if v.is_empty() { "set" } else { v.as_str() })
                    .collect();
                Shown::text(shown.join("; "))
            }
            _ => values.last().map_or(Shown::Absent, Shown::text),
        }
    }

    fn wanted(&self) -> Shown {
        match (self.state, self.parsed().value.as_str()) {
            (Presence::Absent, _) => Shown::Absent,
            (_, "") => Shown::text("set"),
            (_, value) => Shown::text(value),
        }
    }

    /// Why this boot is not yet as the files say.
    fn waiting(&self, seen: &ConfigTxtSeen, board: &Board) -> Option<String> {
        if self.with(board, |wish| wish.applies()) == Applies::No {
            return None;
        }
        let big_pages = self.state == Presence::Present
            && self.setting.trim() == "kernel=kernel8.img"
            && seen.page_size == Some(16384);
        if big_pages {
            return Some("the running kernel still has pages of 16 KiB".into());
        }
        if seen.booted.is_empty() {
            return None;
        }
        let (was, is) = self.with(board, |wish| {
            (wish.effective(&seen.booted), wish.effective(&seen.files))
        });
        (was != is).then(|| {
            let file = seen.files.first().map_or("config.txt", |f| f.path.as_str());
            format!("{} in {file} counts from the next boot", self.name())
        })
    }

    /// Would leave a node behind that only a hand can reach.
    fn cuts_off(&self, ctx: Ctx<'_>) -> Option<Diagnosis> {
        let port = &ctx.facts.now.ssh_wifi;
        // The firmware takes the one for a Pi 5 there by itself; people write it all the same.
        let off = matches!(self.parsed().id, Id::Overlay(name) if matches!(name.as_str(), "disable-wifi" | "disable-wifi-pi5"));
        let here = self.with(&ctx.facts.board, |wish| wish.applies()) != Applies::No;
        if port.is_empty() || !off || !here || self.state == Presence::Absent {
            return None;
        }
        Some(
            Diagnosis::new(format!(
                "SSH reaches this node by {port}: with Wi-Fi off it would be gone after the reboot; nothing was changed"
            ))
            .cure("connect it by cable, give the inventory that address, and apply again"),
        )
    }
}

impl Kind for ConfigTxt {
    const NAME: &'static str = "config_txt";
    type Observation = ConfigTxtSeen;

    fn key(&self) -> String {
        self.name()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let text = self.setting.trim();
        let key_alone = self.state == Presence::Absent
            && !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':');
        let plain = text.bytes().all(|b| (b' '..=b'~').contains(&b));
        if !(plain && (key_alone || Setting::read(text).is_some())) {
            wrong.push(format!(
                "setting {:?} is not one setting such as gpu_mem=16, dtparam=pciex1_gen=3 or dtoverlay=disable-wifi",
                self.setting
            ));
        } else if text.len() > LONGEST_LINE {
            wrong.push(format!(
                "setting is longer than {LONGEST_LINE} characters, which the firmware would cut"
            ));
        }
        let good = |b: u8| b.is_ascii_alphanumeric() || b"+=:_.-".contains(&b);
        if self.section.is_empty() || !self.section.bytes().all(good) || self.section == "none" {
            wrong.push(format!(
                "section {:?} is not a filter such as all, pi4, pi5 or cm4 (without brackets)",
                self.section
            ));
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![Query::Fragment(PROBE_SH.to_owned())])
    }

    fn observe(&self, answers: &Answers, ctx: Ctx<'_>) -> Result<Seen<ConfigTxtSeen>, Diagnosis> {
        let (_, text) = answers.fragment(PROBE_SH)?;
        let printed = Printed::read(text);
        if !printed.complete {
            return Err(Diagnosis::new(
                "the node did not say all about its config.txt",
            ));
        }
        let Some(dir) = printed.dir() else {
            return Err(printed.not_found());
        };
        let seen = ConfigTxtSeen {
            files: Printed::below(&printed.files, dir),
            booted: Printed::below(&printed.booted, dir),
            page_size: printed.page_size,
        };
        let board = &ctx.facts.board;
        let right = self.is_right(&seen, board);
        if (!right || self.waiting(&seen, board).is_some())
            && let Some(diagnosis) = self.cuts_off(ctx)
        {
            return Err(diagnosis);
        }
        for (file, _) in self.edits(&seen, board) {
            if file.text.contains('\u{FFFD}') {
                return Err(Diagnosis::new(format!(
                    "{} holds bytes that are not text, so it is not edited",
                    file.path
                ))
                .cure(format!(
                    "look at it: LC_ALL=C grep -naP '[^\\x01-\\x7f]' {}",
                    file.path
                )));
            }
            if let (false, Some(at)) = (right, printed.read_only(&file.path)) {
                return Err(Diagnosis::new(format!(
                    "{} must be edited and {at} is mounted read-only",
                    file.path
                ))
                .cure(format!("mount -o remount,rw {at}; if it comes back, check the card: dmesg | grep -i fat")));
            }
        }
        Ok(Seen::Now(seen))
    }

    fn diff(&self, seen: &ConfigTxtSeen, ctx: Ctx<'_>) -> Diff {
        let board = &ctx.facts.board;
        if self.is_right(seen, board) {
            return Diff::NoOp;
        }
        let edits = self.edits(seen, board);
        let paths: Vec<&str> = edits.iter().map(|(f, _)| f.path.as_str()).collect();
        let place = match self.section.as_str() {
            "all" => format!("in {}", paths.join(" and ")),
            section => format!("for [{section}] in {}", paths.join(" and ")),
        };
        let mut change = Change::new(Action::Update);
        let (now, wanted) = (self.now(seen, board), self.wanted());
        // Another section may say the same of this board alone.
        let before = if now == wanted { Shown::Absent } else { now };
        change = change
            .field(&self.name(), before, wanted)
            .because(format!("{place}; the text before is kept as .bak"));
        let mut text = String::new();
        for (before, after) in &edits {
            change.bytes += after.text.len() as u64;
            if edits.len() > 1 {
                text.push_str(&format!("{}:\n", before.path));
            }
            text.push_str(&text_diff(&before.text, &after.text));
        }
        change.text = Some(text);
        if self.with(board, |wish| wish.applies()) != Applies::No {
            change = change.effect(reboot());
        }
        Diff::Change(change)
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        Change::new(Action::Update)
            .field(&self.name(), Shown::Later, self.wanted())
            .effect(reboot())
    }

    fn operation(
        &self,
        seen: &ConfigTxtSeen,
        _change: &Change,
        ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let mut script = format!("d={BOOTED}\nmkdir -p $d\n");
        // Before the first edit since this boot: what the firmware has read.
        for file in &seen.files {
            script.push_str(&format!(
                "f={} b=$d/{}\n[ -e \"$b\" ] || {{ put \"$f.bak\" 0755 root root < \"$f\"; put \"$b\" 0600 root root < \"$f\"; }}\n",
                quote(&file.path),
                quote(&file.path.replace('/', "%"))
            ));
        }
        for (before, after) in self.edits(seen, &ctx.facts.board) {
            script.push_str(&format!(
                "f={}\nsame \"$f\" {}\nm=$(stat -c %a -- \"$f\")\nprintf %s {} | put \"$f\" \"$m\" root root\n",
                quote(&before.path),
                sha256_hex(before.text.as_bytes()),
                quote(&after.text)
            ));
        }
        Ok(Operation::script(script))
    }

    /// Settings share a file: one after the other, each knowing that the ones before changed it.
    fn provides(&self) -> Vec<Token> {
        NodePath::new("/boot/firmware/config.txt")
            .ok()
            .map(Token::Path)
            .into_iter()
            .collect()
    }

    fn requires(&self) -> Vec<Token> {
        vec![Token::FirstBoot]
    }

    fn reboot_pending(&self, seen: &ConfigTxtSeen, ctx: Ctx<'_>) -> Option<String> {
        if !self.is_right(seen, &ctx.facts.board) {
            return None;
        }
        self.waiting(seen, &ctx.facts.board)
    }

    fn removal(&self) -> Option<Self> {
        (self.state == Presence::Present).then(|| Self {
            state: Presence::Absent,
            ..self.clone()
        })
    }
}
