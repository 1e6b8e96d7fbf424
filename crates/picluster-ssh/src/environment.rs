//! What the process's surroundings say: home, user, agent. Taken once, so that tests can give their own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The local surroundings that OpenSSH's rules refer to.
#[derive(Clone, Default)]
pub struct Environment {
    /// Home directory: `~` and `%d`.
    pub home: Option<PathBuf>,
    /// Local user: the default login name and `%u`.
    pub user: Option<String>,
    /// `SSH_AUTH_SOCK`: the agent's socket.
    pub agent_socket: Option<PathBuf>,
    /// The system-wide client configuration, read after the user's.
    pub system_config: Option<PathBuf>,
    /// Environment variables for `${NAME}` in paths.
    pub variables: BTreeMap<String, String>,
}

/// Without the values of variables: some of them are secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("home", &self.home)
            .field("user", &self.user)
            .field("agent_socket", &self.agent_socket)
            .field("system_config", &self.system_config)
            .finish_non_exhaustive()
    }
}

impl Environment {
    /// The surroundings of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let named = |name: &str| {
            variables
                .get(name)
                .filter(|value| !value.is_empty())
                .cloned()
        };
        Self {
            home: std::env::home_dir(),
            user: named("USER")
                .or_else(|| named("LOGNAME"))
                .or_else(user_of_passwd),
            agent_socket: named("SSH_AUTH_SOCK").map(PathBuf::from),
            system_config: Some(PathBuf::from("/etc/ssh/ssh_config")),
            variables,
        }
    }

    /// `path` with a leading `~/` replaced by the home directory.
    pub(crate) fn expand_home(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path.to_owned(),
        }
    }
}

/// The name of our user id, for environments without `USER` (cron, systemd units).
fn user_of_passwd() -> Option<String> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}
