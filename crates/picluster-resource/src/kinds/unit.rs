//! `unit`: a systemd unit that is enabled, running, masked, or not; and restarts when its files change.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Effect, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::operation::{Operation, Undo};
use crate::path::NodePath;
use crate::program::PENDING_DIR;
use crate::query::{Answers, Query, UnitState};
use crate::shell::quote;
use crate::token::{Reaction, Token};

/// A systemd unit. What is left out stays as it is. systemd reads changed unit files again by itself
/// before anything is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Its name with its suffix: `ssh.service`, `fstrim.timer`, `getty@tty1.service`.
    pub name: String,
    /// Whether it starts at boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether it runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// Whether it is masked: cannot be started by anything. Asking for `enabled` or `active` takes
    /// a mask away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked: Option<bool>,
    /// `true`: it is started without waiting until it is ready, as suits one that may wait for other
    /// machines. That it is on its way is then enough; whether it arrives, something else has to hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_block: bool,
    /// Files it reads at start: when one changes, it restarts, if it runs. The unit's own file in
    /// `/etc/systemd/system` is always among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart_on: Vec<NodePath>,
    /// Packages that hold what it runs, where they do not see to its restart. Whether it runs a program that has been replaced is
    /// seen on the process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart_on_packages: Vec<String>,
    /// Files it can read again without a restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reload_on: Vec<NodePath>,
}

/// Unit types of systemd.unit(5) that can be switched.
const SUFFIXES: &[&str] = &[
    ".service",
    ".socket",
    ".timer",
    ".mount",
    ".automount",
    ".swap",
    ".path",
    ".target",
    ".slice",
];

/// Units that carry the connection picluster itself comes in by.
const WAYS_IN: &[&str] = &[
    "ssh.service",
    "sshd.service",
    "ssh.socket",
    "dropbear.service",
    "NetworkManager.service",
    "systemd-networkd.service",
    "networking.service",
    "dhcpcd.service",
    "wpa_supplicant.service",
    "nftables.service",
    "netfilter-persistent.service",
    "ufw.service",
];

/// Packages of Debian and its kin whose units have another name than they. A package that is named
/// like its unit needs no entry.
const PACKAGES: &[(&str, &str)] = &[
    ("ssh", "openssh-server"),
    ("sshd", "openssh-server"),
    ("iscsid", "open-iscsi"),
    ("multipathd", "multipath-tools"),
    ("zramswap", "zram-tools"),
    ("NetworkManager", "network-manager"),
    ("containerd", "containerd.io"),
    ("docker", "docker.io"),
    ("nfs-server", "nfs-kernel-server"),
    ("systemd-zram-setup", "systemd-zram-generator"),
];

/// What will be said of a restart, in plan and apply alike.
const RESTARTED: &str = "restarted";
const RELOADED: &str = "reloaded";

/// Whether a unit starts at boot, from `UnitFileState` as systemctl(1) lists them under `is-enabled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boot {
    Yes,
    No,
    Masked,
    /// It has no say of its own: started by others, or made by a generator.
    Given,
}

fn boot(state: &UnitState) -> Boot {
    match state.file.as_str() {
        "enabled" | "alias" => Boot::Yes,
        "masked" | "masked-runtime" => Boot::Masked,
        "static" | "generated" | "transient" | "indirect" => Boot::Given,
        _ => Boot::No,
    }
}

fn is_masked(state: &UnitState) -> bool {
    state.load == "masked" || boot(state) == Boot::Masked
}

fn is_running(state: &UnitState) -> bool {
    matches!(state.active.as_str(), "active" | "reloading" | "refreshing")
}

fn is_stopped(state: &UnitState) -> bool {
    matches!(state.active.as_str(), "inactive" | "failed")
}

/// The active state in words.
fn running(state: &UnitState) -> String {
    match state.active.as_str() {
        "failed" if !matches!(state.result.as_str(), "" | "success") => {
            format!("failed ({})", state.result)
        }
        "active" | "inactive" | "failed" => state.active.clone(),
        other => format!("{other} ({})", state.sub),
    }
}

