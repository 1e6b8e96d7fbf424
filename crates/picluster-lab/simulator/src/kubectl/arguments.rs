//! kubectl's command line, as pflag reads it.

use super::{Done, Failure};
use crate::release::Release;

/// Flags that take a value.
const VALUED: &[(&str, &str)] = &[
    ("kubeconfig", ""),
    ("context", ""),
    ("cluster", ""),
    ("user", ""),
    ("namespace", "n"),
    ("server", "s"),
    ("token", ""),
    ("request-timeout", ""),
    ("cache-dir", ""),
    ("output", "o"),
    ("selector", "l"),
    ("field-selector", ""),
    ("raw", ""),
    ("filename", "f"),
    ("type", ""),
    ("patch", "p"),
    ("patch-file", ""),
    ("for", ""),
    ("timeout", ""),
    ("grace-period", ""),
    ("label-columns", "L"),
    ("sort-by", ""),
    ("pod-selector", ""),
    ("resource-version", ""),
    ("field-manager", ""),
    ("subresource", ""),
    ("v", "v"),
    ("as", ""),
    ("as-group", ""),
    ("certificate-authority", ""),
    ("client-certificate", ""),
    ("client-key", ""),
    ("tls-server-name", ""),
    ("chunk-size", ""),
    ("skip-wait-for-delete-timeout", ""),
    ("from-literal", ""),
    ("from-file", ""),
    ("dry-run", ""),
    ("cascade", ""),
    ("wait", ""),
    ("validate", ""),
    ("template", ""),
];

/// Flags whose value, when there is one, stands behind `=` only.
const SWITCHES: &[(&str, &str)] = &[
    ("overwrite", ""),
    ("all", ""),
    ("all-namespaces", "A"),
    ("no-headers", ""),
    ("show-labels", ""),
    ("ignore-not-found", ""),
    ("force", ""),
    ("ignore-daemonsets", ""),
    ("delete-emptydir-data", ""),
    ("delete-local-data", ""),
    ("disable-eviction", ""),
    ("now", ""),
    ("client", ""),
    ("list", ""),
    ("local", ""),
    ("help", "h"),
    ("insecure-skip-tls-verify", ""),
    ("server-side", ""),
    ("force-conflicts", ""),
    ("recursive", "R"),
    ("show-kind", ""),
    ("show-managed-fields", ""),
    ("watch", "w"),
    ("watch-only", ""),
    ("match-server-version", ""),
    ("warnings-as-errors", ""),
    ("save-config", ""),
    ("prune", ""),
];

/// Words and flags.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) words: Vec<String>,
    flags: Vec<(&'static str, String)>,
}

fn long(name: &str) -> Option<(&'static str, bool)> {
    let of = |list: &'static [(&'static str, &'static str)]| {
        list.iter().find(|(l, _)| *l == name).map(|(l, _)| *l)
    };
    of(VALUED)
        .map(|l| (l, true))
        .or_else(|| of(SWITCHES).map(|l| (l, false)))
}

fn short(name: &str) -> Option<(&'static str, bool)> {
    let of = |list: &'static [(&'static str, &'static str)]| {
        list.iter()
            .find(|(_, s)| !s.is_empty() && *s == name)
            .map(|(l, _)| *l)
    };
    of(VALUED)
        .map(|l| (l, true))
        .or_else(|| of(SWITCHES).map(|l| (l, false)))
}

impl Arguments {
    pub(crate) fn parse(words: &[String]) -> Done<Self> {
        let mut out = Self {
            words: vec![],
            flags: vec![],
        };
        let mut rest = words.iter();
        let verb = words
            .iter()
            .find(|w| !w.starts_with('-'))
            .cloned()
            .unwrap_or_default();
        let unknown = |what: String| {
            let of = if verb.is_empty() {
                String::new()
            } else {
                format!(" {verb}")
            };
            // Seen of 1.20 and of 1.23.
            let error = if Release::ours().minor() < 23 {
                "Error"
            } else {
                "error"
            };
            Failure::Bare(format!(
                "{error}: {what}\nSee 'kubectl{of} --help' for usage."
            ))
        };
        while let Some(word) = rest.next() {
            if word == "--" {
                out.words.extend(rest.cloned());
                break;
            }
            if let Some(flag) = word.strip_prefix("--") {
                let (name, value) = match flag.split_once('=') {
                    Some((n, v)) => (n, Some(v.to_owned())),
                    None => (flag, None),
                };
                let (name, valued) =
                    long(name).ok_or_else(|| unknown(format!("unknown flag: --{name}")))?;
                // `--wait`, `--dry-run`, `--validate` and `--cascade` may stand alone.
                let optional = ["wait", "dry-run", "validate", "cascade"].contains(&name);
                let value = match value {
                    Some(value) => value,
                    None if valued && !optional => rest
                        .next()
                        .cloned()
                        .ok_or_else(|| unknown(format!("flag needs an argument: --{name}")))?,
                    None => "true".into(),
                };
                out.flags.push((name, value));
            } else if word.len() > 1 && word.starts_with('-') && !word.ends_with('-') {
                for (i, letter) in word[1..].char_indices() {
                    let name = letter.to_string();
                    let (name, valued) = short(&name).ok_or_else(|| {
                        unknown(format!("unknown shorthand flag: '{letter}' in {word}"))
                    })?;
                    if !valued {
                        out.flags.push((name, "true".into()));
                        continue;
                    }
                    let inline = &word[1 + i + letter.len_utf8()..];
                    let value = if inline.is_empty() {
                        rest.next().cloned().ok_or_else(|| {
                            unknown(format!("flag needs an argument: '{letter}' in {word}"))
                        })?
                    } else {
                        inline.strip_prefix('=').unwrap_or(inline).to_owned()
                    };
                    out.flags.push((name, value));
                    break;
                }
            } else {
                out.words.push(word.clone());
            }
        }
        Ok(out)
    }

    pub(crate) fn flag(&self, name: &str) -> Option<&str> {
        self.flags
            .iter()
            .rev()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v.as_str())
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.flags
            .iter()
            .filter(|(n, _)| *n == name)
            .map(|(_, v)| v.as_str())
            .collect()
    }

    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.flag(name).is_some_and(|v| v != "false")
    }

    /// `5s`, `1m0s`, `0`: seconds.
    pub(crate) fn seconds(&self, name: &str) -> Option<f64> {
        let text = self.flag(name)?;
        if let Ok(plain) = text.parse() {
            return Some(plain);
        }
        if let Some(ms) = text.strip_suffix("ms") {
            return ms.parse::<f64>().ok().map(|m| m / 1000.0);
        }
        let (mut total, mut number) = (0.0, String::new());
        for c in text.chars() {
            match c {
                'h' | 'm' | 's' => {
                    let n: f64 = number.parse().ok()?;
                    total += n * if c == 'h' {
                        3600.0
                    } else if c == 'm' {
                        60.0
                    } else {
                        1.0
                    };
                    number.clear();
                }
                c => number.push(c),
            }
        }
        Some(total)
    }
}
