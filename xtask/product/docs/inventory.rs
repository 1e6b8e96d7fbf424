//! `inventory.md`: what may stand in an inventory, from its schema.

use std::fmt::Write as _;

use serde_json::Value;

use super::json_schema::{Schema, title};
use super::paragraphs;

/// The page.
pub(super) fn page() -> String {
    let document = picluster_model::inventory_schema();
    let mut page = String::from(
        "# Inventory\n\nThe schema that editors use is [inventory.schema.json](../schema/inventory.schema.json).\n\n",
    );
    let root = Schema::new(&document);
    page.push_str(&paragraphs(root.description()));
    page.push_str(&root.fields(|_| true));
    for (name, here) in document
        .get("definitions")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let part = Schema {
            document: &document,
            here,
        };
        if part.properties().is_some() {
            let _ = write!(page, "## {}\n\n", title(name));
            page.push_str(&paragraphs(part.description()));
            page.push_str(&part.fields(|_| true));
        }
    }
    page
}
