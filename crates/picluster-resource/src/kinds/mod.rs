//! One file a kind.

pub mod artifact;
pub mod authorized_keys;
pub mod block;
pub mod clock;
pub mod cluster_value;
pub mod command;
pub mod config_txt;
pub mod deb_version;
pub mod directory;
pub(crate) mod edit;
pub mod file;
pub mod first_boot;
pub mod group;
pub mod hostname;
pub mod ini;
pub mod kernel_cmdline;
pub mod kernel_module;
pub mod line;
pub mod link;
pub mod package;
pub(crate) mod shared;
pub mod swap;
pub mod sysctl;
pub mod timezone;
pub mod unit;
pub mod user;
