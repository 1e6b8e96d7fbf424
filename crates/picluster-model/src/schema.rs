//! JSON Schema: generated from the types that are read, and walked over documents.
//!
//! The same schema serves editors and [`check`], so what an editor accepts is what is accepted.
//! It is written in draft 7, the newest that YAML editors understand well, with their extension
//! `patternErrorMessage`.

mod generate;
mod walk;
mod words;

pub(crate) use generate::{allow_template_file, inventory_schema_ref, role_document_schema_ref};
pub use generate::{inventory_schema, role_schema};
pub(crate) use walk::{Named, check_named, check_rough, is_templated, secret_reference};
pub use walk::{Templated, check};
