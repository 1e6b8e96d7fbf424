//! What runs on a node: a constant bootstrap, and the lines that are sent to it.
//!
//! The bootstrap is one line of POSIX sh without single quotes or backslashes, so that it survives
//! any login shell. It prints a hello frame and then evaluates what it reads, line by line. Its
//! lines are read by the shell itself, which takes no byte more than it must from a pipe. A line
//! that announces a script of N bytes is followed by exactly N bytes and then by silence until the
//! answer has come: tools that read ahead can swallow nothing. End of input ends the program, and
//! a line that was not received whole is never run.

use picluster_resource::facts::FACTS_SH;
use picluster_resource::frame::FRAME_SH;
use picluster_resource::program::PRELUDE_SH;
use picluster_resource::shell::{quote, words};

use crate::settings::NodePaths;

/// Frames of the agent's own; probes use 1 to 10 and 100 and above.
pub(crate) const HELLO: u32 = 0;
/// An operation ended: its status, and its last output when it failed.
pub(crate) const OP: u32 = 20;
/// The lock was taken (0) or is held (1; who, and which processes).
pub(crate) const LOCK: u32 = 21;
/// The agent gives up, and says why.
pub(crate) const ERROR: u32 = 22;
/// The message is answered.
pub(crate) const DONE: u32 = 23;
/// Output of the facts program.
pub(crate) const FACTS: u32 = 24;
/// What several operations have in common: 0, or what could not be prepared before the first of them,
/// or not be brought to the disk after the last.
pub(crate) const REST: u32 = 25;

/// sudo's prompt: its appearance on stderr, and nothing else, releases the password.
pub(crate) const SUDO_PROMPT: &str = "picluster-wants-the-password:";

/// `trap HUP`: some transports send it when they go away; a running step must reach its end.
/// `trap TERM`: shells run it once the foreground program is done, so a later run that finds us
/// orphaned can ask us to stop, and we do so at a step boundary.
const OPENING: &str = concat!(
    r#"umask 022; cd /; LC_ALL=C; PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; "#,
    r#"export LC_ALL PATH; trap "" HUP; trap "exit 143" TERM; "#,
    r#"b=; read -r b < /proc/sys/kernel/random/boot_id; h="picluster 1 $$ $b"; echo "@0 0 ${#h}"; printf %s "$h"; "#,
);
/// After a sudo that may have asked for a password: nothing is evaluated before the controller has
/// repeated the hello, so a password that sudo did not take can never become a command.
const SKIP: &str = r#"l=; until [ "$l" = "$h" ]; do IFS= read -r l || exit; done; "#;
const LOOP: &str = r#"while IFS= read -r l; do eval "$l"; done"#;

/// The exec command of every session.
pub(crate) fn command() -> String {
    format!("exec /bin/sh -c {}", quote(&format!("{OPENING}{LOOP}")))
}

/// The line before the facts: where sudo wants no password, what follows is read by root's agent,
/// otherwise by the login user's, as if nothing had been said. One sudo is enough to learn how root
/// is had and to have it. What is left over when root's agent ends must never reach the login
/// user's: root's tells it, first of all, to end with it.
pub(crate) fn try_root() -> String {
    let inner = format!("kill -USR1 $0 || exit 3; w=sudo SSH_CONNECTION=$1; {OPENING}{LOOP}");
    format!(
        "while read -r k _ u _; do [ \"$k\" != Uid: ] || break; done < /proc/self/status; \
         [ \"$u\" = 0 ] || ! command -v sudo >/dev/null 2>&1 || \
         {{ trap exit USR1; sudo -n -- /bin/sh -c {} $$ \"${{SSH_CONNECTION-}}\"; trap - USR1; }}\n",
        quote(&inner)
    )
}

/// The line that turns the login user's agent into root's, without a password.
pub(crate) fn become_root() -> String {
    format!(
        "exec sudo -n -- /bin/sh -c {}\n",
        quote(&format!("{OPENING}{LOOP}"))
    )
}

