//! `exit-codes.md`.

use picluster_engine::ExitCode;

use super::table;

/// The page.
pub(super) fn page() -> String {
    let rows: Vec<Vec<String>> = ExitCode::ALL
        .iter()
        .map(|code| vec![code.number().to_string(), code.meaning().to_owned()])
        .collect();
    let mut grave: Vec<ExitCode> = ExitCode::ALL
        .into_iter()
        .filter(|code| !matches!(code, ExitCode::Done | ExitCode::Usage | ExitCode::Changes))
        .collect();
    grave.sort_by_key(|code| std::cmp::Reverse(code.gravity()));
    let order: Vec<String> = grave.iter().map(|code| code.number().to_string()).collect();
    format!(
        "# Exit codes\n\nThey are stable: scripts may rely on them.\n\n{}\
         When several things happened in one run, the gravest is the exit code: {}. \
         With `--json`, the last event lists all of them.\n",
        table(&["code", "meaning"], &rows),
        order.join(" > ")
    )
}
