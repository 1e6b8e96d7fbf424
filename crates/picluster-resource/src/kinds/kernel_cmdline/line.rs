//! A kernel command line as text: its tokens, which of them are in force, and edits that keep
//! everything foreign.
//!
//! Tokens are separated by blanks and may hold quoted ones; of contradicting tokens the last one
//! wins; `-` and `_` are the same in names: "The kernel's command-line parameters" of the kernel's
//! admin guide.

/// Parameters that may be given several times, each adding to the others. A later one with another
/// value is then no contradiction.
const REPEATABLE: &[&str] = &[
    "console",
    "earlycon",
    "cgroup_enable",
    "cgroup_disable",
    "cgroup_no_v1",
    "modules_load",
    "rd.modules_load",
    "module_blacklist",
    "modprobe.blacklist",
    "initcall_blacklist",
    "systemd.mask",
    "systemd.wants",
    "systemd.setenv",
    "video",
    "memmap",
    "ip",
    "usb_storage.quirks",
    "dyndbg",
];

/// A token and the blanks before it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece<'a> {
    blanks: &'a str,
    token: &'a str,
}

/// Takes a line apart: pieces, and the blanks at its end. A quote makes blanks part of a token.
fn pieces(line: &str) -> (Vec<Piece<'_>>, &str) {
    let mut pieces = Vec::new();
    let mut at = 0;
    loop {
        let rest = &line[at..];
        let Some(start) = rest.find(|c: char| !c.is_ascii_whitespace()) else {
            return (pieces, rest);
        };
        let mut quoted = false;
        let end = rest[start..]
            .find(|c: char| {
                if c == '"' {
                    quoted = !quoted;
                }
                c.is_ascii_whitespace() && !quoted
            })
            .map_or(rest.len(), |n| start + n);
        pieces.push(Piece {
            blanks: &rest[..start],
            token: &rest[start..end],
        });
        at += end;
    }
}

/// The tokens of a line.
#[must_use]
pub fn tokens(line: &str) -> Vec<&str> {
    pieces(line).0.into_iter().map(|p| p.token).collect()
}

fn split(token: &str) -> (String, Option<&str>) {
    let (name, value) = match token.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (token, None),
    };
    (name.replace('-', "_"), value)
}

fn same(a: &str, b: &str) -> bool {
    split(a) == split(b)
}

/// `token` takes back what `wanted` says, whatever their order in the line: the same controller in
/// `cgroup_enable=` and `cgroup_disable=`.
fn opposes(token: &str, wanted: &str) -> bool {
    let (name, value) = split(wanted);
    let opposite = match name.as_str() {
        "cgroup_enable" => "cgroup_disable",
        "cgroup_disable" => "cgroup_enable",
        _ => return false,
    };
    let (other, list) = split(token);
    other == opposite
        && list
            .unwrap_or("")
            .split(',')
            .any(|controller| Some(controller) == value)
}

/// `token` behind `wanted` would overrule it.
fn overrules(token: &str, wanted: &str) -> bool {
    if opposes(token, wanted) {
        return true;
    }
    let ((name, value), (wanted_name, wanted_value)) = (split(token), split(wanted));
    name == wanted_name && value != wanted_value && !REPEATABLE.contains(&name.as_str())
}

/// Whether a wanted token stands there and nothing behind it overrules it.
#[must_use]
pub fn in_force(tokens: &[&str], wanted: &str) -> bool {
    tokens
        .iter()
        .rposition(|token| same(token, wanted))
        .is_some_and(|at| !tokens[at + 1..].iter().any(|t| overrules(t, wanted)))
}

/// Whether a token is meant by `unwanted`: the token itself, or any value of `key=*`.
#[must_use]
pub fn is_meant(token: &str, unwanted: &str) -> bool {
    match unwanted.strip_suffix("=*") {
        Some(name) => split(token).0 == split(name).0 && token.contains('='),
        None => same(token, unwanted),
    }
}

/// Whether the line needs nothing: every present token in force and not contradicted, none of the
/// absent ones there.
#[must_use]
pub fn is_right(line: &str, present: &[&str], absent: &[&str]) -> bool {
    let tokens = tokens(line);
    present
        .iter()
        .all(|wanted| in_force(&tokens, wanted) && !tokens.iter().any(|t| opposes(t, wanted)))
        && !tokens
            .iter()
            .any(|token| absent.iter().any(|unwanted| is_meant(token, unwanted)))
}

