//! Lines of fstab(5), edited one by one.

use crate::kinds::edit;
use crate::kinds::mount::options;

/// What a line should say; `None`: whatever it says, and `auto` or `defaults` on a new one.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub path: String,
    pub source: Option<String>,
    pub kind: Option<String>,
    pub options: Vec<String>,
}

/// The first four fields of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub source: String,
    pub kind: String,
    pub options: Vec<String>,
}

impl Entry {
    pub(super) fn shown(&self) -> String {
        format!("{} {} {}", self.source, self.kind, self.options.join(","))
    }
}

/// A path as fstab(5) and `/proc/mounts` write it.
pub(super) fn escape(path: &str) -> String {
    path.replace('\\', "\\134")
        .replace(' ', "\\040")
        .replace('\t', "\\011")
}

fn fields(line: &str) -> Option<Vec<&str>> {
    let line = line.trim();
    let fields: Vec<&str> = line.split_whitespace().collect();
    (!line.starts_with('#') && fields.len() >= 3).then_some(fields)
}

fn is_for(line: &str, path: &str) -> bool {
    fields(line).is_some_and(|f| f[1] == escape(path) || f[1].trim_end_matches('/') == escape(path))
}

fn entry(line: &str) -> Option<Entry> {
    let fields = fields(line)?;
    Some(Entry {
        source: fields[0].to_owned(),
        kind: fields[2].to_owned(),
        options: fields
            .get(3)
            .unwrap_or(&"defaults")
            .split(',')
            .map(str::to_owned)
            .collect(),
    })
}

/// The line for a path; the first one counts.
pub(super) fn find(text: &str, path: &str) -> Option<Entry> {
    text.lines().find(|line| is_for(line, path)).and_then(entry)
}

/// The text with the line right; everything else stays byte for byte. `None`: there is no line, and
/// no source for a new one.
pub(super) fn with(text: &str, wanted: &Wanted) -> Option<String> {
    let mut lines = edit::lines(text);
    let strs: Vec<&str> = wanted.options.iter().map(String::as_str).collect();
    let at = lines
        .iter()
        .position(|line| is_for(line.text, &wanted.path));
    let Some((at, there)) = at.and_then(|at| Some((at, entry(lines[at].text)?))) else {
        let kind = wanted.kind.as_deref().unwrap_or("auto");
        let options = match strs.is_empty() {
            true => "defaults".to_owned(),
            false => strs.join(","),
        };
        // The last field: whether fsck(8) looks at it at boot, after the root.
        let pass = u8::from(matches!(kind, "ext2" | "ext3" | "ext4" | "vfat" | "auto")) * 2;
        let line = format!(
            "{} {} {kind} {options} 0 {pass}",
            wanted.source.as_ref()?,
            escape(&wanted.path)
        );
        let end = lines.len();
        edit::insert(&mut lines, end, &[&line]);
        return Some(edit::join(&lines));
    };
    // A mount at every boot is what is asked for.
    let by_hand = strs.contains(&"noauto");
    let old: Vec<&str> = there
        .options
        .iter()
        .map(String::as_str)
        .filter(|o| by_hand || *o != "noauto")
        .collect();
    let new = Entry {
        source: wanted.source.clone().unwrap_or(there.source.clone()),
        kind: wanted.kind.clone().unwrap_or(there.kind.clone()),
        options: options::merged(&old, &strs),
    };
    if new == there {
        return Some(text.to_owned());
    }
    let line = replaced(lines[at].text, &new);
    lines[at].text = &line;
    Some(edit::join(&lines))
}

/// A line with other fields and the same blanks between them.
fn replaced(line: &str, new: &Entry) -> String {
    let mut out = String::new();
    let mut rest = line;
    let mut number = 0;
    let options = new.options.join(",");
    while !rest.is_empty() {
        let blank = rest.len() - rest.trim_start().len();
        out.push_str(&rest[..blank]);
        rest = &rest[blank..];
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        if end > 0 {
            out.push_str(match number {
                0 => &new.source,
                2 => &new.kind,
                3 => &options,
                _ => &rest[..end],
            });
            number += 1;
        }
        rest = &rest[end..];
    }
    if number == 3 {
        out = format!("{} {options}", out.trim_end());
    }
    out
}

/// The text without any line for the path.
pub(super) fn without(text: &str, path: &str) -> String {
    let mut lines = edit::lines(text);
    lines.retain(|line| !is_for(line.text, path));
    edit::keep_open_end(text, &mut lines);
    edit::join(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn options_are_merged_and_blanks_stay() {
        let text =
            "proc /proc proc defaults 0 0\nPARTUUID=4d80-02  /  ext4\tdefaults,relatime  0  1\n";
        let wanted = Wanted {
            path: "/".into(),
            source: None,
            kind: None,
            options: vec!["noatime".into(), "commit=600".into()],
        };
        let once = with(text, &wanted);
        assert_eq!(
            once.as_deref(),
            Some(
                "proc /proc proc defaults 0 0\nPARTUUID=4d80-02  /  ext4\tdefaults,noatime,commit=600  0  1\n"
            )
        );
        assert_eq!(with(once.as_deref().unwrap_or(""), &wanted), once);
    }

    proptest! {
        #[test]
        fn other_lines_stay_and_twice_is_once(lines in proptest::collection::vec(
            prop_oneof![
                "[ -~\t]{0,40}",
                Just("LABEL=data /mnt/data ext4 defaults,noauto 0 2".to_owned()),
                Just("LABEL=other /mnt/data2 ext4".to_owned()),
            ], 0..6), newline in any::<bool>())
        {
            let text = lines.join("\n") + if newline { "\n" } else { "" };
            let wanted = Wanted { path: "/mnt/data".into(), source: Some("LABEL=data".into()), kind: Some("ext4".into()), options: vec!["noatime".into(), "auto".into()] };
            let once = with(&text, &wanted).unwrap_or_default();
            let twice = with(&once, &wanted).unwrap_or_default();
            prop_assert_eq!(&twice, &once);
            let others = |t: &str| t.lines().filter(|l| !is_for(l, "/mnt/data")).map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(others(&once), others(&text));
            prop_assert!(find(&without(&once, "/mnt/data"), "/mnt/data").is_none());
        }
    }
}
