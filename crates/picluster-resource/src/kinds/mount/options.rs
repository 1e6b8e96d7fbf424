//! Mount options: which exclude each other, and which of them a mount shows. After mount(8).

/// Options of one row exclude each other.
const ROWS: &[&[&str]] = &[
    &["atime", "noatime", "relatime", "strictatime"],
    &["ro", "rw"],
    &["suid", "nosuid"],
    &["dev", "nodev"],
    &["exec", "noexec"],
    &["auto", "noauto"],
    &["sync", "async"],
    &["fail", "nofail"],
    &["diratime", "nodiratime"],
    &["discard", "nodiscard"],
    &["lazytime", "nolazytime"],
    &["user", "nouser", "users", "owner"],
    &["bind", "rbind"],
];

/// Options that belong to the mount and not to the file system, and are shown by `/proc/mounts`.
const VISIBLE: &[&str] = &[
    "ro",
    "rw",
    "noatime",
    "relatime",
    "nodiratime",
    "nosuid",
    "nodev",
    "noexec",
    "sync",
    "dirsync",
    "lazytime",
];

pub(super) fn is_visible(option: &str) -> bool {
    VISIBLE.contains(&option)
}

/// Of the options a mount shows, those of the mount itself.
pub(super) fn visible(options: &[String]) -> Vec<&str> {
    options
        .iter()
        .map(String::as_str)
        .filter(|o| is_visible(o))
        .collect()
}

/// Whether one takes the other's place: the same row, or the same key.
fn excludes(a: &str, b: &str) -> bool {
    let key = |o: &str| o.split_once('=').map(|(key, _)| key.to_owned());
    a == b
        || (key(a).is_some() && key(a) == key(b))
        || ROWS.iter().any(|row| row.contains(&a) && row.contains(&b))
}

/// What is there, with what is wanted in the place of what contradicts it.
pub(super) fn merged(there: &[&str], wanted: &[&str]) -> Vec<String> {
    let kept = there
        .iter()
        .filter(|o| wanted.contains(o) || !wanted.iter().any(|w| excludes(o, w)));
    let new = wanted.iter().filter(|w| !there.contains(w));
    kept.chain(new).map(|o| (*o).to_owned()).collect()
}
