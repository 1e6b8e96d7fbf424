//! What a node is asked, and what it wrote down about itself.

use std::collections::{BTreeMap, BTreeSet};

use picluster_model::NodeName;
use picluster_model::secret::{SecretRef, SecretValues};
use picluster_resource::kinds::unit::Unit;
use picluster_resource::{Answers, Ctx, Query, Resource, Token};

use super::NodeInput;
use super::turn::leaves_as;
use crate::declare::Declared;
use crate::owned::{self, Open, Owed, Record};

/// The questions for a node's declared resources and its ownership records. A resource whose
/// questions cannot be formed is left out; [`build`] reports it.
#[must_use]
pub fn questions(declared: &[Declared], ctx: Ctx<'_>) -> Vec<Query> {
    declared
        .iter()
        .filter_map(|d| d.resource.queries(ctx).ok())
        .flatten()
        .chain([Query::Fragment(owned::PROBE.into())])
        .collect()
}

/// The questions for what has left the documents, known once the records have been read. Empty
/// for a node from which nothing has to go: then the first probe was the only one.
#[must_use]
pub fn removal_questions(declared: &[Declared], answers: &Answers, ctx: Ctx<'_>) -> Vec<Query> {
    let orphans = orphans(declared, answers);
    let readers = readers(declared, answers, &orphans);
    let turns = leaves_as(declared, answers, ctx);
    orphans
        .iter()
        .map(|(_, resource)| resource)
        .chain(&readers)
        .chain(&turns)
        .filter_map(|resource| resource.queries(ctx).ok())
        .flatten()
        .collect()
}

/// Whether a node stopped in the middle of a guarded change of an earlier run, which neither was confirmed nor is taken
/// back yet.
#[must_use]
pub fn stands_open(answers: &Answers) -> bool {
    Open::parse(notes(answers)).is_some()
}

/// The values that came to be on nodes and were told with their answers: see
/// [`picluster_resource::Kind::yields`].
#[must_use]
pub fn harvest(nodes: &BTreeMap<NodeName, NodeInput>) -> SecretValues {
    let mut values = SecretValues::default();
    for input in nodes.values() {
        let NodeInput::Observed(node) = input else {
            continue;
        };
        for declared in &node.declared {
            if let Some((name, value)) = declared.resource.yields(&node.answers) {
                values
                    .0
                    .entry(SecretRef::ClusterValue(name))
                    .or_insert(value);
            }
        }
    }
    values
}

pub(super) fn records(answers: &Answers) -> Vec<Record> {
    Record::parse_all(notes(answers))
}

/// What picluster wrote down on the node.
pub(super) fn notes(answers: &Answers) -> &str {
    answers.fragment(owned::PROBE).map_or("", |(_, text)| text)
}

/// Units that nobody declares to react any more and that have to take something up all the same:
/// what they read is being removed, or was by a run that died before they could.
pub(super) fn readers(
    declared: &[Declared],
    answers: &Answers,
    orphans: &[(Record, Resource)],
) -> Vec<Resource> {
    let mut units: BTreeMap<String, Unit> = BTreeMap::new();
    let reads = |unit: &str, token: &Token| {
        let reactions = declared.iter().flat_map(|d| d.resource.reactions());
        reactions
            .into_iter()
            .any(|r| r.unit.as_deref() == Some(unit) && r.on == *token)
    };
    for (record, removal) in orphans {
        for (name, restart) in &record.readers {
            for token in removal.provides() {
                let Token::Path(path) = &token else { continue };
                if reads(name, &token) {
                    continue;
                }
                let unit = units
                    .entry(name.clone())
                    .or_insert_with(|| Unit::named(name));
                if *restart {
                    unit.restart_on.push(path.clone());
                } else {
                    unit.reload_on.push(path.clone());
                }
            }
        }
    }
    for Owed { owed } in Owed::parse_all(notes(answers)) {
        let known = declared
            .iter()
            .any(|d| matches!(&d.resource, Resource::Unit(unit) if unit.name == owed));
        if !known {
            units
                .entry(owed.clone())
                .or_insert_with(|| Unit::named(&owed));
        }
    }
    units.into_values().map(Resource::Unit).collect()
}

/// Records whose resource is no longer declared, with what has to be brought about.
pub(super) fn orphans(declared: &[Declared], answers: &Answers) -> Vec<(Record, Resource)> {
    let names: BTreeSet<String> = declared
        .iter()
        .map(|d| owned::file_name(&d.addr.kind, &d.addr.key))
        .collect();
    Record::parse_all(notes(answers))
        .into_iter()
        .filter_map(|record| {
            let resource = record.removal.clone()?;
            let (_, kind, key) = record.place()?;
            (!names.contains(&owned::file_name(kind, key))).then_some((record, resource))
        })
        .collect()
}
