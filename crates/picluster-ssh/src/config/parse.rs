//! From text to items; `Include` is followed here, conditions are judged later.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{ConfigError, Place, expand_path, pattern, tokens::Tokens};
use crate::Environment;

/// OpenSSH's own limit of nested `Include`s.
const MAX_DEPTH: usize = 16;

/// A directive, or a file of them.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// `Host` with its patterns: everything up to the next `Host` or `Match` depends on it.
    Host(Vec<String>),
    /// `Match` with its words.
    Match(Vec<String>, Place),
    /// Any other directive, its name in lower case.
    Setting(String, Vec<String>, Place),
    /// The items of an included file; they hold only while the block around the `Include` does.
    Included(Vec<Item>),
}

/// Parses one file and those it includes.
pub(super) fn file(path: &Path, environment: &Environment) -> Result<Vec<Item>, ConfigError> {
    let text = read(path)?;
    items(path, &text, environment, 0)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|error| ConfigError(format!("{}: {error}", path.display())))
}

fn items(
    path: &Path,
    text: &str,
    environment: &Environment,
    depth: usize,
) -> Result<Vec<Item>, ConfigError> {
    if depth > MAX_DEPTH {
        return Err(ConfigError(format!(
            "{}: more than {MAX_DEPTH} nested `Include`s",
            path.display()
        )));
    }
    let mut items = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = Place {
            path: path.to_owned(),
            line: number + 1,
        };
        let Some((keyword, arguments)) =
            words(line).map_err(|reason| ConfigError(format!("{place}: {reason}")))?
        else {
            continue;
        };
        match keyword.as_str() {
            "host" => items.push(Item::Host(arguments)),
            "match" => items.push(Item::Match(arguments, place)),
            "include" => {
                for argument in &arguments {
                    let found = included(argument, path, environment)
                        .map_err(|reason| ConfigError(format!("{place}: {reason}")))?;
                    for file in found {
                        let text = read(&file)?;
                        items.push(Item::Included(self::items(
                            &file,
                            &text,
                            environment,
                            depth + 1,
                        )?));
                    }
                }
            }
            _ => items.push(Item::Setting(keyword, arguments, place)),
        }
    }
    Ok(items)
}

/// Splits a line into its keyword, in lower case, and arguments; `None` for blank lines and comments.
fn words(line: &str) -> Result<Option<(String, Vec<String>)>, String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted
                .split_once('"')
                .ok_or_else(|| String::from("a quotation mark is not closed"))?
        } else {
            // Only the keyword may be followed by `=` instead of a blank.
            let end = rest
                .find(|c: char| c.is_whitespace() || (words.is_empty() && c == '='))
                .unwrap_or(rest.len());
            rest.split_at(end)
        };
        words.push(word.to_owned());
        rest = after.trim_start();
        if words.len() == 1 {
            rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        }
    }
    let mut words = words.into_iter();
    let Some(keyword) = words.next() else {
        return Ok(None);
    };
    let keyword = keyword.to_ascii_lowercase();
    let arguments: Vec<String> = words.collect();
    if arguments.is_empty() {
        return Err(format!("`{keyword}` without a value"));
    }
    Ok(Some((keyword, arguments)))
}

/// The files an `Include` names, in lexical order; none is no error, as in OpenSSH.
fn included(
    argument: &str,
    from: &Path,
    environment: &Environment,
) -> Result<Vec<PathBuf>, String> {
    let path = expand_path(argument, &Tokens::default(), environment)?;
    let path = if path.is_absolute() {
        path
    } else {
        // Relative to ~/.ssh for the user's files, to the file's own directory for the system's.
        let user = environment.home.as_ref().map(|home| home.join(".ssh"));
        let system = environment
            .system_config
            .as_deref()
            .and_then(Path::parent)
            .filter(|directory| from.starts_with(directory));
        match (system, user) {
            (Some(system), _) => system.join(path),
            (None, Some(user)) => user.join(path),
            (None, None) => {
                return Err("`Include` of a relative path, and no home directory".into());
            }
        }
    };
    Ok(glob(&path))
}

/// Files that match a path whose components may hold `*` and `?`.
fn glob(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in path.components() {
        let name = match component {
            Component::Normal(name) => name.to_string_lossy(),
            other => {
                for path in &mut found {
                    path.push(other);
                }
                continue;
            }
        };
        if !name.contains(['*', '?']) {
            for path in &mut found {
                path.push(&*name);
            }
            continue;
        }
        found = found
            .into_iter()
            .flat_map(|directory| {
                let mut names: Vec<PathBuf> = fs::read_dir(&directory)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .filter(|entry| {
                        let entry = entry.file_name().to_string_lossy().into_owned();
                        // As in shells, a wildcard does not reach hidden files.
                        (!entry.starts_with('.') || name.starts_with('.'))
                            && pattern::matches(&name, &entry)
                    })
                    .map(|entry| entry.path())
                    .collect();
                names.sort();
                names
            })
            .collect();
    }
    found.retain(|path| path.is_file());
    found
}
