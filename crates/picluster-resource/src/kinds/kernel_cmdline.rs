//! `kernel_cmdline`: flags on the kernel's command line, in the right file, in force.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Effect, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::file::text_diff;
use crate::operation::{Operation, Undo};
use crate::path::NodePath;
use crate::program::sha256_hex;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::Token;

pub mod line;
mod locate;

pub use locate::{BootFile, Form};

/// Flags of the kernel's command line. The file is found on Raspberry Pi OS, Ubuntu (with and without
/// A/B boot), Debian, `DietPi` and Armbian; one line stays one line, foreign flags and their order stay,
/// the text before is kept beside it as `.bak`. What counts is the effect after a reboot, not the file.
/// Leaving the documents leaves the line as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KernelCmdline {
    /// The flags.
    pub tokens: CmdlineTokens,
    /// cgroup controllers the flags are there for (`memory`). A kernel that has them all without a
    /// flag does not get it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controllers: Vec<String>,
}

/// Flags that should and should not be there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CmdlineTokens {
    /// Must be in force: `cgroup_enable=memory`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub present: Vec<String>,
    /// Must not be there: `quiet`, or any value of a key: `usb_storage.quirks=*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
}

/// What was seen of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CmdlineSeen {
    /// Files that hold it, the one of this boot first.
    pub files: Vec<BootFile>,
    /// `/proc/cmdline`.
    pub running: String,
    /// cgroup controllers the kernel has switched on.
    pub controllers: Vec<String>,
    /// We edited a file and the node has not been rebooted since.
    pub edited: bool,
}

const PROBE_SH: &str = include_str!("kernel_cmdline/probe.sh");

/// Stands from an edit to the next reboot; `/run` is emptied by it.
const EDITED: &str = "/run/picluster/cmdline";

/// Whether a token belongs to an image's first boot, which rewrites or cuts the line when it is done:
/// `init=` of raspberrypi-sys-mods and raspi-config, pi-gen's `resize` (trixie), `systemd.run=` of
/// rpi-imager's firstrun.sh.
pub(crate) fn is_first_boot(token: &str) -> bool {
    token.starts_with("systemd.run=")
        || token == "resize"
        || (token.starts_with("init=/usr/lib/raspberrypi-sys-mods/")
            || token.starts_with("init=/usr/lib/raspi-config/"))
}

/// Said the same way before and after the files can be looked at.
fn reboot() -> Effect {
    Effect::Reboot("the kernel reads its command line at boot".into())
}

impl BootFile {
    /// The command line in it.
    fn line(&self) -> &str {
        let text = self.text.as_deref().unwrap_or("");
        match &self.form {
            Form::Line => line::first(text),
            Form::Key(key) => line::value(text, key).unwrap_or(""),
        }
    }

    fn edited(&self, present: &[&str], absent: &[&str]) -> String {
        let text = self.text.as_deref().unwrap_or("");
        match &self.form {
            Form::Line => line::edit_first(text, present, absent),
            Form::Key(key) => line::edit_value(text, key, present, absent),
        }
    }
}

