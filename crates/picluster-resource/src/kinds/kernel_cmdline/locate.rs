//! Which files hold the kernel's command line on this machine.
//!
//! The rule of raspi-config (RPi-Distro/raspi-config): the firmware's directory is `/boot/firmware` if
//! it has a `config.txt`, else `/boot`; then the prefix the firmware reports in the device tree
//! (`chosen/os_prefix`); then `cmdline.txt`, unless `config.txt` names another file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kind::Diagnosis;

/// A file that holds the command line, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootFile {
    /// Where it stands.
    pub path: String,
    /// How it holds it.
    pub form: Form,
    /// Its whole text; `None`: it is still to be made.
    pub text: Option<String>,
}

/// How a file holds the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Its first line is the command line.
    Line,
    /// The value of a `KEY=` line is.
    Key(String),
}

/// A `config.txt`, as far as it decides about the file.
#[derive(Debug, Default)]
struct Config {
    stub: bool,
    lines: Vec<String>,
}

/// What the probe printed, apart.
#[derive(Debug, Default)]
pub(super) struct Printed {
    prefix: String,
    files: BTreeMap<String, String>,
    configs: BTreeMap<String, Config>,
    mounts: Vec<(String, String, String)>,
    fstab: Vec<String>,
    regenerated: bool,
    /// `/proc/cmdline`.
    pub running: String,
    /// Controllers the kernel has switched on, in cgroup v2 or v1.
    pub controllers: Vec<String>,
    /// We edited a file since this boot.
    pub edited: bool,
    /// The last line came.
    pub complete: bool,
}

enum Section {
    None,
    File(String),
    Config(String),
}

