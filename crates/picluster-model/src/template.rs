//! Templates: minijinja, strict, without clock and chance.
//!
//! - An undefined name is an error wherever it is used, except with `is defined` and `default`.
//! - `none`, lists and mappings cannot be printed: their Python look in a configuration file
//!   helps nobody. `true` and `false` are printed as they are written.
//! - Blocks alone on their line leave no line behind (`trim_blocks`, `lstrip_blocks`), and the
//!   line feed at the end of a file stays.
//! - Nothing is escaped by the name of the file, and nothing runs for ever.

mod check;
mod engine;
mod inspect;
mod locate;
mod names;

pub(crate) use check::{RoleCheck, check_role, check_value};
pub(crate) use engine::{Engine, Problem};
pub(crate) use inspect::{Form, single_expression};
pub(crate) use locate::locate;
pub(crate) use names::Names;
