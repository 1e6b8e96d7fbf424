//! Values nobody knows before a node was met, and whether a template asked for one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use minijinja::Value;
use minijinja::value::{Enumerator, Object};

/// Notes that a template asked for something that is not known yet: its result is worth nothing,
/// and so is its failure.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<AtomicBool>);

impl Watch {
    /// Whether something unknown was asked for since this was asked last.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    /// Whether something unknown was asked for at all.
    pub fn noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// A mapping of which nothing is known.
    pub fn nothing(&self) -> Value {
        Value::from_object(Partial {
            known: Value::UNDEFINED,
            unknown: None,
            watch: self.clone(),
        })
    }

    /// A mapping of which some keys are not known.
    pub fn without(&self, known: Value, unknown: BTreeSet<String>) -> Value {
        if unknown.is_empty() {
            return known;
        }
        Value::from_object(Partial {
            known,
            unknown: Some(unknown),
            watch: self.clone(),
        })
    }
}

/// A mapping that is known in part.
#[derive(Debug)]
struct Partial {
    /// What is known.
    known: Value,
    /// The keys whose values are not; `None` when none is known.
    unknown: Option<BTreeSet<String>>,
    watch: Watch,
}

impl Object for Partial {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let known = match (&self.unknown, key.as_str()) {
            (Some(unknown), Some(key)) => !unknown.contains(key),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !known {
            self.watch.note();
            return None;
        }
        let value = self.known.get_item(key).ok()?;
        (!value.is_undefined()).then_some(value)
    }

    /// That something is known of it is known.
    fn is_true(self: &Arc<Self>) -> bool {
        if self.known.is_true() {
            return true;
        }
        self.watch.note();
        false
    }

    /// Whoever walks over it, counts it or compares it wants all of it.
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.watch.note();
        Enumerator::Empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Engine;

    /// Whether evaluating `expression` asks for something unknown.
    fn asks(expression: &str) -> bool {
        let watch = Watch::default();
        let known = minijinja::context! { a => 1, b => minijinja::context! { c => 2 } };
        let scope = minijinja::context! {
            facts => watch.nothing(),
            vars => watch.without(known, BTreeSet::from([String::from("u")])),
        };
        // What is lazy is walked over before the answer counts, as wherever values are used.
        let _ = Engine::plain()
            .evaluate(expression, &scope)
            .map(|value| serde_json::to_value(value).is_ok());
        watch.take()
    }

    #[test]
    fn whatever_needs_the_unknown_is_noticed() {
        for expression in [
            "facts.arch",
            "facts['arch']",
            "facts.arch is defined",
            "facts.arch | default('x')",
            "facts | length",
            "facts | tojson",
            "facts == {}",
            "facts and true",
            "'x' in facts",
            "facts | items",
            "facts ~ ''",
            "vars.u",
            "vars['u']",
            "vars.u | default(1)",
            "vars | tojson",
            "vars | attr('u')",
            "vars.a == 2 or vars.u",
            "{'x': facts}.x.y",
            "[facts] | map(attribute='os') | list",
        ] {
            assert!(asks(expression), "{expression}");
        }
    }

    #[test]
    fn whatever_does_without_is_known() {
        for expression in [
            "vars.a",
            "vars['b'].c",
            "vars.none is defined",
            "vars.a == 2 and facts.arch == 'arm64'",
            "vars.a == 1 or facts.arch == 'arm64'",
            "facts is mapping",
            "'yes' if vars else 'no'",
            "vars and vars.a == 1",
        ] {
            assert!(!asks(expression), "{expression}");
        }
    }
}
