//! What this crate must know about resource kinds and facts without knowing them.

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::yaml::Yaml;

/// The vocabulary of role entries and facts, given by the crate that owns the resources.
///
/// It keeps this crate free of any knowledge of machines: a kind is a name and a JSON Schema.
pub trait Kinds {
    /// All kinds a role may use, for instance `file`.
    fn names(&self) -> Vec<&'static str>;

    /// The JSON Schema of the body of `kind`; `None` when there is no such kind.
    ///
    /// A kind whose schema has a property `content` (and none called `template`) also accepts
    /// `template: NAME`, which this crate replaces by the rendered text.
    fn schema(&self, kind: &str) -> Option<Value>;

    /// Everything that is wrong with a body of `kind` whose templates were rendered and whose
    /// references to secrets are placeholders: what its schema says, and what no schema can say.
    fn check(&self, kind: &str, body: &Yaml) -> Vec<Diagnostic>;

    /// The JSON Schema of what may follow `facts.` in templates: only facts no apply changes.
    fn facts_schema(&self) -> Value;
}
