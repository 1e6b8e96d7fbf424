//! From documents and facts to the resources a node should have.

use picluster_model::Span;
use picluster_resource::Resource;

use crate::addr::StepAddr;

/// One resource a node should have, and where it is said.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Its address.
    pub addr: StepAddr,
    /// What should be.
    pub resource: Resource,
    /// `id` of the entry, for `needs`.
    pub id: Option<String>,
    /// Ids, or `kind[name]`, within the role.
    pub needs: Vec<String>,
    /// Everything behind it waits for everything before it.
    pub barrier: bool,
    /// The place of the entry.
    pub span: Option<Span>,
}
