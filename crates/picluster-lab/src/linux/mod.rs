//! Everything that needs Linux: namespaces, mounts, cgroups, and the processes that live in them.
//!
//! The processes of a lab, outermost first:
//!
//! - *keeper*: the caller's own user, no new namespace. Maps the user namespace, fetches for apt, sweeps cgroups.
//! - *stage*: binds the few directories the lab may see, then becomes
//! - *supervisor*: PID 1 of the lab's pid, user, net, mount, ipc and uts namespaces. Owns the nodes.
//! - per node `unshare`, and below it the node's own systemd.
//!
//! The keeper's end pulls the supervisor's stdin shut, the supervisor's end takes its pid namespace along.

pub(crate) mod boot;
pub(crate) mod build;
pub(crate) mod cgroup;
pub(crate) mod controller;
pub(crate) mod faults;
pub(crate) mod hub;
pub(crate) mod internal;
pub(crate) mod keeper;
pub(crate) mod launch;
pub(crate) mod list_upper;
pub(crate) mod mounts;
pub(crate) mod node;
pub(crate) mod preflight;
pub(crate) mod procs;
pub(crate) mod stage;
pub(crate) mod supervisor;
pub(crate) mod tool;
pub(crate) mod userns;
pub(crate) mod verbs;
