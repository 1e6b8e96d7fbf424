//! `swap`: no swap, now and after every reboot.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::edit;
use crate::kinds::file::text_diff;
use crate::operation::Operation;
use crate::path::NodePath;
use crate::program::sha256_hex;
use crate::query::{Answers, PathState, Query};
use crate::shell::{quote, words};
use crate::token::Token;

pub mod fstab;
mod sources;

pub use sources::Source;

/// Swap of the node. Everything that switches it on at boot is found and switched off in a way that
/// can be taken back (`/etc/fstab`, swap units, dphys-swapfile, rpi-swap, zram-generator, zram-tools,
/// zram-config, Armbian, `DietPi`), then swap in use is taken back. Leaving the documents switches
/// nothing on again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// `off`.
    pub state: SwapState,
}

/// How swap should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SwapState {
    /// None, now and after a reboot.
    Off,
}

/// Swap in use, from `/proc/swaps`: proc_swaps(5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveSwap {
    /// Device or file.
    pub name: String,
    /// Size in KiB.
    pub size_kib: u64,
    /// In use, in KiB.
    pub used_kib: u64,
}

/// What was seen of swap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapSeen {
    /// In use now.
    pub active: Vec<ActiveSwap>,
    /// Switched on at the next boot.
    pub sources: Vec<Source>,
    /// `/etc/fstab`, when it switches swap on.
    pub fstab: Option<Fstab>,
}

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fstab {
    /// Mode and owner, which an edit keeps.
    pub path: PathState,
    /// Its text.
    pub text: String,
}

const PROBE_SH: &str = include_str!("swap/probe.sh");

const FSTAB: &str = "/etc/fstab";

/// Takes back what is swapped out. swapoff(8): status 2 is "not enough memory"; with `-a` 32 and 64
/// are "all" and "some failed", also for entries that were not on.
const SWAPOFF_SH: &str = include_str!("swap/off.sh");

fn fstab_path() -> Result<NodePath, Diagnosis> {
    NodePath::new(FSTAB).map_err(|e| Diagnosis::new(e.to_string()))
}

fn mib(kib: u64) -> String {
    format!("{} MiB", kib.div_ceil(1024))
}

impl ActiveSwap {
    /// From `NAME TYPE SIZE USED`.
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let _type = words.next()?;
        Some(Self {
            name,
            size_kib: words.next()?.parse().ok()?,
            used_kib: words.next()?.parse().ok()?,
        })
    }

    fn shown(&self) -> String {
        format!(
            "{} ({}, {} in use)",
            self.name,
            mib(self.size_kib),
            mib(self.used_kib)
        )
    }
}

impl Kind for Swap {
    const NAME: &'static str = "swap";
    type Observation = SwapSeen;

    fn key(&self) -> String {
        "off".into()
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let mut queries = edit::queries(&fstab_path()?);
        queries.push(Query::Fragment(PROBE_SH.to_owned()));
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, ctx: Ctx<'_>) -> Result<Seen<SwapSeen>, Diagnosis> {
        let (_, text) = answers.fragment(PROBE_SH)?;
        let printed = sources::Printed::read(text);
        if !printed.complete {
            return Err(Diagnosis::new("the node did not say all about its swap"));
        }
        let mut active = Vec::new();
        for line in &printed.now {
            active.push(ActiveSwap::read(line).ok_or_else(|| {
                Diagnosis::new(format!("a line of /proc/swaps makes no sense: {line:?}"))
            })?);
        }
        let mut sources = printed.sources(ctx.facts.memory_mib);
        let path = fstab_path()?;
        let devices = answers
            .text(&path)?
            .map(fstab::swap_devices)
            .unwrap_or_default();
        let mut fstab = None;
        if !devices.is_empty() {
            // Only now it matters whether it can be edited.
            if let Seen::Now(seen) = edit::observe(&path, edit::Missing::Fine, answers)? {
                fstab = seen.path.map(|path| Fstab {
                    path,
                    text: seen.text,
                });
            }
            sources.insert(0, Source::Fstab(devices));
        }
        Ok(Seen::Now(SwapSeen {
            active,
            sources,
            fstab,
        }))
    }

    fn diff(&self, seen: &SwapSeen, _ctx: Ctx<'_>) -> Diff {
        let mut change = Change::new(Action::Update);
        if !seen.active.is_empty() {
            let now: Vec<String> = seen.active.iter().map(ActiveSwap::shown).collect();
            change = change.field("now", Shown::text(now.join(", ")), Shown::text("off"));
        }
        for source in &seen.sources {
            change = change
                .field(
                    &format!("after a reboot: {}", source.name()),
                    Shown::text(source.what()),
                    Shown::text("off"),
                )
                .because(source.cure());
        }
        if let Some(fstab) = &seen.fstab {
            let after = fstab::without_swap(&fstab.text);
            change.bytes = after.len() as u64;
            change.text = Some(text_diff(&fstab.text, &after));
        }
        change.into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        Change::new(Action::Update).field("now", Shown::Later, Shown::text("off"))
    }

    fn operation(
        &self,
        seen: &SwapSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let mut script = String::new();
        let mut payload = None;
        // Sources first: should taking back fail for want of memory, a reboot mends it.
        if let Some(fstab) = &seen.fstab {
            script.push_str(&format!(
                "same {} {}\nput {}\n",
                quote(FSTAB),
                sha256_hex(fstab.text.as_bytes()),
                words([
                    FSTAB,
                    &format!("{:04o}", fstab.path.mode),
                    &fstab.path.owner,
                    &fstab.path.group,
                ])
            ));
            payload = Some(fstab::without_swap(&fstab.text).into_bytes());
        }
        for source in &seen.sources {
            script.push_str(&source.script());
        }
        if !seen.active.is_empty() {
            script.push_str(SWAPOFF_SH);
        }
        // A gigabyte comes back from an SD card at some ten MB/s.
        let operation = Operation::script(script).within(Duration::from_secs(15 * 60));
        Ok(match payload {
            Some(bytes) => operation.with_payload(bytes),
            None => operation,
        })
    }

    fn provides(&self) -> Vec<Token> {
        // Whoever edits fstab too does so before or after, not in between.
        let fstab = fstab_path().ok().map(Token::Path);
        fstab.into_iter().chain([Token::SwapOff]).collect()
    }

    fn requires(&self) -> Vec<Token> {
        vec![Token::FirstBoot]
    }
}