impl Unit {
    /// A unit of which nothing is wanted but that it takes up what it reads.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            enabled: None,
            active: None,
            masked: None,
            restart_on: Vec::new(),
            restart_on_packages: Vec::new(),
            reload_on: Vec::new(),
            no_block: false,
        }
    }

    /// Runs, or is on its way where that is enough.
    fn runs(&self, state: &UnitState) -> bool {
        is_running(state) || self.no_block && state.active == "activating"
    }

    /// Asks whether its process runs a file that is no longer there (proc_pid_exe(5)): dpkg puts a new one in its place.
    fn replaced(&self) -> Option<String> {
        (!self.restart_on_packages.is_empty()).then(|| {
            format!(
                "# program of {0}\np=$(systemctl show -p MainPID --value -- {1})\ncase $(readlink \"/proc/${{p:-0}}/exe\" 2>/dev/null) in *' (deleted)') echo replaced;; esac",
                self.name,
                quote(&self.name),
            )
        })
    }

    /// Something that needs the unit to exist is asked for.
    fn wants_it(&self) -> bool {
        self.active == Some(true) || self.enabled == Some(true)
    }

    fn own_file(&self) -> Option<NodePath> {
        NodePath::new(format!("/etc/systemd/system/{}", self.name)).ok()
    }

    /// The field of a restart or reload that is owed, with its effect.
    fn owe(&self, change: Change, how: &str, reason: String) -> Change {
        let (field, after, effect) = if how == "reload" {
            ("reload", RELOADED, Effect::Reload(self.name.clone()))
        } else {
            ("restart", RESTARTED, Effect::Restart(self.name.clone()))
        };
        let change = change
            .field(
                field,
                Shown::text("runs with what it read before"),
                Shown::text(after),
            )
            .because(reason)
            .effect(effect);
        self.access(change)
    }

    /// Starts or restarts it, and takes the mark away once the new process has read its files.
    fn start(&self, verb: &str, mark: &str) -> String {
        if self.no_block {
            format!("go {verb}\n{mark}")
        } else {
            format!("job {verb}\nsettled\n{mark}")
        }
    }

    fn access(&self, change: Change) -> Change {
        if WAYS_IN.contains(&self.name.as_str()) {
            change.effect(Effect::Access(format!("{} carries connections", self.name)))
        } else {
            change
        }
    }

    fn diff_mask(&self, seen: &UnitState, change: Change) -> Change {
        let masked = is_masked(seen);
        match self.masked {
            Some(true) if !masked => change.field("masked", Shown::text("no"), Shown::text("yes")),
            Some(false) if masked => change.field("masked", Shown::text("yes"), Shown::text("no")),
            None if masked && self.wants_it() => change
                .field("masked", Shown::text("yes"), Shown::text("no"))
                .because("a masked unit cannot be started"),
            _ => change,
        }
    }

    fn diff_boot(&self, seen: &UnitState, change: Change) -> Change {
        let state = if seen.file.is_empty() {
            "disabled"
        } else {
            &seen.file
        };
        match (self.enabled, boot(seen)) {
            (Some(true), Boot::No | Boot::Masked) => {
                change.field("enabled", Shown::text(state), Shown::text("enabled"))
            }
            // `enabled-runtime` and `linked` are gone or harmless after a reboot.
            (Some(false), Boot::Yes) => {
                change.field("enabled", Shown::text(state), Shown::text("disabled"))
            }
            _ => change,
        }
    }

    fn diff_active(&self, seen: &UnitState, change: Change) -> Change {
        let now = Shown::text(running(seen));
        match self.active {
            Some(true) if !self.runs(seen) => {
                let change = change.field("active", now, Shown::text("active"));
                let change = match seen.active.as_str() {
                    "failed" => change.because(format!(
                        "it failed; the cause stands in journalctl -u {}",
                        self.name
                    )),
                    "activating" if seen.sub == "auto-restart" => change.because(format!(
                        "it fails again and again; the cause stands in journalctl -u {}",
                        self.name
                    )),
                    _ => change,
                };
                self.access(change)
            }
            Some(false) if !is_stopped(seen) && seen.load != "not-found" => {
                let change = change.field("active", now, Shown::text("inactive"));
                let change = if seen.triggered_by.is_empty() {
                    change
                } else {
                    change.because(format!(
                        "{} may start it again",
                        seen.triggered_by.join(", ")
                    ))
                };
                self.access(change)
            }
            _ => change,
        }
    }
}

