//! The types parameters can have, and the forms of text among them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kubernetes::Cidr;
use crate::taint::Taint;

/// The type of a parameter, of an item of a list or of a field of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ParamType {
    /// Text.
    String,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A number, whole or decimal.
    Number,
    /// A list; of anything unless `items` says of what.
    List,
    /// A mapping; with any keys unless `fields` names them.
    Map,
    /// A reference to a secret.
    Secret,
    /// Anything.
    Any,
    /// The name of an apt package, perhaps with `=version`.
    PackageName,
    /// The name of an account.
    UserName,
    /// The name of a group of accounts.
    GroupName,
    /// A DNS name.
    HostName,
    /// An IP address.
    Address,
    /// A network such as 10.42.0.0/16.
    Cidr,
    /// A TCP or UDP port.
    Port,
    /// An octal file mode, in quotes: `"0644"`.
    Mode,
    /// An absolute path on the node.
    Path,
    /// A time such as `90s`, `5m` or `1h30m`.
    Duration,
    /// A number of bytes such as `512M` or `1Gi`.
    Size,
    /// An http or https address.
    Url,
    /// `sha256:` and 64 hexadecimal digits.
    Checksum,
    /// A public key of ssh.
    SshKey,
    /// The name of a systemd unit with its suffix.
    Unit,
    /// The name of a time zone, such as Europe/Berlin.
    TimeZone,
    /// A Kubernetes label, `key=value`.
    Label,
    /// A Kubernetes taint, `key=value:Effect`.
    Taint,
}

/// What a form of text looks like.
pub struct Form {
    /// For a first look, and for editors.
    pub pattern: &'static str,
    /// The rule in words.
    pub rule: &'static str,
}

impl ParamType {
    /// The name as written in role.yaml.
    #[must_use]
    pub fn name(self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|name| name.as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    /// The type of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        serde_json::from_value(serde_json::Value::from(name)).ok()
    }

    /// The form of the text, for types that are text with a form.
    pub(crate) fn form(self) -> Option<Form> {
        let (pattern, rule) = match self {
            Self::PackageName => (
                // Debian policy 5.6.1; a version may follow.
                "^[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=[A-Za-z0-9.+:~*-]+)?$",
                "the name of an apt package: at least two lower-case letters, digits, '+', '-' and '.'; perhaps =version behind it",
            ),
            Self::UserName | Self::GroupName => (
                // adduser(8), NAME_REGEX; at most 32 characters by useradd(8).
                "^[a-z_][a-z0-9_.-]{0,30}[a-z0-9_$.-]?$",
                "lower-case letters, digits, '_', '-' and '.', at most 32, starting with a letter or '_'",
            ),
            Self::HostName => (
                "^[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?([.][A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*$",
                "a DNS name: letters, digits and '-', in parts with '.' between them",
            ),
            Self::Address => ("^[0-9A-Fa-f.:]+$", "an IP address"),
            Self::Cidr => (
                "^[0-9A-Fa-f.:]+/[0-9]{1,3}$",
                "a network such as 10.42.0.0/16",
            ),
            Self::Mode => ("^[0-7]{3,4}$", "an octal mode in quotes: \"0644\""),
            Self::Path => ("^/[^\\x00]*$", "an absolute path"),
            Self::Duration => (
                "^([0-9]+(ms|s|m|h|d))+$",
                "a number with a unit of ms, s, m, h or d: 90s, 1h30m",
            ),
            Self::Size => (
                "^[0-9]+([KMGT]i?)?B?$",
                "a number of bytes, perhaps with a unit: 512M, 1Gi",
            ),
            Self::Url => (
                "^https?://[^\\s/]+(/\\S*)?$",
                "an address such as https://example.org/",
            ),
            Self::Checksum => (
                "^sha256:[0-9a-f]{64}$",
                "`sha256:` and 64 hexadecimal digits in lower case, as sha256sum prints them",
            ),
            Self::SshKey => (
                "^[^\\n]*((ssh|ecdsa)-[a-z0-9-]+|sk-(ssh|ecdsa)-[a-z0-9-]+@openssh[.]com) [A-Za-z0-9+/]+=*( [^\\n]*)?$",
                "a public key on one line, as in ~/.ssh/id_ed25519.pub: ssh-ed25519 AAAA…",
            ),
            Self::Unit => (
                "^[A-Za-z0-9:_.\\\\@-]+[.](service|socket|timer|mount|automount|target|path|swap|slice|device|scope)$",
                "the name of a unit with its suffix: ssh.service",
            ),
            Self::TimeZone => (
                "^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$",
                "a name of the time zone database: Europe/Berlin, UTC",
            ),
            Self::Label => ("^[^=\\s]+=[^=\\s]*$", "a label: key=value"),
            Self::Taint => (
                "^[^=:\\s]+(=[^=:\\s]*)?:[A-Za-z]+$",
                "a taint: key=value:Effect or key:Effect",
            ),
            Self::String
            | Self::Bool
            | Self::Int
            | Self::Number
            | Self::List
            | Self::Map
            | Self::Secret
            | Self::Any
            | Self::Port => return None,
        };
        Some(Form { pattern, rule })
    }

