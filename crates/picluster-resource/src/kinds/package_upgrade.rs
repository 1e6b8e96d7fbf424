//! `package_upgrade`: no package could be newer.

use std::cmp::Ordering;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Effect, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::deb_version;
use crate::kinds::file::Presence;
use crate::kinds::package::{WAYS_IN, way_in};
use crate::kinds::package_lists::{AGE_SH, ListsSeen, a_day, bound_is_wrong};
use crate::operation::Operation;
use crate::query::{Answers, Query};
use crate::shell::words;
use crate::token::Token;

/// The packages of a node's system at the newest versions its repositories have, by `apt-get upgrade --with-new-pkgs`:
/// nothing is removed, and what is on hold stays. All go in one transaction. When a new kernel waits, or a package has asked
/// for it (`/run/reboot-required`), the node reboots. A node of a cluster is drained before and takes pods again when it is
/// Ready: servers one by one, agents `max_unavailable` at a time. With package lists older than `max_age_days` nothing is
/// known: `package_lists` fetches them, and the next plan tells what they bring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PackageUpgrade {
    /// Which packages.
    pub which: Which,
    /// How old the package lists may be, in days.
    #[serde(default = "a_day")]
    pub max_age_days: u32,
}

/// Which packages are upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// All of them.
    All,
    /// Those for which the suite of security updates has a newer one (`bookworm-security`, `noble-security`). The
    /// repositories of Raspberry Pi have no such suite.
    Security,
}

/// What could be newer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeSeen {
    /// The package lists are too old to tell.
    pub stale: bool,
    /// dpkg was interrupted.
    pub interrupted: bool,
    /// Packages, in apt's order.
    pub packages: Vec<Newer>,
    /// Why the node has to reboot.
    pub reboot: Option<String>,
}

/// A package that could be newer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newer {
    /// Its name.
    pub name: String,
    /// The version that is installed; `None`: another one needs it.
    pub from: Option<String>,
    /// The version that the repositories have.
    pub to: String,
}

const EXACTLY_SH: &str = include_str!("package_upgrade/exactly.sh");
const PROBE_SH: &str = include_str!("package_upgrade/probe.sh");

/// Packages after whose upgrade a machine has to reboot (the list of update-notifier's and unattended-upgrades' hooks, and
/// the kernels of Raspberry Pi).
const KERNELS: &[&str] = &[
    "linux-image-",
    "linux-modules-",
    "raspberrypi-kernel",
    "raspberrypi-bootloader",
    "raspi-firmware",
];

/// One line of apt's simulation: `Inst NAME [OLD] (NEW ORIGIN, ORIGIN [ARCH])`, each origin `LABEL:VERSION/ARCHIVE`
/// (apt, apt-private/private-output.cc and pkgcache's `RelStr`). Returns whether it comes from a suite of security updates.
fn parse(line: &str) -> Option<(Newer, bool)> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
    let (from, rest) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (old, rest) = rest.split_once("] ")?;
            (Some(old.to_owned()), rest)
        }
        None => (None, rest),
    };
    let (inside, _) = rest.strip_prefix('(')?.split_once(')')?;
    let (to, origins) = inside.split_once(' ').unwrap_or((inside, ""));
    let origins = origins.rsplit_once(" [").map_or(origins, |(o, _)| o);
    let security = origins.split(", ").any(|o| {
        o.rsplit_once('/')
            .is_some_and(|(_, archive)| archive.ends_with("-security"))
    });
    let newer = Newer {
        name: name.to_owned(),
        from,
        to: to.to_owned(),
    };
    Some((newer, security))
}

/// A kernel's release in its two parts: version, and what it is built for (`6.12.25+rpt` and `rpi-2712`).
fn release(text: &str) -> (String, &str) {
    let mut end = text.find('-').unwrap_or(text.len());
    while let Some(rest) = text.get(end + 1..) {
        let part = rest.split('-').next().unwrap_or(rest);
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            break;
        }
        end += 1 + part.len();
    }
    let flavour = text.get(end + 1..).unwrap_or("");
    (text[..end].to_owned(), flavour)
}

/// The newest kernel that is installed and of the same sort as the one that runs, if it is newer.
fn newer_kernel<'a>(running: &str, installed: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (version, flavour) = release(running);
    if flavour.is_empty() {
        return None;
    }
    installed
        .filter(|k| release(k).1 == flavour)
        .max_by(|a, b| deb_version::compare(&release(a).0, &release(b).0))
        .filter(|k| deb_version::compare(&release(k).0, &version) == Ordering::Greater)
}

