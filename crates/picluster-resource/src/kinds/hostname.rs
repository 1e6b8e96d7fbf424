//! `hostname`: the node's name, now and after a reboot.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::change::{Action, Change, Diff, Shown};
use crate::kind::{Ctx, Diagnosis, Kind, Seen};
use crate::operation::Operation;
use crate::path::NodePath;
use crate::query::{Answers, Query};
use crate::shell::quote;
use crate::token::Token;

/// The host name: `/etc/hostname` (hostname(5)) and the kernel's. Neither D-Bus nor
/// `systemd-hostnamed` is needed.
///
/// A node that has joined a Kubernetes cluster is known there by its name: changing it makes a new
/// node, so a rename of a joined node is a replacement and not for this resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hostname {
    /// The name: lower-case letters, digits and `-`, with or without a domain.
    pub name: String,
}

/// What was seen of the host name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostnameSeen {
    /// In `/etc/hostname`.
    pub file: Option<String>,
    /// The kernel's.
    pub kernel: String,
}

fn file() -> Result<NodePath, Diagnosis> {
    NodePath::new("/etc/hostname").map_err(|e| Diagnosis::new(e.to_string()))
}

const KERNEL: &str = "kernel.hostname";

impl Kind for Hostname {
    const NAME: &'static str = "hostname";
    type Observation = HostnameSeen;

    fn key(&self) -> String {
        // A node has one.
        String::from("hostname")
    }

    fn check(&self) -> Vec<String> {
        // RFC 1123 as Kubernetes reads it, and the kernel's 64 bytes (uname(2)).
        let good = (1..=63).contains(&self.name.len())
            && self.name.split('.').all(|label| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            });
        if good {
            Vec::new()
        } else {
            vec![format!(
                "name {:?} is no host name: lower-case letters, digits and `-`, at most 63",
                self.name
            )]
        }
    }

    fn queries(&self, _ctx: Ctx<'_>) -> Result<Vec<Query>, Diagnosis> {
        Ok(vec![Query::Text(file()?), Query::Sysctl(KERNEL.into())])
    }

    fn observe(&self, answers: &Answers, _ctx: Ctx<'_>) -> Result<Seen<HostnameSeen>, Diagnosis> {
        // hostname(5): the first line that is neither empty nor a comment.
        let text = answers.text(&file()?)?;
        let name = text.map(|text| {
            text.lines()
                .map(str::trim)
                .find(|line| !line.is_empty() && !line.starts_with('#'))
                .unwrap_or("")
                .to_owned()
        });
        let kernel = answers.sysctl(KERNEL)?.unwrap_or("").to_owned();
        Ok(Seen::Now(HostnameSeen { file: name, kernel }))
    }

    fn diff(&self, seen: &HostnameSeen, _ctx: Ctx<'_>) -> Diff {
        let mut change = Change::new(Action::Update);
        if seen.file.as_deref() != Some(&self.name) {
            let before = seen.file.as_ref().map_or(Shown::Absent, Shown::text);
            change = change
                .field("name", before, Shown::text(&self.name))
                .because("in /etc/hostname");
            change.bytes = self.name.len() as u64 + 1;
        }
        change
            .field_if("kernel", &seen.kernel, &self.name)
            .into_diff()
    }

    fn expected(&self, _ctx: Ctx<'_>) -> Change {
        Change::new(Action::Update)
            .field("name", Shown::Later, Shown::text(&self.name))
            .field("kernel", Shown::Later, Shown::text(&self.name))
    }

    fn small(&self) -> bool {
        true
    }

    fn operation(
        &self,
        seen: &HostnameSeen,
        _change: &Change,
        _ctx: Ctx<'_>,
    ) -> Result<Operation, Diagnosis> {
        let mut operation = if seen.file.as_deref() == Some(&self.name) {
            Operation::script("")
        } else {
            let line = format!("{}\n", self.name).into_bytes();
            Operation::put("/etc/hostname", ["0644", "root", "root"], line).then("\n")
        };
        if seen.kernel != self.name {
            operation = operation.then(&format!("hostname {}\n", quote(&self.name)));
        }
        Ok(operation)
    }

    fn provides(&self) -> Vec<Token> {
        file().map(Token::Path).into_iter().collect()
    }
}
