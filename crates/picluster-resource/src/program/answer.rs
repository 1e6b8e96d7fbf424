//! From what the tools printed for a question to its answer.

use picluster_model::Secret;

use super::{Raw, sha256_hex};
use crate::query::{
    AccountState, Answer, ContentState, GroupState, PackageState, PasswordState, PathKind,
    PathState, Query, UnitState,
};

impl Query {
    /// Reads the raw output for this question.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn parse(&self, raw: &Raw) -> Result<Answer, String> {
        let text = raw.text.as_str();
        match self {
            Self::Path(_) => parse_stat(text).map(Answer::Path),
            Self::Link(_) if raw.status != 0 => Err("readlink's lines do not add up".into()),
            Self::Link(_) => Ok(Answer::Link(
                Some(text.to_owned()).filter(|t| !t.is_empty()),
            )),
            Self::Content { .. } => Ok(Answer::Content(parse_content(text)?)),
            Self::Text(_) => Ok(Answer::Text((raw.status == 0).then(|| text.to_owned()))),
            Self::Secret(_) => Ok(Answer::Secret(
                (raw.status == 0).then(|| Secret::new(text.to_owned())),
            )),
            Self::Package { name, .. } => parse_package(name, text).map(Answer::Package),
            Self::Unit(_) => parse_unit(text).map(Answer::Unit),
            Self::Sysctl(_) => Ok(Answer::Sysctl(
                text.trim_end_matches('\n')
                    .strip_prefix('=')
                    .map(str::to_owned),
            )),
            Self::Account(_) => parse_account(text).map(Answer::Account),
            Self::Group(_) => parse_group(text).map(Answer::Group),
            Self::Fragment(_) | Self::ClusterNode { .. } => Ok(Answer::Fragment {
                status: raw.status,
                stdout: text.to_owned(),
            }),
        }
    }
}

fn parse_stat(text: &str) -> Result<Option<PathState>, String> {
    let line = text.trim_end_matches('\n');
    if line.is_empty() {
        return Ok(None);
    }
    let bad = || format!("stat printed {line:?}");
    let mut parts = line.splitn(5, ' ');
    let mut next = || parts.next().ok_or_else(bad);
    let bits = u32::from_str_radix(next()?, 16).map_err(|_| bad())?;
    let owner = next()?.to_owned();
    let group = next()?.to_owned();
    let size = next()?.parse().map_err(|_| bad())?;
    let kind = match bits & 0o170_000 {
        0o100_000 => PathKind::File,
        0o040_000 => PathKind::Directory,
        0o120_000 => PathKind::Link,
        _ => PathKind::Other,
    };
    Ok(Some(PathState {
        kind,
        mode: bits & 0o7777,
        owner,
        group,
        size,
    }))
}

fn parse_content(text: &str) -> Result<Option<ContentState>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let (head, body) = match text.split_once('\n') {
        Some((head, body)) => (head, Some(body)),
        None => (text, None),
    };
    let sha256 = head.split(' ').next().unwrap_or("").to_owned();
    if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("sha256sum printed {head:?}"));
    }
    // A shell variable drops NUL: text that does not hash to the file is not the file's text.
    let text = body
        .filter(|body| sha256_hex(body.as_bytes()) == sha256)
        .map(str::to_owned);
    Ok(Some(ContentState { sha256, text }))
}

fn parse_package(name: &str, text: &str) -> Result<PackageState, String> {
    let (line, policy) = text.split_once('\n').unwrap_or((text, ""));
    let mut state = PackageState::default();
    if !line.is_empty() {
        let rest = line
            .strip_prefix(name)
            .ok_or_else(|| format!("dpkg-query printed {line:?}"))?;
        let mut words = rest.split_whitespace();
        words.next().unwrap_or("").clone_into(&mut state.status);
        // A third letter (`iHR`) sticks to the first two; the version is always last.
        state.version = words.last().map(str::to_owned);
    }
    let mut in_table = false;
    for line in policy.lines() {
        let trimmed = line.trim();
        if let Some(candidate) = trimmed.strip_prefix("Candidate: ") {
            state.candidate = Some(candidate.to_owned()).filter(|c| c != "(none)");
        } else if trimmed.starts_with("Version table:") {
            in_table = true;
        } else if in_table {
            // ` *** 1.2 500` or `     1.2 500`; the lines of their sources are indented by 8 or more
            // and start with a priority.
            let indent = line.len() - line.trim_start().len();
            let words: Vec<&str> = trimmed.trim_start_matches("*** ").split(' ').collect();
            if indent <= 5 && words.len() == 2 {
                state.available.push(words[0].to_owned());
            }
        }
    }
    Ok(state)
}

fn parse_unit(text: &str) -> Result<UnitState, String> {
    let mut unit = UnitState::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = value.to_owned();
        match key {
            "LoadState" => unit.load = value,
            "ActiveState" => unit.active = value,
            "SubState" => unit.sub = value,
            "UnitFileState" => unit.file = value,
            "Result" => unit.result = value,
            "TriggeredBy" => {
                unit.triggered_by = value.split_whitespace().map(str::to_owned).collect();
            }
            "NeedDaemonReload" => unit.need_daemon_reload = value == "yes",
            "Pending" => unit.pending = Some(value).filter(|v| !v.is_empty()),
            _ => {}
        }
    }
    if unit.load.is_empty() {
        return Err("systemctl show gave no LoadState; is systemd running as PID 1?".into());
    }
    Ok(unit)
}

fn parse_account(text: &str) -> Result<Option<AccountState>, String> {
    let mut lines = text.lines();
    let Some(passwd) = lines.next().filter(|l| !l.is_empty()) else {
        return Ok(None);
    };
    let fields: Vec<&str> = passwd.split(':').collect();
    let [_, _, uid, _, gecos, home, shell] = fields[..] else {
        return Err(format!("getent passwd printed {passwd:?}"));
    };
    let group = lines.next().unwrap_or("").to_owned();
    let mut groups: Vec<String> = lines
        .next()
        .unwrap_or("")
        .split_whitespace()
        .filter(|g| *g != group)
        .map(str::to_owned)
        .collect();
    groups.sort();
    let password = match lines.next().unwrap_or("") {
        "empty" => PasswordState::Empty,
        "locked" => PasswordState::Locked,
        hash => PasswordState::Hash(hash.split(' ').next().unwrap_or("").to_owned()),
    };
    Ok(Some(AccountState {
        uid: uid.parse().map_err(|_| format!("uid {uid:?}"))?,
        group,
        groups,
        gecos: gecos.to_owned(),
        home: home.to_owned(),
        shell: shell.to_owned(),
        password,
    }))
}

fn parse_group(text: &str) -> Result<Option<GroupState>, String> {
    let line = text.trim_end_matches('\n');
    if line.is_empty() {
        return Ok(None);
    }
    let fields: Vec<&str> = line.split(':').collect();
    let [_, _, gid, members] = fields[..] else {
        return Err(format!("getent group printed {line:?}"));
    };
    Ok(Some(GroupState {
        gid: gid.parse().map_err(|_| format!("gid {gid:?}"))?,
        members: members
            .split(',')
            .filter(|m| !m.is_empty())
            .map(str::to_owned)
            .collect(),
    }))
}
