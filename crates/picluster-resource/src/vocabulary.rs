//! The vocabulary as the document reader needs it: names and schemas.

use picluster_model::kinds::Kinds;
use picluster_model::{Diagnostic, Yaml};

use crate::facts::{Arch, Board, Os};
use crate::resource::Resource;

/// All resource kinds and the facts roles may use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vocabulary;

/// What may follow `facts.` in roles: only what no apply changes.
#[derive(schemars::JsonSchema)]
#[allow(dead_code, reason = "only its schema is used")]
struct ConstantFacts {
    os: Os,
    arch: Arch,
    board: Board,
    /// `MemTotal`, in MiB.
    memory_mib: u64,
}

impl Kinds for Vocabulary {
    fn names(&self) -> Vec<&'static str> {
        Resource::KINDS.to_vec()
    }

    fn schema(&self, kind: &str) -> Option<serde_json::Value> {
        Resource::schema(kind).map(|s| s.to_value())
    }

    fn check(&self, kind: &str, body: &Yaml) -> Vec<Diagnostic> {
        Resource::from_yaml(kind, body).err().unwrap_or_default()
    }

    fn facts_schema(&self) -> serde_json::Value {
        schemars::schema_for!(ConstantFacts).to_value()
    }
}
