//! The chores that use the product's own code. `cargo xtask` builds and runs this, in the workspace's folder.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talking to the person at the terminal is what it is for"
)]

mod bench;
mod docs;
mod kubernetes;

use std::process::ExitCode;

/// What went wrong, in words for the person at the terminal.
type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let words: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    // The benchmark's lab starts this very program inside its namespaces.
    if words
        .first()
        .is_some_and(|w| w == picluster_lab::INTERNAL_ARGUMENT)
    {
        return picluster_lab::internal_main(&words[1..]);
    }
    let words: Vec<String> = words
        .into_iter()
        .map(|w| w.to_string_lossy().into_owned())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["docs"] => docs::write(),
        ["docs", "--check"] => docs::check(),
        ["bench", rest @ ..] => bench::run(rest),
        ["kubernetes"] => kubernetes::build(),
        _ => Err(format!(
            "{} is not understood; see cargo xtask help",
            words.join(" ")
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    /// `xtask` installs this list and cannot ask the lab for it.
    #[test]
    fn the_set_up_installs_what_virtual_machines_need() {
        const INSTALLED: &[(&str, &str, &str)] = include!("../src/machines.rs.in");
        assert_eq!(INSTALLED, picluster_lab::VM_PACKAGES);
    }
}
