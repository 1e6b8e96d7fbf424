//! `cli.md`: the help of every verb, as it is printed.

use std::fmt::Write as _;

use clap::CommandFactory as _;

/// The page.
pub(super) fn page() -> String {
    let mut root = picluster::cli::Cli::command();
    // Gives every verb its full name in the usage line.
    root.build();
    let mut page = String::from("# Command line\n\nWhat `picluster help VERB` prints.\n\n");
    walk(&mut root, "picluster", &mut page);
    page
}

fn walk(command: &mut clap::Command, name: &str, page: &mut String) {
    // The width is that of the page, not of whoever's terminal this runs in.
    let mut shown = command
        .clone()
        .term_width(100)
        .mut_args(|arg| arg.hide_env_values(true));
    let help = shown.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(
        page,
        "## {name}\n\n```text\n{}\n```\n\n",
        help.join("\n").trim_end()
    );
    for verb in command
        .get_subcommands_mut()
        .filter(|v| v.get_name() != "help")
    {
        let name = format!("{name} {}", verb.get_name());
        walk(verb, &name, page);
    }
}
