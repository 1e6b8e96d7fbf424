//! The engine's transport over SSH: dial a node, check its host key against the cluster's own
//! pins, log in with a key, run programs.
//!
//! ```text
//! Target ──route──▶ Endpoint(s) ──address/jump──▶ stream ──handshake──▶ pin check ──auth──▶ SshHost ──exec──▶ Session
//!            ▲                                                 ▲              ▲
//!       ~/.ssh/config                                      PinStore        Keyring (agent, files, passphrases)
//! ```
//!
//! What this crate must not know: inventories, plans, what the programs it runs are for. What it
//! promises: the host key is checked before anything is sent that is worth stealing; a program whose
//! end nobody reported is [`Exit::Lost`](picluster_engine::host::Exit::Lost); no stream is buffered
//! without bound; every wait for the network ends.
//!
//! Sources: RFC 4251 to 4254 (the protocol), RFC 8308 (extension negotiation), ssh_config(5),
//! sshd_config(5) and PROTOCOL of OpenSSH.

mod address;
mod agent;
mod auth;
mod config;
mod connector;
mod counters;
mod environment;
mod handshake;
mod host;
mod jump;
mod keyring;
mod limits;
mod pinname;
mod pins;
mod pipe;
mod policy;
mod route;
mod session;
mod target;
mod wire;
mod words;

pub use connector::SshConnector;
pub use counters::{Count, Counters};
pub use environment::Environment;
pub use limits::{CipherOrder, Limits};
pub use pinname::{PinName, PinNameError};
pub use pins::{Pin, PinError, PinStore};
pub use policy::{AcceptNew, Decision, FirstContact, HostKeyPolicy, NoPrompts, Prompts, RefuseNew};
pub use route::{Fallback, FallbackValue, fallbacks};
pub use target::{Hop, Target, UseSshConfig};

/// The public host key type of pins: what `seed` makes and [`PinStore::add`] takes.
pub use russh::keys::PublicKey;
