//! `user`: an account.

use std::collections::BTreeSet;

use picluster_model::SecretText;
use picluster_model::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Effect, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::file::Presence;
use crate::kinds::shared::is_account_name;
use crate::operation::Operation;
use crate::path::NodePath;
use crate::program::sha256_hex;
use crate::query::{AccountState, Answers, PasswordState, Query};
use crate::shell::{quote, words};
use crate::token::Token;

/// An account in `/etc/passwd` (passwd(5)). Fields that are left out are not looked at on an
/// account that exists, and get useradd(8)'s defaults on a new one. A new account without
/// `password` has none that works.
///
/// An account is never removed, nor its password locked, when it is the only way to become root
/// that can be seen on the node (other members of `sudo`, other names in sudoers(5), keys of root).
/// Whether it is the very account this run logs in with is not known here: look before you remove.
/// An entry that leaves the role leaves the account; `state: absent` removes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number; left out: the next free one. The number of an account that exists is never
    /// changed, since files would belong to nobody: another number is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its primary group; left out: a group of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Further groups it is in.
    #[serde(default)]
    pub groups: Vec<String>,
    /// `true`: it is in no other groups than `groups`.
    #[serde(default)]
    pub groups_exclusive: bool,
    /// Its login shell; for a new account `/bin/bash` (`/usr/sbin/nologin` with `system`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<NodePath>,
    /// Its home directory; for a new account `/home/NAME`. When it changes, what is in the old one
    /// is moved, unless the new one exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<NodePath>,
    /// Its comment: the full name (the GECOS field).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// `true`: a new account gets a number from the range of system accounts and no home directory.
    #[serde(default)]
    pub system: bool,
    /// The hash of its password as in shadow(5), such as `mkpasswd -m yescrypt` prints; meant to be a
    /// reference to a secret. Left out: the password is not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretText>,
    /// `true`: no password works for it (keys still do).
    #[serde(default)]
    pub locked: bool,
    /// `present` or `absent`.
    #[serde(default)]
    pub state: Presence,
    /// Whether its home directory is made from `/etc/skel` where it is missing; left out: unless
    /// `system`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_home: Option<bool>,
    /// With `state: absent`: whether its home directory and mail go too.
    #[serde(default)]
    pub remove_home: bool,
}

/// What was seen of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSeen {
    /// Its entries.
    pub account: Option<AccountState>,
    /// Whether its home directory is there; only known when it is the one that was asked for.
    pub home_exists: bool,
    /// A group of the same name exists.
    pub own_group: bool,
    /// Others who may become root; asked only where this account might lose the right to.
    pub others: Vec<String>,
    /// It becomes root without a password.
    pub nopasswd: bool,
}

impl User {
    fn makes_home(&self) -> bool {
        self.create_home.unwrap_or(!self.system)
    }

    fn home(&self) -> Option<NodePath> {
        self.home
            .clone()
            .or_else(|| NodePath::new(format!("/home/{}", self.name)).ok())
    }

    fn shell(&self) -> &str {
        match &self.shell {
            Some(shell) => shell.as_str(),
            None if self.system => "/usr/sbin/nologin",
            None => "/bin/bash",
        }
    }

    fn hash(&self, ctx: Ctx<'_>) -> Result<Option<Secret<String>>, Diagnosis> {
        let Some(password) = &self.password else {
            return Ok(None);
        };
        let text = password.reveal(ctx.secrets)?;
        Ok(Some(Secret::new(text.reveal().trim().to_owned())))
    }