/// The line with `present` in force and `absent` gone. Foreign tokens, their order and the blanks
/// between them stay; new tokens go to the end. A line that is right stays byte for byte.
#[must_use]
pub fn edit(line: &str, present: &[&str], absent: &[&str]) -> String {
    if is_right(line, present, absent) {
        return line.to_owned();
    }
    let (all, tail) = pieces(line);
    let first_blanks = all.first().map_or("", |piece| piece.blanks);
    let mut kept: Vec<Piece<'_>> = all
        .into_iter()
        .filter(|piece| {
            !absent
                .iter()
                .any(|unwanted| is_meant(piece.token, unwanted))
                && !present.iter().any(|wanted| opposes(piece.token, wanted))
        })
        .collect();
    for wanted in present {
        let now: Vec<&str> = kept.iter().map(|piece| piece.token).collect();
        if in_force(&now, wanted) {
            continue;
        }
        kept.retain(|piece| !same(piece.token, wanted));
        kept.push(Piece {
            blanks: " ",
            token: wanted,
        });
    }
    if let Some(first) = kept.first_mut() {
        first.blanks = first_blanks;
    }
    let mut out: String = kept.iter().flat_map(|p| [p.blanks, p.token]).collect();
    out.push_str(tail);
    out
}

/// The same for a file: only its first line is the command line, since the firmware stops reading at
/// its end. Whether it ends in a newline stays as it was.
#[must_use]
pub fn edit_first(text: &str, present: &[&str], absent: &[&str]) -> String {
    let end = text.find('\n').unwrap_or(text.len());
    let (line, rest) = text.split_at(end);
    edit(line, present, absent) + rest
}

/// The first line of a file.
#[must_use]
pub fn first(text: &str) -> &str {
    text.split('\n').next().unwrap_or("")
}

/// The value of the last `KEY=` line of a `key=value` file (U-Boot environments).
#[must_use]
pub fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().rev().find_map(|line| {
        let rest = line.strip_prefix(key)?;
        rest.strip_prefix('=')
    })
}

