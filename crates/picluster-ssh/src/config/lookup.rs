//! Which of the items apply to a host: the first value of each setting wins.

use std::time::Duration;

use super::parse::Item;
use super::tokens::{Tokens, expand};
use super::{ConfigError, Place, Proxy, Settings, pattern};
use crate::Environment;
use crate::address::Family;

/// Whether the block being read applies.
#[derive(Debug, Clone)]
enum Active {
    Yes,
    No,
    /// It depends on something we do not judge (`Match exec` runs programs); said only when the
    /// block holds a setting that we would have to use.
    Unknown(String),
}

struct Lookup<'a> {
    host: &'a str,
    user: Option<&'a str>,
    environment: &'a Environment,
    settings: Settings,
    final_pass: bool,
    saw_final: bool,
}

pub(super) fn lookup(
    files: &[Vec<Item>],
    host: &str,
    user: Option<&str>,
    environment: &Environment,
) -> Result<Settings, ConfigError> {
    let mut lookup = Lookup {
        host,
        user,
        environment,
        settings: Settings::default(),
        final_pass: false,
        saw_final: false,
    };
    for items in files {
        lookup.read(items, &Active::Yes)?;
    }
    if lookup.saw_final {
        // `Match final` is judged once everything else is known; what is set stays set.
        lookup.final_pass = true;
        for items in files {
            lookup.read(items, &Active::Yes)?;
        }
    }
    Ok(lookup.settings)
}

