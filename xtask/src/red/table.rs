//! The table in `docs/ARCHITECTURE.md`, written from the data.

use std::fs;
use std::path::Path;

use super::data::{Data, Red};
use crate::Outcome;

/// The page.
pub(crate) const PAGE: &str = "docs/ARCHITECTURE.md";

const HEAD: &str = "| # | invariant | guard | the change that turns it red |\n|---|---|---|---|\n";

/// The table.
pub(crate) fn table(data: &Data) -> String {
    let mut out = String::from(HEAD);
    for invariant in &data.invariants {
        let reds: Vec<&Red> = data.reds_of(invariant.number).collect();
        let guards = column(reds.iter().map(|r| {
            let lab = if r.guard.lab { " (lab)" } else { "" };
            format!(
                "`{}` {}: `{}`{lab}",
                r.guard.package, r.guard.target, r.guard.test
            )
        }));
        let changes = column(reds.iter().map(|r| format!("{} (`{}`)", r.breaks, r.file)));
        out.push_str(&format!(
            "| {} | {} | {guards} | {changes} |\n",
            invariant.number,
            invariant.holds.replace('|', "\\|"),
        ));
    }
    out
}

/// One under the other; what is the same as above only once.
fn column(entries: impl Iterator<Item = String>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for entry in entries {
        if !lines.contains(&entry) {
            lines.push(entry.replace('|', "\\|"));
        }
    }
    lines.join("<br>")
}

/// The page with this table at its end.
fn page(old: &str, table: &str) -> Outcome<String> {
    let (before, behind) = old
        .split_once(HEAD)
        .ok_or_else(|| format!("{PAGE} has no table of invariants"))?;
    let rest: String = behind
        .split_inclusive('\n')
        .skip_while(|line| line.starts_with('|'))
        .collect();
    Ok(format!("{before}{table}{rest}"))
}

/// Writes it; with `check`, fails where it is out of date.
pub(crate) fn write(root: &Path, data: &Data, check: bool) -> Outcome {
    let path = root.join(PAGE);
    let old = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let new = page(&old, &table(data))?;
    if new == old {
        return Ok(());
    }
    if check {
        return Err(format!("{PAGE} is out of date: cargo xtask red --table"));
    }
    fs::write(&path, new).map_err(|e| format!("{}: {e}", path.display()))
}
