//! Everything that switches swap on at boot, read from configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::shell::quote;

/// The documented way to keep rpi-swap from making any swap: swap.conf(5) of RPi-Distro/rpi-swap.
const RPI_DROP_IN: &str = "/etc/rpi/swap.conf.d/90-disable-swap.conf";
/// The same, when another drop-in would have the last word.
const RPI_LAST_DROP_IN: &str = "/etc/rpi/swap.conf.d/zz-disable-swap.conf";
/// A drop-in that sorts behind the others and lets zram-generator discard the devices it names,
/// as rpi-swap's own `20-rpi-swap-zram0-ctrl.conf` does: zram-generator.conf(5).
const ZRAM_DROP_IN: &str = "/etc/systemd/zram-generator.conf.d/zz-swap-off.conf";

/// Something that switches swap on at boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Lines of `/etc/fstab`: their devices and files.
    Fstab(Vec<String>),
    /// An enabled service: `dphys-swapfile.service` (Raspberry Pi OS up to bookworm),
    /// `zramswap.service` (Debian's zram-tools), `zram-config.service` (Ubuntu). With its size or
    /// file where that is known.
    Service {
        /// The unit.
        unit: String,
        /// What it makes.
        what: String,
    },
    /// Raspberry Pi OS trixie's rpi-swap.
    RpiSwap {
        /// `Mechanism=` in effect.
        mechanism: String,
        /// Another drop-in sorts behind the documented name and has the last word.
        overruled: bool,
        /// All zram devices to keep away, see [`Source::ZramGenerator`].
        keep_away: Vec<String>,
    },
    /// systemd's zram-generator.
    ZramGenerator {
        /// The swap devices it makes.
        devices: Vec<String>,
        /// Those, and the ones our own drop-in already keeps away: it is written whole.
        keep_away: Vec<String>,
    },
    /// An enabled `*.swap` unit.
    Unit(String),
    /// A `*.swap` unit made for a partition by systemd-gpt-auto-generator(8).
    GptAuto(String),
    /// Armbian's zram service with `SWAP=` on.
    Armbian,
    /// `DietPi`'s zram swap, made by a udev rule.
    DietPi,
}

impl Source {
    /// Its name for people.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Fstab(_) => "/etc/fstab".into(),
            Self::Service { unit, .. } => unit.trim_end_matches(".service").into(),
            Self::RpiSwap { .. } => "rpi-swap".into(),
            Self::ZramGenerator { .. } => "zram-generator".into(),
            Self::Unit(unit) | Self::GptAuto(unit) => unit.clone(),
            Self::Armbian => "armbian-zram-config".into(),
            Self::DietPi => "dietpi-set_swapfile".into(),
        }
    }

    /// What it makes.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Fstab(devices) | Self::ZramGenerator { devices, .. } => devices.join(", "),
            Self::Service { what, .. } if !what.is_empty() => what.clone(),
            Self::RpiSwap { mechanism, .. } => mechanism.clone(),
            Self::GptAuto(_) => "found on the disk (GPT)".into(),
            Self::Service { .. } | Self::Unit(_) => "enabled".into(),
            Self::Armbian | Self::DietPi => "zram".into(),
        }
    }

    /// What will be done to it.
    #[must_use]
    pub fn cure(&self) -> String {
        match self {
            Self::Fstab(_) => "its lines are commented out".into(),
            Self::Service { .. } | Self::Unit(_) => "the unit is disabled".into(),
            Self::RpiSwap { .. } => {
                format!("{} and {ZRAM_DROP_IN} are written", self.rpi_drop_in())
            }
            Self::ZramGenerator { .. } => format!("{ZRAM_DROP_IN} is written"),
            Self::GptAuto(_) => "the unit is masked".into(),
            Self::Armbian => "SWAP=false is set in /etc/default/armbian-zram-config".into(),
            Self::DietPi => "DietPi's own script switches it off".into(),
        }
    }

    fn rpi_drop_in(&self) -> &'static str {
        match self {
            Self::RpiSwap {
                overruled: true, ..
            } => RPI_LAST_DROP_IN,
            _ => RPI_DROP_IN,
        }
    }

    /// Shell text that switches it off for good. (`/etc/fstab` is written from the payload.)
    #[must_use]
    pub fn script(&self) -> String {
        match self {
            Self::Fstab(_) => String::new(),
            Self::Service { unit, .. } | Self::Unit(unit) => {
                format!("systemctl disable -- {}\n", quote(unit))
            }
            Self::GptAuto(unit) => format!("systemctl mask -- {}\n", quote(unit)),
            Self::RpiSwap { keep_away, .. } => {
                let drop_in = self.rpi_drop_in();
                format!(
                    "mkdir -p /etc/rpi/swap.conf.d\nprintf '[Main]\\nMechanism=none\\n' | put {drop_in} 0644 root root\n{}",
                    zram_off(keep_away)
                )
            }
            Self::ZramGenerator { keep_away, .. } => zram_off(keep_away),
            Self::Armbian => {
                "f=/etc/default/armbian-zram-config\n\
                 { sed 's/^[[:space:]]*SWAP=/# &/' \"$f\"; echo SWAP=false; } | put \"$f\" \"$(stat -c %a \"$f\")\" root root\n"
                    .into()
            }
            Self::DietPi => "G_INTERACTIVE=0 /boot/dietpi/func/dietpi-set_swapfile 0\n".into(),
        }
    }
}

