//! The output, taken apart: to each question what the tools printed for it.

use super::*;

/// Gives every question its own part of the output.
pub(super) fn split(queries: &[Query], frames: &[Frame]) -> Vec<(Query, Raw)> {
    let by_id: BTreeMap<u32, &Frame> = frames.iter().map(|f| (f.id, f)).collect();
    let text = |id: u32| by_id.get(&id).map(|f| f.text()).unwrap_or_default();
    let (stats, digests) = (text(PATHS), text(DIGESTS));
    let (packages, policy) = (text(PACKAGES), text(POLICY));
    let (units, pending, groups) = (text(UNITS), text(PENDING), text(GROUPS));
    let links = by_id.get(&LINKS).map(|f| targets(f)).unwrap_or_default();
    let sysctls = text(SYSCTLS);
    let texts = by_id
        .get(&TEXTS)
        .map(|f| cut(&text(SIZES), &f.bytes))
        .unwrap_or_default();
    let by_position = |names: Vec<&str>, body: &str, name: &str| -> String {
        names
            .iter()
            .zip(body.lines())
            .find(|(n, _)| **n == name)
            .map(|(_, line)| line.to_owned())
            .unwrap_or_default()
    };
    // Behind the digest's 64 digits: a file's name may itself end in another's.
    let digest_line = |body: &str, end: &str| -> String {
        body.lines()
            .find(|line| line.get(64..) == Some(end))
            .unwrap_or_default()
            .to_owned()
    };
    let line_starting = |body: &str, name: &str, end: char| -> String {
        body.lines()
            .find(|l| l.strip_prefix(name).is_some_and(|r| r.starts_with(end)))
            .unwrap_or_default()
            .to_owned()
    };
    let mut lists: BTreeMap<u32, BTreeMap<String, String>> = BTreeMap::new();
    (BASE..)
        .zip(queries)
        .map(|(n, query)| {
            let own = by_id.get(&n);
            let mut status = own.map_or(0, |f| f.status);
            let raw_text = match query {
                Query::Path(path) => stat_line(&stats, path.as_str()),
                Query::Link(path) => {
                    let at = links_of(queries).iter().position(|p| *p == path.as_str());
                    match at.and_then(|at| links.get(at)) {
                        Some(target) => target.clone().unwrap_or_default(),
                        None => {
                            status = 1;
                            String::new()
                        }
                    }
                }
                Query::Content { path, .. } => {
                    let mut raw = digest_line(&digests, &format!("  {path}"));
                    if let (false, Some(frame)) = (raw.is_empty(), own) {
                        raw.push('\n');
                        raw.push_str(&frame.text());
                    }
                    raw
                }
                Query::Package { name, .. } => {
                    let mut raw = line_starting(&packages, name, ' ');
                    raw.push('\n');
                    raw.push_str(policy_of(&policy, name));
                    raw
                }
                Query::Unit(name) => {
                    let at = units_of(queries).iter().position(|u| u == name);
                    let block = at.and_then(|at| units.split("\n\n").nth(at)).unwrap_or("");
                    let mark = by_position(units_of(queries), &pending, name);
                    format!("{}\nPending={mark}", block.trim())
                }
                Query::Sysctl(key) => sysctl_value(queries, &sysctls, key),
                Query::Group(name) => line_starting(&groups, name, ':'),
                Query::Text(path) => match (own, texts.get(path.as_str())) {
                    (Some(frame), _) => frame.text(),
                    (None, Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
                    (None, None) => {
                        status = 1;
                        String::new()
                    }
                },
                Query::ClusterNode {
                    kubeconfig,
                    kubectl,
                    name,
                } => {
                    let at = cluster_frame(queries, kubeconfig, kubectl);
                    let frame = at.and_then(|at| by_id.get(&at));
                    let listed = at.map(|at| {
                        lists.entry(at).or_insert_with(|| {
                            kube::each(&frame.map(|f| f.text()).unwrap_or_default())
                        })
                    });
                    let found = listed.and_then(|nodes| nodes.get(name).cloned());
                    status = kube::status_of(frame.map(|f| f.status), found.is_some());
                    found.unwrap_or_default()
                }
                Query::Secret(_) | Query::Account(_) | Query::Fragment(_) => {
                    own.map(|f| f.text()).unwrap_or_default()
                }
            };
            (
                query.clone(),
                Raw {
                    status,
                    text: raw_text,
                },
            )
        })
        .collect()
}

/// The targets of links, in the order they were asked; `None`: no link. Empty where the frame does
/// not add up.
fn targets(frame: &Frame) -> Vec<Option<String>> {
    let text = frame.text();
    let (mask, body) = text.split_once('\n').unwrap_or((&text, ""));
    let mut found = Vec::new();
    if let Some(mask) = mask.strip_prefix('n') {
        let mut rest = frame.bytes.get(mask.len() + 2..).unwrap_or_default();
        for letter in mask.chars() {
            if letter != 'l' {
                found.push(None);
                continue;
            }
            let Some(space) = rest.iter().position(|b| *b == b' ') else {
                return Vec::new();
            };
            let length: Option<usize> = std::str::from_utf8(&rest[..space])
                .ok()
                .and_then(|n| n.parse().ok());
            let Some(target) = length.and_then(|n| rest.get(space + 1..space + 1 + n)) else {
                return Vec::new();
            };
            found.push(Some(String::from_utf8_lossy(target).into_owned()));
            rest = rest.get(space + 2 + target.len()..).unwrap_or_default();
        }
        return found;
    }
    let mut lines = body.lines();
    for letter in mask.chars() {
        found.push(match letter {
            'l' => match lines.next() {
                Some(target) => Some(target.to_owned()),
                None => return Vec::new(),
            },
            _ => None,
        });
    }
    if lines.next().is_some() {
        return Vec::new();
    }
    found
}

/// The texts of files that were printed one behind the other, by `stat`'s sizes and names.
fn cut<'a>(sizes: &str, all: &'a [u8]) -> BTreeMap<String, &'a [u8]> {
    let mut rest = all;
    let mut texts = BTreeMap::new();
    for line in sizes.lines() {
        let Some((size, path)) = line.split_once(' ') else {
            return BTreeMap::new();
        };
        let Some((own, behind)) = size.parse().ok().and_then(|n| rest.split_at_checked(n)) else {
            return BTreeMap::new();
        };
        texts.insert(path.to_owned(), own);
        rest = behind;
    }
    texts
}

