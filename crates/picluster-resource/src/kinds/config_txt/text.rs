//! The text of `config.txt` and the files it includes: what a setting is there, and how it is edited.

use crate::facts::Board;
use crate::kinds::config_txt::filter::{Applies, Filters};
use crate::kinds::edit::{self, Line};

/// A setting, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub id: Id,
    /// What it is set to: a scalar's value, a parameter's value, an overlay's parameters.
    pub value: String,
}

/// What a line sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Id {
    /// `key=value`; the last one counts.
    Key(String),
    /// `dtparam=name=value`; the last one counts.
    Param(String),
    /// `dtoverlay=name,…`; each counts.
    Overlay(String),
    /// `gpio=pins=…`; each counts.
    Pins(String),
}

/// Overlay maps know these by both names (overlay_map.dts of raspberrypi/linux).
fn overlay(name: &str) -> String {
    match name {
        "pi3-disable-wifi" => "disable-wifi",
        "pi3-disable-bt" => "disable-bt",
        other => other,
    }
    .to_owned()
}

/// Booleans of the device tree, as the firmware's dtmerge reads them.
fn param_value(value: &str) -> String {
    match value {
        "" | "on" | "1" | "yes" | "true" | "y" | "okay" => "on",
        "off" | "0" | "no" | "false" | "n" => "off",
        other => other,
    }
    .to_owned()
}

impl Setting {
    /// Reads one setting as a person writes it. `None`: not one, or several at once.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut all = settings(text);
        (all.len() == 1).then(|| all.remove(0))
    }

    /// How it is written on a line of its own.
    fn line(&self) -> String {
        match &self.id {
            Id::Key(key) => format!("{key}={}", self.value),
            Id::Param(name) => format!("dtparam={name}={}", self.value),
            Id::Overlay(name) if self.value.is_empty() => format!("dtoverlay={name}"),
            Id::Overlay(name) => format!("dtoverlay={name},{}", self.value),
            Id::Pins(pins) => format!("gpio={pins}={}", self.value),
        }
    }
}

/// What a line sets; a `dtparam` line may set several things.
fn settings(line: &str) -> Vec<Setting> {
    let line = line.trim();
    if line.starts_with(['#', '[']) {
        return Vec::new();
    }
    let Some((key, value)) = line.split_once('=') else {
        return Vec::new();
    };
    let (key, value) = (key.trim(), value.trim());
    let setting = |id, value: &str| Setting {
        id,
        value: value.to_owned(),
    };
    match key {
        "dtparam" | "device_tree_param" => value
            .split(',')
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                setting(
                    Id::Param(name.trim().to_owned()),
                    &param_value(value.trim()),
                )
            })
            .collect(),
        "dtoverlay" | "device_tree_overlay" => {
            let (name, parameters) = value.split_once(',').unwrap_or((value, ""));
            if name.is_empty() {
                // Ends the reach of the overlay above.
                return Vec::new();
            }
            vec![setting(
                Id::Overlay(overlay(name.trim())),
                parameters.trim(),
            )]
        }
        "gpio" => {
            let (pins, state) = value.split_once('=').unwrap_or((value, ""));
            vec![setting(Id::Pins(pins.trim().to_owned()), state.trim())]
        }
        _ => vec![setting(Id::Key(key.to_owned()), value)],
    }
}

/// A file of the firmware's configuration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ConfigFile {
    /// Where it stands.
    pub path: String,
    /// Its whole text.
    pub text: String,
}

/// A line in the order the firmware reads them.
struct Read<'a> {
    file: usize,
    number: usize,
    text: &'a str,
    filters: Filters,
}

/// Goes through the files as the firmware does: the first one, and where it says so the others.
fn read<'a>(files: &'a [ConfigFile]) -> Vec<Read<'a>> {
    let mut out = Vec::new();
    let mut filters = Filters::default();
    walk(files, 0, &mut filters, &mut out, 0);
    out
}

/// The filters in force behind the last line.
fn at_end(files: &[ConfigFile]) -> Filters {
    let mut filters = Filters::default();
    walk(files, 0, &mut filters, &mut Vec::new(), 0);
    filters
}

