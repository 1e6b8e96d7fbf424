//! `resources.md`: the kinds of resources and their fields, from their schemas.

use std::fmt::Write as _;

use picluster_model::Kinds as _;
use picluster_resource::{Resource, Vocabulary};

use super::json_schema::Schema;
use super::paragraphs;

/// The page.
pub(super) fn page() -> String {
    let mut page = String::from(
        "# Resources\n\nWhat a role is made of: each entry of `resources` in a `role.yaml` is one kind with its fields.\n\n",
    );
    let links: Vec<String> = Resource::KINDS
        .iter()
        .map(|kind| format!("[{kind}](#{kind})"))
        .collect();
    let _ = write!(
        page,
        "{}\n\n## Every entry\n\nBeside its kind, an entry may have:\n\n",
        links.join(" · ")
    );
    let role = picluster_model::role_schema(&Vocabulary);
    if let Some(here) = role.pointer("/definitions/Entry") {
        let entry = Schema {
            document: &role,
            here,
        };
        page.push_str(&entry.fields(|name| !Resource::KINDS.contains(&name)));
    }
    page.push_str("## Facts\n\nWhat `when` and templates may ask a node, as `facts.NAME`: only what no apply changes.\n\n");
    page.push_str(&Schema::new(&Vocabulary.facts_schema()).readings());
    for kind in Resource::KINDS {
        let Some(schema) = Resource::schema(kind) else {
            continue;
        };
        let schema = schema.to_value();
        let schema = Schema::new(&schema);
        let _ = write!(page, "## {kind}\n\n");
        page.push_str(&paragraphs(schema.description()));
        page.push_str(&schema.fields(|_| true));
    }
    page
}
