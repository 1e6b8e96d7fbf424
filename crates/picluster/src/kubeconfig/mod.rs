//! The administrator's credentials on the controller: read from a server, merged into the user's
//! kubeconfig.
//!
//! [`credentials`] knows what a server writes, [`edit`] how a kubeconfig is changed without touching what is somebody
//! else's, [`file`] where it stands and how it is written.

pub mod credentials;
pub mod edit;
pub mod file;

pub use credentials::{Credentials, K3S_YAML};
pub use edit::Refusal;
pub use file::{Target, Written};
