//! `group`: a group of accounts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Effect, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::kinds::file::Presence;
use crate::kinds::shared::is_account_name;
use crate::operation::Operation;
use crate::query::{Answers, GroupState, Query};
use crate::shell::quote;
use crate::token::Token;

/// A group of accounts in `/etc/group` (group(5)). Who is in it is said by the `user` entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its number; left out: the next free one. The number of a group that exists is never changed,
    /// since files would belong to nobody: another number is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// `true`: a new group gets a number from the range of system groups (groupadd(8) `--system`).
    #[serde(default)]
    pub system: bool,
    /// `present` or `absent`. Groups that decide who may become root are never removed.
    #[serde(default)]
    pub state: Presence,
}

/// Groups whose loss would lock people out (sudoers of Debian, Ubuntu and Raspberry Pi OS).
const KEPT: &[&str] = &[
    "root", "sudo", "admin", "wheel", "adm", "shadow", "ssh", "_ssh",
];

impl Kind for Group {
    const NAME: &'static str = "group";
    type Observation = Option<GroupState>;

    fn key(&self) -> String {
        self.name.clone()
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !is_account_name(&self.name) {
            wrong.push(format!("name {:?} is no name for a group", self.name));
        }
        if self.state == Presence::Absent && KEPT.contains(&self.name.as_str()) {
            wrong.push(format!(
                "the group {} decides who gets in; it is not removed",
                self.name
            ));
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![Query::Group(self.name.clone())])
    }

    fn observe(
        &self,
        answers: &Answers,
        _ctx: Ctx<'_>,
    ) -> Result<Seen<Self::Observation>, Diagnosis> {
        let seen = answers.group(&self.name)?.cloned();
        if let (Presence::Present, Some(state), Some(gid)) = (self.state, &seen, self.gid)
            && state.gid != gid
        {
            return Err(Diagnosis::new(format!(
                    "the group {} has the number {}, not {gid}; with another one its files would belong to nobody",
                    self.name, state.gid
                ))
                .cure(format!(
                    "write gid: {} in the role, or renumber by hand: groupmod -g {gid} {}, then chgrp its files",
                    state.gid, self.name
                )));
        }
        Ok(Seen::Now(seen))
    }

    fn diff(&self, seen: &Self::Observation, ctx: Ctx<'_>) -> Diff {
        match (self.state, seen) {
            (Presence::Present, Some(_)) | (Presence::Absent, None) => Diff::NoOp,
            (Presence::Present, None) => Diff::Change(self.expected(ctx)),
            (Presence::Absent, Some(state)) => {
                let change = Change::new(Action::Delete).field(
                    "state",
                    Shown::text("present"),
                    Shown::text("absent"),
                );
                Diff::Change(if state.members.is_empty() {
                    change
                } else {
                    change
                        .because(format!("its members lose it: {}", state.members.join(", ")))
                        .effect(Effect::Access("accounts lose a group".into()))
                })
            }
        }
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        let change = Change::new(Action::Create).field(
            "state",
            Shown::text("absent"),
            Shown::text("present"),
        );
        match self.gid {
            Some(gid) => change.field("gid", Shown::Absent, Shown::text(gid.to_string())),
            None => change,
        }
    }

    fn small(&self) -> bool {
        true
    }

    fn operation(
        &self,
        _seen: &Self::Observation,
        change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let name = quote(&self.name);
        if change.action == Action::Delete {
            return Ok(Operation::script(format!("groupdel -- {name}")));
        }
        let mut script = String::from("groupadd");
        if self.system {
            script.push_str(" --system");
        }
        if let Some(gid) = self.gid {
            script.push_str(&format!(" --gid {gid}"));
        }
        script.push_str(&format!(" -- {name}"));
        Ok(Operation::script(script))
    }

    fn provides(&self) -> Vec<Token> {
        match self.state {
            Presence::Present => vec![Token::Group(self.name.clone())],
            Presence::Absent => Vec::new(),
        }
    }
}
