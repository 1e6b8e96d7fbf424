//! Reads doc comments of one type out of formatted source: those of types that have no schema.

/// A type as its source declares it.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Declared {
    /// What it is.
    pub(super) doc: String,
    /// Its variants or fields.
    pub(super) items: Vec<Item>,
}

/// A variant of an enum, or a field of a struct or variant.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Item {
    /// Its name.
    pub(super) name: String,
    /// What it is.
    pub(super) doc: String,
    /// A field's type, or what a variant holds: `Type` of `Variant(Type)`.
    pub(super) kind: Option<String>,
    /// The fields of a variant.
    pub(super) fields: Vec<Item>,
}

/// The declaration of `name`, in source as rustfmt leaves it.
pub(super) fn declared(source: &str, name: &str) -> Option<Declared> {
    let mut doc = Vec::new();
    let mut lines = source.lines();
    for line in lines.by_ref() {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim_start());
        } else if line == format!("pub enum {name} {{") || line == format!("pub struct {name} {{") {
            let items = items(&mut lines, "}");
            return Some(Declared {
                doc: doc.join("\n"),
                items,
            });
        } else if !line.starts_with("#[") {
            doc.clear();
        }
    }
    None
}

fn items<'a>(lines: &mut impl Iterator<Item = &'a str>, end: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut doc: Vec<&str> = Vec::new();
    while let Some(line) = lines.next() {
        let word = line.trim();
        if line == end {
            break;
        } else if let Some(text) = word.strip_prefix("///") {
            doc.push(text.trim_start());
        } else if word.starts_with('#') || word.is_empty() {
            // Attributes say how it is written down, not what it is.
        } else {
            let word = word.trim_start_matches("pub ").trim_end_matches(',');
            let mut item = Item {
                doc: std::mem::take(&mut doc).join("\n"),
                ..Item::default()
            };
            if let Some(name) = word.strip_suffix(" {") {
                item.name = name.to_owned();
                let indent = &line[..line.len() - line.trim_start().len()];
                item.fields = self::items(lines, &format!("{indent}}},"));
            } else if let Some((name, kind)) = word.split_once(": ") {
                (item.name, item.kind) = (name.to_owned(), Some(kind.to_owned()));
            } else if let Some((name, kind)) =
                word.strip_suffix(')').and_then(|w| w.split_once('('))
            {
                (item.name, item.kind) = (name.to_owned(), Some(kind.to_owned()));
            } else {
                item.name = word.to_owned();
            }
            items.push(item);
        }
    }
    items
}

/// `NodeFinished` as JSON has it: `node_finished`.
pub(super) fn snake(name: &str) -> String {
    let mut out = String::new();
    for (at, c) in name.char_indices() {
        if c.is_ascii_uppercase() && at > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{declared, snake};

    const SOURCE: &str = "\
/// Of another type.
pub struct Other {}

/// What happened.
/// In two lines.
#[derive(Debug)]
pub enum Event {
    /// Nothing.
    Idle,
    /// Something.
    NodeBack {
        /// Where.
        #[serde(default)]
        node: Option<NodeName>,
    },
    /// With a value.
    Failed(Box<Failure>),
}
";

    #[test]
    fn variants_and_fields_have_their_own_comments() {
        let event = declared(SOURCE, "Event").unwrap_or_default();
        assert_eq!(event.doc, "What happened.\nIn two lines.");
        let names: Vec<&str> = event.items.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["Idle", "NodeBack", "Failed"]);
        assert_eq!(event.items[1].fields[0].doc, "Where.");
        assert_eq!(
            event.items[1].fields[0].kind.as_deref(),
            Some("Option<NodeName>")
        );
        assert_eq!(event.items[2].kind.as_deref(), Some("Box<Failure>"));
        assert_eq!(declared(SOURCE, "Nothing"), None);
        assert_eq!(snake("NodeBack"), "node_back");
    }
}
