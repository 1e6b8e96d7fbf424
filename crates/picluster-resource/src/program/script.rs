//! The shell text: few processes, many questions.

use std::fmt::Write as _;

use super::*;
use crate::shell::{quote, words};

/// What many questions share is asked in one process. Nothing here forks but the tools themselves:
/// starting processes is what a probe costs.
pub(super) fn sections(sh: &mut String, queries: &[Query]) {
    let paths = paths_of(queries);
    if !paths.is_empty() {
        let _ = writeln!(
            sh,
            "rows {PATHS} stat -c '%f %U %G %s %n' -- {}",
            words(paths)
        );
    }
    links(sh, &links_of(queries));
    let contents: BTreeSet<&str> = queries
        .iter()
        .filter_map(|q| match q {
            Query::Content { path, .. } => Some(path.as_str()),
            _ => None,
        })
        .collect();
    if !contents.is_empty() {
        // The list is kept: single frames below send the text of those that differ.
        let _ = writeln!(
            sh,
            "{}fo=; [ $# = 0 ] || rows {DIGESTS} sha256sum -- \"$@\"\nsums=$fo",
            regular(contents)
        );
    }
    texts(sh, &texts_of(queries));
    packages(sh, queries);
    let units = units_of(queries);
    if !units.is_empty() {
        let _ = writeln!(
            sh,
            "rows {UNITS} systemctl show -p LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,Result,TriggeredBy -- {0}\n\
             fo=; for u in {0}; do v=; [ ! -e \"{PENDING_DIR}/$u\" ] || read -r v < \"{PENDING_DIR}/$u\"; fo=\"$fo$v$nl\"; done; fi={PENDING} fs=0; emit",
            words(&units)
        );
    }
    let sysctls = sysctls_of(queries);
    if !sysctls.is_empty() {
        let files = sysctls.iter().map(|key| sysctl_file(key));
        // Not with `read`: dash reads byte by byte, and the kernel gives a number from its beginning or not at all.
        let _ = writeln!(
            sh,
            "set --; fo=; for p in {}; do if [ -e \"$p\" ]; then set -- \"$@\" \"$p\"; fo=\"$fo=\"; else fo=\"$fo!\"; fi; done\n\
             [ $# = 0 ] || fo=\"$fo$nl$(grep -H '' -- \"$@\" </dev/null 2>/dev/null)\"; fi={SYSCTLS} fs=0; emit",
            words(files)
        );
    }
    let groups = select(queries, |q| match q {
        Query::Group(name) => Some(name.as_str()),
        _ => None,
    });
    if !groups.is_empty() {
        let _ = writeln!(sh, "rows {GROUPS} getent group {}", words(groups));
    }
}

/// Makes those of the paths that are regular files the positional parameters: opening a pipe would
/// wait for its other end for ever.
fn regular<'a>(paths: impl IntoIterator<Item = &'a str>) -> String {
    format!(
        "set --; for p in {}; do [ ! -f \"$p\" ] || set -- \"$@\" \"$p\"; done\n",
        words(paths)
    )
}