impl Printed {
    pub(super) fn read(text: &str) -> Self {
        let mut printed = Self::default();
        let mut section = Section::None;
        for line in text.split('\n') {
            let mut chars = line.chars();
            if let Some(mark @ ('|' | '+')) = chars.next() {
                printed.body(&section, chars.as_str(), mark == '|');
                continue;
            }
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "file" => {
                    printed.files.insert(rest.to_owned(), String::new());
                    section = Section::File(rest.to_owned());
                }
                "config" => {
                    printed.configs.insert(rest.to_owned(), Config::default());
                    section = Section::Config(rest.to_owned());
                }
                "prefix" => rest.trim().clone_into(&mut printed.prefix),
                "mount" => {
                    let mut words = rest.split(' ').map(str::to_owned);
                    if let (Some(at), Some(kind), Some(options)) =
                        (words.next(), words.next(), words.next())
                    {
                        printed.mounts.push((at, kind, options));
                    }
                }
                "fstab" => printed.fstab.push(rest.to_owned()),
                "regenerated" => printed.regenerated = true,
                "running" => rest.clone_into(&mut printed.running),
                "v2" => printed
                    .controllers
                    .extend(rest.split_whitespace().map(str::to_owned)),
                "v1" => printed.controllers.push(rest.to_owned()),
                "edited" => printed.edited = true,
                "end" => printed.complete = true,
                _ => {}
            }
        }
        printed.controllers.sort();
        printed.controllers.dedup();
        printed
    }

    fn body(&mut self, section: &Section, line: &str, newline: bool) {
        match section {
            Section::File(path) => {
                if let Some(text) = self.files.get_mut(path) {
                    text.push_str(line);
                    if newline {
                        text.push('\n');
                    }
                }
            }
            Section::Config(path) => {
                if let Some(config) = self.configs.get_mut(path) {
                    config.stub |= line.starts_with("DO NOT EDIT");
                    config.lines.push(line.to_owned());
                }
            }
            Section::None => {}
        }
    }

    /// A command line, and not the note that bookworm and trixie leave in `/boot` (pi-gen
    /// stage1/00-boot-files), whose editing has no effect.
    fn real(&self, path: &str) -> Option<&String> {
        self.files
            .get(path)
            .filter(|text| !text.starts_with("DO NOT EDIT"))
    }

    /// The firmware's directory.
    fn firmware(&self) -> Option<&'static str> {
        ["/boot/firmware", "/boot"].into_iter().find(|dir| {
            let config = self.configs.get(&format!("{dir}/config.txt"));
            config.is_some_and(|c| !c.stub) || self.real(&format!("{dir}/cmdline.txt")).is_some()
        })
    }

    /// Values of a setting: those that hold without condition (the last one counts), and those
    /// under a filter such as `[pi4]`.
    fn setting(&self, dir: &str, key: &str) -> (Option<&str>, Vec<&str>) {
        let (mut always, mut sometimes) = (None, Vec::new());
        for (path, config) in &self.configs {
            if !path.starts_with(&format!("{dir}/")) || path[dir.len() + 1..].contains('/') {
                continue;
            }
            let mut conditional = false;
            for line in &config.lines {
                if let Some(filter) = line.strip_prefix('[') {
                    conditional = filter.trim_end().trim_end_matches(']') != "all";
                } else if let Some(value) = line
                    .strip_prefix(key)
                    .and_then(|rest| rest.strip_prefix('='))
                {
                    let value = value.trim();
                    if conditional {
                        sometimes.push(value);
                    } else {
                        always = Some(value);
                    }
                }
            }
        }
        (always, sometimes)
    }

    /// All files whose command line this machine may boot with, the present one first.
    pub(super) fn files(&self) -> Vec<BootFile> {
        let mut found: Vec<BootFile> = Vec::new();
        let mut add = |path: String| {
            if let Some(text) = self.real(&path)
                && !found.iter().any(|f| f.path == path)
            {
                found.push(BootFile {
                    path,
                    form: Form::Line,
                    text: Some(text.clone()),
                });
            }
        };
        if let Some(dir) = self.firmware() {
            let (name, other_names) = self.setting(dir, "cmdline");
            let (prefix, _) = self.setting(dir, "os_prefix");
            // The device tree tells the prefix of this boot; config.txt that of the next.
            let prefix = if self.prefix.is_empty() {
                prefix.unwrap_or("")
            } else {
                &self.prefix
            };
            let names = std::iter::once(name.unwrap_or("cmdline.txt")).chain(other_names);
            for name in names {
                add(format!("{dir}/{prefix}{name}"));
                // Ubuntu's A/B boot (25.10 and later): the set in use, and the one flash-kernel has
                // made and the next boot will try. Without the set in use under its prefix the
                // firmware falls back to the plain file.
                let plain = self.real(&format!("{dir}/{name}")).is_some();
                if matches!(prefix, "current/" | "new/" | "old/") || !plain {
                    add(format!("{dir}/current/{name}"));
                    add(format!("{dir}/new/{name}"));
                }
                if !prefix.is_empty() && self.real(&format!("{dir}/{prefix}{name}")).is_none() {
                    add(format!("{dir}/{name}"));
                }
            }
        }
        // Debian's raspi-firmware writes cmdline.txt anew at every kernel update, from this file.
        if self.regenerated && !found.is_empty() {
            let path = "/etc/default/raspi-extra-cmdline";
            found.push(BootFile {
                path: path.into(),
                form: Form::Line,
                text: self.files.get(path).cloned(),
            });
        }
        for (path, key) in [
            ("/boot/armbianEnv.txt", "extraargs"),
            ("/boot/firmware/ubuntuEnv.txt", "bootargs"),
        ] {
            if let (true, Some(text)) = (found.is_empty(), self.files.get(path)) {
                found.push(BootFile {
                    path: path.into(),
                    form: Form::Key(key.into()),
                    text: Some(text.clone()),
                });
            }
        }
        found
    }

    /// Why nothing was found.
    pub(super) fn not_found(&self) -> Diagnosis {
        let unmounted = self
            .fstab
            .iter()
            .find(|at| !self.mounts.iter().any(|(mounted, ..)| mounted == *at));
        match unmounted {
            Some(at) => Diagnosis::new(format!(
                "{at}, where the kernel's command line stands, is in /etc/fstab and is not mounted"
            ))
            .cure(format!("look why: findmnt {at}; mount {at}")),
            None => Diagnosis::new(
                "no file was found that holds the kernel's command line of this machine (looked for cmdline.txt in /boot/firmware and /boot, armbianEnv.txt, ubuntuEnv.txt)",
            )
            .cure("set the flags where this machine's boot loader takes them from, for instance GRUB_CMDLINE_LINUX in /etc/default/grub"),
        }
    }

    /// The mount point a path stands on, when that is mounted read-only.
    pub(super) fn read_only(&self, path: &str) -> Option<&str> {
        self.mounts
            .iter()
            .filter(|(at, ..)| {
                path.strip_prefix(at.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
            })
            .max_by_key(|(at, ..)| at.len())
            .filter(|(_, _, options)| options.split(',').any(|o| o == "ro"))
            .map(|(at, ..)| at.as_str())
    }
}