impl Lookup<'_> {
    fn read(&mut self, items: &[Item], around: &Active) -> Result<(), ConfigError> {
        let mut active = around.clone();
        for item in items {
            match item {
                Item::Host(patterns) => {
                    let applies =
                        pattern::list_matches(patterns.iter().map(String::as_str), self.host);
                    active = if applies { around.clone() } else { Active::No };
                }
                Item::Match(criteria, place) => {
                    active = match self.judge(criteria, place)? {
                        Active::Yes => around.clone(),
                        other if matches!(around, Active::Yes) => other,
                        _ => Active::No,
                    };
                }
                Item::Included(items) => {
                    if !matches!(active, Active::No) {
                        self.read(items, &active)?;
                    }
                }
                Item::Setting(keyword, arguments, place) => match &active {
                    Active::No => {}
                    Active::Yes => self.set(keyword, arguments, place)?,
                    Active::Unknown(why) => {
                        let before = self.settings.clone();
                        self.set(keyword, arguments, place)?;
                        if before != self.settings {
                            return Err(ConfigError(format!(
                                "{place}: whether `{keyword}` applies to {} depends on {why}, \
                                 which picluster does not evaluate; say it in the inventory, or \
                                 set `config: no` there",
                                self.host
                            )));
                        }
                    }
                },
            }
        }
        Ok(())
    }

    fn judge(&mut self, criteria: &[String], place: &Place) -> Result<Active, ConfigError> {
        let mut unknown = None;
        let mut words = criteria.iter();
        while let Some(word) = words.next() {
            let (negated, word) = match word.strip_prefix('!') {
                Some(word) => (true, word),
                None => (false, word.as_str()),
            };
            let (name, attached) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word, None),
            };
            let name = name.to_ascii_lowercase();
            let applies = match name.as_str() {
                "all" => true,
                // Names are never canonicalised here (`CanonicalizeHostname no` is the default).
                "canonical" => false,
                "final" => {
                    self.saw_final = true;
                    self.final_pass
                }
                _ => {
                    let value = attached.or_else(|| words.next().cloned()).ok_or_else(|| {
                        ConfigError(format!("{place}: `Match {name}` without a value"))
                    })?;
                    match self.subject(&name)? {
                        Some(subject) => pattern::list_matches(value.split(','), &subject),
                        None => {
                            unknown = Some(format!("`Match {name}` at {place}"));
                            continue;
                        }
                    }
                }
            };
            if applies == negated {
                return Ok(Active::No);
            }
        }
        Ok(unknown.map_or(Active::Yes, Active::Unknown))
    }

    /// What a criterion of `Match` is compared with; `None` for criteria we do not judge.
    fn subject(&self, criterion: &str) -> Result<Option<String>, ConfigError> {
        Ok(match criterion {
            "host" => Some(self.host_name()?),
            "originalhost" => Some(self.host.to_owned()),
            "user" => self
                .user
                .map(ToOwned::to_owned)
                .or_else(|| self.settings.user.clone())
                .or_else(|| self.environment.user.clone()),
            "localuser" => self.environment.user.clone(),
            _ => None,
        })
    }

    fn host_name(&self) -> Result<String, ConfigError> {
        let Some(text) = &self.settings.host_name else {
            return Ok(self.host.to_owned());
        };
        let tokens = Tokens {
            host: Some(self.host.to_owned()),
            original: Some(self.host.to_owned()),
            ..Tokens::default()
        };
        expand(text, &tokens, self.environment).map_err(ConfigError)
    }

    fn set(
        &mut self,
        keyword: &str,
        arguments: &[String],
        place: &Place,
    ) -> Result<(), ConfigError> {
        let bad = |what: &str| ConfigError(format!("{place}: `{keyword}`: {what}"));
        let first = arguments.first().map_or("", String::as_str);
        let settings = &mut self.settings;
        let taken = match keyword {
            "hostname" => first_wins(&mut settings.host_name, || Ok(first.to_owned())),
            "user" => first_wins(&mut settings.user, || Ok(first.to_owned())),
            "port" => first_wins(&mut settings.port, || {
                first
                    .parse()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| bad(&format!("{first:?} is not a port")))
            }),
            // The one setting that adds up.
            "identityfile" => {
                let new = !settings.identity_files.iter().any(|file| file == first);
                if new {
                    settings.identity_files.push(first.to_owned());
                }
                Ok(new)
            }
            "identitiesonly" => first_wins(&mut settings.identities_only, || {
                yes_or_no(first).ok_or_else(|| bad("expected yes or no"))
            }),
            "identityagent" => first_wins(&mut settings.identity_agent, || Ok(first.to_owned())),
            "proxyjump" => first_wins(&mut settings.proxy, || {
                Ok(if first.eq_ignore_ascii_case("none") {
                    Proxy::Direct
                } else {
                    Proxy::Jump(first.to_owned(), place.clone())
                })
            }),
            "proxycommand" => first_wins(&mut settings.proxy, || {
                Ok(if first.eq_ignore_ascii_case("none") {
                    Proxy::Direct
                } else {
                    Proxy::Command(place.clone())
                })
            }),
            "connecttimeout" => {
                if first.eq_ignore_ascii_case("none") {
                    return Ok(());
                }
                first_wins(&mut settings.connect_timeout, || {
                    seconds(first).ok_or_else(|| bad(&format!("{first:?} is not a time")))
                })
            }
            "addressfamily" => first_wins(&mut settings.family, || {
                match first.to_ascii_lowercase().as_str() {
                    "any" => Ok(Family::Any),
                    "inet" => Ok(Family::Inet),
                    "inet6" => Ok(Family::Inet6),
                    _ => Err(bad("expected any, inet or inet6")),
                }
            }),
            _ => Ok(false),
        }?;
        if taken {
            self.settings
                .places
                .entry(keyword.to_owned())
                .or_insert_with(|| place.clone());
        }
        Ok(())
    }
}

/// Whether the value was taken.
fn first_wins<T>(
    slot: &mut Option<T>,
    value: impl FnOnce() -> Result<T, ConfigError>,
) -> Result<bool, ConfigError> {
    let first = slot.is_none();
    if first {
        *slot = Some(value()?);
    }
    Ok(first)
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    }
}

/// `90`, `90s`, `1m30s` (sshd_config(5), TIME FORMATS).
fn seconds(text: &str) -> Option<Duration> {
    let mut total: u64 = 0;
    let mut digits = String::new();
    for c in text.chars().chain(std::iter::once('\0')) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if c == '\0' && digits.is_empty() {
            break;
        }
        let factor = match c.to_ascii_lowercase() {
            's' | '\0' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        let value: u64 = digits.parse().ok()?;
        total = total.checked_add(value.checked_mul(factor)?)?;
        digits.clear();
    }
    (total > 0).then(|| Duration::from_secs(total))
}
