//! `config.yaml` and its drop-ins, turned into flags (pkg/configfilearg/parser.go).

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::flags::{self, Command};
use crate::fault::{Fault, Outcome, at};
use crate::{files, log};

const DEFAULT: &str = "/etc/rancher/k3s/config.yaml";

/// The words of the command line, with those of the files before them.
pub(super) fn injected(command: Command, words: &[String]) -> Outcome<Vec<String>> {
    let path = named(words);
    let mut injected = match read(&path)? {
        Some(values) => flatten(&values),
        None => return Ok(words.to_vec()),
    };
    // Upstream strips what it does not know from a server's file only; an agent's goes to the flag parser as it is.
    if command == Command::Server {
        injected.retain(|word| {
            let name = word
                .trim_start_matches('-')
                .split('=')
                .next()
                .unwrap_or_default();
            let known = flags::known(command, name);
            if !known {
                let flag = word.split('=').next().unwrap_or_default();
                log::warn(format!(
                    "Unknown flag {flag} found in config.yaml, skipping\n"
                ));
            }
            known
        });
    }
    // A list that is given on the command line takes the place of the file's.
    injected.retain(|word| {
        let name = word
            .trim_start_matches('-')
            .split('=')
            .next()
            .unwrap_or_default();
        !(flags::is_list(command, name)
            && words
                .iter()
                .any(|w| w == &format!("--{name}") || w.starts_with(&format!("--{name}="))))
    });
    injected.extend_from_slice(words);
    Ok(injected)
}

fn named(words: &[String]) -> PathBuf {
    if let Some(file) = std::env::var("K3S_CONFIG_FILE")
        .ok()
        .filter(|f| !f.is_empty())
    {
        return file.into();
    }
    for (i, word) in words.iter().enumerate() {
        if (word == "--config" || word == "-c") && i + 1 < words.len() {
            return words[i + 1].clone().into();
        }
        if let Some(file) = word
            .strip_prefix("--config=")
            .or_else(|| word.strip_prefix("-c="))
        {
            return file.into();
        }
    }
    DEFAULT.into()
}

fn drop_ins(path: &Path) -> Outcome<Vec<PathBuf>> {
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(at("open", &folder, &e)),
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|e| e.path())
        .filter(|p| {
            !p.is_dir()
                && p.extension().is_some_and(|e| {
                    e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml")
                })
        })
        .collect();
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Outcome<Option<Vec<(String, Value)>>> {
    let mut all = drop_ins(path)?;
    if path.exists() {
        all.insert(0, path.to_owned());
    } else if all.is_empty() {
        return Ok(None);
    }
    let mut values: Vec<(String, Value)> = vec![];
    for file in all {
        let text = files::read(&file)?;
        let parsed = parse(&text)?;
        for (key, value) in parsed {
            let (name, append) = match key.strip_suffix('+') {
                Some(name) => (name.to_owned(), true),
                None => (key, false),
            };
            match values.iter_mut().find(|(n, _)| *n == name) {
                Some((_, old)) if append => {
                    let mut both = slice(old);
                    both.extend(slice(&value));
                    *old = Value::Array(both);
                }
                Some((_, old)) => *old = value,
                None => values.push((name, value)),
            }
        }
    }
    Ok(Some(values))
}

fn parse(text: &str) -> Outcome<Vec<(String, Value)>> {
    // yaml.v2 speaks YAML 1.1: 0644 is an octal number there.
    let options = serde_yaml::options! { legacy_octal_numbers: true };
    let value: Value = serde_yaml::from_str_with_options(text, options)
        .map_err(|e| Fault(format!("yaml: {e}")))?;
    match value {
        Value::Object(map) => Ok(map.into_iter().collect()),
        Value::Null => Ok(vec![]),
        _ => Err(Fault::new(
            "yaml: unmarshal errors:\n  line 1: cannot unmarshal into yaml.MapSlice",
        )),
    }
}

fn slice(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(a) => a.clone(),
        Value::Null => vec![],
        other => vec![Value::String(plain(other))],
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn flatten(values: &[(String, Value)]) -> Vec<String> {
    let mut words = vec![];
    for (name, value) in values {
        let dashes = if name.len() == 1 { "-" } else { "--" };
        match value {
            Value::Array(items) => {
                words.extend(items.iter().map(|i| format!("{dashes}{name}={}", plain(i))))
            }
            other => words.push(format!("{dashes}{name}={}", plain(other))),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_replace_values_and_add_to_lists_with_a_plus() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("config.yaml");
        let extra = folder.path().join("config.yaml.d");
        std::fs::create_dir(&extra).unwrap();
        std::fs::write(
            &main,
            "token: one\ndisable: [traefik]\nwrite-kubeconfig-mode: 0644\ncluster-init: true\n",
        )
        .unwrap();
        std::fs::write(
            extra.join("10-a.yaml"),
            "token: two\ndisable+: [servicelb]\n",
        )
        .unwrap();
        std::fs::write(extra.join("20-b.yml"), "disable+: local-storage\n").unwrap();
        std::fs::write(extra.join("30-c.txt"), "token: three\n").unwrap();
        assert_eq!(
            flatten(&read(&main).unwrap().unwrap()),
            [
                "--token=two",
                "--disable=traefik",
                "--disable=servicelb",
                "--disable=local-storage",
                "--write-kubeconfig-mode=420",
                "--cluster-init=true"
            ]
        );
    }
}
