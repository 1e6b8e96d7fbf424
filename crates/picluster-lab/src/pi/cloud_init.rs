//! The part of cloud-init that undoes other people's work at every boot.
//!
//! Upstream's `cc_update_etc_hosts` (frequency: always) rewrites `/etc/hosts` when `manage_etc_hosts` is set, and
//! `cc_set_hostname` sets the metadata's hostname unless `preserve_hostname: true`. Both stop with
//! `/etc/cloud/cloud-init.disabled` or `cloud-init=disabled` on the command line; a purged package does nothing.

use std::fs;
use std::path::Path;

use crate::error::{Attempt, Trouble};

/// Runs the stages of one boot.
pub(crate) fn at_boot(root: &Path) -> Result<(), Trouble> {
    let cmdline = fs::read_to_string(root.join("boot/firmware/cmdline.txt")).unwrap_or_default();
    let off = root.join("etc/cloud/cloud-init.disabled").exists()
        || cmdline
            .split_ascii_whitespace()
            .any(|t| t == "cloud-init=disabled");
    if off || !root.join("usr/bin/cloud-init").exists() {
        return Ok(());
    }
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).attempt(|| format!("create {}", dir.display()))?;
        }
        fs::write(&path, text).attempt(|| format!("write {}", path.display()))
    };
    put(
        "run/cloud-init/result.json",
        "{\n \"v1\": {\n  \"datasource\": \"DataSourceNoCloud [seed=/dev/mmcblk0p1]\",\n  \"errors\": []\n }\n}\n",
    )?;
    let user_data = fs::read_to_string(root.join("boot/firmware/user-data")).unwrap_or_default();
    let config = configuration(root) + &user_data;
    let hostname = setting(&user_data, "hostname").unwrap_or_else(|| "ubuntu".into());
    // Once an instance, unless somebody else changed the name meanwhile: previous-hostname is upstream's memory of it.
    let memory = "var/lib/cloud/data/previous-hostname";
    let now = fs::read_to_string(root.join("etc/hostname"))
        .unwrap_or_default()
        .trim()
        .to_owned();
    let before = fs::read_to_string(root.join(memory)).ok();
    let untouched = before.as_deref().is_none_or(|b| b.trim() == now);
    if setting(&config, "preserve_hostname").as_deref() != Some("true")
        && untouched
        && now != hostname
    {
        put("etc/hostname", &format!("{hostname}\n"))?;
    }
    if before.is_none() {
        put(memory, &hostname)?;
    }
    if setting(&config, "manage_etc_hosts").as_deref() == Some("true") {
        let template = fs::read_to_string(root.join("etc/cloud/templates/hosts.debian.tmpl"));
        put("etc/hosts", &hosts(template.ok().as_deref(), &hostname))?;
    }
    Ok(())
}

/// What `cc_update_etc_hosts` makes of its template; of the one that upstream brings where there is none.
fn hosts(template: Option<&str>, hostname: &str) -> String {
    let text = template.unwrap_or(
        "## template:jinja\n# Your system has configured 'manage_etc_hosts' as True.\n# As a result, if you wish for changes to this file to persist\n# then you will need to either\n# a.) make changes to the master file in /etc/cloud/templates/hosts.debian.tmpl\n# b.) change or remove the value of 'manage_etc_hosts' in\n#     /etc/cloud/cloud.cfg or cloud-config from user-data\n#\n127.0.1.1 {{fqdn}} {{hostname}}\n127.0.0.1 localhost\n\n# The following lines are desirable for IPv6 capable hosts\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n\n",
    );
    let text = text.strip_prefix("## template:jinja\n").unwrap_or(text);
    text.replace("{{fqdn}}", hostname)
        .replace("{{hostname}}", hostname)
}

/// `cloud.cfg` and its drop-ins, in order, as one text.
fn configuration(root: &Path) -> String {
    let mut text = fs::read_to_string(root.join("etc/cloud/cloud.cfg")).unwrap_or_default();
    let mut files: Vec<_> = fs::read_dir(root.join("etc/cloud/cloud.cfg.d"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    files.sort();
    for f in files
        .iter()
        .filter(|f| f.extension().is_some_and(|x| x == "cfg"))
    {
        text.push('\n');
        text.push_str(&fs::read_to_string(f).unwrap_or_default());
        text.push('\n');
    }
    text
}

/// The last value of a top-level key: all this needs of YAML.
fn setting(text: &str, key: &str) -> Option<String> {
    text.lines()
        .filter_map(|l| l.strip_prefix(key)?.strip_prefix(':'))
        .next_back()
        .map(|v| {
            v.split(" #")
                .next()
                .unwrap_or_default()
                .trim()
                .trim_matches(['"', '\''])
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_is_rewritten_until_cloud_init_is_told_not_to() {
        let d = tempfile::tempdir().unwrap();
        let r = d.path();
        for (p, t) in [
            ("usr/bin/cloud-init", ""),
            ("etc/hosts", "mine\n"),
            ("etc/hostname", "n1\n"),
            (
                "etc/cloud/cloud.cfg",
                "preserve_hostname: false\nmanage_etc_hosts: true\n",
            ),
        ] {
            fs::create_dir_all(r.join(p).parent().unwrap()).unwrap();
            fs::write(r.join(p), t).unwrap();
        }
        fs::create_dir_all(r.join("etc/cloud/cloud.cfg.d")).unwrap();
        fs::write(
            r.join("etc/cloud/cloud.cfg.d/99-x.cfg"),
            "manage_etc_hosts: false\npreserve_hostname: true\n",
        )
        .unwrap();
        at_boot(r).unwrap();
        assert_eq!(fs::read_to_string(r.join("etc/hosts")).unwrap(), "mine\n");
        assert_eq!(fs::read_to_string(r.join("etc/hostname")).unwrap(), "n1\n");
        fs::remove_file(r.join("etc/cloud/cloud.cfg.d/99-x.cfg")).unwrap();
        at_boot(r).unwrap();
        assert!(
            fs::read_to_string(r.join("etc/hosts"))
                .unwrap()
                .contains("manage_etc_hosts")
        );
        // Its template is the place for what is to last.
        fs::create_dir_all(r.join("etc/cloud/templates")).unwrap();
        fs::write(
            r.join("etc/cloud/templates/hosts.debian.tmpl"),
            "## template:jinja\n127.0.1.1 {{fqdn}} {{hostname}}\n10.0.0.1 other\n",
        )
        .unwrap();
        at_boot(r).unwrap();
        assert_eq!(
            fs::read_to_string(r.join("etc/hosts")).unwrap(),
            "127.0.1.1 ubuntu ubuntu\n10.0.0.1 other\n"
        );
        fs::write(r.join("etc/hosts"), "mine\n").unwrap();
        fs::write(r.join("etc/cloud/cloud-init.disabled"), "").unwrap();
        at_boot(r).unwrap();
        assert_eq!(fs::read_to_string(r.join("etc/hosts")).unwrap(), "mine\n");
    }
}