fn walk<'a>(
    files: &'a [ConfigFile],
    file: usize,
    filters: &mut Filters,
    out: &mut Vec<Read<'a>>,
    depth: usize,
) {
    let Some(config) = files.get(file) else {
        return;
    };
    let dir = config.path.rsplit_once('/').map_or("", |(dir, _)| dir);
    for (number, line) in edit::lines(&config.text).into_iter().enumerate() {
        let text = line.text.trim();
        if let Some(filter) = text.strip_prefix('[') {
            filters.enter(filter.split(']').next().unwrap_or("").trim());
        } else if let Some(name) = text.strip_prefix("include ") {
            let path = format!("{dir}/{}", name.trim());
            let next = files.iter().position(|f| f.path == path);
            // A file that includes itself has no end; the firmware's bound is not documented.
            if let (Some(next), true) = (next, depth < 8) {
                walk(files, next, filters, out, depth + 1);
                continue;
            }
        }
        out.push(Read {
            file,
            number,
            text: line.text,
            filters: filters.clone(),
        });
    }
}

/// One setting under one filter on one board.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub setting: &'a Setting,
    pub section: &'a str,
    pub board: &'a Board,
}

impl Wish<'_> {
    fn section(&self) -> Filters {
        Filters::only(self.section)
    }

    /// Whether the section counts on this board.
    pub(crate) fn applies(&self) -> Applies {
        self.section().applies(self.board)
    }

    /// Whether a line under `filters` counts wherever the section does.
    fn counts(&self, filters: &Filters) -> Applies {
        if *filters == self.section() || filters.is_all() {
            return Applies::Yes;
        }
        match self.applies() {
            Applies::Yes => filters.applies(self.board),
            // On other boards only what is said for the section or for all is known.
            _ => Applies::No,
        }
    }

    fn same(&self, line: &str) -> Option<Setting> {
        settings(line)
            .into_iter()
            .rev()
            .find(|s| s.id == self.setting.id)
    }

    /// What the firmware makes of it, in order; the last one counts, but for overlays and pins.
    pub(crate) fn effective(&self, files: &[ConfigFile]) -> Vec<String> {
        let mut values: Vec<String> = read(files)
            .iter()
            .filter(|line| self.counts(&line.filters) != Applies::No)
            .filter_map(|line| self.same(line.text))
            .map(|s| s.value)
            .collect();
        if matches!(self.setting.id, Id::Key(_) | Id::Param(_)) && values.len() > 1 {
            values.drain(..values.len() - 1);
        }
        values
    }

    /// Whether it is set, certainly and last.
    pub(crate) fn is_set(&self, files: &[ConfigFile]) -> bool {
        let each = matches!(self.setting.id, Id::Overlay(_) | Id::Pins(_));
        let mut set = false;
        for line in read(files) {
            let counts = self.counts(&line.filters);
            if let (Some(found), true) = (self.same(line.text), counts != Applies::No) {
                if found.value == self.setting.value {
                    set |= counts == Applies::Yes;
                } else if !each || counts == Applies::Yes {
                    set = false;
                }
            }
        }
        set
    }

    /// Whether the section itself says anything about it.
    pub(crate) fn is_said(&self, files: &[ConfigFile]) -> bool {
        read(files)
            .iter()
            .any(|line| line.filters == self.section() && self.same(line.text).is_some())
    }

    /// The files with it set: in the place where the section says it already, else at the end of the
    /// section, else at the end of the file.
    pub(crate) fn set(&self, files: &[ConfigFile]) -> Vec<ConfigFile> {
        let mut last = files.to_vec();
        for attempt in [Self::in_place, Self::in_section, Self::at_end] {
            if let Some(text) = attempt(self, files) {
                if let Some(root) = last.first_mut() {
                    root.text = text;
                }
                if self.is_set(&last) {
                    break;
                }
            }
        }
        last
    }

    /// The files in which the section does not say it; other sections stay.
    pub(crate) fn unset(&self, files: &[ConfigFile]) -> Vec<ConfigFile> {
        let section = self.section();
        let mut out = files.to_vec();
        let mut gone: Vec<(usize, usize, Option<String>)> = read(files)
            .iter()
            .filter(|line| line.filters == section && self.same(line.text).is_some())
            .map(|line| (line.file, line.number, self.without(line.text)))
            .collect();
        gone.sort();
        gone.dedup();
        for (file, number, rest) in gone.into_iter().rev() {
            let text = out[file].text.clone();
            let mut lines = edit::lines(&text);
            match &rest {
                Some(rest) => lines[number].text = rest,
                None => {
                    lines.remove(number);
                }
            }
            edit::keep_open_end(&text, &mut lines);
            out[file].text = edit::join(&lines);
        }
        out
    }

    /// A `dtparam` line without this one parameter; `None`: nothing else stands there.
    fn without(&self, line: &str) -> Option<String> {
        let Id::Param(name) = &self.setting.id else {
            return None;
        };
        let (key, list) = line.split_once('=')?;
        let rest: Vec<&str> = list
            .split(',')
            .filter(|part| part.split('=').next().map(str::trim) != Some(name))
            .collect();
        (!rest.is_empty()).then(|| format!("{key}={}", rest.join(",")))
    }

    fn in_place(&self, files: &[ConfigFile]) -> Option<String> {
        let section = self.section();
        let all = read(files);
        let at = all.iter().rev().find(|line| {
            line.file == 0 && line.filters == section && self.same(line.text).is_some()
        })?;
        let wanted = self.setting.line();
        let text = match self.without(at.text) {
            // A list: only this one of it.
            Some(rest) => format!("{rest},{}", wanted.trim_start_matches("dtparam=")),
            None => wanted,
        };
        let root = &files.first()?.text;
        let mut lines = edit::lines(root);
        lines[at.number].text = &text;
        Some(edit::join(&lines))
    }

    fn in_section(&self, files: &[ConfigFile]) -> Option<String> {
        let section = self.section();
        let all = read(files);
        let own: Vec<&Read<'_>> = all.iter().filter(|line| line.file == 0).collect();
        let end = own.iter().rposition(|line| line.filters == section)?;
        // Blank lines and comments that lead over to the next section stay behind it.
        let begin = own[..end]
            .iter()
            .rposition(|line| line.filters != section)
            .map_or(0, |at| at + 1);
        let last = own[begin..=end]
            .iter()
            .rposition(|line| {
                let text = line.text.trim();
                !text.is_empty() && (end + 1 == own.len() || !text.starts_with('#'))
            })
            .map_or(begin, |at| begin + at);
        let root = &files.first()?.text;
        let mut lines = edit::lines(root);
        let wanted = self.setting.line();
        let mut new = Vec::new();
        if self.in_reach(&own[..=last]) {
            new.push("dtoverlay=");
        }
        new.push(&wanted);
        // An empty file has no line to stand behind.
        let at = if lines.is_empty() {
            0
        } else {
            own[last].number + 1
        };
        edit::insert(&mut lines, at, &new);
        Some(edit::join(&lines))
    }

    fn at_end(&self, files: &[ConfigFile]) -> Option<String> {
        let all = read(files);
        let own: Vec<&Read<'_>> = all.iter().filter(|line| line.file == 0).collect();
        let root = &files.first()?.text;
        let mut lines: Vec<Line<'_>> = edit::lines(root);
        let header = format!("[{}]", self.section);
        let wanted = self.setting.line();
        let mut new = Vec::new();
        if !at_end(files).is_all() || self.section == "all" {
            new.push("[all]");
        }
        if self.section != "all" {
            new.push(&header);
        }
        if self.in_reach(&own) {
            new.push("dtoverlay=");
        }
        new.push(&wanted);
        if self.section != "all" {
            // What others append is for every board.
            new.push("[all]");
        }
        let end = lines.len();
        edit::insert(&mut lines, end, &new);
        Some(edit::join(&lines))
    }

    /// Whether a parameter of the base device tree, written behind these lines, would be taken for one
    /// of the overlay above it.
    fn in_reach(&self, before: &[&Read<'_>]) -> bool {
        if !matches!(self.setting.id, Id::Param(_)) {
            return false;
        }
        before
            .iter()
            .rev()
            .find_map(|line| {
                let value = line
                    .text
                    .trim()
                    .strip_prefix("dtoverlay")
                    .and_then(|rest| rest.trim_start().strip_prefix('='))?;
                Some(!value.trim().is_empty())
            })
            .unwrap_or(false)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn board(model: &str) -> Board {
        Board {
            model: model.into(),
            serial: "10000000a1b2c3d4".into(),
            tryboot: false,
        }
    }

    fn lines() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            Just("gpu_mem=64".to_owned()),
            Just("gpu_mem=16".to_owned()),
            Just("# a comment".to_owned()),
            Just(String::new()),
            Just("dtparam=audio=on,pciex1_gen=2".to_owned()),
            Just("dtparam=pciex1_gen=3".to_owned()),
            Just("dtoverlay=disable-wifi".to_owned()),
            Just("dtoverlay=vc4-kms-v3d,cma-256".to_owned()),
            Just("dtoverlay=".to_owned()),
            Just("include extra.txt".to_owned()),
            Just("[all]".to_owned()),
            Just("[pi4]".to_owned()),
            Just("[pi5]".to_owned()),
            Just("[gpio4=1]".to_owned()),
            Just("[none]".to_owned()),
        ];
        (
            proptest::collection::vec(line, 0..9),
            any::<bool>(),
            any::<bool>(),
        )
            .prop_map(|(lines, crlf, end)| {
                let eol = if crlf { "\r\n" } else { "\n" };
                lines.join(eol) + if end && !lines.is_empty() { eol } else { "" }
            })
    }

    proptest! {
        #[test]
        fn what_is_set_is_set_and_nothing_else_goes(root in lines(), extra in lines(),
            wish in prop_oneof![Just("gpu_mem=16"), Just("dtparam=pciex1_gen=3"), Just("dtoverlay=disable-wifi"), Just("dtoverlay=disable-wifi,x=1")],
            section in prop_oneof![Just("all"), Just("pi4"), Just("pi5"), Just("cm4")],
            model in prop_oneof![Just("Raspberry Pi 4 Model B Rev 1.4"), Just("Raspberry Pi 5 Model B Rev 1.0"), Just("")])
        {
            let files = vec![
                ConfigFile { path: "/boot/firmware/config.txt".into(), text: root },
                ConfigFile { path: "/boot/firmware/extra.txt".into(), text: extra },
            ];
            let (setting, board) = (Setting::read(wish).unwrap(), board(model));
            let wish = Wish { setting: &setting, section, board: &board };
            let set = wish.set(&files);
            prop_assert!(wish.is_set(&set), "{:?}", set[0].text);
            prop_assert_eq!(&set[1], &files[1]);
            // Every line that says nothing about it is still there, in its order.
            let foreign = |text: &str| -> Vec<String> {
                edit::lines(text).iter().map(|l| l.text.to_owned()).filter(|l| wish.same(l).is_none()).collect()
            };
            let (before, after) = (foreign(&files[0].text), foreign(&set[0].text));
            let mut rest = after.iter();
            for line in &before {
                prop_assert!(rest.any(|l| l == line), "{line:?} is gone");
            }
            let gone = wish.unset(&set);
            prop_assert!(!wish.is_said(&gone));
        }
    }

    #[test]
    fn models_see_their_own_filters_and_those_of_their_family() {
        let sees = |model: &str, filter: &str| {
            Filters::only(filter).applies(&board(&format!("Raspberry Pi {model} Rev 1.0")))
        };
        for (model, yes, no) in [
            ("Compute Module 4", ["cm4", "pi4"], ["cm4s", "pi5"]),
            ("Compute Module 5", ["cm5", "pi5"], ["cm4", "pi500"]),
            ("500", ["pi500", "pi5"], ["pi4", "cm5"]),
            ("3 Model B Plus", ["pi3+", "pi3"], ["pi4", "pi2"]),
            ("Zero 2 W", ["pi02", "pi0"], ["pi1", "pi3"]),
        ] {
            for filter in yes {
                assert_eq!(sees(model, filter), Applies::Yes, "{model} {filter}");
            }
            for filter in no {
                assert_eq!(sees(model, filter), Applies::No, "{model} {filter}");
            }
        }
        assert_eq!(sees("4 Model B", "0xa1b2c3d4"), Applies::Yes);
        assert_eq!(sees("4 Model B", "gpio4=1"), Applies::Maybe);
        assert_eq!(sees("4 Model B", "none"), Applies::No);
    }
}