impl PackageUpgrade {
    fn repair(seen: &UpgradeSeen) -> Change {
        let change = Change::new(Action::Update);
        if !seen.interrupted {
            return change;
        }
        change
            .field(
                "interrupted dpkg",
                Shown::text("left work"),
                Shown::text("repaired"),
            )
            .because("a power cut or a killed dpkg; apt does nothing before it is repaired")
    }
}

impl Kind for PackageUpgrade {
    const NAME: &'static str = "package_upgrade";
    type Observation = UpgradeSeen;

    fn key(&self) -> String {
        "apt".into()
    }

    fn check(&self) -> Vec<String> {
        bound_is_wrong(self.max_age_days)
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![
            Query::Fragment(AGE_SH.to_owned()),
            Query::Fragment(PROBE_SH.to_owned()),
        ])
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<UpgradeSeen>, Diagnosis> {
        let lists = ListsSeen::of(answers, self.max_age_days)?;
        let (_, text) = answers.fragment(PROBE_SH)?;
        let after = |name: &'static str| text.lines().filter_map(move |l| l.strip_prefix(name));
        let interrupted = text.lines().any(|l| l == "interrupted");
        let failed: Vec<&str> = after("failed ").collect();
        if !interrupted && !text.lines().any(|l| l == "asked") {
            return Err(Diagnosis::new(format!(
                "apt cannot say what could be newer: {}",
                failed.join("; ")
            ))
            .cure("on the node: sudo apt-get -s upgrade"));
        }
        let running = after("running ").next().unwrap_or("");
        let asked = after("reboot ")
            .next()
            .map(str::trim)
            .or_else(|| text.lines().any(|l| l.trim() == "reboot").then_some(""));
        let reboot = match (newer_kernel(running, after("kernel ")), asked) {
            (Some(kernel), _) => Some(format!("kernel {kernel} is installed, and {running} runs")),
            (None, Some("")) => Some("a package has asked for a reboot".to_owned()),
            (None, Some(names)) => Some(format!("{} asked for a reboot", names.replace(' ', ", "))),
            (None, None) => None,
        };
        let packages = text
            .lines()
            .filter_map(parse)
            .filter(|(_, security)| *security || self.which == Which::All)
            .map(|(newer, _)| newer)
            .collect();
        Ok(Seen::Now(UpgradeSeen {
            stale: lists.stale,
            interrupted,
            packages,
            reboot,
        }))
    }

    fn diff(&self, seen: &UpgradeSeen, _ctx: Ctx<'_>) -> Diff {
        if seen.stale || (seen.packages.is_empty() && !seen.interrupted) {
            return Diff::NoOp;
        }
        let mut change = Self::repair(seen);
        let mut kernel = None;
        for package in &seen.packages {
            let name = package.name.as_str();
            let before = package.from.as_ref().map_or(Shown::Absent, Shown::text);
            change = change.field(name, before, Shown::text(&package.to));
            if package.from.is_none() {
                change = change.because("another one needs it");
            }
            if WAYS_IN.contains(&name) {
                change = change.effect(way_in(name, Presence::Present));
            }
            if KERNELS.iter().any(|k| name.starts_with(k)) {
                kernel.get_or_insert(name);
            }
        }
        let why = match kernel {
            Some(name) => format!("{name} is upgraded"),
            None => "only if one of the upgraded packages asks for it".to_owned(),
        };
        Diff::Change(change.effect(Effect::Reboot(why)))
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        Change::new(Action::Update).field("packages", Shown::Later, Shown::Later)
    }

