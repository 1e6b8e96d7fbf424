//! Text with a form: patterns for editors, and for a first look. What a pattern cannot say
//! (that a range runs upwards, that a network has no host bits) is checked where it is read.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::document::FromYaml;
use crate::yaml::Yaml;

/// Declares a text type: name, pattern, rule in words.
macro_rules! text {
    ($($(#[$meta:meta])* $name:ident, $pattern:expr, $rule:expr;)*) => {
        $(
            $(#[$meta])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $name(pub String);

            impl FromYaml for $name {
                fn from_yaml(yaml: &Yaml) -> Option<Self> {
                    yaml.as_str().map(|text| Self(text.to_owned()))
                }
            }

            impl JsonSchema for $name {
                fn inline_schema() -> bool {
                    true
                }
                fn schema_name() -> std::borrow::Cow<'static, str> {
                    stringify!($name).into()
                }
                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({
                        "type": "string",
                        "pattern": $pattern,
                        "patternErrorMessage": $rule,
                    })
                }
            }
        )*
    };
}

/// The pattern of names (RFC 1123 labels).
pub const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";
/// [`DNS_LABEL`] in words.
pub const DNS_LABEL_RULE: &str =
    "lower-case letters, digits and '-', at most 63, starting and ending with a letter or digit";
/// The pattern of variable names.
pub const IDENTIFIER: &str = "^[A-Za-z_][A-Za-z0-9_]*$";
/// [`IDENTIFIER`] in words.
pub const IDENTIFIER_RULE: &str = "letters, digits and '_', not starting with a digit";
/// The pattern of node keys: a name, perhaps with one range.
pub const NODE_KEY: &str =
    "^([a-z0-9]([-a-z0-9]*[a-z0-9])?|[-a-z0-9]*\\[[0-9]+:[0-9]+\\][-a-z0-9]*)$";
/// [`NODE_KEY`] in words.
pub const NODE_KEY_RULE: &str =
    "a node name (lower-case letters, digits and '-'), perhaps with one range: rpi[01:03]";
/// The pattern of label and taint keys
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).
pub const LABEL_KEY: &str =
    "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// [`LABEL_KEY`] in words.
pub const LABEL_KEY_RULE: &str = "an optional DNS prefix and '/', then at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit";
/// The pattern of configuration keys of a distribution: long flags without dashes before;
/// a `+` behind appends to a list (<https://docs.k3s.io/installation/configuration#configuration-file>).
pub const CONFIG_KEY: &str = "^[a-z0-9]+(-[a-z0-9]+)*\\+?$";
/// [`CONFIG_KEY`] in words.
pub const CONFIG_KEY_RULE: &str =
    "a long flag without the dashes before it, with '-' between words: kubelet-arg";
/// [`Version`]'s rule in words.
pub const VERSION_RULE: &str =
    "the full tag of a release: v1.36.3+k3s1 for k3s, v1.36.3 for kubeadm";

text! {
    /// The name of a cluster.
    ClusterText, DNS_LABEL, DNS_LABEL_RULE;
    /// The name of a group.
    GroupText, DNS_LABEL, DNS_LABEL_RULE;
    /// The name of a role.
    RoleText, DNS_LABEL, DNS_LABEL_RULE;
    /// An address to dial; `{n}` stands for the number of a range.
    Address, "^[A-Za-z0-9._:%{}-]+$", "an IP address or a DNS name, without user or port; {n} is the number of a range";
    /// A hop.
    JumpText, "^([^@\\s]+@)?[^@\\s]+$", "a node of this inventory, or [user@]host[:port]";
    /// A public host key.
    HostKeyText, "^(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+", "a public key as in /etc/ssh/ssh_host_ed25519_key.pub: ssh-ed25519 AAAA…";
    /// A release of Kubernetes.
    Version, "^v[0-9]+\\.[0-9]+\\.[0-9]+(-rc\\.?[0-9]+)?(\\+k3s[0-9]+)?$", VERSION_RULE;
    /// A name or address with an optional port.
    Endpoint, "^[A-Za-z0-9._:\\[\\]-]+$", "a name or IP address, perhaps with a port, without https://";
    /// A network.
    Network, "^[0-9A-Fa-f.:]+/[0-9]{1,3}$", "a network such as 10.42.0.0/16";
    /// A label value; `{n}` stands for the number of a range.
    LabelValue, "^([A-Za-z0-9{]([-A-Za-z0-9_.{}:]*[A-Za-z0-9}])?)?$", "at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit; or nothing";
    /// A taint.
    TaintText, "^[^=:\\s]+(=[^=:\\s]*)?:(NoSchedule|PreferNoSchedule|NoExecute)$", "key=value:Effect or key:Effect, with the effect NoSchedule, PreferNoSchedule or NoExecute";
    /// A checksum of a file.
    ChecksumText, "^sha256:[0-9a-f]{64}$", "`sha256:` and 64 hexadecimal digits in lower case, as sha256sum prints them";
    /// A file beside the inventory, or what to download.
    SourceText, "^([^:\\s]+|https?://[^\\s/]+/\\S+)$", "the path of a file (from the folder of the inventory, or ~/), or an https:// address";
    /// The name of a manifest; the file on the server has `.yaml` behind it.
    ManifestName, "^[a-z0-9]([-a-z0-9_.]*[a-z0-9])?$", "lower-case letters, digits, '-', '_' and '.', without .yaml";
    /// An address to download from.
    HttpUrl, "^https?://[^\\s/]+/\\S+$", "an address such as https://example.org/file.yaml";
    /// The address of a registry.
    RegistryUrl, "^https?://[^\\s]+$", "an address such as https://registry.lan:5000";
    /// An octal file mode.
    ModeText, "^0?[0-7]{3}$", "an octal mode in quotes: \"0600\"";
    /// Text that is not empty.
    NonEmpty, "\\S", "write something";
}