/// One `readlink` for all that are links. The frame's first line has an `l` for each of those, the
/// next ones are their targets. Where the lines do not add up (a target with a newline in it, a
/// `readlink` that takes one at a time), each is asked alone and has a length before it.
fn links(sh: &mut String, links: &[&str]) {
    if links.is_empty() {
        return;
    }
    let _ = writeln!(
        sh,
        r#"set --; m=; for p in {}; do if [ -L "$p" ]; then set -- "$@" "$p"; m="${{m}}l"; else m="$m-"; fi; done
fo=; [ $# = 0 ] || fo=$(readlink -- "$@" </dev/null 2>/dev/null); n=0; IFS=$nl; set -f; for v in $fo; do n=$((n+1)); done; unset IFS; set +f
if [ $n = $# ]; then fo="$m$nl$fo"; else
fo="n$m$nl"; for p; do v=$(readlink -- "$p" </dev/null 2>/dev/null; echo x); v=${{v%x}}; v=${{v%"$nl"}}; fo="$fo${{#v}} $v$nl"; done; fi; fi={LINKS} fs=0; emit"#,
        words(links)
    );
}

/// One `cat` for all: its text is taken apart by the sizes that `stat` gave just before. Where they
/// do not add up (a file that is being written, one that holds NUL, one of the kernel's that has no
/// size), `$t` stays empty, and each file gets a frame of its own below.
fn texts(sh: &mut String, texts: &[&str]) {
    if texts.is_empty() {
        return;
    }
    let _ = writeln!(
        sh,
        r#"s_t() {{ [ -f "$1" ] && cat -- "$1"; }}
{}t=; if [ $# -gt 1 ]; then rows {SIZES} stat -Lc '%s %n' -- "$@"; n=0; IFS=$nl; set -f; for v in $fo; do n=$((n+${{v%% *}})); done; unset IFS; set +f
fo=$(cat -- "$@" </dev/null 2>/dev/null; echo x); fo=${{fo%x}}; if [ ${{#fo}} = $n ]; then t=1 fi={TEXTS} fs=0; emit; fi; fi"#,
        regular(texts.iter().copied())
    );
}

/// One `dpkg-query` for all packages; one `apt-cache policy` for those that are missing or at
/// another version than hoped for. Without apt's binary caches, which it would write otherwise.
fn packages(sh: &mut String, queries: &[Query]) {
    let asked: Vec<(&str, Option<&str>, bool)> = select(queries, |q| match q {
        Query::Package {
            name,
            version,
            candidates,
        } => Some((name.as_str(), version.as_deref(), *candidates)),
        _ => None,
    });
    if asked.is_empty() {
        return;
    }
    let names: BTreeSet<&str> = asked.iter().map(|(name, _, _)| *name).collect();
    let _ = writeln!(
        sh,
        "rows {PACKAGES} dpkg-query -W -f='${{Package}} ${{db:Status-Abbrev}} ${{Version}}\\n' -- {}",
        words(names)
    );
    let wants: Vec<String> = asked
        .iter()
        .filter(|(_, _, candidates)| *candidates)
        .map(|(name, version, _)| match version {
            Some(version) => format!("{name}={version}"),
            None => (*name).to_owned(),
        })
        .collect();
    if wants.is_empty() {
        return;
    }
    let _ = writeln!(
        sh,
        r#"have=' '
while read -r n s v; do case $s in ?[itW]*) have="$have$n $n=$v ";; esac; done <<E
$fo
E
miss=
for w in {}; do case "$have" in *" $w "*) continue;; esac
case $w in *'*') case "$have" in *" ${{w%?}}"*) continue;; esac;; esac
miss="$miss ${{w%%=*}}"; done
[ -z "$miss" ] || rows {POLICY} apt-cache -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= policy $miss"#,
        words(wants)
    );
}

pub(super) fn singles(sh: &mut String, queries: &[Query]) {
    let accounts = select(queries, |q| match q {
        Query::Account(name) => Some(name.as_str()),
        _ => None,
    });
    if !accounts.is_empty() {
        // The hash stays in this shell and in a pipe.
        let _ = writeln!(
            sh,
            r#"pw=$(getent passwd {} </dev/null 2>/dev/null)
s_a() {{ fi=$1 fs=0 fo=; case "$nl$pw" in *"$nl$2:"*) ;; *) emit; return;; esac
fo=$nl$pw; fo=${{fo#*"$nl$2:"}}; fo=$2:${{fo%%"$nl"*}}; v=$(id -Gn -- "$2" </dev/null 2>/dev/null)
h=; while IFS=: read -r p m _; do if [ "$p" = "$2" ]; then h=x$m; break; fi; done 2>/dev/null < /etc/shadow
case $h in x) h=empty;; ''|'x!'*|'x*'*) h=locked;; *) h=$(printf %s "${{h#x}}" | sha256sum);; esac
fo="$fo$nl${{v%% *}}$nl$v$nl$h$nl"; emit; }}"#,
            words(accounts)
        );
    }
    if queries.iter().any(|q| matches!(q, Query::Secret(_))) {
        sh.push_str("s_x() { [ -f \"$1\" ] && cat -- \"$1\"; }\n");
    }
    if queries.iter().any(|q| matches!(q, Query::Content { .. })) {
        let _ = writeln!(
            sh,
            r#"s_c() {{ case "$nl$sums$nl" in *"$nl$3  $2$nl"*) return 0;; *"  $2$nl"*) ;; *) return 0;; esac
[ "$(stat -Lc %s -- "$2")" -gt {TEXT_LIMIT} ] || frame "$1" cat -- "$2"; }}"#
        );
    }
    for (n, query) in (BASE..).zip(queries) {
        let _ = match query {
            Query::Content {
                path,
                expect,
                secret: false,
            } => writeln!(
                sh,
                "s_c {n} {} {}",
                quote(path.as_str()),
                expect.as_deref().unwrap_or("-")
            ),
            Query::Text(path) => writeln!(
                sh,
                "[ -n \"$t\" ] || frame {n} s_t {}",
                quote(path.as_str())
            ),
            Query::Account(name) => writeln!(sh, "s_a {n} {}", quote(name)),
            // What it defines stays in the process of its frame.
            Query::Fragment(text) => writeln!(sh, "s_{n}() {{\n{text}\n}}\nframe {n} s_{n}"),
            Query::Secret(path) => writeln!(sh, "frame {n} s_x {}", quote(path.as_str())),
            Query::ClusterNode {
                kubeconfig,
                kubectl,
                ..
            } if cluster_frame(queries, kubeconfig, kubectl) == Some(n) => {
                let names = cluster_nodes_of(queries, kubeconfig, kubectl);
                let text = kube::question(kubeconfig, kubectl, Some(&names));
                writeln!(sh, "s_{n}() {{\n{text}\n}}\nframe {n} s_{n}")
            }
            _ => Ok(()),
        };
    }
}
