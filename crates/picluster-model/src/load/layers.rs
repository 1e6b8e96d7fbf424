//! One rule for everything that several places may say: the nearest to the node wins.

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::span::Span;
use crate::vars::{Level, Origin, Var};
use crate::yaml::Yaml;

/// What one place says.
pub struct Layer<'a> {
    /// Which place.
    pub level: Level,
    /// Its keys and values.
    pub entries: &'a [(String, Span, Yaml)],
}

/// Merges layers, given weakest first, key by key.
///
/// Two places equally near that disagree are an error, unless a nearer one decides.
pub fn merge(
    what: &str,
    node: &str,
    layers: &[Layer<'_>],
    out: &mut Vec<Diagnostic>,
) -> IndexMap<String, Var> {
    let mut merged: IndexMap<String, Vec<Origin>> = IndexMap::new();
    for layer in layers {
        for (key, span, value) in layer.entries {
            merged.entry(key.clone()).or_default().push(Origin {
                level: layer.level.clone(),
                span: span.clone(),
                value: value.clone(),
            });
        }
    }
    merged
        .into_iter()
        .filter_map(|(key, mut origin)| {
            // Stable: of places equally near the one listed first stays first.
            origin.sort_by_key(|o| std::cmp::Reverse(rank(&o.level)));
            let winner = origin.first()?;
            if let Some(other) = origin
                .iter()
                .skip(1)
                .take_while(|o| rank(&o.level) == rank(&winner.level))
                .find(|o| !o.value.same(&winner.value))
            {
                out.push(
                    Diagnostic::new(
                        format!("{what} `{key}` of node {node} has two values"),
                        &other.span,
                    )
                    .label(place(&other.level))
                    .related(&winner.span, place(&winner.level))
                    .help(match winner.level {
                        Level::Group(_) => format!("set `{key}` on the node, or in one group only"),
                        _ => String::from("keep one of the two"),
                    }),
                );
            }
            let value = winner.value.clone();
            Some((key, Var { value, origin }))
        })
        .collect()
}

fn place(level: &Level) -> String {
    match level {
        Level::Group(_) => format!("from {level}"),
        _ => format!("from the {level}"),
    }
}

/// How near a place is to the node.
pub fn rank(level: &Level) -> u8 {
    match level {
        Level::Default => 0,
        Level::Cluster => 1,
        Level::Group(_) => 2,
        Level::Node => 3,
    }
}
