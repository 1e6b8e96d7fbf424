//! Conditional filters of `config.txt`: `[all]`, `[pi4]`, `[gpio4=1]`, …
//!
//! After the chapter "Conditional filters" of Raspberry Pi's documentation: a filter holds until another
//! of its type takes its place, filters of different types must hold at once, `[all]` takes all of them away.

use std::collections::BTreeMap;

use crate::facts::Board;

/// The filters in force at a line, by type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Filters(BTreeMap<&'static str, String>);

/// Whether lines under some filters count on a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applies {
    Yes,
    No,
    /// It depends on what is known at boot only (a pin, a monitor), or on a board we do not know.
    Maybe,
}

/// The type a filter belongs to.
fn kind(filter: &str) -> &'static str {
    let beginnings = [
        ("gpio", "gpio"),
        ("EDID=", "EDID"),
        ("HDMI:", "HDMI"),
        ("board-type=", "board-type"),
        ("partition=", "partition"),
        ("boot_", "boot"),
        ("tryboot", "tryboot"),
        ("0x", "serial"),
        ("none", "none"),
    ];
    beginnings
        .iter()
        .find(|(beginning, _)| filter.starts_with(beginning))
        .map_or("model", |(_, kind)| kind)
}

/// The model filters a board sees, from its name in the device tree. `None`: no Raspberry Pi we know.
fn seen_by(model: &str) -> Option<&'static [&'static str]> {
    let name = model.strip_prefix("Raspberry Pi ")?;
    // The longer name first: "Compute Module 4S" begins like "Compute Module 4".
    let boards: &[(&str, &[&str])] = &[
        ("500", &["pi500", "pi5"]),
        ("5 ", &["pi5"]),
        ("Compute Module 5", &["cm5", "pi5"]),
        ("400", &["pi400", "pi4"]),
        ("4 ", &["pi4"]),
        ("Compute Module 4S", &["cm4s", "pi4"]),
        ("Compute Module 4", &["cm4", "pi4"]),
        ("Compute Module 3", &["pi3"]),
        ("3 Model B Plus", &["pi3+", "pi3"]),
        ("3 Model A Plus", &["pi3+", "pi3"]),
        ("3 ", &["pi3"]),
        ("2 ", &["pi2"]),
        ("Zero 2", &["pi02", "pi0w", "pi0"]),
        ("Zero W", &["pi0w", "pi0"]),
        ("Zero", &["pi0"]),
        ("Model ", &["pi1"]),
        ("Compute Module Rev", &["pi1"]),
    ];
    boards
        .iter()
        .find(|(beginning, _)| name.starts_with(beginning))
        .map(|(_, filters)| *filters)
}

impl Filters {
    /// Under one filter alone.
    pub(crate) fn only(filter: &str) -> Self {
        let mut filters = Self::default();
        filters.enter(filter);
        filters
    }

    /// Goes past a `[filter]` line.
    pub(crate) fn enter(&mut self, filter: &str) {
        if filter == "all" {
            self.0.clear();
        } else {
            self.0.insert(kind(filter), filter.to_owned());
        }
    }

    /// No filter at all.
    pub(crate) fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether what stands under these filters counts on this board.
    pub(crate) fn applies(&self, board: &Board) -> Applies {
        let mut answer = Applies::Yes;
        for (kind, filter) in &self.0 {
            let one = match *kind {
                "none" => Applies::No,
                "model" => match seen_by(&board.model) {
                    Some(seen) if seen.contains(&filter.as_str()) => Applies::Yes,
                    Some(_) => Applies::No,
                    None => Applies::Maybe,
                },
                "serial" => {
                    // The firmware compares the low 32 bits as a number.
                    let number =
                        |hex: &str| u64::from_str_radix(hex, 16).ok().map(|n| n & 0xffff_ffff);
                    match (number(&filter[2..]), number(&board.serial)) {
                        (Some(a), Some(b)) if a == b => Applies::Yes,
                        (Some(_), Some(_)) => Applies::No,
                        _ => Applies::Maybe,
                    }
                }
                _ => Applies::Maybe,
            };
            match one {
                Applies::No => return Applies::No,
                Applies::Maybe => answer = Applies::Maybe,
                Applies::Yes => {}
            }
        }
        answer
    }
}
