//! Reads `docs/invariants.toml`: what must always hold, which test guards it, and which change turns
//! that test red.
//!
//! This program has no dependencies, so it reads the part of TOML the file is written in: tables of
//! arrays, and keys with a number, a one-line string, or a literal string of several lines.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Outcome;

/// Where it stands in the checkout.
pub(crate) const FILE: &str = "docs/invariants.toml";

/// Everything the file says.
#[derive(Debug, Default)]
pub(crate) struct Data {
    pub invariants: Vec<Invariant>,
    pub reds: Vec<Red>,
}

/// What must always hold.
#[derive(Debug)]
pub(crate) struct Invariant {
    pub number: u32,
    pub holds: String,
}

/// A change that breaks an invariant, and the test that has to notice.
#[derive(Debug)]
pub(crate) struct Red {
    pub invariant: u32,
    /// The change in words.
    pub breaks: String,
    /// The change: where, what stands there (exactly once), what takes its place.
    pub file: String,
    pub find: String,
    pub replace: String,
    pub guard: Guard,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Guard {
    pub package: String,
    /// `lib`, or the name of a test target.
    pub target: String,
    /// Its full name.
    pub test: String,
    /// It boots lab nodes, which takes a minute and more.
    pub lab: bool,
}

impl Data {
    /// Reads the file of a checkout.
    pub(crate) fn read(root: &Path) -> Outcome<Self> {
        let path = root.join(FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        Self::parse(&text).map_err(|e| format!("{FILE}: {e}"))
    }

    fn parse(text: &str) -> Outcome<Self> {
        let mut data = Self::default();
        for mut table in tables(text)? {
            let line = table.line;
            match table.name.as_str() {
                "invariant" => data.invariants.push(Invariant {
                    number: table.number("number")?,
                    holds: table.take("holds")?,
                }),
                "red" => data.reds.push(Red {
                    invariant: table.number("invariant")?,
                    breaks: table.take("breaks")?,
                    file: table.take("file")?,
                    find: table.take("find")?,
                    replace: table.take("replace")?,
                    guard: Guard {
                        package: table.take("package")?,
                        target: table.take("target")?,
                        test: table.take("test")?,
                        lab: table.keys.remove("lab").is_some_and(|v| v == "true"),
                    },
                }),
                other => return Err(format!("line {line}: there is no table {other:?}")),
            }
            if let Some(key) = table.keys.keys().next() {
                return Err(format!("the table at line {line} has no use for {key:?}"));
            }
        }
        Ok(data)
    }

    /// The changes against one invariant.
    pub(crate) fn reds_of(&self, number: u32) -> impl Iterator<Item = &Red> {
        self.reds.iter().filter(move |r| r.invariant == number)
    }
}

struct Table {
    name: String,
    line: usize,
    keys: BTreeMap<String, String>,
}

impl Table {
    fn take(&mut self, key: &str) -> Outcome<String> {
        self.keys
            .remove(key)
            .ok_or_else(|| format!("the table at line {} has no {key:?}", self.line))
    }

    fn number(&mut self, key: &str) -> Outcome<u32> {
        let text = self.take(key)?;
        text.parse()
            .map_err(|_| format!("the table at line {}: {key} is no number", self.line))
    }
}

fn tables(text: &str) -> Outcome<Vec<Table>> {
    let mut tables: Vec<Table> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((n, line)) = lines.next() {
        let at = n + 1;
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if let Some(name) = trimmed
            .strip_prefix("[[")
            .and_then(|t| t.strip_suffix("]]"))
        {
            tables.push(Table {
                name: name.to_owned(),
                line: at,
                keys: BTreeMap::new(),
            });
            continue;
        }
        let (Some((key, value)), Some(table)) = (trimmed.split_once(" = "), tables.last_mut())
        else {
            return Err(format!(
                "line {at} is neither a table nor a key with a value"
            ));
        };
        let value = if let Some(first) = value.strip_prefix("'''") {
            literal(first, &mut lines)
                .ok_or_else(|| format!("the text that begins at line {at} has no end"))?
        } else if let Some(quoted) = value.strip_prefix('"') {
            match quoted.strip_suffix('"') {
                Some(text) if !text.contains(['"', '\\']) => text.to_owned(),
                _ => return Err(format!("line {at}: such a text has to stand between '''")),
            }
        } else {
            value.to_owned()
        };
        if table.keys.insert(key.to_owned(), value).is_some() {
            return Err(format!("line {at}: {key} is there twice"));
        }
    }
    Ok(tables)
}

/// A literal string, from behind its opening marks: a line break right there does not count.
fn literal<'a>(first: &str, lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Option<String> {
    let mut text = first.to_owned();
    if text.is_empty() {
        text.push_str(lines.next()?.1);
    }
    loop {
        if let Some(whole) = text.strip_suffix("'''") {
            return Some(whole.to_owned());
        }
        text.push('\n');
        text.push_str(lines.next()?.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_toml_it_is_written_in_is_read_and_the_rest_refused() {
        let text = "# words\n[[invariant]]\nnumber = 7\nholds = \"always\"\n\n[[red]]\ninvariant = 7\nbreaks = \"it\"\n\
                    file = \"a.rs\"\nfind = '''\n  one \"two\"\n  three\n'''\nreplace = '''x = 'y';'''\n\
                    package = \"p\"\ntarget = \"lib\"\ntest = \"a::b\"\nlab = true\n";
        let data = Data::parse(text).unwrap_or_default();
        assert_eq!((data.invariants.len(), data.reds.len()), (1, 1));
        let red = &data.reds[0];
        assert_eq!(red.find, "  one \"two\"\n  three\n");
        assert_eq!(red.replace, "x = 'y';");
        assert!(red.guard.lab);
        for bad in [
            "number = 1\n",
            "[[red]]\ninvariant = 1\n",
            "[[other]]\n",
            "[[invariant]]\nnumber = x\nholds = \"a\"\n",
            "[[invariant]]\nnumber = 1\nholds = \"a\nb\"\n",
            "[[invariant]]\nnumber = 1\nholds = '''\na\n",
            "[[invariant]]\nnumber = 1\nnumber = 1\nholds = \"a\"\n",
            "[[invariant]]\nnumber = 1\nholds = \"a\"\nmore = 1\n",
        ] {
            assert!(Data::parse(bad).is_err(), "{bad}");
        }
    }
}
