//! Questions to the person in front: passphrases, first contacts, consent.
//!
//! Asked on the terminal itself, so that a pipe on stdin or stdout is never mistaken for a person.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use picluster_model::Secret;
use picluster_ssh::{Decision, FirstContact, HostKeyPolicy, Prompts};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The controlling terminal, when there is one.
fn terminal() -> Option<(BufReader<File>, File)> {
    // A rehearsal or a CI job may have a terminal that nobody looks at.
    if std::env::var_os("PICLUSTER_NO_TTY").is_some() {
        return None;
    }
    let read = File::open("/dev/tty").ok()?;
    let write = OpenOptions::new().write(true).open("/dev/tty").ok()?;
    Some((BufReader::new(read), write))
}

/// Whether somebody can be asked.
#[must_use]
pub fn somebody_is_there() -> bool {
    terminal().is_some()
}

/// Asks for a line; `None` without a terminal or at its end.
#[must_use]
pub fn line(question: &str) -> Option<String> {
    let (mut read, mut write) = terminal()?;
    write!(write, "{question}").ok()?;
    write.flush().ok()?;
    let mut answer = String::new();
    let n = read.read_line(&mut answer).ok()?;
    (n > 0).then(|| answer.trim().to_owned())
}

/// Asks for a line that is not shown.
#[must_use]
pub fn hidden(question: &str) -> Option<Secret<String>> {
    let (mut read, mut write) = terminal()?;
    write!(write, "{question}").ok()?;
    write.flush().ok()?;
    let answer = without_echo(&mut read);
    writeln!(write).ok()?;
    answer.ok().flatten()
}

fn without_echo(read: &mut BufReader<File>) -> io::Result<Option<Secret<String>>> {
    let before = tcgetattr(read.get_ref())?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    *silenced() = Some(before);
    tcsetattr(read.get_ref(), OptionalActions::Flush, &silent)?;
    let mut answer = String::new();
    let n = read.read_line(&mut answer);
    give_back();
    if n? == 0 {
        return Ok(None);
    }
    let answer = Secret::new(answer);
    Ok(Some(Secret::new(
        answer.reveal().trim_end_matches(['\n', '\r']).to_owned(),
    )))
}

/// How the terminal was before it was told to hide what is typed; `None`: it hides nothing.
static SILENCED: Mutex<Option<Termios>> = Mutex::new(None);

fn silenced() -> MutexGuard<'static, Option<Termios>> {
    SILENCED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the terminal show again what is typed, if a question had switched that off.
pub fn give_back() {
    if let Some(before) = silenced().take()
        && let Ok(terminal) = File::open("/dev/tty")
    {
        let _ = tcsetattr(&terminal, OptionalActions::Flush, &before);
    }
}

/// Asks yes or no; no is the default, and the answer where nobody is there.
#[must_use]
pub fn yes(question: &str) -> bool {
    matches!(
        line(&format!("{question} [y/N] ")).as_deref(),
        Some("y" | "Y" | "yes")
    )
}

/// Asks people about host keys and passphrases.
#[derive(Debug, Clone, Copy, Default)]
pub struct Person;

#[async_trait]
impl HostKeyPolicy for Person {
    async fn first_contact(&self, contact: &FirstContact) -> Decision {
        let question = format!(
            "{} at {} is met for the first time. It shows the {} key\n  {}\nCompare it on the node: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub\nPin this key?",
            contact.pin, contact.address, contact.algorithm, contact.fingerprint
        );
        let answer = tokio::task::spawn_blocking(move || yes(&question)).await;
        if matches!(answer, Ok(true)) {
            Decision::Accept
        } else {
            Decision::Refuse
        }
    }
}

#[async_trait]
impl Prompts for Person {
    async fn passphrase(&self, key: &Path) -> Option<Secret<String>> {
        let question = format!("Passphrase for {}: ", key.display());
        tokio::task::spawn_blocking(move || hidden(&question))
            .await
            .ok()
            .flatten()
    }
}