    /// Who else may become root, and whether this account may without a password. Names come from
    /// the groups of Debian's and Ubuntu's sudoers and from sudoers(5) itself, where the line for
    /// root opens no way in; its keys do. `!` stands for the second.
    fn ways(&self) -> Option<String> {
        let risky = self.state == Presence::Absent || self.locked;
        risky.then(|| {
            format!(
                r#"# ways to root besides {name}
u={quoted}
s() {{ cat /etc/sudoers /etc/sudoers.d/* 2>/dev/null; }}
getent group sudo admin wheel | while IFS=: read -r _ _ _ m; do echo "$m" | tr , '\n'; done
s | sed -n 's/^\([A-Za-z_][A-Za-z0-9_.-]*\)[[:blank:]]\{{1,\}}[A-Za-z0-9_.-]\{{1,\}}[[:blank:]]*=.*ALL$/\1/p' |
  while read -r n; do [ "$n" = root ] || ! getent passwd "$n" >/dev/null || echo "$n"; done
[ ! -s /root/.ssh/authorized_keys ] || echo root
for g in "$u" $(id -Gn -- "$u" 2>/dev/null | sed 's/[^ ]\{{1,\}}/%&/g'); do
  s | grep -q "^$g[[:blank:]].*NOPASSWD:[[:blank:]]*ALL" && echo '!' && break
done
:"#,
                name = self.name,
                quoted = quote(&self.name),
            )
        })
    }

    /// Group changes of an account that exists: to add, and to take away.
    fn group_changes(&self, account: &AccountState) -> (Vec<&str>, Vec<String>) {
        let add = self
            .groups
            .iter()
            .filter(|g| !account.groups.contains(g) && account.group != **g)
            .map(String::as_str)
            .collect();
        let gone = account
            .groups
            .iter()
            .filter(|g| self.groups_exclusive && !self.groups.contains(g))
            .cloned()
            .collect();
        (add, gone)
    }

    /// The last one who may become root is not taken that right.
    fn lockout(&self, seen: &UserSeen) -> Option<Diagnosis> {
        let loses = match self.state {
            Presence::Absent => true,
            Presence::Present => self.locked && !seen.nopasswd,
        };
        let may_now = seen.account.as_ref().is_some_and(|account| {
            seen.nopasswd
                || account
                    .groups
                    .iter()
                    .any(|g| ROOT_GROUPS.contains(&g.as_str()))
        });
        (loses && may_now && seen.others.is_empty()).then(|| {
            let what = match self.state {
                Presence::Absent => "removing it",
                Presence::Present => "locking its password",
            };
            Diagnosis::new(format!(
                "{} is the only account of this node that may become root; {what} would lock everybody out",
                self.name
            ))
            .cure("give another account sudo first (or this one sudo without password)")
        })
    }

    /// What `chpasswd` reads.
    fn password_line(&self, hash: &Secret<String>) -> Vec<u8> {
        format!("{}:{}\n", self.name, hash.reveal()).into_bytes()
    }

    fn delete(&self) -> Change {
        let change = Change::new(Action::Delete)
            .field("state", Shown::text("present"), Shown::text("absent"))
            .effect(Effect::Access(format!("{} can log in no more", self.name)));
        if self.remove_home {
            change.because("its home directory is removed with it")
        } else {
            change
        }
    }
}

/// Groups that may become root on Debian, Raspberry Pi OS and Ubuntu.
const ROOT_GROUPS: &[&str] = &["sudo", "admin", "wheel"];

/// A list of groups for people, in a stable order.
fn joined<S: AsRef<str>>(groups: impl IntoIterator<Item = S>) -> String {
    let sorted: BTreeSet<String> = groups.into_iter().map(|g| g.as_ref().to_owned()).collect();
    sorted.into_iter().collect::<Vec<_>>().join(", ")
}

/// A password's state in words.
fn password_shown(state: &PasswordState) -> Shown {
    match state {
        PasswordState::Empty => Shown::text("empty: no password is asked for"),
        PasswordState::Locked => Shown::text("locked"),
        PasswordState::Hash(_) => Shown::Sensitive,
    }
}

impl Kind for User {
    const NAME: &'static str = "user";
    const SECRETS: &'static [&'static str] = &["password"];
    type Observation = UserSeen;

    fn key(&self) -> String {
        self.name.clone()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !is_account_name(&self.name) {
            wrong.push(format!("name {:?} is no name for an account", self.name));
        }
        for group in self.group.iter().chain(&self.groups) {
            if !is_account_name(group) {
                wrong.push(format!("{group:?} is no name of a group"));
            }
        }
        if self.password.is_some() && self.locked {
            wrong.push("password and locked exclude each other".into());
        }
        if self
            .comment
            .as_ref()
            .is_some_and(|c| c.contains([':', '\n', '\r', '\0']))
        {
            wrong.push("comment is one line without `:`".into());
        }
        let fields = [&self.shell, &self.home];
        if fields
            .into_iter()
            .flatten()
            .any(|path| path.as_str().contains(':'))
        {
            wrong.push("a `:` cannot stand in shell or home".into());
        }
        if self.name == "root" && self.state == Presence::Absent {
            wrong.push("root is not removed".into());
        }
        if self.remove_home && self.state == Presence::Present {
            wrong.push("remove_home goes with `state: absent`".into());
        }
        wrong
    }

    fn queries(&self, ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        self.hash(ctx)?;
        let mut queries = vec![Query::Account(self.name.clone())];
        if self.state == Presence::Present {
            queries.push(Query::Group(self.name.clone()));
            queries.extend(
                self.group
                    .iter()
                    .chain(&self.groups)
                    .cloned()
                    .map(Query::Group),
            );
            queries.extend(self.home().map(Query::Path));
        }
        queries.extend(self.ways().map(Query::Fragment));
        Ok(queries)
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<UserSeen>, Diagnosis> {
        let account = answers.account(&self.name)?.cloned();
        let mut seen = UserSeen {
            account,
            home_exists: false,
            own_group: false,
            others: Vec::new(),
            nopasswd: false,
        };
        if let Some(fragment) = self.ways() {
            let (_, names) = answers.fragment(&fragment)?;
            let names: BTreeSet<&str> = names.lines().map(str::trim).collect();
            seen.nopasswd = names.contains("!");
            seen.others = names
                .into_iter()
                .filter(|n| !n.is_empty() && *n != "!" && *n != self.name)
                .map(str::to_owned)
                .collect();
        }
        if self.state == Presence::Absent {
            return Ok(Seen::Now(seen));
        }
        seen.own_group = answers.group(&self.name)?.is_some();
        if let Some(home) = self.home() {
            seen.home_exists = answers.path(&home)?.is_some();
        }
        if let (Some(account), Some(uid)) = (&seen.account, self.uid)
            && account.uid != uid
        {
            return Err(Diagnosis::new(format!(
                    "the account {} has the number {}, not {uid}; with another one its files would belong to nobody",
                    self.name, account.uid
                ))
                .cure(format!(
                    "write uid: {} in the role, or renumber by hand: usermod -u {uid} {}",
                    account.uid, self.name
                )));
        }
        for group in self.group.iter().chain(&self.groups) {
            if *group != self.name && answers.group(group)?.is_none() {
                return Ok(Seen::NotYet(Token::Group(group.clone())));
            }
        }
        Ok(Seen::Now(seen))
    }

    fn diff(&self, seen: &UserSeen, ctx: Ctx<'_>) -> Diff {
        let Some(account) = &seen.account else {
            return match self.state {
                Presence::Absent => Diff::NoOp,
                Presence::Present => Diff::Change(self.expected(ctx)),
            };
        };
        let risk = |change: Change| match self.lockout(seen) {
            Some(_) => change.because(
                "refused unless an earlier step gives root to another account: it is the only one",
            ),
            None => change,
        };
        if self.state == Presence::Absent {
            return Diff::Change(risk(self.delete()));
        }
        let mut change = Change::new(Action::Update);
        let access = || Effect::Access(format!("how {} gets in", self.name));
        if let Some(group) = &self.group {
            change = change.field_if("group", &account.group, group);
        }
        let (add, gone) = self.group_changes(account);
        if !add.is_empty() || !gone.is_empty() {
            let kept = account.groups.iter().filter(|g| !gone.contains(g));
            let after = kept.map(String::as_str).chain(add.iter().copied());
            change = change
                .field(
                    "groups",
                    Shown::text(joined(&account.groups)),
                    Shown::text(joined(after)),
                )
                .effect(access());
        }
        if let Some(shell) = &self.shell
            && account.shell != shell.as_str()
        {
            change = change
                .field_if("shell", &account.shell, shell.as_str())
                .effect(access());
        }
        if let Some(home) = &self.home
            && account.home != home.as_str()
        {
            change = change
                .field_if("home", &account.home, home.as_str())
                .because(if seen.home_exists {
                    "the new one is there already; what is in the old one stays there"
                } else {
                    "what is in the old one is moved"
                })
                .effect(access());
        }
        if self.home_missing(seen, account) {
            change = change.field(
                "create_home",
                Shown::text("no such directory"),
                Shown::text(&account.home),
            );
        }
        if let Some(comment) = &self.comment {
            change = change.field_if("comment", &account.gecos, comment);
        }
        if self.locked && account.password != PasswordState::Locked {
            change = risk(
                change
                    .field(
                        "password",
                        password_shown(&account.password),
                        Shown::text("locked"),
                    )
                    .effect(access()),
            );
        }
        if let Ok(Some(hash)) = self.hash(ctx) {
            let wanted = PasswordState::Hash(sha256_hex(hash.reveal().as_bytes()));
            if account.password != wanted {
                change = change
                    .field(
                        "password",
                        password_shown(&account.password),
                        Shown::Sensitive,
                    )
                    .effect(access());
                change.bytes = self.password_line(&hash).len() as u64;
            }
        }
        change.into_diff()
    }

    fn expected(&self, ctx: Ctx<'_>) -> Change {
        if self.state == Presence::Absent {
            return self.delete();
        }
        let mut change = Change::new(Action::Create);
        if let Some(uid) = self.uid {
            change = change.field("uid", Shown::Absent, Shown::text(uid.to_string()));
        }
        let group = self.group.as_deref().unwrap_or(&self.name);
        change = change.field("group", Shown::Absent, Shown::text(group));
        if !self.groups.is_empty() {
            change = change.field("groups", Shown::Absent, Shown::text(joined(&self.groups)));
        }
        change = change.field("shell", Shown::Absent, Shown::text(self.shell()));
        if let Some(home) = self.home() {
            change = change.field("home", Shown::Absent, Shown::text(home.as_str()));
        }
        if let Some(comment) = &self.comment {
            change = change.field("comment", Shown::Absent, Shown::text(comment));
        }
        let password = match self.password {
            Some(_) => Shown::Sensitive,
            None => Shown::text("locked"),
        };
        if let Ok(Some(hash)) = self.hash(ctx) {
            change.bytes = self.password_line(&hash).len() as u64;
        }
        change.field("password", Shown::Absent, password)
    }

    fn operation(
        &self,
        seen: &UserSeen,
        change: &Change,
        ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let touches = |field: &str| change.fields.iter().any(|f| f.field == field);
        let name = quote(&self.name);
        if (change.action == Action::Delete || touches("password") && self.locked)
            && let Some(refused) = self.lockout(seen)
        {
            return Err(refused);
        }
        if change.action == Action::Delete {
            let home = if self.remove_home { " --remove" } else { "" };
            return Ok(Operation::script(format!("userdel{home} -- {name}")));
        }
        let mut script = String::new();
        if touches("shell") {
            let shell = match &seen.account {
                Some(_) => self.shell.as_ref().map(NodePath::as_str),
                None => Some(self.shell()),
            };
            if let Some(shell) = shell {
                let shell = quote(shell);
                script.push_str(&format!(
                    "[ -x {shell} ] || {{ echo 'there is no shell '{shell} >&2; exit 1; }}\n"
                ));
            }
        }
        match &seen.account {
            None => script.push_str(&self.useradd(seen)),
            Some(account) => script.push_str(&self.usermod(seen, account, &touches)),
        }
        let hash = match &seen.account {
            Some(_) if !touches("password") => None,
            _ => self.hash(ctx)?,
        };
        let Some(hash) = hash else {
            return Ok(Operation::script(script));
        };
        let text = hash.reveal();
        // crypt(5): `$id$…`; anything else would be taken literally and lock the account.
        if !text.starts_with('$') || text.contains([':', '\n']) || text.len() < 20 {
            return Err(Diagnosis::new(format!(
                "the password of {} is not a hash of shadow(5)",
                self.name
            ))
            .cure("make one: mkpasswd -m yescrypt, or openssl passwd -6"));
        }
        script.push_str("chpasswd --encrypted\n");
        Ok(Operation::script(script).with_payload(self.password_line(&hash)))
    }

    fn provides(&self) -> Vec<Token> {
        if self.state == Presence::Absent {
            return Vec::new();
        }
        let mut tokens = vec![Token::User(self.name.clone())];
        if self.group.is_none() {
            tokens.push(Token::Group(self.name.clone()));
        }
        if self.makes_home() {
            tokens.extend(self.home().map(Token::Path));
        }
        tokens
    }

    fn requires(&self) -> Vec<Token> {
        if self.state == Presence::Absent {
            return Vec::new();
        }
        let mut tokens: Vec<Token> = self
            .group
            .iter()
            .chain(&self.groups)
            .filter(|g| **g != self.name)
            .cloned()
            .map(Token::Group)
            .collect();
        tokens.extend(self.home().and_then(|home| home.parent()).map(Token::Path));
        // Whether a password may be locked depends on who may become root without one.
        tokens.extend(NodePath::new("/etc/sudoers.d").map(Token::Below));
        tokens
    }
}

impl User {
    fn home_missing(&self, seen: &UserSeen, account: &AccountState) -> bool {
        let ours = self
            .home()
            .is_some_and(|home| home.as_str() == account.home);
        self.makes_home() && ours && !seen.home_exists
    }

    fn useradd(&self, seen: &UserSeen) -> String {
        let mut argv: Vec<String> = vec!["useradd".into()];
        let mut option = |name: &str, value: Option<&str>| {
            argv.push(name.to_owned());
            argv.extend(value.map(str::to_owned));
        };
        if self.system {
            option("--system", None);
        }
        if let Some(uid) = self.uid {
            option("--uid", Some(&uid.to_string()));
        }
        match &self.group {
            Some(group) => option("--gid", Some(group)),
            None if seen.own_group => option("--gid", Some(&self.name)),
            None => option("--user-group", None),
        }
        if !self.groups.is_empty() {
            option("--groups", Some(&self.groups.join(",")));
        }
        option("--shell", Some(self.shell()));
        if let Some(home) = self.home() {
            option("--home-dir", Some(home.as_str()));
        }
        if let Some(comment) = &self.comment {
            option("--comment", Some(comment));
        }
        option(
            if self.makes_home() {
                "--create-home"
            } else {
                "--no-create-home"
            },
            None,
        );
        option("--", Some(&self.name));
        format!("{} </dev/null\n", words(argv))
    }

    fn usermod(
        &self,
        seen: &UserSeen,
        account: &AccountState,
        touches: &dyn Fn(&str) -> bool,
    ) -> String {
        let mut script = String::new();
        let name = quote(&self.name);
        let mut argv: Vec<String> = Vec::new();
        if let (Some(group), true) = (&self.group, touches("group")) {
            argv.extend(["--gid".into(), group.clone()]);
        }
        if touches("groups") {
            if self.groups_exclusive {
                argv.extend(["--groups".into(), self.groups.join(",")]);
            } else {
                let (add, _) = self.group_changes(account);
                argv.extend(["--append".into(), "--groups".into(), add.join(",")]);
            }
        }
        if let (Some(shell), true) = (&self.shell, touches("shell")) {
            argv.extend(["--shell".into(), shell.to_string()]);
        }
        if let (Some(comment), true) = (&self.comment, touches("comment")) {
            argv.extend(["--comment".into(), comment.clone()]);
        }
        if let (Some(home), true) = (&self.home, touches("home")) {
            argv.extend(["--home".into(), home.to_string()]);
            // usermod(8) refuses to move into a directory that is there.
            if !seen.home_exists {
                argv.push("--move-home".into());
            }
        }
        if self.locked && touches("password") {
            argv.push("--lock".into());
        }
        if !argv.is_empty() {
            script.push_str(&format!("usermod {} -- {name} </dev/null\n", words(argv)));
        }
        let moved = touches("home") && !seen.home_exists && self.makes_home();
        let home = match &self.home {
            Some(home) if moved => Some(home.as_str()),
            _ => self
                .home_missing(seen, account)
                .then_some(account.home.as_str()),
        };
        if let Some(home) = home {
            let home = quote(home);
            // As useradd(8) --create-home does it. After a move only if there was nothing to move.
            script.push_str(&format!(
                "[ -e {home} ] || {{ mkdir -m 0700 -- {home} && {{ [ ! -d /etc/skel ] || cp -rT -- /etc/skel {home}; }} && chown -R -- {name}: {home} && chmod 0700 {home}; }}\n"
            ));
        }
        script
    }
}