/// The same edit inside the value of the last `KEY=` line; the line is added when it is missing.
#[must_use]
pub fn edit_value(text: &str, key: &str, present: &[&str], absent: &[&str]) -> String {
    if let Some(old) = value(text, key) {
        let at = old.as_ptr() as usize - text.as_ptr() as usize;
        let new = edit(old, present, absent);
        return format!("{}{new}{}", &text[..at], &text[at + old.len()..]);
    }
    let new = edit("", present, absent);
    if new.is_empty() {
        return text.to_owned();
    }
    let newline = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    format!("{text}{newline}{key}={new}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const K3S: &[&str] = &["cgroup_memory=1", "cgroup_enable=memory"];

    #[test]
    fn flags_are_appended_and_the_end_of_the_line_stays() {
        // pi-gen stage1/00-boot-files/files/cmdline.txt, without a final newline as rpi-imager writes it.
        let stock = "console=serial0,115200 console=tty1 root=PARTUUID=4d8097e2-02 rootfstype=ext4 fsck.repair=yes rootwait";
        let wanted = format!("{stock} cgroup_memory=1 cgroup_enable=memory");
        assert_eq!(edit_first(stock, K3S, &[]), wanted);
        assert_eq!(
            edit_first(&format!("{stock}\n"), K3S, &[]),
            format!("{wanted}\n")
        );
        assert_eq!(
            edit_first(&format!("{stock}\r\n"), K3S, &[]),
            format!("{wanted}\r\n")
        );
        assert_eq!(edit_first(&wanted, K3S, &[]), wanted);
        assert_eq!(
            edit_first("", K3S, &[]),
            "cgroup_memory=1 cgroup_enable=memory"
        );
    }

    #[test]
    fn what_was_appended_as_a_second_line_does_not_count() {
        let text = "root=/dev/sda rootwait\n cgroup_memory=1 cgroup_enable=memory\n";
        assert_eq!(
            edit_first(text, K3S, &[]),
            "root=/dev/sda rootwait cgroup_memory=1 cgroup_enable=memory\n cgroup_memory=1 cgroup_enable=memory\n"
        );
    }

    #[test]
    fn contradictions_are_settled() {
        assert_eq!(
            edit("cgroup_enable=memory quiet cgroup_disable=memory", K3S, &[]),
            "cgroup_enable=memory quiet cgroup_memory=1"
        );
        // The last one wins: ours must be the last.
        assert_eq!(
            edit("a.b=1 quiet a.b=2", &["a.b=1"], &[]),
            "quiet a.b=2 a.b=1"
        );
        assert_eq!(
            edit("console=tty1 x", &["console=ttyS0"], &[]),
            "console=tty1 x console=ttyS0"
        );
        assert!(in_force(&["swap-account=1"], "swap_account=1"));
        assert!(!in_force(
            &tokens("cgroup_enable=memory cgroup_disable=memory"),
            "cgroup_enable=memory"
        ));
        // Injected by the device tree in front of ours, as on Raspberry Pi kernels since raspberrypi/linux PR #6439.
        assert!(in_force(
            &tokens("cgroup_disable=memory  cgroup_memory=1 cgroup_enable=memory"),
            "cgroup_enable=memory"
        ));
    }

    #[test]
    fn absent_tokens_go_with_their_blanks() {
        assert_eq!(
            edit("quiet splash root=x", &[], &["quiet"]),
            "splash root=x"
        );
        assert_eq!(
            edit("root=x  splash quiet ", &[], &["splash", "quiet"]),
            "root=x "
        );
        assert_eq!(edit("a=1 b a=2", &[], &["a=*"]), "b");
        assert_eq!(edit("a", &[], &["a=*"]), "a");
    }

    #[test]
    fn quoted_blanks_belong_to_a_token() {
        let line = r#"dyndbg="file a.c +p" quiet"#;
        assert_eq!(tokens(line), [r#"dyndbg="file a.c +p""#, "quiet"]);
        assert_eq!(edit(line, &["x"], &["quiet"]), r#"dyndbg="file a.c +p" x"#);
    }

    #[test]
    fn the_value_of_a_key_is_edited_in_place() {
        let text = "verbosity=1\nextraargs=cma=128M\nrootdev=UUID=1\n";
        assert_eq!(
            edit_value(text, "extraargs", &["cgroup_enable=memory"], &[]),
            "verbosity=1\nextraargs=cma=128M cgroup_enable=memory\nrootdev=UUID=1\n"
        );
        assert_eq!(
            edit_value("verbosity=1", "extraargs", &["a"], &[]),
            "verbosity=1\nextraargs=a\n"
        );
    }

    fn foreign() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z]{1,6}",
            "[a-z.]{1,6}=[a-z0-9,]{0,5}",
            "[a-z]{1,4}=\"[a-z ]{0,6}\"",
        ]
        .prop_filter("not ours", |t| {
            !K3S.iter().any(|w| overrules(t, w) || same(t, w)) && !is_meant(t, "quiet")
        })
    }

    proptest! {
        #[test]
        fn foreign_flags_and_their_order_survive(
            before in proptest::collection::vec(foreign(), 0..6),
            middle in proptest::sample::subsequence(
                vec!["cgroup_memory=1", "cgroup_disable=memory", "quiet", "cgroup_enable=memory", "cgroup_memory=0"], 0..5).prop_shuffle(),
            after in proptest::collection::vec(foreign(), 0..6),
            newline in prop_oneof![Just(""), Just("\n"), Just("\r\n"), Just("\nsecond line\n")],
        ) {
            let line = before.iter().map(String::as_str).chain(middle).chain(after.iter().map(String::as_str))
                .collect::<Vec<_>>().join(" ");
            let text = line.clone() + newline;
            let once = edit_first(&text, K3S, &["quiet"]);
            prop_assert_eq!(&edit_first(&once, K3S, &["quiet"]), &once);
            prop_assert!(is_right(first(&once), K3S, &["quiet"]));
            prop_assert!(once.ends_with(newline));
            let ours = |t: &&str| K3S.iter().any(|w| overrules(t, w) || same(t, w)) || *t == "quiet";
            let foreign_of = |l: &str| tokens(l).into_iter().filter(|t| !ours(t)).map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(foreign_of(first(&once)), foreign_of(&line));
            prop_assert!(!once.starts_with(' '));
        }

        #[test]
        fn any_line_comes_back_from_its_pieces(line in "[ -~\t]{0,60}") {
            let (all, tail) = pieces(&line);
            let mut back: String = all.iter().flat_map(|p| [p.blanks, p.token]).collect();
            back.push_str(tail);
            prop_assert_eq!(back, line.clone());
            let once = edit(&line, K3S, &["quiet"]);
            if !line.contains('"') {
                prop_assert_eq!(&edit(&once, K3S, &["quiet"]), &once);
            }
        }
    }
}