    /// What a pattern cannot say.
    ///
    /// # Errors
    /// The rule that is broken.
    pub(crate) fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Address => text.parse::<std::net::IpAddr>().map(|_| ()).map_err(|_| {
                String::from("an IP address has four numbers up to 255, or is one of IPv6")
            }),
            Self::Cidr => Cidr::parse(text).map(|_| ()),
            Self::Taint => Taint::parse(text).map(|_| ()),
            Self::Label => {
                let (key, value) = text.split_once('=').unwrap_or((text, ""));
                crate::label::check_key(key).map_err(|rule| format!("key `{key}`: {rule}"))?;
                crate::label::check_value(value).map_err(|rule| format!("value `{value}`: {rule}"))
            }
            Self::HostName if text.len() > 253 => Err(String::from("at most 253 characters")),
            _ => Ok(()),
        }
    }

    /// Whether values are text, with or without a form.
    pub(crate) fn is_text(self) -> bool {
        self == Self::String || self.form().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_take_what_is_meant_and_nothing_else() {
        use ParamType as T;
        let cases: &[(T, &[&str], &[&str])] = &[
            (
                T::PackageName,
                &[
                    "curl",
                    "g++",
                    "libc6:arm64",
                    "kubelet=1.33.*",
                    "kubelet=1.33.2-1.1",
                ],
                &["", "cu rl", "C", "Curl", "c"],
            ),
            (
                T::UserName,
                &["pi", "_apt", "ada.l", "a"],
                &["", "Pi", "1st", "a b", "root:x"],
            ),
            (
                T::HostName,
                &["pi-1", "k8s.lan", "K8S.lan"],
                &["", "-a", "a..b", "a_b", "a.", "http://a"],
            ),
            (
                T::Address,
                &["10.0.0.1", "fe80::1"],
                &["10.0.0", "10.0.0.256", "a", "10.0.0.1/8"],
            ),
            (
                T::Cidr,
                &["10.42.0.0/16", "fd00::/8"],
                &["10.42.0.1/16", "10.42.0.0", "10.0.0.0/33"],
            ),
            (T::Mode, &["0644", "755"], &["644 ", "0888", "u+x", ""]),
            (T::Path, &["/", "/a b"], &["a", "./a", "~/a", ""]),
            (
                T::Duration,
                &["90s", "1h30m", "250ms"],
                &["90", "s", "1 h", "-1s"],
            ),
            (
                T::Size,
                &["512M", "1Gi", "100", "5GiB"],
                &["1 G", "G", "1.5G", "5X"],
            ),
            (
                T::Url,
                &["https://a.lan", "http://a/b?c"],
                &["a.lan", "ftp://a", "https://"],
            ),
            (
                T::SshKey,
                &[
                    "ssh-ed25519 AAAA x@y",
                    "from=\"10.0.0.0/8\" ssh-rsa AAAA=",
                    "sk-ssh-ed25519@openssh.com AAAA",
                ],
                &["AAAA", "ssh-ed25519", "/home/pi/.ssh/id.pub"],
            ),
            (
                T::Unit,
                &["ssh.service", "getty@tty1.service", "dev-sda1.swap"],
                &["ssh", ".service", "a b.service"],
            ),
            (
                T::TimeZone,
                &["Europe/Berlin", "UTC", "Etc/GMT+5"],
                &["", "Europe/", "/x", "Europe Berlin"],
            ),
            (
                T::Label,
                &["disk=nvme", "a.b/c="],
                &["disk", "a/b/c=x", "disk=-x", "a b=c"],
            ),
            (
                T::Taint,
                &["a=b:NoSchedule", "a:NoExecute"],
                &["a", "a:Never", "a=b c:NoSchedule"],
            ),
        ];
        for (kind, good, bad) in cases {
            let form = kind.form().unwrap();
            let pattern = regex_lite::Regex::new(form.pattern).unwrap();
            let fits = |text: &str| pattern.is_match(text) && kind.check(text).is_ok();
            for text in *good {
                assert!(fits(text), "{kind:?} {text:?}");
            }
            for text in *bad {
                assert!(!fits(text), "{kind:?} {text:?}");
            }
        }
    }

    #[test]
    fn names_read_back() {
        for name in ["string", "package-name", "ssh-key", "cidr", "secret"] {
            assert_eq!(ParamType::from_name(name).unwrap().name(), name);
        }
        assert_eq!(ParamType::from_name("strin"), None);
    }
}
