//! `package`: apt packages that are installed (at these versions, on hold), or are not.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Effect, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::deb_version;
use crate::kinds::file::Presence;
use crate::kinds::kernel_module::{self, Module};
use crate::operation::Operation;
use crate::query::{Answers, PackageState, Query};
use crate::shell::words;
use crate::token::Token;

/// apt packages. All that are missing are installed in one transaction, without questions; the lock
/// is waited for, an interrupted dpkg is repaired first, and the package lists are fetched only when
/// they do not know what is wanted. Packages already installed are never upgraded unless a version is
/// given. Leaving the documents removes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Names: `curl`, with a version `kubelet=1.33.2-1.1`, or the beginning of one
    /// `kubelet=1.33.*`. Real packages, not names that others provide (`awk`).
    pub names: Vec<String>,
    /// `present` or `absent`.
    #[serde(default)]
    pub state: Presence,
    /// `true`: on hold, so that upgrades leave them alone; `false`: not on hold. Left out: as it
    /// is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<bool>,
    /// Also install what they recommend.
    #[serde(default)]
    pub recommends: bool,
    /// With `absent`: remove their configuration files too.
    #[serde(default)]
    pub purge: bool,
    /// Kernel modules they are there for (`vxlan`): nothing is installed while the node's kernel has
    /// all of them without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub for_modules: Vec<String>,
}

/// What was seen of packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSeen {
    /// One for each name, in the order of the names.
    pub packages: Vec<PackageState>,
    /// dpkg was interrupted: the names of the journals it left in `/var/lib/dpkg/updates`.
    pub interrupted: Vec<String>,
    /// There are package lists at all.
    pub lists: bool,
    /// Modules of `for_modules` that no installed kernel has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_modules: Vec<String>,
}

/// Journals dpkg left (all-digit names; present also while dpkg runs, when the lock is held), and
/// whether apt has lists. Names and places as in dpkg's `lib/dpkg/dbmodify.c`.
const STATE_SH: &str = r#"# package database
R=
j=; for f in $R/var/lib/dpkg/updates/[0-9]*; do [ ! -e "$f" ] || j="$j ${f##*/}"; done
if [ -n "$j" ] && i=$(stat -c %i $R/var/lib/dpkg/lock 2>/dev/null); then
  while read -r _ k _ _ _ n _; do case $k:$n in POSIX:*:"$i") j=;; esac; done < $R/proc/locks
