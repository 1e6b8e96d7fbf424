//! What is the same on many nodes, once.
//!
//! Rows that differ in nothing but the node's own name or address are one row in which a placeholder stands for it, and so are
//! rows of one node about several members of the cluster. Putting the name and the address back gives what would have been
//! shown, to the letter: nothing is left out and nothing is made up.

use std::collections::{BTreeMap, BTreeSet};

use picluster_model::NodeName;
use picluster_plan::{Cause, Plan, Step};
use picluster_resource::{Action, Change, FieldChange, Shown};

use crate::show::names::each;

/// Stands for the name of each node that a row is about.
pub const NODE: &str = "<node>";
/// Stands for its address.
pub const ADDRESS: &str = "<address>";
/// One change as it is shown, and the nodes it is for.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// The nodes it is done on.
    pub nodes: BTreeSet<&'a NodeName>,
    /// Its role and its kind of resource: `base/file`; `reboot` and `power off` alone.
    kind: String,
    /// What stands in the brackets; nothing for a reboot.
    key: String,
    /// The members of the cluster it is about, where those are other nodes than the one it is done on.
    members: BTreeSet<&'a NodeName>,
    /// There are placeholders in it.
    folded: bool,
    /// Why it is done.
    pub cause: Cause,
    /// See [`Step::begun`].
    pub begun: Option<i64>,
    /// What is shown of the change: no effects and no size, which have a place of their own, and no digest beside a text.
    pub change: Change,
}

impl Row<'_> {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> String {
        let members: Vec<&NodeName> = self.members.iter().copied().collect();
        match (members.as_slice(), self.key.as_str()) {
            ([], "") => self.kind.clone(),
            ([], key) => format!("{}[{key}]", self.kind),
            (members, _) => format!("{}[{}]", self.kind, each(members)),
        }
    }

    /// Whether a placeholder, or text that looks like one, is somewhere in it.
    fn has(&self, placeholder: &str) -> bool {
        // In place of a key there are the names themselves.
        (self.members.is_empty() && self.key.contains(placeholder))
            || texts(&self.change).any(|text| text.contains(placeholder))
    }

    /// Whether it speaks of several nodes at once by such a placeholder. Text that merely looks like one is text.
    #[must_use]
    pub fn stands_for_many(&self, placeholder: &str) -> bool {
        self.folded && self.has(placeholder)
    }

    /// Whether both are one row.
    fn joins(&self, other: &Self) -> bool {
        let about_members = !self.members.is_empty();
        about_members != other.members.is_empty()
            && (!about_members || self.nodes == other.nodes)
            && self.cause == other.cause
            && self.begun == other.begun
            && self.change == other.change
    }
}

/// The rows of a plan, in the order of its steps.
#[must_use]
pub fn rows(plan: &Plan) -> Vec<Row<'_>> {
    let alike = merge(plan.steps.iter().map(row).collect(), |row| {
        Some(row.clone())
    });
    let own = merge(alike, |row| {
        // What several nodes have to the letter stays as it is.
        let name = *row.nodes.first().filter(|_| row.nodes.len() == 1)?;
        let address = plan.addresses.get(name).map_or("", |at| host(at));
        with_placeholders(row, name.as_str(), address)
    });
    merge(own, |row| {
        let (member, _) = plan.nodes.get_key_value(row.key.as_str())?;
        let other = !row.nodes.contains(member) && !row.has(NODE) && !row.has(ADDRESS);
        Some(Row {
            members: BTreeSet::from([member]),
            ..with_placeholders(row, member.as_str(), "").filter(|_| other)?
        })
    })
}

/// A step by itself.
fn row(step: &Step) -> Row<'_> {
    // About the node, and nothing on it.
    let whole = match step.addr.kind.as_str() {
        "reboot" => Some("reboot"),
        "power_off" => Some("power off"),
        _ => None,
    };
    let shown = |field: &&FieldChange| {
        // The diff says it better than two digests.
        step.change.text.is_none() || !matches!(field.field.as_str(), "content" | "line" | "value")
    };
    Row {
        nodes: BTreeSet::from([&step.addr.node]),
        kind: match whole {
            Some(word) => word.to_owned(),
            None => format!("{}/{}", step.addr.role, step.addr.kind),
        },
        key: match whole {
            Some(_) => String::new(),
            None => step.addr.key.clone(),
        },
        members: BTreeSet::new(),
        folded: false,
        cause: step.cause,
        begun: step.begun,
        change: Change {
            fields: step.change.fields.iter().filter(shown).cloned().collect(),
            text: step.change.text.clone(),
            ..Change::new(step.change.action)
        },
    }
}