impl KernelCmdline {
    fn missing_controllers<'a>(&'a self, seen: &CmdlineSeen) -> Vec<&'a str> {
        self.controllers
            .iter()
            .filter(|c| !seen.controllers.contains(c))
            .map(String::as_str)
            .collect()
    }

    /// The flags that must stand in the file. Where the controllers work, only those that this boot
    /// was given: a kernel that needs none gets none, and one that lives by a flag keeps it.
    fn required<'a>(&'a self, seen: &CmdlineSeen) -> Vec<&'a str> {
        let working = !self.controllers.is_empty() && self.missing_controllers(seen).is_empty();
        let running = line::tokens(&seen.running);
        self.tokens
            .present
            .iter()
            .map(String::as_str)
            .filter(|token| !working || line::in_force(&running, token))
            .collect()
    }

    fn absent(&self) -> Vec<&str> {
        self.tokens.absent.iter().map(String::as_str).collect()
    }

    /// The files that need an edit.
    fn wrong_files<'a>(&self, seen: &'a CmdlineSeen) -> Vec<&'a BootFile> {
        let (required, absent) = (self.required(seen), self.absent());
        seen.files
            .iter()
            .filter(|file| !line::is_right(file.line(), &required, &absent))
            .collect()
    }

    /// Why a reboot would be needed once the files are right.
    fn ineffective(&self, seen: &CmdlineSeen, absent_too: bool) -> Option<String> {
        let missing = self.missing_controllers(seen);
        if !missing.is_empty() {
            return Some(format!(
                "the kernel switches its {} cgroup controller on at boot",
                missing.join(" and ")
            ));
        }
        let running = line::tokens(&seen.running);
        if self.controllers.is_empty()
            && let Some(token) = self
                .tokens
                .present
                .iter()
                .find(|token| !line::in_force(&running, token))
        {
            return Some(format!("{token} counts from the next boot"));
        }
        // The firmware and the device tree put flags of their own in front, which no file can take
        // away: without an edit in this boot there is nothing to wait for.
        let still = running.iter().find(|token| {
            self.tokens
                .absent
                .iter()
                .any(|unwanted| line::is_meant(token, unwanted))
        });
        match still {
            Some(token) if absent_too => Some(format!("{token} is gone from the next boot on")),
            _ => None,
        }
    }

    /// A kernel that was given the flags and does not obey.
    fn deaf_kernel(&self, seen: &CmdlineSeen) -> Option<Diagnosis> {
        let missing = self.missing_controllers(seen);
        let running = line::tokens(&seen.running);
        let given = !self.tokens.present.is_empty()
            && self
                .tokens
                .present
                .iter()
                .all(|token| line::in_force(&running, token));
        if missing.is_empty() || !given {
            return None;
        }
        let what = format!(
            "the kernel was started with {} and still has no {} cgroup controller",
            self.tokens.present.join(" "),
            missing.join(" and ")
        );
        Some(if missing.contains(&"memory") {
            Diagnosis::new(what).cure(
                "Raspberry Pi kernels of November and December 2024 did not know cgroup_enable=memory (raspberrypi/linux PR #6524 put it back): update the kernel (apt full-upgrade, or rpi-update back to a stable one) and reboot",
            )
        } else {
            Diagnosis::new(what).cure("it may be built without it: zgrep CGROUP /proc/config.gz")
        })
    }
}

impl Kind for KernelCmdline {
    const NAME: &'static str = "kernel_cmdline";
    type Observation = CmdlineSeen;