/// The same where sudo wants a password. After it nothing may be sent before sudo has asked, and
/// after the password nothing before the new agent's hello.
pub(crate) fn become_root_with_password() -> String {
    format!(
        "exec sudo -S -p {SUDO_PROMPT} -- /bin/sh -c {}\n",
        quote(&format!("{OPENING}{SKIP}{LOOP}"))
    )
}

/// The functions of a root session.
pub(crate) fn library(paths: &NodePaths) -> String {
    format!(
        "R={}\nL={}\n{FRAME_SH}{PRELUDE_SH}\n{}",
        quote(&paths.run),
        quote(&paths.lock),
        include_str!("agent.sh")
    )
}

/// Asks for the facts; needs no library. `state`: also for systemd's, which takes longer.
pub(crate) fn facts(state: bool) -> String {
    let asked = if state { "q=1" } else { "q=" };
    format!("{FRAME_SH}{asked}\nfacts() {{\n{FACTS_SH}\n}}\nframe {FACTS} facts\n")
}

/// Asks questions.
pub(crate) fn probe(script: &str) -> String {
    format!("probe {}\n", quote(script))
}

/// Takes the lock in the name of `owner` and, if that went well, does the rest.
pub(crate) fn locked(owner: &str, then: &str) -> String {
    format!(
        "lock {}\nif [ \"$st\" = 0 ]; then :\n{then}fi\n",
        quote(owner)
    )
}

/// Runs an operation and, if that went well, does the rest.
pub(crate) fn operation(before: &str, script: &str, after: &str, then: &str) -> String {
    format!(
        "op {}\nif [ \"$st\" = 0 ]; then :\n{then}fi\n",
        words([before, script, after])
    )
}

/// Gives the next operation its input, which has to be text without NUL.
pub(crate) fn input(text: &str) -> String {
    format!("pay={}\n", quote(text))
}

/// One of several operations.
pub(crate) struct Part {
    /// Its script.
    pub script: String,
    /// The number of the file that `prep` has made ready for it; 0: none.
    pub ready: usize,
    /// The mark that goes when it ended well.
    pub mark: String,
}

/// Runs several operations behind what `prep` prepares for all of them and, if all went well, does
/// the rest.
pub(crate) fn several(prep: &str, parts: &[Part], then: &str) -> String {
    let mut all = Vec::new();
    for part in parts {
        all.extend([
            part.script.clone(),
            part.ready.to_string(),
            part.mark.clone(),
        ]);
    }
    format!(
        "prep() {{\n{prep}:\n}}\nseveral {}\nif [ \"$st\" = 0 ]; then :\n{then}fi\n",
        words(all.iter().map(String::as_str))
    )
}

/// The line that announces a message.
pub(crate) fn header(script: usize, payload: usize) -> String {
    if payload == 0 {
        // A script without payload ends in no newline, which `$(…)` would take; the length tells a
        // whole one from a torn one.
        format!(
            "s=$(head -c {script}); [ ${{#s}} = {script} ] || exit 3; eval \"$s\"; printf \"@{DONE} 0 0\\n\"\n"
        )
    } else {
        format!("receive {script} {payload}; eval \"$s\"; printf \"@{DONE} 0 0\\n\"\n")
    }
}

/// What the hello says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The text, to be repeated where the agent waits for it.
    pub text: String,
    /// The agent's process id.
    pub pid: u32,
    /// The node's boot id; empty where the kernel tells none.
    pub boot_id: String,
}

impl Hello {
    /// Reads a hello frame.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        if (words.next(), words.next()) != (Some("picluster"), Some("1")) {
            return None;
        }
        Some(Self {
            pid: words.next()?.parse().ok()?,
            boot_id: words.next().unwrap_or("").to_owned(),
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bootstrap_survives_any_login_shell_and_fits_an_argument() {
        for text in [OPENING, SKIP, LOOP] {
            assert!(!text.contains(['\'', '\\', '!', '\n']), "{text}");
        }
        assert!(command().len() < 1024);
        assert_eq!(become_root().lines().count(), 1);
        assert_eq!(become_root_with_password().lines().count(), 1);
    }
}
