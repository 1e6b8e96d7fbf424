//! What is asked of every node: one role of about thirty resources, nearly every kind among them.

use std::fmt::Write as _;
use std::path::Path;

use super::rack::Rack;
use crate::Outcome;

/// The file of the probe program, beside the inventory.
pub(crate) const PROBE: &str = "probe.sh";

/// The file of the script that undoes the work, beside the inventory.
pub(crate) const BLANK: &str = "blank.sh";

/// Undoes what any tool did of [`ROLE`].
pub(crate) const BLANK_SH: &str = r#"exec 2>/dev/null
systemctl disable --now bench.service
rm -rf /etc/systemd/system/bench.service /srv/bench /srv/settings /etc/sudoers.d/95-bench /etc/profile.d/bench.sh \
  /etc/sysctl.d/9[123]-*.conf /var/lib/picluster
systemctl daemon-reload
userdel -r olga; groupdel operators; groupdel olga
: > /etc/environment
sed -i '/^127.0.1.1/d;/^192.0.2.9/d;/BEGIN/d;/END/d;/bench/d' /etc/hosts
sed -i '/^SystemMaxUse=/d' /etc/systemd/journald.conf
sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.all.log_martians=0
ln -sfn /usr/share/zoneinfo/Etc/UTC /etc/localtime; echo Etc/UTC > /etc/timezone
hostname raspberrypi; echo raspberrypi > /etc/hostname
exit 0
"#;

/// Packages are those of the image: what a mirror does is not what is measured.
const ROLE: &str = r#"doc: The work of the benchmark.
resources:
  - hostname: { name: "{{ node.name }}" }
  - timezone: { name: Europe/Berlin }
  - line: { path: /etc/environment, line: "EDITOR=vi" }
  - line: { path: /etc/environment, match: "^PAGER=", line: "PAGER=less" }
  - block: { path: /etc/hosts, name: bench, content: "127.0.1.1 {{ node.name }}\n192.0.2.9 nas\n" }
  - ini: { path: /etc/systemd/journald.conf, section: Journal, key: SystemMaxUse, value: 50M }
  - group: { name: operators }
  - user: { name: olga, groups: [operators], shell: /bin/bash }
  - authorized_keys:
      user: olga
      keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA olga"]
  - directory: { path: /srv/bench }
  - directory: { path: /srv/bench/data, mode: "0750", group: operators }
  - file: { path: "/srv/bench/{{ item }}.conf", template: settings.j2, mode: "0640" }
    each: [one, two, three, four, five, six]
  - link: { path: /srv/bench/current, target: /srv/bench/data }
  - link: { path: /srv/settings, target: /srv/bench/one.conf }
  - file: { path: /etc/sudoers.d/95-bench, content: "%operators ALL=(ALL) NOPASSWD: /usr/bin/true\n", mode: "0440", validate: "visudo -cf {}" }
  - file: { path: /etc/profile.d/bench.sh, content: "export BENCH=1\n" }
  - sysctl: { key: net.ipv4.ip_forward, value: "1", file: /etc/sysctl.d/91-forward.conf }
  - sysctl: { key: net.ipv4.conf.all.rp_filter, value: "2", file: /etc/sysctl.d/92-filter.conf }
  - sysctl: { key: net.ipv4.conf.all.log_martians, value: "1", file: /etc/sysctl.d/93-martians.conf }
  - package: { names: [less, procps] }
  - package: { names: [sudo, tzdata] }
  - file:
      path: /etc/systemd/system/bench.service
      content: "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
  - unit: { name: bench.service, enabled: true, active: true }
  - unit: { name: ssh.service, enabled: true, active: true }
  - command: { run: touch /srv/bench/ran, creates: /srv/bench/ran }
"#;

/// About a kilobyte a file.
const SETTINGS: &str = r"# {{ item }} of {{ node.name }}
{% for n in range(20) %}
setting-{{ n }} = a value of the usual length for {{ item }}
{% endfor %}
";

/// A large file, beside the inventory.
pub(crate) const BIG: &str = "big.bin";

/// One large file.
const PUSH: &str = "doc: A large file.\nresources:\n  - artifact: { path: /srv/big, source: big.bin, mode: \"0644\" }\n";

/// The first node gets a large file, too.
pub(crate) fn write_push(rack: &Rack) -> Outcome {
    std::fs::create_dir_all(rack.path("roles/push")).map_err(|e| e.to_string())?;
    rack.write("roles/push/role.yaml", PUSH)?;
    rack.write("inventory.yaml", &inventory(rack.nodes(), "push"))
}

/// The inventory; `more`: what the first node is besides.
fn inventory(nodes: usize, more: &str) -> String {
    let mut text = String::from("cluster: bench\nssh: { user: pi }\nroles: [bench]\nnodes:\n");
    for n in 1..=nodes {
        let roles = match (n, more) {
            (1, more) if !more.is_empty() => format!(", roles: [{more}]"),
            _ => String::new(),
        };
        let _ = writeln!(text, "  pi-{n:03}: {{ address: 192.168.2.{n}{roles} }}");
    }
    text
}

/// Writes inventory and role.
pub(crate) fn write(folder: &Path, nodes: usize) -> Outcome {
    let inventory = inventory(nodes, "");
    let files = [
        ("inventory.yaml", inventory.as_str()),
        ("roles/bench/role.yaml", ROLE),
        ("roles/bench/templates/settings.j2", SETTINGS),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        path.parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    Ok(())
}