/// Makes one of rows whose `form` is the same. A row that has none, and one whose form no other row has, stay as they are.
fn merge<'a>(rows: Vec<Row<'a>>, form: impl Fn(&Row<'a>) -> Option<Row<'a>>) -> Vec<Row<'a>> {
    struct Group<'a> {
        first: Row<'a>,
        form: Option<Row<'a>>,
        rows: usize,
    }
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut index: BTreeMap<(Action, String, String), Vec<usize>> = BTreeMap::new();
    for first in rows {
        let form = form(&first);
        if let Some(form) = &form {
            let alike = index
                .entry((form.change.action, form.kind.clone(), form.key.clone()))
                .or_default();
            let joins = |at: &usize| {
                let all = groups.get(*at).and_then(|group| group.form.as_ref());
                all.is_some_and(|all| all.joins(form))
            };
            if let Some(group) = alike
                .iter()
                .copied()
                .find(joins)
                .and_then(|at| groups.get_mut(at))
                && let Some(all) = &mut group.form
            {
                all.nodes.extend(&form.nodes);
                all.members.extend(&form.members);
                group.rows += 1;
                continue;
            }
            alike.push(groups.len());
        }
        groups.push(Group {
            first,
            form,
            rows: 1,
        });
    }
    groups
        .into_iter()
        .map(|group| group.form.filter(|_| group.rows > 1).unwrap_or(group.first))
        .collect()
}

/// A row with placeholders for a name and an address; `None` where neither is in it, or where a placeholder is in it already.
fn with_placeholders<'a>(row: &Row<'a>, name: &str, address: &str) -> Option<Row<'a>> {
    if row.has(NODE) || row.has(ADDRESS) {
        return None;
    }
    let put = |text: &str| fold(text, name, address);
    let shown = |shown: &Shown| match shown {
        Shown::Text(text) => Shown::Text(put(text)),
        other => other.clone(),
    };
    let fields = row.change.fields.iter().map(|field| FieldChange {
        field: put(&field.field),
        before: shown(&field.before),
        after: shown(&field.after),
        reason: field.reason.as_deref().map(put),
    });
    let folded = Row {
        key: put(&row.key),
        folded: true,
        change: Change {
            fields: fields.collect(),
            text: row.change.text.as_deref().map(put),
            ..Change::new(row.change.action)
        },
        ..row.clone()
    };
    (folded.has(NODE) || folded.has(ADDRESS)).then_some(folded)
}

/// Everything a change says.
fn texts(change: &Change) -> impl Iterator<Item = &str> {
    fn shown(shown: &Shown) -> Option<&str> {
        match shown {
            Shown::Text(text) => Some(text),
            _ => None,
        }
    }
    change
        .fields
        .iter()
        .flat_map(|f| {
            [
                Some(f.field.as_str()),
                shown(&f.before),
                shown(&f.after),
                f.reason.as_deref(),
            ]
        })
        .chain([change.text.as_deref()])
        .flatten()
}

/// `text` with placeholders in the places of a name and an address, where they stand as words of their own.
fn fold(text: &str, name: &str, address: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let before = text[..text.len() - rest.len()].chars().next_back();
        let found = [(address, ADDRESS), (name, NODE)]
            .into_iter()
            .filter(|(word, _)| !word.is_empty() && !before.is_some_and(is_of_word))
            .find_map(|(word, placeholder)| Some((placeholder, rest.strip_prefix(word)?)))
            .filter(|(_, behind)| !behind.starts_with(is_of_word));
        match found {
            Some((placeholder, behind)) => {
                out.push_str(placeholder);
                rest = behind;
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_')
}

/// The address in `HOST`, `HOST:PORT`, `[HOST]:PORT`.
fn host(at: &str) -> &str {
    if let Some((host, _)) = at.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return host;
    }
    match at.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn words_of_their_own_become_placeholders() {
        let fold = |text| fold(text, "rpi1", "10.0.0.1");
        assert_eq!(
            fold("rpi1 rpi10 rpi1-x xrpi1 rpi1"),
            "<node> rpi10 rpi1-x xrpi1 <node>"
        );
        assert_eq!(
            fold("https://10.0.0.1:6443, 10.0.0.10, 10.0.0.1/24"),
            "https://<address>:6443, 10.0.0.10, <address>/24"
        );
        assert_eq!(fold("/mnt/rpi1.lan \"rpi1\""), "/mnt/<node>.lan \"<node>\"");
        assert_eq!(super::fold("a b", "a", ""), "<node> b");
        // A name within the address, and the other way round.
        assert_eq!(super::fold("pi.lan pi", "pi", "pi.lan"), "<address> <node>");
    }

    #[test]
    fn an_address_is_without_its_port() {
        for (at, wanted) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:22", "10.0.0.1"),
            ("fd00::1", "fd00::1"),
            ("[fd00::1]:22", "fd00::1"),
            ("pi.lan:22", "pi.lan"),
        ] {
            assert_eq!(host(at), wanted);
        }
    }

    proptest::proptest! {
        #[test]
        fn putting_them_back_gives_what_was_there(
            text in "([ab1.:/ \n-]|a1|10\\.1){0,40}",
            name in "(a1|b|a1-b)",
            address in "(10\\.1|a1\\.b|)"
        ) {
            let folded = fold(&text, &name, &address);
            let back = folded.replace(NODE, &name).replace(ADDRESS, &address);
            proptest::prop_assert_eq!(back, text);
        }
    }
}
