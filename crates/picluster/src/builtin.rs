//! The built-in roles, embedded. They use nothing that a user's role folder cannot use.

/// Every file below `roles/`, by its path there.
pub const ROLES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/roles.rs"));
