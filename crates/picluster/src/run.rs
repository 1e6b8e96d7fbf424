//! Parses the command line, runs a verb, and turns its end into words and an exit code.

use std::io::Write as _;
use std::process::ExitCode as ProcessExit;

use clap::Parser as _;
use picluster_engine::ExitCode;

use crate::cli::{Cli, Verb};
use crate::term::Style;
use crate::{show, verbs};

/// The whole program. `main` is nothing else; the integration tests run the same through a binary of
/// their own.
#[must_use]
pub fn run() -> ProcessExit {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // The lab starts this very program inside its namespaces.
    if args
        .get(1)
        .is_some_and(|a| a == picluster_lab::INTERNAL_ARGUMENT)
    {
        return picluster_lab::internal_main(&args[2..]);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            let code = if e.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Done
            };
            return ProcessExit::from(code.number());
        }
    };
    let out = Style::of(cli.color, &std::io::stdout(), std::io::stdout());
    let err = Style::of(cli.color, &std::io::stderr(), std::io::stderr());
    logging(cli.verbose, err);
    let result = match cli.verb {
        Verb::Validate(args) => verbs::validate::run(&args, out),
        Verb::Plan(args) => verbs::plan::run(&args, out, err),
        Verb::Apply(args) => verbs::apply::run(&args, out, err),
        Verb::Facts(args) => verbs::facts::run(&args, out, err),
        Verb::Status(args) => verbs::status::run(&args, out, err),
        Verb::Exec(args) => verbs::exec::run(&args, out, err),
        Verb::Explain(args) => verbs::explain::run(&args, out, err),
        Verb::ForgetKey(args) => verbs::forget_key::run(&args),
        Verb::Reset(args) => verbs::reset::run(&args, out, err),
        Verb::Shutdown(args) => verbs::shutdown::run(&args, out, err),
        Verb::Fetch(args) => verbs::fetch::run(&args, out),
        Verb::Kubeconfig(args) => verbs::kubeconfig::run(&args, out),
        Verb::Graph(args) => verbs::graph::run(&args),
        Verb::Lab(args) => verbs::lab::run(args, out, err),
    };
    let code = result.unwrap_or_else(|failure| {
        let _ = write!(
            std::io::stderr().lock(),
            "{}",
            show::failure::failure(&failure, err)
        );
        failure.exit
    });
    ProcessExit::from(code.number())
}

fn logging(verbose: u8, style: Style) {
    let default = match verbose {
        0 => "off",
        1 => "picluster=info,picluster_engine=debug,picluster_ssh=debug,picluster_lab=debug",
        _ => {
            "picluster=trace,picluster_engine=trace,picluster_ssh=trace,picluster_lab=trace,russh=debug"
        }
    };
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| default.to_owned());
    if filter == "off" {
        return;
    }
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_ansi(style.color)
        .with_writer(std::io::stderr)
        .init();
}
