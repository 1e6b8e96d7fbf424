//! Disposable nodes on one Linux machine.
//!
//! A lab boots one node per inventory node, with the very addresses the inventory gives: real systemd as PID 1,
//! real sshd, real apt through a caching proxy, `/boot/firmware/cmdline.txt` that becomes `/proc/cmdline` at the
//! next boot, and the files and kernel views of a Raspberry Pi. Nothing in it is root on this machine, nothing is
//! installed, and everything is gone when it ends.
//!
//! This crate knows nothing of inventories, roles, plans or SSH clients: it takes a [`LabSpec`] and makes nodes.
//! Its processes are this very program run again inside namespaces; the program hands over with [`internal_main`].
#![cfg(unix)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
// Elsewhere everything compiles and most of it has nobody to call it: a lab cannot start there.
#![cfg_attr(not(target_os = "linux"), allow(dead_code))]

use std::ffi::OsString;
use std::process::ExitCode;

mod control;
mod error;
mod image;
pub mod kubernetes;
mod lab;
mod listing;
mod network;
mod options;
mod preflight;
mod progress;
mod spec;
mod status;
mod vm;

#[cfg(target_os = "linux")]
mod card;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod pi;
#[cfg(target_os = "linux")]
mod proxy;

pub use control::Wait;
pub use error::LabError;
pub use image::{
    ImageState, ensure_image, ensure_kubernetes, ensure_vm_image, image_state, remove_image,
    verify_image,
};
pub use lab::Lab;
pub use listing::{Entry, EntryKind};
pub use options::LabOptions;
pub use preflight::{Missing, preflight};
pub use progress::Progress;
pub use spec::{ImageName, LabSpec, Machine, NodeSpec, OsFlavour, PiPersonality, SudoMode};
pub use status::{NodeStatus, Power};
pub use vm::{VM_PACKAGES, vm_preflight};

/// First argument with which a program hands over to [`internal_main`].
pub const INTERNAL_ARGUMENT: &str = "__lab";

/// The steps a lab takes inside its namespaces. `args` are the arguments after [`INTERNAL_ARGUMENT`].
///
/// Not meant to be called by people; the arguments are no interface.
pub fn internal_main(args: &[OsString]) -> ExitCode {
    #[cfg(target_os = "linux")]
    {
        linux::internal::main(args)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = args;
        ExitCode::FAILURE
    }
}