fn zram_off(devices: &[String]) -> String {
    let sections: String = devices
        .iter()
        .map(|device| format!("[{device}]\\nhost-memory-limit = 0\\n"))
        .collect();
    format!(
        "mkdir -p /etc/systemd/zram-generator.conf.d\nprintf '# No machine has this little memory: the devices are not made.\\n{sections}' | put {ZRAM_DROP_IN} 0644 root root\n"
    )
}

/// Configuration files as the probe prints them: path and lines, comments left out.
type Files = BTreeMap<String, Vec<String>>;

/// What the probe printed, apart.
#[derive(Debug, Default)]
pub(super) struct Printed<'a> {
    /// Lines of `/proc/swaps`: name, type, size, used.
    pub now: Vec<&'a str>,
    files: Files,
    services: Vec<&'a str>,
    units: Vec<&'a str>,
    gpt: Vec<&'a str>,
    rpi_swap: bool,
    zram_generator: bool,
    dietpi: bool,
    cmdline: &'a str,
    /// The last line came.
    pub complete: bool,
}

impl<'a> Printed<'a> {
    pub(super) fn read(text: &'a str) -> Self {
        let mut printed = Self::default();
        let mut file = None;
        for line in text.lines() {
            if let Some(body) = line.strip_prefix('|') {
                if let Some(lines) = file.as_ref().and_then(|f| printed.files.get_mut(f)) {
                    lines.push(body.to_owned());
                }
                continue;
            }
            match line.split_once(' ').unwrap_or((line, "")) {
                ("now", rest) => printed.now.push(rest),
                ("service", unit) => printed.services.push(unit),
                ("unit", unit) => printed.units.push(unit),
                ("gpt", unit) => printed.gpt.push(unit),
                ("file", path) => {
                    printed.files.insert(path.to_owned(), Vec::new());
                    file = Some(path.to_owned());
                }
                ("rpi-swap", _) => printed.rpi_swap = true,
                ("zram-generator", _) => printed.zram_generator = true,
                ("dietpi", _) => printed.dietpi = true,
                ("cmdline", rest) => printed.cmdline = rest,
                ("end", _) => printed.complete = true,
                _ => {}
            }
        }
        printed
    }

