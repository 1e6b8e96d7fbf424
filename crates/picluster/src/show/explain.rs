//! Where values come from, for people.

use std::fmt::Write as _;

use picluster_model::Node;
use serde_json::Value;

use crate::explain::{Explained, Given};
use crate::term::Style;

/// Values longer than this are cut in a table.
const WIDE: usize = 44;

/// One value with every place that gives one, the winner first.
#[must_use]
pub fn one(value: &Explained, style: Style) -> String {
    let mut out = format!("{} {}\n", style.bold(&value.name), text(&value.value));
    let place = |given: &Given| given.place.as_ref().map(ToString::to_string);
    let widths = value.sources.iter().filter_map(place);
    let width = widths.map(|place| place.chars().count()).max().unwrap_or(0);
    for (n, given) in value.sources.iter().enumerate() {
        let mark = if n == 0 {
            style.green("wins")
        } else {
            style.dim("over")
        };
        let _ = writeln!(
            out,
            "  {mark}  {:<14} {:<width$}  {}",
            given.source.to_string(),
            place(given).unwrap_or_default(),
            text(&given.value)
        );
    }
    out
}

/// Many values, a line each.
#[must_use]
pub fn table(node: &Node, values: &[Explained], style: Style) -> String {
    let mut out = format!("{} {}\n", style.bold(node.name.as_str()), node.span);
    let shown: Vec<(String, String)> = values
        .iter()
        .map(|value| {
            let over = match value.sources.len() {
                0 | 1 => String::new(),
                n => style.dim(&format!(", over {}", n - 1)),
            };
            let place = match value.sources.first() {
                Some(given) => match &given.place {
                    Some(place) => format!("{} {place}", given.source),
                    None => given.source.to_string(),
                },
                None => String::new(),
            };
            (cut(&text(&value.value)), format!("{place}{over}"))
        })
        .collect();
    let length = |text: &str| text.chars().count();
    let names = values.iter().map(|value| length(&value.name)).max();
    let name_width = names.unwrap_or(0);
    let value_width = shown.iter().map(|(value, _)| length(value)).max();
    let value_width = value_width.unwrap_or(0);
    for (value, (shown, place)) in values.iter().zip(&shown) {
        let _ = writeln!(
            out,
            "  {:<name_width$}  {shown:<value_width$}  {place}",
            value.name
        );
    }
    out
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WIDE {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(WIDE - 1).collect();
    cut.push('…');
    cut
}

/// A value on one line, as YAML's flow style.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{key}: {}", text(value)))
                .collect();
            match entries.as_slice() {
                [] => String::from("{}"),
                _ => format!("{{ {} }}", entries.join(", ")),
            }
        }
        other => other.to_string(),
    }
}
