//! The flags of `k3s server` and `k3s agent` (pkg/cli/cmds/server.go, agent.go), read as urfave/cli reads them.

use std::collections::BTreeMap;

use crate::fault::{Fault, Outcome};

/// Which daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Server,
    Agent,
}

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Text,
    Switch,
    Number,
    List,
}

use Takes::{List, Number, Switch, Text};

/// Name, short name, what it takes, variable of the environment.
type Flag = (&'static str, &'static str, Takes, &'static str);

/// Of both daemons.
const SHARED: &[Flag] = &[
    ("config", "c", Text, "K3S_CONFIG_FILE"),
    ("debug", "", Switch, "K3S_DEBUG"),
    ("v", "", Number, ""),
    ("vmodule", "", Text, ""),
    ("log", "l", Text, ""),
    ("alsologtostderr", "", Switch, ""),
    ("token", "t", Text, "K3S_TOKEN"),
    ("token-file", "", Text, "K3S_TOKEN_FILE"),
    ("server", "s", Text, "K3S_URL"),
    ("data-dir", "d", Text, "K3S_DATA_DIR"),
    ("bind-address", "", Text, ""),
    ("node-name", "", Text, "K3S_NODE_NAME"),
    ("with-node-id", "", Switch, ""),
    ("node-label", "", List, ""),
    ("node-taint", "", List, ""),
    ("image-credential-provider-bin-dir", "", Text, ""),
    ("image-credential-provider-config", "", Text, ""),
    ("selinux", "", Switch, "K3S_SELINUX"),
    ("lb-server-port", "", Number, "K3S_LB_SERVER_PORT"),
    ("protect-kernel-defaults", "", Switch, ""),
    ("container-runtime-endpoint", "", Text, ""),
    ("default-runtime", "", Text, ""),
    ("image-service-endpoint", "", Text, ""),
    ("disable-default-registry-endpoint", "", Switch, ""),
    ("nonroot-devices", "", Switch, ""),
    ("pause-image", "", Text, ""),
    ("snapshotter", "", Text, ""),
    ("private-registry", "", Text, ""),
    ("airgap-extra-registry", "", List, ""),
    ("node-ip", "i", List, ""),
    ("node-external-ip", "", List, ""),
    ("node-internal-dns", "", List, ""),
    ("node-external-dns", "", List, ""),
    ("resolv-conf", "", Text, "K3S_RESOLV_CONF"),
    ("flannel-iface", "", Text, ""),
    ("flannel-conf", "", Text, ""),
    ("flannel-cni-conf", "", Text, ""),
    ("vpn-auth", "", Text, "K3S_VPN_AUTH"),
    ("vpn-auth-file", "", Text, "K3S_VPN_AUTH_FILE"),
    ("kubelet-arg", "", List, ""),
    ("kube-proxy-arg", "", List, ""),
    ("enable-pprof", "", Switch, ""),
    ("rootless", "", Switch, ""),
    ("prefer-bundled-bin", "", Switch, ""),
    ("docker", "", Switch, ""),
];

const SERVER: &[Flag] = &[
    ("https-listen-port", "", Number, ""),
    ("supervisor-port", "", Number, ""),
    ("apiserver-port", "", Number, ""),
    ("apiserver-bind-address", "", Text, ""),
    ("advertise-address", "", Text, ""),
    ("advertise-port", "", Number, ""),
    ("tls-san", "", List, ""),
    ("tls-san-security", "", Switch, ""),
    ("cluster-cidr", "", List, ""),
    ("service-cidr", "", List, ""),
    ("service-node-port-range", "", Text, ""),
    ("cluster-dns", "", List, ""),
    ("cluster-domain", "", Text, ""),
    ("flannel-backend", "", Text, ""),
    ("flannel-ipv6-masq", "", Switch, ""),
    ("flannel-external-ip", "", Switch, ""),
    ("egress-selector-mode", "", Text, ""),
    ("servicelb-namespace", "", Text, ""),
    ("write-kubeconfig", "o", Text, "K3S_KUBECONFIG_OUTPUT"),
    ("write-kubeconfig-mode", "", Text, "K3S_KUBECONFIG_MODE"),
    ("write-kubeconfig-group", "", Text, "K3S_KUBECONFIG_GROUP"),
    ("helm-job-image", "", Text, ""),
    ("agent-token", "", Text, "K3S_AGENT_TOKEN"),
    ("agent-token-file", "", Text, "K3S_AGENT_TOKEN_FILE"),
    ("cluster-init", "", Switch, "K3S_CLUSTER_INIT"),
    ("cluster-reset", "", Switch, "K3S_CLUSTER_RESET"),
    ("cluster-reset-restore-path", "", Text, ""),
    ("kube-apiserver-arg", "", List, ""),
    ("etcd-arg", "", List, ""),
    ("kube-controller-manager-arg", "", List, ""),
    ("kube-scheduler-arg", "", List, ""),
    ("kube-cloud-controller-manager-arg", "", List, ""),
    ("kube-controller-arg", "", List, ""),
    ("kube-cloud-controller-arg", "", List, ""),
    ("kine-tls", "", Switch, ""),
    ("datastore-endpoint", "", Text, "K3S_DATASTORE_ENDPOINT"),
    ("datastore-cafile", "", Text, "K3S_DATASTORE_CAFILE"),
    ("datastore-certfile", "", Text, "K3S_DATASTORE_CERTFILE"),
    ("datastore-keyfile", "", Text, "K3S_DATASTORE_KEYFILE"),
    ("etcd-expose-metrics", "", Switch, ""),
    ("etcd-disable-snapshots", "", Switch, ""),
    ("etcd-snapshot-name", "", Text, ""),
    ("etcd-snapshot-schedule-cron", "", Text, ""),
    ("etcd-snapshot-reconcile-interval", "", Text, ""),
    ("etcd-snapshot-retention", "", Number, ""),
    ("etcd-snapshot-dir", "", Text, ""),
    ("etcd-snapshot-compress", "", Switch, ""),
    ("etcd-s3", "", Switch, ""),
    ("etcd-s3-endpoint", "", Text, ""),
    ("etcd-s3-endpoint-ca", "", Text, ""),
    ("etcd-s3-skip-ssl-verify", "", Switch, ""),
    ("etcd-s3-access-key", "", Text, "AWS_ACCESS_KEY_ID"),
    ("etcd-s3-secret-key", "", Text, "AWS_SECRET_ACCESS_KEY"),
    ("etcd-s3-session-token", "", Text, "AWS_SESSION_TOKEN"),
    ("etcd-s3-bucket", "", Text, ""),
    ("etcd-s3-bucket-lookup-type", "", Text, ""),
    ("etcd-s3-region", "", Text, ""),
    ("etcd-s3-folder", "", Text, ""),
    ("etcd-s3-proxy", "", Text, ""),
    ("etcd-s3-config-secret", "", Text, ""),
    ("etcd-s3-insecure", "", Switch, ""),
    ("etcd-s3-timeout", "", Text, ""),
    ("etcd-s3-retention", "", Number, ""),
    ("default-local-storage-path", "", Text, ""),
    ("disable", "", List, ""),
    ("disable-scheduler", "", Switch, ""),
    ("disable-cloud-controller", "", Switch, ""),
    ("disable-kube-proxy", "", Switch, ""),
    ("disable-network-policy", "", Switch, ""),
    ("disable-helm-controller", "", Switch, ""),
    ("disable-apiserver", "", Switch, ""),
    ("disable-controller-manager", "", Switch, ""),
    ("disable-etcd", "", Switch, ""),
    ("disable-agent", "", Switch, ""),
    ("embedded-registry", "", Switch, ""),
    ("supervisor-metrics", "", Switch, ""),
    ("secrets-encryption", "", Switch, ""),
    ("secrets-encryption-provider", "", Text, ""),
    ("multus", "", Switch, ""),
    (
        "system-default-registry",
        "",
        Text,
        "K3S_SYSTEM_DEFAULT_REGISTRY",
    ),
];

const AGENT: &[Flag] = &[
    ("disable-apiserver-lb", "", Switch, ""),
    ("cluster-secret", "", Text, "K3S_CLUSTER_SECRET"),
    ("disable-selinux", "", Switch, ""),
    ("no-flannel", "", Switch, ""),
];

fn all(command: Command) -> impl Iterator<Item = &'static Flag> {
    let own = match command {
        Command::Server => SERVER,
        Command::Agent => AGENT,
    };
    SHARED.iter().chain(own)
}

