//! Whether something may be installed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::Outcome;
use crate::machine;

/// How consent to change this machine is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Given on the command line, or by being root where nobody could answer.
    Given,
    /// By asking at the terminal.
    Ask,
    /// Not at all: nobody could answer, and this is not root.
    Withheld,
}

impl Consent {
    pub(crate) fn from_flag(yes: bool) -> Self {
        if yes {
            Self::Given
        } else if io::stdin().is_terminal() {
            Self::Ask
        } else if machine::is_root() {
            Self::Given
        } else {
            Self::Withheld
        }
    }

    /// Has it, or says why not.
    pub(crate) fn obtain(self) -> Outcome {
        match self {
            Self::Given => Ok(()),
            Self::Withheld => Err(
                "nothing was installed: there is no terminal to ask at; run the commands above yourself, or add --yes"
                    .into(),
            ),
            Self::Ask => {
                print!("Run these now? [Y/n] ");
                let _ = io::stdout().flush();
                let mut answer = String::new();
                let read = io::stdin().lock().read_line(&mut answer);
                let yes = matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes");
                if read.is_ok_and(|n| n > 0) && yes {
                    Ok(())
                } else {
                    Err("nothing was installed".into())
                }
            }
        }
    }
}
