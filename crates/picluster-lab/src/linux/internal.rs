//! The hidden entry point: which step of a lab this process is.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use crate::error::Trouble;

/// Dispatches on the first argument.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let (verb, rest) = match args.split_first() {
        Some((verb, rest)) => (verb.to_string_lossy().into_owned(), rest),
        None => (String::new(), args),
    };
    let result = match verb.as_str() {
        "hold" => hold(),
        "stage" => super::stage::main(rest),
        "keeper" => super::keeper::main(rest),
        "supervisor" => super::supervisor::main(),
        "join" => super::node::join(rest),
        "boot" => super::boot::main(rest),
        "build" => super::build::main(rest),
        "empty" => super::build::empty(),
        "checksum" => {
            super::build::print_checksum();
            Ok(())
        }
        "controller" => super::controller::main(rest),
        _ => Err(Trouble(
            "`__lab` is how a lab runs itself; people use `picluster lab`".into(),
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            // The builder's stdout is what its starter shows; everybody else's stderr is the lab's log.
            let line = format!("{verb}: {trouble}\n");
            let _ = if verb == "build" {
                std::io::stdout().write_all(line.as_bytes())
            } else {
                std::io::stderr().write_all(line.as_bytes())
            };
            ExitCode::FAILURE
        }
    }
}

/// Keeps a user namespace in existence until the input ends.
fn hold() -> Result<(), Trouble> {
    let mut out = std::io::stdout();
    let _ = out.write_all(b"held\n").and_then(|()| out.flush());
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    Ok(())
}
