//! `command`: shell text with its own way to tell whether it is needed.

use std::time::Duration;

use picluster_model::SecretText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Effect, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::operation::{Operation, Undo};
use crate::path::NodePath;
use crate::program::sha256_hex;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::Token;

/// A command, for what has no kind of its own. It must say when it is not needed: `probe`,
/// `creates`, or why it has to run at every apply: `always`. Both texts are run as root by `sh`,
/// each in a process of its own, with `sh -e`: the first command that fails ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// What to call it; left out: the first line of `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The sh text to run. It must leave the node as `probe` or `creates` wants it.
    pub run: String,
    /// Read-only sh text: status 0 says that nothing is to be done, anything else that `run` is
    /// needed. It runs with every plan, so it must change nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// A path that exists once `run` has run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creates: Option<NodePath>,
    /// Why it runs at every apply. Such a step never counts as "nothing to do".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always: Option<String>,
    /// sh text that takes `run` back. With it the command is guarded: the node runs this by itself
    /// unless picluster can still come in by a new connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
    /// What `run` finds on standard input. The one place where a command may be given a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<SecretText>,
    /// Seconds after which it is reported as stuck.
    #[serde(default = "minute")]
    pub timeout: u32,
}

fn minute() -> u32 {
    60
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSeen {
    /// Whether it is as desired.
    pub done: bool,
    /// The probe's exit status, where there is a probe.
    pub status: Option<u32>,
}

/// One argument of a program may have 128 KiB on Linux (`MAX_ARG_STRLEN`, execve(2)); quoting can
/// make four bytes of one.
const TEXT_LIMIT: usize = 32 * 1024;

impl Command {
    fn fragment(&self) -> Option<String> {
        // Quoted as one word: whatever the text holds, it cannot end the program around it.
        self.probe.as_ref().map(|probe| {
            format!(
                "# probe of {}\nsh -ec -- {} >/dev/null",
                self.key(),
                quote(probe)
            )
        })
    }

    fn reason(&self, status: Option<u32>) -> String {
        match (&self.always, &self.creates, status) {
            (Some(why), _, _) => format!("at every apply: {why}"),
            (_, Some(path), _) => format!("{path} does not exist"),
            (_, _, Some(status)) => format!("the probe ended with status {status}"),
            _ => String::from("the probe says so"),
        }
    }

    fn change(&self, reason: String, ctx: Ctx<'_>) -> Change {
        let mut change = Change::new(Action::Run);
        if self.undo.is_some() {
            change = change.effect(Effect::Access("its author says how to take it back".into()));
        }
        change = change
            .field("run", Shown::Absent, Shown::text(self.run.trim_end()))
            .because(reason);
        if let Some(Ok(text)) = self.stdin.as_ref().map(|text| text.reveal(ctx.secrets)) {
            change.bytes = text.reveal().len() as u64;
        }
        change
    }
}

impl Kind for Command {
    const NAME: &'static str = "command";
    const SECRETS: &'static [&'static str] = &["stdin"];
    type Observation = CommandSeen;

    fn key(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let first = self.run.trim().lines().next().unwrap_or("").trim();
        if first == self.run.trim() && first.chars().count() <= 60 {
            return first.to_owned();
        }
        // Two long commands may begin alike.
        let start: String = first.chars().take(48).collect();
        let digest = sha256_hex(self.run.as_bytes());
        format!("{}… {}", start.trim_end(), &digest[..8])
    }

    fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let ways = [
            self.probe.is_some(),
            self.creates.is_some(),
            self.always.is_some(),
        ];
        match ways.into_iter().filter(|way| *way).count() {
            1 => {}
            0 => wrong.push(
                "a command must say when it is not needed: give `probe`, `creates`, or `always` with the reason"
                    .into(),
            ),
            _ => wrong.push("probe, creates and always exclude each other".into()),
        }
        let texts = [("run", Some(&self.run)), ("probe", self.probe.as_ref())];
        for (field, text) in texts {
            let Some(text) = text else { continue };
            if text.trim().is_empty() {
                wrong.push(format!("{field} is empty"));
            }
            if text.contains('\0') || text.len() > TEXT_LIMIT {
                wrong.push(format!(
                    "{field} is at most {} KiB of text; put more into a `file` and run that",
                    TEXT_LIMIT / 1024
                ));
            }
        }
        if self
            .always
            .as_ref()
            .is_some_and(|why| why.trim().is_empty())
        {
            wrong.push("always is empty; it says why".into());
        }
        if self.timeout == 0 {
            wrong.push("timeout is at least 1 second".into());
        }
        if self
            .name
            .as_ref()
            .is_some_and(|name| name.trim().is_empty() || name.contains(['\n', '\r', '\0']))
        {
            wrong.push("name is one line".into());
        }
        wrong
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(self
            .fragment()
            .map(Query::Fragment)
            .into_iter()
            .chain(self.creates.clone().map(Query::Path))
            .collect())
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<CommandSeen>, Diagnosis> {
        if let Some(path) = &self.creates {
            return Ok(Seen::Now(CommandSeen {
                done: answers.path(path)?.is_some(),
                status: None,
            }));
        }
        let Some(fragment) = self.fragment() else {
            return Ok(Seen::Now(CommandSeen {
                done: false,
                status: None,
            }));
        };
        let (status, _) = answers.fragment(&fragment)?;
        Ok(Seen::Now(CommandSeen {
            done: status == 0,
            status: Some(status),
        }))
    }

    fn diff(&self, seen: &CommandSeen, ctx: Ctx<'_>) -> Diff {
        if seen.done {
            Diff::NoOp
        } else {
            Diff::Change(self.change(self.reason(seen.status), ctx))
        }
    }

    fn expected(&self, ctx: Ctx<'_>) -> Change {
        self.change(self.reason(None), ctx)
    }

    fn operation(
        &self,
        _seen: &CommandSeen,
        _change: &Change,
        ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let operation = Operation::script(format!("sh -ec -- {}", quote(&self.run)))
            .within(Duration::from_secs(u64::from(self.timeout)));
        Ok(match &self.stdin {
            Some(text) => {
                operation.with_payload(text.reveal(ctx.secrets)?.reveal().clone().into_bytes())
            }
            None => operation,
        })
    }

    fn provides(&self) -> Vec<Token> {
        self.creates.clone().map(Token::Path).into_iter().collect()
    }

    fn undo(&self, _seen: Option<&CommandSeen>, _change: &Change) -> Option<Undo> {
        self.undo.as_ref().map(|undo| Undo {
            files: Vec::new(),
            script: format!("sh -c {}\n", quote(undo)),
        })
    }

    fn unsettled(&self) -> Option<&str> {
        self.always.as_deref()
    }
}