    /// The sources that are on; `/etc/fstab` is not among them.
    pub(super) fn sources(&self, memory_mib: u64) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        for unit in &self.services {
            if *unit == "armbian-zram-config.service" {
                let value = |key| self.shell_value("/etc/default/armbian-zram-config", key);
                let off = |text: Option<String>| text.as_deref() == Some("false");
                if !off(value("ENABLED")) && !off(value("SWAP")) {
                    sources.push(Source::Armbian);
                }
                continue;
            }
            let what = if *unit == "dphys-swapfile.service" {
                self.shell_value("/etc/dphys-swapfile", "CONF_SWAPFILE")
                    .unwrap_or_else(|| "/var/swap".into())
            } else {
                "zram".into()
            };
            sources.push(Source::Service {
                unit: (*unit).to_owned(),
                what,
            });
        }
        let devices = self.zram_devices(memory_mib, None);
        let mut keep_away = self.zram_devices(memory_mib, Some(ZRAM_DROP_IN));
        // The generator of rpi-swap makes zram0 at boot, and without that package the default file
        // of zram-generator would (RPi-Distro/rpi-swap issue #4).
        if self.rpi_swap && !keep_away.iter().any(|d| d == "zram0") {
            keep_away.insert(0, "zram0".into());
        }
        sources.extend(self.rpi_source(&keep_away));
        if !devices.is_empty() {
            sources.push(Source::ZramGenerator { devices, keep_away });
        }
        sources.extend(self.units.iter().map(|u| Source::Unit((*u).to_owned())));
        sources.extend(self.gpt.iter().map(|u| Source::GptAuto((*u).to_owned())));
        if self.dietpi {
            sources.push(Source::DietPi);
        }
        sources
    }

    /// The last assignment of a shell-style configuration file.
    fn shell_value(&self, path: &str, key: &str) -> Option<String> {
        let lines = self.files.get(path)?;
        lines.iter().rev().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == key).then(|| value.trim().trim_matches(['"', '\'']).to_owned())
        })
    }

    /// The files of a systemd-style configuration in the order they are read: the main file of the
    /// first directory that has one, then drop-ins by name, each from the first directory that has
    /// it. A link to `/dev/null` counts as there and holds nothing. `/run` does not survive a
    /// reboot and is not asked.
    fn layered(&self, name: &str) -> Vec<(&str, &[String])> {
        const DIRECTORIES: [&str; 3] = ["/etc", "/usr/local/lib", "/usr/lib"];
        let mut order: Vec<(&str, &[String])> = Vec::new();
        for directory in DIRECTORIES {
            let path = format!("{directory}/{name}");
            if let Some((path, lines)) = self.files.get_key_value(&path) {
                order.push((path, lines));
                break;
            }
        }
        let mut drop_ins: BTreeMap<&str, (&str, &[String])> = BTreeMap::new();
        for directory in DIRECTORIES {
            let beginning = format!("{directory}/{name}.d/");
            for (path, lines) in &self.files {
                if let Some(base) = path.strip_prefix(&beginning) {
                    drop_ins.entry(base).or_insert((path, lines));
                }
            }
        }
        order.extend(drop_ins.into_values());
        order
    }

    /// Every assignment of a systemd-style configuration, in order: file, section, key, value.
    fn assignments(&self, name: &str) -> Vec<(&str, String, String, String)> {
        let mut all = Vec::new();
        for (path, lines) in self.layered(name) {
            let mut section = String::new();
            for line in lines {
                let line = line.trim();
                if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                    name.clone_into(&mut section);
                    all.push((path, section.clone(), String::new(), String::new()));
                } else if let Some((key, value)) = line.split_once('=') {
                    all.push((
                        path,
                        section.clone(),
                        key.trim().to_owned(),
                        value.trim().to_owned(),
                    ));
                }
            }
        }
        all
    }

    fn rpi_source(&self, keep_away: &[String]) -> Option<Source> {
        if !self.rpi_swap {
            return None;
        }
        let assignments = self.assignments("rpi/swap.conf");
        let last = assignments
            .iter()
            .rev()
            .find(|(_, section, key, _)| section == "Main" && key == "Mechanism");
        // rpi-swap-generator: anything it does not know is `auto`.
        let mechanism = match last.map(|(_, _, _, value)| value.as_str()) {
            Some("none") => return None,
            Some(known @ ("swapfile" | "swapdev" | "zram" | "zram+file" | "zram+device")) => known,
            _ => "auto",
        };
        let overruled = last.is_some_and(|(path, ..)| {
            path.rsplit_once("swap.conf.d/")
                .is_some_and(|(_, base)| base > "90-disable-swap.conf")
        });
        Some(Source::RpiSwap {
            mechanism: mechanism.to_owned(),
            overruled,
            keep_away: keep_away.to_vec(),
        })
    }

    /// Swap devices zram-generator makes, with one of its files left out of account.
    fn zram_devices(&self, memory_mib: u64, without: Option<&str>) -> Vec<String> {
        if !self.zram_generator {
            return Vec::new();
        }
        // `systemd.zram[=BOOL]` on the kernel command line outranks the files: zram-generator(8).
        let argument = self.cmdline.split_whitespace().rev().find_map(|token| {
            match token.strip_prefix("systemd.zram")? {
                "" => Some(true),
                rest => rest
                    .strip_prefix('=')
                    .map(|v| !matches!(v, "0" | "no" | "n" | "false" | "f" | "off")),
            }
        });
        let mut devices: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        match argument {
            Some(false) => return Vec::new(),
            Some(true) => {
                devices.entry("zram0".into()).or_default();
            }
            None => {}
        }
        for (path, section, key, value) in self.assignments("systemd/zram-generator.conf") {
            if without == Some(path) {
                continue;
            }
            let number = section.strip_prefix("zram");
            if !number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
                continue;
            }
            let device = devices.entry(section).or_default();
            if !key.is_empty() {
                device.insert(key, value);
            }
        }
        devices.retain(|_, keys| is_swap_device(keys, memory_mib));
        devices.into_keys().collect()
    }
}

/// Whether zram-generator makes a swap device of a section: zram-generator.conf(5).
fn is_swap_device(keys: &BTreeMap<String, String>, memory_mib: u64) -> bool {
    let get = |key: &str| keys.get(key).map(String::as_str);
    let limit = get("host-memory-limit")
        .or(get("memory-limit"))
        .and_then(|limit| limit.parse::<u64>().ok());
    if limit.is_some_and(|limit| memory_mib > limit) {
        return false;
    }
    if get("zram-size") == Some("0") {
        return false;
    }
    get("mount-point").is_none_or(str::is_empty)
        && matches!(get("fs-type"), None | Some("" | "swap"))
}