fi
echo "journals=$j"
for f in $R/var/lib/apt/lists/*Packages*; do if [ -e "$f" ]; then echo lists=1; break; fi; done"#;

/// Packages whose change touches the way in.
pub(crate) const WAYS_IN: &[&str] = &[
    "openssh-server",
    "dropbear",
    "sudo",
    "sudo-rs",
    "network-manager",
    "netplan.io",
    "systemd",
    "ifupdown",
    "dhcpcd",
    "dhcpcd5",
    "dhcpcd-base",
];

pub(crate) fn way_in(name: &str, state: Presence) -> Effect {
    Effect::Access(match state {
        Presence::Present => format!("{name} is installed"),
        Presence::Absent => format!("{name} is removed"),
    })
}

/// A name and the version asked for.
fn parse(name: &str) -> (&str, Option<&str>) {
    match name.split_once('=') {
        Some((name, version)) => (name, Some(version)),
        None => (name, None),
    }
}

fn matches(version: &str, wanted: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => version.starts_with(beginning),
        None => version == wanted,
    }
}

/// Why dpkg has not finished with a package, from the letters of deb(5)'s `db:Status-Abbrev`.
fn unfinished(state: &PackageState) -> Option<&'static str> {
    let letters = state.status.as_bytes();
    if letters.get(2) == Some(&b'R') {
        return Some("must be installed again");
    }
    match letters.get(1) {
        Some(b'U') => Some("unpacked, not configured"),
        Some(b'F') => Some("half configured"),
        Some(b'H') => Some("half installed"),
        _ => None,
    }
}

/// How a package is spoken of before the change.
fn before(state: &PackageState) -> Shown {
    match (&state.version, unfinished(state)) {
        (Some(version), Some(what)) => Shown::text(format!("{version} ({what})")),
        (None, Some(what)) => Shown::text(what),
        (Some(version), None) if state.installed() => Shown::text(version),
        _ => Shown::Absent,
    }
}

impl Package {
    fn query(&self, name: &str) -> Query {
        let (name, version) = parse(name);
        Query::Package {
            name: name.to_owned(),
            version: version.map(str::to_owned),
            candidates: self.state == Presence::Present,
        }
    }

    fn bare_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| parse(name).0)
    }

    fn pairs<'a>(
        &'a self,
        seen: &'a PackageSeen,
    ) -> impl Iterator<Item = (&'a str, Option<&'a str>, &'a PackageState)> {
        self.names.iter().zip(&seen.packages).map(|(name, state)| {
            let (name, version) = parse(name);
            (name, version, state)
        })
    }

    /// Whether this one has to be installed, changed or finished.
    fn is_due(version: Option<&str>, state: &PackageState) -> bool {
        let right = version.is_none_or(|wanted| {
            state
                .version
                .as_deref()
                .is_some_and(|version| matches(version, wanted))
        });
        !(state.installed() && right && unfinished(state).is_none())
    }

    /// The version that will be installed, as far as the lists tell, and what is to be said of it.
    fn after(
        version: Option<&str>,
        state: &PackageState,
        lists: bool,
    ) -> (Shown, Option<&'static str>) {
        let unknown = if lists {
            "not in the package lists, which are fetched again first"
        } else {
            "there are no package lists yet; they are fetched first"
        };
        match version {
            None if state.installed() || unfinished(state).is_some() => {
                let version = state.candidate.as_ref().or(state.version.as_ref());
                (version.map_or(Shown::Later, Shown::text), None)
            }
            None => match &state.candidate {
                Some(candidate) => (Shown::text(candidate), None),
                None => (Shown::Later, Some(unknown)),
            },
            // The table is in apt's order: the best first.
            Some(wanted) => match state.available.iter().find(|v| matches(v, wanted)) {
                Some(version) => (Shown::text(version), None),
                None if wanted.ends_with('*') => (Shown::Later, Some(unknown)),
                None => (Shown::text(wanted), Some(unknown)),
            },
        }
    }

    /// A version that was asked for is, or could turn out to be, older than the installed one.
    fn may_go_back(version: Option<&str>, state: &PackageState) -> bool {
        let (Some(_), Some(old)) = (version, &state.version) else {
            return false;
        };
        match Self::after(version, state, true).0 {
            Shown::Text(new) => {
                state.installed() && deb_version::compare(&new, old) == Ordering::Less
            }
            _ => state.installed(),
        }
    }

    fn modules(&self) -> impl Iterator<Item = String> {
        self.for_modules.iter().map(|name| name.replace('-', "_"))
    }

    fn diff_present(&self, seen: &PackageSeen) -> Diff {
        if !self.for_modules.is_empty() && seen.missing_modules.is_empty() {
            return Diff::NoOp;
        }
        let mut change = Change::new(Action::Update);
        let mut known = false;
        for (name, version, state) in self.pairs(seen) {
            if !Self::is_due(version, state) {
                known = true;
                continue;
            }
            let (after, why) = Self::after(version, state, seen.lists);
            let before = before(state);
            known |= before != Shown::Absent;
            let why = why.or(
                if after != Shown::Later && Self::may_go_back(version, state) {
                    Some("a downgrade, asked for by its version")
                } else if state.status.as_bytes().get(1) == Some(&b'c') {
                    Some("removed earlier; its configuration files are still there")
                } else {
                    None
                },
            );
            change = change.field(name, before, after);
            if !seen.missing_modules.is_empty() {
                let modules = seen.missing_modules.join(", ");
                change = change.because(format!("the kernel lacks {modules}"));
            }
            if let Some(why) = why {
                change = change.because(why);
            }
            if WAYS_IN.contains(&name) {
                change = change.effect(way_in(name, self.state));
            }
        }
        if let Some(hold) = self.hold {
            for (name, _, state) in self.pairs(seen) {
                if state.held() != hold {
                    change =
                        change.field(&format!("{name} hold"), shown(state.held()), shown(hold));
                }
            }
        }
        if !known && seen.interrupted.is_empty() {
            change.action = Action::Create;
        }
        with_repair(change, seen).into_diff()
    }

    fn diff_absent(&self, seen: &PackageSeen) -> Diff {
        let mut change = Change::new(Action::Delete);
        for (name, _, state) in self.pairs(seen) {
            let letter = state.status.as_bytes().get(1).copied();
            let config_left = self.purge && letter == Some(b'c');
            if config_left {
                change = change.field(name, Shown::text("configuration files"), Shown::Absent);
            } else if before(state) != Shown::Absent {
                change = change.field(name, before(state), Shown::Absent);
                if WAYS_IN.contains(&name) {
                    change = change.effect(way_in(name, self.state));
                }
            }
        }
        with_repair(change, seen).into_diff()
    }

    fn script_present(&self, seen: &PackageSeen) -> String {
        let due: Vec<_> = self
            .pairs(seen)
            .filter(|(_, version, state)| Self::is_due(*version, state))
            .collect();
        let mut script = String::new();
        let unknown: Vec<&str> = due
            .iter()
            .filter(|(_, version, state)| {
                let (_, why) = Self::after(*version, state, seen.lists);
                why.is_some()
            })
            .map(|(name, _, _)| *name)
            .collect();
        if !unknown.is_empty() {
            script.push_str(&format!("refresh\nhave_candidate {}\n", words(unknown)));
        }
        let broken: Vec<&str> = due
            .iter()
            .filter(|(_, _, state)| state.status.as_bytes().get(2) == Some(&b'R'))
            .map(|(name, _, _)| *name)
            .collect();
        if !broken.is_empty() {
            script.push_str(&format!("install --reinstall install {}\n", words(broken)));
        }
        let specs: Vec<String> = due
            .iter()
            .map(|(name, version, _)| match version {
                Some(version) => format!("{name}={version}"),
                None => (*name).to_owned(),
            })
            .collect();
        if !specs.is_empty() {
            let mut flags = Vec::new();
            if !self.recommends {
                flags.push("--no-install-recommends");
            }
            if due
                .iter()
                .any(|(_, version, state)| Self::may_go_back(*version, state))
            {
                flags.push("--allow-downgrades");
            }
            if due.iter().any(|(_, _, state)| state.held()) {
                flags.push("--allow-change-held-packages");
            }
            flags.push("install");
            script.push_str(&format!("install {} {}\n", words(flags), words(specs)));
        }
        script.push_str(&self.script_hold(seen));
        script
    }

    /// Installing a package takes its hold away; one that nobody asked about is put back.
    fn script_hold(&self, seen: &PackageSeen) -> String {
        let mut script = String::new();
        let changed = |version, state: &PackageState| Self::is_due(version, state);
        let hold: Vec<&str> = self
            .pairs(seen)
            .filter(|(_, version, state)| match self.hold {
                Some(true) => !state.held() || changed(*version, state),
                Some(false) => false,
                None => state.held() && changed(*version, state),
            })
            .map(|(name, _, _)| name)
            .collect();
        if !hold.is_empty() {
            script.push_str(&format!(
                "locked apt-mark hold {} || explain\n",
                words(hold)
            ));
        }
        let unhold: Vec<&str> = self
            .pairs(seen)
            .filter(|(_, _, state)| self.hold == Some(false) && state.held())
            .map(|(name, _, _)| name)
            .collect();
        if !unhold.is_empty() {
            script.push_str(&format!(
                "locked apt-mark unhold {} || explain\n",
                words(unhold)
            ));
        }
        script
    }

    fn script_absent(&self, seen: &PackageSeen) -> String {
        let due: Vec<(&str, &PackageState)> = self
            .pairs(seen)
            .filter(|(_, _, state)| {
                before(state) != Shown::Absent
                    || (self.purge && state.status.as_bytes().get(1) == Some(&b'c'))
            })
            .map(|(name, _, state)| (name, state))
            .collect();
        if due.is_empty() {
            return String::new();
        }
        let verb = if self.purge { "purge" } else { "remove" };
        let held = due.iter().any(|(_, state)| state.held());
        let flags = if held {
            "--allow-change-held-packages"
        } else {
            ""
        };
        format!(
            "remove {verb} '{flags}' {}\n",
            words(due.iter().map(|(name, _)| *name))
        )
    }
}

fn shown(hold: bool) -> Shown {
    Shown::text(if hold { "on hold" } else { "not on hold" })
}

/// The field for an interrupted dpkg: apt refuses every work before it is repaired.
fn with_repair(change: Change, seen: &PackageSeen) -> Change {
    if seen.interrupted.is_empty() {
        return change;
    }
    let mut repair = Change::new(if change.fields.is_empty() {
        Action::Run
    } else {
        change.action
    })
    .field(
        "interrupted dpkg",
        Shown::text(format!("left work in {}", seen.interrupted.join(", "))),
        Shown::text("repaired"),
    )
    .because("a power cut or a killed dpkg; apt does nothing before it is repaired");
    repair.fields.extend(change.fields);
    repair.effects = change.effects;
    repair
}

impl Kind for Package {
    const NAME: &'static str = "package";
    type Observation = PackageSeen;

    fn key(&self) -> String {
        self.bare_names().collect::<Vec<_>>().join(",")
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.names.is_empty() {
            wrong.push("names is empty".into());
        }
        let mut once = BTreeSet::new();
        for entry in &self.names {
            let (name, version) = parse(entry);
            // Debian policy 5.6.1; an architecture (`libc6:armhf`) is not asked for.
            let first = name.bytes().next();
            if name.len() < 2
                || !first.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                || !name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
            {
                wrong.push(format!("{name:?} is not the name of a Debian package"));
            }
            if !once.insert(name) {
                wrong.push(format!("names has {name} twice"));
            }
            let Some(version) = version else { continue };
            let body = version.strip_suffix('*').unwrap_or(version);
            if body.is_empty()
                || !body
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"+-.:~".contains(&b))
            {
                wrong.push(format!(
                    "{version:?} is not a version of {name} (a `*` may stand at its end only)"
                ));
            }
            if self.state == Presence::Absent {
                wrong.push(format!("{entry}: a version makes no sense with `absent`"));
            }
        }
        if self.state == Presence::Absent && self.hold.is_some() {
            wrong.push("hold makes no sense with `absent`".into());
        }
        if self.state == Presence::Present && self.purge {
            wrong.push("purge needs `state: absent`".into());
        }
        if !self.for_modules.is_empty() && (self.state == Presence::Absent || self.hold.is_some()) {
            wrong.push("for_modules goes with neither `state: absent` nor `hold`".into());
        }
        for name in &self.for_modules {
            if !kernel_module::is_name(name) {
                wrong.push(format!("{name:?} is not the name of a kernel module"));
            }
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let mut queries = vec![Query::Fragment(STATE_SH.to_owned())];
        queries.extend(self.names.iter().map(|name| self.query(name)));
        queries.extend(
            self.modules()
                .map(|name| Query::Fragment(kernel_module::probe(&name))),
        );
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<PackageSeen>, Diagnosis> {
        let (_, state) = answers.fragment(STATE_SH)?;
        let journals = state
            .lines()
            .find_map(|line| line.strip_prefix("journals="))
            .ok_or_else(|| {
                Diagnosis::new("there is no dpkg here: packages can be managed on Debian, Raspberry Pi OS and Ubuntu only")
            })?;
        let mut packages = Vec::new();
        for name in &self.names {
            packages.push(answers.package(&self.query(name))?.clone());
        }
        let mut missing_modules = Vec::new();
        for name in self.modules() {
            let (_, printed) = answers.fragment(&kernel_module::probe(&name))?;
            if let Some((Module::Missing, _)) = kernel_module::read(printed) {
                missing_modules.push(name);
            }
        }
        Ok(Seen::Now(PackageSeen {
            missing_modules,
            packages,
            interrupted: journals
                .split_whitespace()
                .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
                .map(str::to_owned)
                .collect(),
            lists: state.lines().any(|line| line == "lists=1"),
        }))
    }

    fn diff(&self, seen: &PackageSeen, _ctx: Ctx<'_>) -> Diff {
        match self.state {
            Presence::Present => self.diff_present(seen),
            Presence::Absent => self.diff_absent(seen),
        }
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        let mut change = Change::new(match self.state {
            Presence::Present => Action::Create,
            Presence::Absent => Action::Delete,
        });
        for name in self.bare_names() {
            if WAYS_IN.contains(&name) {
                change = change.effect(way_in(name, self.state));
            }
            change = match self.state {
                Presence::Present => change.field(name, Shown::Absent, Shown::Later),
                Presence::Absent => change.field(name, Shown::Later, Shown::Absent),
            };
            if let Some(hold) = self.hold {
                change = change.field(&format!("{name} hold"), Shown::Later, shown(hold));
            }
        }
        change
    }

    fn operation(
        &self,
        seen: &PackageSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        // The first line says to people what the script is about.
        let names: Vec<&str> = self.bare_names().collect();
        let verb = match self.state {
            Presence::Present => "install",
            Presence::Absent => "remove",
        };
        let mut script = format!("# apt: {verb} {}\n", names.join(" "));
        script.push_str(include_str!("package.sh"));
        let unfinished = self.pairs(seen).any(|(_, _, s)| unfinished(s).is_some());
        if !seen.interrupted.is_empty() || unfinished {
            script.push_str("repair\n");
        }
        script.push_str(&match self.state {
            Presence::Present => self.script_present(seen),
            Presence::Absent => self.script_absent(seen),
        });
        // Slow cards and slow mirrors: a kernel or a language runtime takes its time.
        Ok(Operation::script(script).within(Duration::from_secs(20 * 60)))
    }

    fn provides(&self) -> Vec<Token> {
        match self.state {
            Presence::Present => self
                .bare_names()
                .map(|name| Token::Package(name.to_owned()))
                .collect(),
            Presence::Absent => Vec::new(),
        }
    }

    fn requires(&self) -> Vec<Token> {
        vec![Token::AptIndex, Token::FirstBoot]
    }
}
