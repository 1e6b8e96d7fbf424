//! The administrator's credentials on the controller: read from a server, merged into the user's
//! kubeconfig.
//!
//! [`credentials`] knows what a server writes, [`edit`] how a kubeconfig is changed without touching what is somebody
//! else's, [`file`] where it stands and how it is written, [`intent`] what an inventory wants of
//! it, and [`merge`] when in a run that is done.

pub mod credentials;
pub mod edit;
pub mod file;
pub mod intent;
pub mod merge;

pub use credentials::Credentials;
pub use edit::Refusal;
pub use file::{Obstacle, Target, Written};
pub use intent::{Foreseen, Intent};
pub use merge::Merge;
