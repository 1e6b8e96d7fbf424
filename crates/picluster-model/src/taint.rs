//! Taints: `key=value:Effect`, as kubectl writes them.

use std::fmt;

/// A taint. Its identity is key and effect; the value may change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Taint {
    /// The key, with its optional prefix.
    pub key: String,
    /// The value; empty when none was written.
    pub value: String,
    /// What it does to pods.
    pub effect: TaintEffect,
}

/// What a taint does to pods that do not tolerate it
/// (<https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaintEffect {
    /// New pods are not placed here.
    NoSchedule,
    /// New pods are placed here last.
    PreferNoSchedule,
    /// Running pods leave, too.
    NoExecute,
}

impl fmt::Display for TaintEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        })
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if !self.value.is_empty() {
            write!(f, "={}", self.value)?;
        }
        write!(f, ":{}", self.effect)
    }
}

impl Taint {
    /// Reads `key=value:Effect` or `key:Effect`.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((what, effect)) = text.rsplit_once(':') else {
            return Err(String::from(
                "the effect is missing: write key=value:NoSchedule",
            ));
        };
        let effect = match effect {
            "NoSchedule" => TaintEffect::NoSchedule,
            "PreferNoSchedule" => TaintEffect::PreferNoSchedule,
            "NoExecute" => TaintEffect::NoExecute,
            other => {
                return Err(format!(
                    "`{other}` is no effect: NoSchedule, PreferNoSchedule or NoExecute"
                ));
            }
        };
        let (key, value) = what.split_once('=').unwrap_or((what, ""));
        crate::label::check_key(key).map_err(|rule| format!("key `{key}`: {rule}"))?;
        if crate::label::is_kept_taint(key) {
            return Err(format!(
                "the cluster sets and removes `{key}` itself: choose a key of your own"
            ));
        }
        crate::label::check_value(value).map_err(|rule| format!("value `{value}`: {rule}"))?;
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
            effect,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taint_reads_back_as_it_was_written() {
        for text in [
            "node-role.kubernetes.io/control-plane=true:NoSchedule",
            "gpu:NoExecute",
            "slow=sd.card:PreferNoSchedule",
        ] {
            assert_eq!(Taint::parse(text).map(|t| t.to_string()), Ok(text.into()));
        }
        for text in [
            "a",
            "a:",
            "a:noschedule",
            "=x:NoSchedule",
            "a=b c:NoSchedule",
        ] {
            assert!(Taint::parse(text).is_err(), "{text}");
        }
    }
}