fn find(command: Command, name: &str) -> Option<&'static Flag> {
    all(command).find(|f| f.0 == name || (!f.1.is_empty() && f.1 == name))
}

/// Whether a flag of this name, long or short, is there.
pub(super) fn known(command: Command, name: &str) -> bool {
    find(command, name).is_some()
}

/// Whether a flag may be given more than once.
pub(super) fn is_list(command: Command, name: &str) -> bool {
    find(command, name).is_some_and(|f| f.2 == List)
}

/// `--help`.
pub(super) fn help(command: Command) -> String {
    let (name, what) = match command {
        Command::Server => ("server", "Run management server"),
        Command::Agent => ("agent", "Run node agent"),
    };
    let mut out =
        format!("NAME:\n   k3s {name} - {what}\n\nUSAGE:\n   k3s {name} [OPTIONS]\n\nOPTIONS:\n");
    for (long, short, takes, variable) in all(command) {
        let short = if short.is_empty() {
            String::new()
        } else {
            format!(", -{short}")
        };
        let value = if *takes == Switch { "" } else { " value" };
        let variable = if variable.is_empty() {
            String::new()
        } else {
            format!(" [${variable}]")
        };
        out.push_str(&format!("   --{long}{short}{value}{variable}\n"));
    }
    out
}