    fn operation(
        &self,
        seen: &UpgradeSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let mut script = format!(
            "# apt: upgrade {} packages\n{}",
            seen.packages.len(),
            include_str!("package.sh")
        );
        // What was shown is upgraded, and nothing else: a version that is gone is not taken for leave to take another one.
        script.push_str(EXACTLY_SH);
        if seen.interrupted {
            script.push_str("repair\n");
        }
        if !seen.packages.is_empty() {
            match self.which {
                Which::All => script.push_str("install --with-new-pkgs upgrade\n"),
                Which::Security => {
                    let names = || seen.packages.iter().map(|p| p.name.clone());
                    let exact = seen.packages.iter().map(|p| format!("{}={}", p.name, p.to));
                    // Named packages would be taken for wanted ones, and never go again by themselves.
                    script.push_str(&format!(
                        "only_these {names} -- {exact}\nauto=$(apt-mark showauto {names})\ninstall --no-install-recommends install {exact}\n[ -z \"$auto\" ] || locked apt-mark auto $auto || explain\n",
                        names = words(names()),
                        exact = words(exact),
                    ));
                }
            }
        }
        // A hundred packages on a slow card.
        Ok(Operation::script(script).within(Duration::from_secs(60 * 60)))
    }

    fn requires(&self) -> Vec<Token> {
        vec![Token::FirstBoot]
    }

    fn reboot_pending(&self, seen: &UpgradeSeen, _ctx: Ctx<'_>) -> Option<String> {
        seen.reboot.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn lines_of_a_simulation_are_read() {
        for (line, name, from, to, security) in [
            (
                "Inst libssl3 [3.0.15-1~deb12u1] (3.0.17-1~deb12u2 Debian-Security:12/oldstable-security [arm64])",
                "libssl3",
                Some("3.0.15-1~deb12u1"),
                "3.0.17-1~deb12u2",
                true,
            ),
            (
                "Inst base-files [12.4+deb12u9] (12.4+deb12u12 Debian:12.12/oldstable [arm64]) []",
                "base-files",
                Some("12.4+deb12u9"),
                "12.4+deb12u12",
                false,
            ),
            (
                "Inst libc6 [2.39-0ubuntu8.4] (2.39-0ubuntu8.6 Ubuntu:24.04/noble-updates, Ubuntu:24.04/noble-security [arm64])",
                "libc6",
                Some("2.39-0ubuntu8.4"),
                "2.39-0ubuntu8.6",
                true,
            ),
            (
                "Inst linux-image-6.12.34+rpt-rpi-v8 (1:6.12.34-1+rpt1 Raspberry Pi Foundation:stable [arm64])",
                "linux-image-6.12.34+rpt-rpi-v8",
                None,
                "1:6.12.34-1+rpt1",
                false,
            ),
            (
                "Inst lab-a [1] (2 localhost [all])",
                "lab-a",
                Some("1"),
                "2",
                false,
            ),
        ] {
            let (newer, safe) = parse(line).unwrap();
            assert_eq!(
                (
                    newer.name.as_str(),
                    newer.from.as_deref(),
                    newer.to.as_str(),
                    safe
                ),
                (name, from, to, security)
            );
        }
        for line in ["Conf libc6 (2.39 x)", "Inst", "Inst a", "Inst a [1] 2"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_newer_kernel_is_one_of_the_same_sort() {
        for (running, installed, newer) in [
            (
                "6.12.25+rpt-rpi-2712",
                &[
                    "6.12.25+rpt-rpi-2712",
                    "6.12.34+rpt-rpi-2712",
                    "6.12.40+rpt-rpi-v8",
                ][..],
                Some("6.12.34+rpt-rpi-2712"),
            ),
            (
                "6.12.34+rpt-rpi-v8",
                &["6.12.25+rpt-rpi-v8", "6.12.34+rpt-rpi-v8"],
                None,
            ),
            (
                "6.1.0-28-amd64",
                &["6.1.0-28-amd64", "6.1.0-30-amd64", "6.1.0-31-cloud-amd64"],
                Some("6.1.0-30-amd64"),
            ),
            (
                "6.8.0-1013-raspi",
                &["6.8.0-1013-raspi", "6.8.0-1030-raspi", "6.8.0-71-generic"],
                Some("6.8.0-1030-raspi"),
            ),
            (
                "6.1.21-v8+",
                &["6.6.31-v8+", "6.6.40-v7l+"],
                Some("6.6.31-v8+"),
            ),
            // Built by oneself, or the kernel of another machine.
            ("6.18.5", &["6.19.0"], None),
            ("6.8.0-9-raspi", &["6.8.0-10-raspi"], Some("6.8.0-10-raspi")),
            ("", &["6.1.0-28-amd64"], None),
        ] {
            assert_eq!(
                newer_kernel(running, installed.iter().copied()),
                newer,
                "{running}"
            );
        }
    }
}