impl Kind for Unit {
    const NAME: &'static str = "unit";
    type Observation = UnitState;

    fn key(&self) -> String {
        self.name.clone()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let stem = SUFFIXES.iter().find_map(|s| self.name.strip_suffix(s));
        match stem {
            None => wrong.push(format!(
                "name {:?} has no unit type; write for instance \"{}.service\"",
                self.name, self.name
            )),
            Some(stem) if stem.ends_with('@') => wrong.push(format!(
                "{} is a template; name an instance of it",
                self.name
            )),
            // systemd.unit(5): the characters of unit names.
            Some(stem)
                if stem.is_empty()
                    || !stem
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b":_.\\-@".contains(&b)) =>
            {
                wrong.push(format!("{:?} is not a unit's name", self.name));
            }
            Some(_) => {}
        }
        if self.masked == Some(true) && (self.wants_it()) {
            wrong.push("masked: true excludes enabled: true and active: true".into());
        }
        if let Some(path) = self.reload_on.iter().find(|p| self.restart_on.contains(p)) {
            wrong.push(format!("{path} is in restart_on and in reload_on"));
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        let replaced = self.replaced().map(Query::Fragment);
        let unit = Query::Unit(self.name.clone());
        Ok([unit].into_iter().chain(replaced).collect())
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<UnitState>, Diagnosis> {
        let state = answers.unit(&self.name)?;
        if state.load == "not-found" && self.wants_it() {
            return Ok(Seen::NotYet(Token::Unit(self.name.clone())));
        }
        let name = &self.name;
        match (self.enabled, state.file.as_str()) {
            (Some(true), "static") => Err(Diagnosis::new(format!(
                "{name} cannot be enabled: it has no [Install] section and is started by others"
            ))
            .cure("leave `enabled` out, or add a drop-in with an [Install] section")),
            (Some(true), "transient") => Err(Diagnosis::new(format!(
                "{name} is transient: it ends with this boot and cannot be enabled"
            ))),
            (Some(false), "generated") => Err(Diagnosis::new(format!(
                "{name} cannot be disabled: a generator makes it at every boot"
            ))
            .cure("say `masked: true`, or remove what it is generated from")),
            (Some(_), "bad") => Err(Diagnosis::new(format!(
                "systemd cannot read the file of {name}"
            ))
            .cure(format!("systemd-analyze verify {name}"))),
            _ => {
                let mut state = state.clone();
                if let Some(question) = self.replaced()
                    && answers.fragment(&question)?.1.trim() == "replaced"
                {
                    state.pending = Some("restart".into());
                }
                Ok(Seen::Now(state))
            }
        }
    }

    fn diff(&self, seen: &UnitState, _ctx: Ctx<'_>) -> Diff {
        let mut change = Change::new(Action::Update);
        change = self.diff_mask(seen, change);
        change = self.diff_boot(seen, change);
        change = self.diff_active(seen, change);
        // A unit that is about to stop, start or be unmasked reads everything anew by itself, and
        // one that does not run has nothing to take up.
        if self.runs(seen)
            && self.active != Some(false)
            && self.masked != Some(true)
            && let Some(how) = &seen.pending
        {
            if change.fields.is_empty() {
                change.action = Action::Run;
            }
            change = self.owe(
                change,
                how,
                "its files changed and it has not taken that up yet".into(),
            );
        }
        change.into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        let mut change = Change::new(Action::Create);
        if let Some(masked) = self.masked {
            change = change.field(
                "masked",
                Shown::Absent,
                Shown::text(if masked { "yes" } else { "no" }),
            );
        }
        if let Some(enabled) = self.enabled {
            change = change.field(
                "enabled",
                Shown::Absent,
                Shown::text(if enabled { "enabled" } else { "disabled" }),
            );
        }
        if let Some(active) = self.active {
            change = change.field(
                "active",
                Shown::Absent,
                Shown::text(if active { "active" } else { "inactive" }),
            );
        }
        // Debian's packages start their services when they are installed, before these files are
        // in place.
        let early = "if it is started before its files are in place";
        if self.active != Some(false) {
            for (files, how) in [(&self.restart_on, "restart"), (&self.reload_on, "reload")] {
                if !files.is_empty() {
                    change = self.owe(change, how, early.into());
                }
            }
        }
        self.access(change)
    }

    fn operation(
        &self,
        seen: &UnitState,
        change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let has = |field: &str| change.fields.iter().find(|f| f.field == field);
        let to = |field: &str, text: &str| {
            has(field).is_some_and(|f| f.after == Shown::Text(text.to_owned()))
        };
        // The first line says to people what the script is about.
        let verbs = [
            ("masked", "no", "unmask"),
            ("active", "inactive", "stop"),
            ("masked", "yes", "mask"),
            ("enabled", "enabled", "enable"),
            ("enabled", "disabled", "disable"),
            ("active", "active", "start"),
            ("restart", RESTARTED, "restart"),
            ("reload", RELOADED, "reload"),
        ];
        let what: Vec<&str> = verbs
            .iter()
            .filter(|(field, text, _)| to(field, text))
            .map(|(_, _, verb)| *verb)
            .collect();
        let mut script = format!(
            "# {}: {}\nu={}\n{}",
            self.name,
            what.join(", "),
            quote(&self.name),
            include_str!("unit.sh")
        );
        // `enable` ends in a reload of its own, and nothing but a start comes after it.
        if seen.need_daemon_reload
            && !(to("enabled", "enabled") && !to("masked", "no") && !to("active", "inactive"))
        {
            script.push_str("systemctl daemon-reload\n");
        }
        if to("masked", "no") {
            script.push_str("systemctl unmask -- \"$u\"\n");
            if seen.file == "masked-runtime" {
                script.push_str("systemctl unmask --runtime -- \"$u\"\n");
            }
        }
        if to("active", "inactive") {
            script.push_str("job stop\n");
        }
        if to("masked", "yes") {
            script.push_str("systemctl mask -- \"$u\"\n");
        }
        if to("enabled", "enabled") {
            let enable = "systemctl enable -- \"$u\"";
            if is_running(seen) && self.active != Some(false) {
                script.push_str(&format!(
                    "if names_missing; then enable_stopped; else {enable}; fi\n"
                ));
            } else {
                script.push_str(&format!("{enable}\n"));
            }
        }
        if to("enabled", "disabled") {
            script.push_str("systemctl disable -- \"$u\"\n");
        }
        let mark = format!("rm -f {PENDING_DIR}/\"$u\"\n");
        if to("active", "active") {
            // A unit that failed often in a row is refused without this (StartLimitBurst=).
            if seen.active == "failed" {
                script.push_str("systemctl reset-failed -- \"$u\"\n");
            }
            // A start while it waits for its next try would join that wait.
            let verb = if seen.active == "activating" {
                "restart"
            } else {
                if is_stopped(seen) {
                    script.push_str("not_forgotten\n");
                }
                "start"
            };
            script.push_str(&self.start(verb, &mark));
        } else if has("restart").is_some() {
            // A reload that is owed as well is contained in the restart.
            script.push_str(&self.start("restart", &mark));
        } else if has("reload").is_some() {
            script.push_str(&format!("job reload\nsettled\n{mark}"));
        }
        Ok(Operation::script(script).within(Duration::from_secs(330)))
    }

    fn provides(&self) -> Vec<Token> {
        vec![Token::Unit(self.name.clone())]
    }

    fn undo(&self, seen: Option<&UnitState>, change: &Change) -> Option<Undo> {
        let mut script = format!("u={}\n", quote(&self.name));
        let has = |field: &str| change.fields.iter().any(|f| f.field == field);
        match seen.map(boot) {
            Some(Boot::Yes) if has("enabled") => script.push_str("systemctl enable -- \"$u\"\n"),
            Some(Boot::Masked) if has("masked") => {
                script.push_str("systemctl stop -- \"$u\"\nsystemctl mask -- \"$u\"\n");
            }
            _ if has("enabled") => script.push_str("systemctl disable -- \"$u\"\n"),
            _ => {}
        }
        if has("masked") && self.masked == Some(true) {
            script.push_str("systemctl unmask -- \"$u\"\n");
        }
        // Whatever went wrong on the way counts no longer (StartLimitBurst=).
        script.push_str("systemctl reset-failed -- \"$u\" 2>/dev/null\n");
        script.push_str(match seen {
            Some(seen) if is_running(seen) && !has("restart") => {
                "systemctl reload-or-restart -- \"$u\"\n"
            }
            Some(seen) if is_running(seen) => "systemctl restart -- \"$u\"\n",
            _ => "systemctl stop -- \"$u\"\n",
        });
        script.push_str(&format!("rm -f {PENDING_DIR}/\"$u\"\n"));
        Some(Undo {
            files: Vec::new(),
            script,
        })
    }

    fn requires(&self) -> Vec<Token> {
        let mut needs: Vec<Token> = self
            .own_file()
            .into_iter()
            .chain(self.restart_on.iter().cloned())
            .chain(self.reload_on.iter().cloned())
            .map(Token::Path)
            .collect();
        needs.push(Token::Unit(self.name.clone()));
        // Which package brings a unit is not known before it is there; those of its name are.
        let stem = self.name.split(['.', '@']).next().unwrap_or_default();
        needs.push(Token::Package(stem.to_owned()));
        needs.extend(self.restart_on_packages.iter().cloned().map(Token::Package));
        needs.extend(
            PACKAGES
                .iter()
                .filter(|(unit, _)| *unit == stem)
                .map(|(_, package)| Token::Package((*package).to_owned())),
        );
        needs
    }

    fn reactions(&self) -> Vec<Reaction> {
        if self.active == Some(false) || self.masked == Some(true) {
            return Vec::new();
        }
        let reaction = |on: Token, restart| Reaction {
            on,
            unit: Some(self.name.clone()),
            restart,
        };
        self.own_file()
            .into_iter()
            .chain(self.restart_on.iter().cloned())
            .map(|path| reaction(Token::Path(path), true))
            .chain(
                self.restart_on_packages
                    .iter()
                    .cloned()
                    .map(|name| Reaction {
                        // Without a mark on the node: the process tells.
                        unit: None,
                        ..reaction(Token::Package(name), true)
                    }),
            )
            .chain(
                self.reload_on
                    .iter()
                    .cloned()
                    .map(|path| reaction(Token::Path(path), false)),
            )
            .collect()
    }

    fn follow_up(
        &self,
        seen: Option<&UnitState>,
        inputs: &[Token],
        _ctx: Ctx<'_>,
    ) -> Option<Change> {
        if !seen.is_some_and(|state| self.runs(state)) {
            return None;
        }
        let hit: Vec<Reaction> = self
            .reactions()
            .into_iter()
            .filter(|reaction| inputs.contains(&reaction.on))
            .collect();
        if hit.is_empty() {
            return None;
        }
        let restart = hit.iter().any(|reaction| reaction.restart);
        let files: Vec<String> = hit.iter().map(|reaction| reaction.on.to_string()).collect();
        Some(self.owe(
            Change::new(Action::Run),
            if restart { "restart" } else { "reload" },
            format!("this plan changes {}", files.join(", ")),
        ))
    }

    fn removal(&self) -> Option<Self> {
        // Enabled and running are the package's own choice when nobody else has one; a mask would
        // stay for ever.
        (self.masked == Some(true)).then(|| Self {
            name: self.name.clone(),
            enabled: None,
            active: None,
            masked: Some(false),
            restart_on: Vec::new(),
            restart_on_packages: Vec::new(),
            reload_on: Vec::new(),
            no_block: false,
        })
    }
}