    fn key(&self) -> String {
        let absent = self.tokens.absent.iter().map(|token| format!("!{token}"));
        let all: Vec<String> = self.tokens.present.iter().cloned().chain(absent).collect();
        all.join(" ")
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let CmdlineTokens { present, absent } = &self.tokens;
        if present.is_empty() && absent.is_empty() {
            wrong.push("tokens has neither `present` nor `absent`".into());
        }
        for token in present.iter().chain(absent) {
            if line::tokens(token) != [token.as_str()] || token.contains(['\n', '\0']) {
                wrong.push(format!("{token:?} is not one flag"));
            }
        }
        for token in present {
            if absent
                .iter()
                .any(|unwanted| line::is_meant(token, unwanted))
            {
                wrong.push(format!("{token} is in `present` and in `absent`"));
            }
        }
        for controller in &self.controllers {
            if controller.is_empty()
                || !controller
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_')
            {
                wrong.push(format!(
                    "{controller:?} is not the name of a cgroup controller"
                ));
            }
        }
        let all: Vec<&str> = present.iter().map(String::as_str).collect();
        for token in present {
            if !line::in_force(&all, token) {
                wrong.push(format!("`present` contradicts itself about {token}"));
            }
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![Query::Fragment(PROBE_SH.to_owned())])
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<CmdlineSeen>, Diagnosis> {
        let (_, text) = answers.fragment(PROBE_SH)?;
        let printed = locate::Printed::read(text);
        if !printed.complete {
            return Err(Diagnosis::new(
                "the node did not say all about its kernel command line",
            ));
        }
        let seen = CmdlineSeen {
            files: printed.files(),
            running: printed.running.clone(),
            controllers: printed.controllers.clone(),
            edited: printed.edited,
        };
        if let Some(diagnosis) = self.deaf_kernel(&seen) {
            return Err(diagnosis);
        }
        if seen.files.is_empty() {
            // Right as it is, wherever it comes from.
            return match self.ineffective(&seen, true) {
                None => Ok(Seen::Now(seen)),
                Some(_) => Err(printed.not_found()),
            };
        }
        for file in self.wrong_files(&seen) {
            if line::tokens(file.line()).into_iter().any(is_first_boot) {
                return Ok(Seen::NotYet(Token::FirstBoot));
            }
            if let Some(at) = printed.read_only(&file.path) {
                return Err(Diagnosis::new(format!(
                    "{} must be edited and {at} is mounted read-only",
                    file.path
                ))
                .cure(format!("mount -o remount,rw {at}; if it comes back, check the card: dmesg | grep -i fat")));
            }
        }
        Ok(Seen::Now(seen))
    }

    fn diff(&self, seen: &CmdlineSeen, _ctx: Ctx<'_>) -> Diff {
        let files = self.wrong_files(seen);
        if files.is_empty() {
            return Diff::NoOp;
        }
        let (required, absent) = (self.required(seen), self.absent());
        let mut change = Change::new(Action::Update);
        let paths: Vec<&str> = files.iter().map(|f| f.path.as_str()).collect();
        let place = format!(
            "in {}; the text before is kept as .bak",
            paths.join(" and ")
        );
        for token in required.iter().copied() {
            if files
                .iter()
                .all(|f| line::is_right(f.line(), &[token], &[]))
            {
                continue;
            }
            let there = files
                .iter()
                .any(|f| line::tokens(f.line()).contains(&token));
            let before = if there {
                Shown::text("overruled")
            } else {
                Shown::Absent
            };
            change = change
                .field(token, before, Shown::text("present"))
                .because(&place);
        }
        for unwanted in absent.iter().copied() {
            if !files
                .iter()
                .all(|f| line::is_right(f.line(), &[], &[unwanted]))
            {
                change = change
                    .field(unwanted, Shown::text("present"), Shown::Absent)
                    .because(&place);
            }
        }
        let mut text = String::new();
        for file in &files {
            let after = file.edited(&required, &absent);
            change.bytes += after.len() as u64;
            if files.len() > 1 {
                text.push_str(&format!("{}:\n", file.path));
            }
            text.push_str(&text_diff(file.text.as_deref().unwrap_or(""), &after));
        }
        change.text = Some(text);
        if self.ineffective(seen, true).is_some() {
            change = change.effect(reboot());
        }
        change.into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        let mut change = Change::new(Action::Update);
        for token in &self.tokens.present {
            change = change.field(token, Shown::Later, Shown::text("present"));
        }
        for token in &self.tokens.absent {
            change = change.field(token, Shown::Later, Shown::Absent);
        }
        change.effect(reboot())
    }

    fn operation(
        &self,
        seen: &CmdlineSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let (required, absent) = (self.required(seen), self.absent());
        let mut script = format!("mkdir -p /run/picluster\n: > {EDITED}\n");
        for file in self.wrong_files(seen) {
            let path = quote(&file.path);
            let after = quote(&file.edited(&required, &absent));
            match &file.text {
                Some(before) => {
                    let digest = sha256_hex(before.as_bytes());
                    script.push_str(&format!(
                        "f={path}\nsame \"$f\" {digest}\nm=$(stat -c %a -- \"$f\")\n\
                         put \"$f.bak\" \"$m\" root root < \"$f\"\nprintf %s {after} | put \"$f\" \"$m\" root root\n"
                    ));
                }
                None => script.push_str(&format!(
                    "printf '%s\\n' {after} | put {path} 0644 root root\n"
                )),
            }
        }
        Ok(Operation::script(script))
    }

    fn undo(&self, seen: Option<&CmdlineSeen>, _change: &Change) -> Option<Undo> {
        let files = seen.into_iter().flat_map(|seen| self.wrong_files(seen));
        Some(Undo {
            files: files
                .filter_map(|f| NodePath::new(f.path.clone()).ok())
                .collect(),
            script: String::new(),
        })
    }

    fn requires(&self) -> Vec<Token> {
        vec![Token::FirstBoot]
    }

    fn reboot_pending(&self, seen: &CmdlineSeen, _ctx: Ctx<'_>) -> Option<String> {
        if !self.wrong_files(seen).is_empty() {
            return None;
        }
        self.ineffective(seen, seen.edited)
    }
}