/// What was asked of a daemon, from all sources.
#[derive(Debug)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, Vec<String>>,
    /// The words after merging, as the annotation `k3s.io/node-args` shows them.
    pub(crate) words: Vec<String>,
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl Settings {
    /// Reads words; what they leave open comes from the environment.
    pub(crate) fn parse(command: Command, words: &[String]) -> Outcome<Self> {
        let mut values: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let Some(name) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                break;
            };
            if name.is_empty() {
                break;
            }
            let (name, given) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let Some((long, _, takes, _)) = find(command, name) else {
                return Err(Fault(format!("flag provided but not defined: -{name}")));
            };
            let value = match (takes, given) {
                (Switch, None) => "true".to_owned(),
                (_, Some(value)) => value,
                (_, None) => rest
                    .next()
                    .cloned()
                    .ok_or_else(|| Fault(format!("flag needs an argument: -{name}")))?,
            };
            match takes {
                Switch => {
                    let yes = truth(&value).ok_or_else(|| {
                        Fault(format!(
                            "invalid boolean value {value:?} for -{name}: parse error"
                        ))
                    })?;
                    values.insert(long, vec![yes.to_string()]);
                }
                Number if value.parse::<i64>().is_err() => {
                    return Err(Fault(format!(
                        "invalid value {value:?} for flag -{name}: parse error"
                    )));
                }
                List => values.entry(long).or_default().push(value),
                Text | Number => {
                    values.insert(long, vec![value]);
                }
            }
        }
        for (long, _, takes, variable) in all(command) {
            if !variable.is_empty()
                && !values.contains_key(long)
                && let Ok(value) = std::env::var(variable)
                && !value.is_empty()
                && (*takes != Switch || truth(&value) == Some(true))
            {
                values.insert(
                    long,
                    vec![if *takes == Switch {
                        "true".into()
                    } else {
                        value
                    }],
                );
            }
        }
        let command = match command {
            Command::Server => "server",
            Command::Agent => "agent",
        };
        let mut all = vec![command.to_owned()];
        all.extend_from_slice(words);
        Ok(Self { values, words: all })
    }

    /// A value that is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)?
            .last()
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// Items of a list, each of which may hold several with commas between.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let items = self.values.get(name).into_iter().flatten();
        items
            .flat_map(|v| v.split(','))
            .map(|v| v.trim().to_owned())
            .filter(|v| !v.is_empty())
            .collect()
    }

    /// Items of a list whose items may hold commas.
    pub(crate) fn whole_list(&self, name: &str) -> Vec<String> {
        self.values.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn port(&self, name: &str, otherwise: u16) -> u16 {
        self.text(name)
            .and_then(|v| v.parse().ok())
            .filter(|p| *p != 0)
            .unwrap_or(otherwise)
    }

    /// The value of `name=value` in a list of flags for a component, such as `kubelet-arg`.
    pub(crate) fn argument(&self, list: &str, name: &str) -> Option<String> {
        self.whole_list(list).iter().rev().find_map(|a| {
            let (n, v) = a.trim_start_matches('-').split_once('=')?;
            (n == name).then(|| v.to_owned())
        })
    }

    /// Folder of all state.
    pub(crate) fn data_dir(&self) -> std::path::PathBuf {
        self.text("data-dir")
            .unwrap_or("/var/lib/rancher/k3s")
            .into()
    }

    /// The token, from its file when one is named (pkg/util/file.go).
    pub(crate) fn secret(&self, value: &str, file: &str) -> Outcome<Option<String>> {
        match self.text(file) {
            Some(path) => {
                let text = crate::files::read(path.as_ref())?;
                Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()).filter(|t| !t.is_empty()))
            }
            None => Ok(self.text(value).map(str::to_owned)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn later_words_win_and_lists_grow() {
        let s = Settings::parse(
            Command::Server,
            &words("--token=a -t b --disable x,y --disable=z --cluster-init --docker=false"),
        )
        .unwrap();
        assert_eq!(s.text("token"), Some("b"));
        assert_eq!(s.list("disable"), ["x", "y", "z"]);
        assert!(s.is_on("cluster-init") && !s.is_on("docker"));
    }

    #[test]
    fn what_is_unknown_or_no_value_is_refused_in_upstreams_words() {
        for (text, why) in [
            (
                "--no-deploy=traefik",
                "flag provided but not defined: -no-deploy",
            ),
            ("--token", "flag needs an argument: -token"),
            (
                "--docker=maybe",
                "invalid boolean value \"maybe\" for -docker: parse error",
            ),
            (
                "--https-listen-port=x",
                "invalid value \"x\" for flag -https-listen-port: parse error",
            ),
        ] {
            assert_eq!(
                Settings::parse(Command::Server, &words(text))
                    .unwrap_err()
                    .0,
                why
            );
        }
        assert!(Settings::parse(Command::Agent, &words("--disable=traefik")).is_err());
    }
}