/// `=` and the value, or `!` where there is no such key. The frame's first line has one letter for
/// each key; then come lines with the name of their file before them.
fn sysctl_value(queries: &[Query], body: &str, key: &str) -> String {
    let (mask, lines) = body.split_once('\n').unwrap_or((body, ""));
    let at = sysctls_of(queries).iter().position(|k| *k == key);
    if at.and_then(|at| mask.chars().nth(at)) != Some('=') {
        return "!".to_owned();
    }
    let head = format!("{}:", sysctl_file(key));
    let value = lines.lines().find_map(|line| line.strip_prefix(&head));
    format!("={}", value.unwrap_or("").trim_matches([' ', '\t']))
}

/// The line of `stat`'s output whose name field, the fifth and last, is `path`.
fn stat_line(stats: &str, path: &str) -> String {
    stats
        .lines()
        .find(|line| line.splitn(5, ' ').nth(4) == Some(path))
        .unwrap_or_default()
        .to_owned()
}

/// The part of `apt-cache policy`'s output about one package.
fn policy_of<'a>(policy: &'a str, name: &str) -> &'a str {
    let head = format!("{name}:\n");
    let start = if policy.starts_with(&head) {
        0
    } else {
        match policy.find(&format!("\n{head}")) {
            Some(at) => at + 1,
            None => return "",
        }
    };
    let body = &policy[start + head.len()..];
    let mut end = 0;
    for line in body.split_inclusive('\n') {
        if !line.starts_with(' ') {
            break;
        }
        end += line.len();
    }
    &body[..end]
}
