//! The syntax of labels
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).

/// Checks a label or taint key: `[prefix/]name`.
///
/// # Errors
/// The rule it breaks.
pub fn check_key(key: &str) -> Result<(), String> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            check_subdomain(prefix)
                .map_err(|rule| format!("the prefix `{prefix}` must be {rule}"))?;
            name
        }
        None => key,
    };
    if name.contains('/') {
        return Err(String::from("only one `/` is allowed"));
    }
    if name.is_empty() {
        return Err(String::from("the name is missing"));
    }
    check_name(name)
}

/// Labels that kubelet, the cloud controller and the supervisor of k3s keep themselves
/// (<https://kubernetes.io/docs/reference/labels-annotations-taints/>,
/// <https://github.com/k3s-io/k3s/blob/master/pkg/util/labels.go>).
const KEPT_LABELS: [&str; 8] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/etcd",
    "node-role.kubernetes.io/master",
];

/// Taints that the node controller and kubelet keep themselves
/// (<https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions>).
const KEPT_TAINTS: [&str; 9] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/unschedulable",
    "node.cloudprovider.kubernetes.io/uninitialized",
    "node.cloudprovider.kubernetes.io/shutdown",
];

/// Whether the cluster itself keeps this label: what is written here would be undone.
pub fn is_kept_label(key: &str) -> bool {
    KEPT_LABELS.contains(&key)
}

/// Whether the cluster itself keeps taints of this key.
pub fn is_kept_taint(key: &str) -> bool {
    KEPT_TAINTS.contains(&key)
}

/// Checks a label value; it may be empty.
///
/// # Errors
/// The rule it breaks.
pub fn check_value(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Ok(());
    }
    check_name(value)
}

fn check_name(text: &str) -> Result<(), String> {
    if text.len() > 63 {
        return Err(format!("at most 63 characters, not {}", text.len()));
    }
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if let Some(bad) = text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
    {
        return Err(format!(
            "{bad:?} is not allowed: letters, digits, '-', '_' and '.' only"
        ));
    }
    if !edge(text.chars().next()) || !edge(text.chars().next_back()) {
        return Err(String::from("start and end with a letter or digit"));
    }
    Ok(())
}

fn check_subdomain(text: &str) -> Result<(), &'static str> {
    let good = text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        });
    if good {
        Ok(())
    } else {
        Err("a DNS name in lower case, at most 253 characters")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_accepts_these_and_refuses_those() {
        for key in ["disk", "node-role.kubernetes.io/worker", "a.b/C_d.e-f", "X"] {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
        for key in [
            "",
            "/a",
            "a/",
            "a/b/c",
            "-a",
            "a-",
            "A.B/c",
            "a b",
            &"x".repeat(64),
        ] {
            assert!(check_key(key).is_err(), "{key}");
        }
        for value in ["", "nvme", "1", "a_b.c-d"] {
            assert_eq!(check_value(value), Ok(()), "{value}");
        }
        for value in ["-", "a b", "ü", &"x".repeat(64)] {
            assert!(check_value(value).is_err(), "{value}");
        }
    }
}
