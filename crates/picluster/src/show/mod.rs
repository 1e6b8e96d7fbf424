//! What people see. Every function here turns values into text; only the verbs write it out.

pub mod closed;
pub mod critical;
pub mod explain;
pub mod failure;
pub mod kubeconfig;
pub mod live;
pub mod names;
pub mod plan;
pub mod recap;
pub mod shutdown;
pub mod status;
