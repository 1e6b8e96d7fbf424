//! How a machine is: temperature, supply, the medium under `/`. Nothing here decides anything; it is for people.

use schemars::JsonSchema;
use serde::Serialize;

use crate::query::{Answers, Query};

/// The question. Read-only, as root, in one process and few more; prints one reading a line.
pub const HEALTH_SH: &str = include_str!("health.sh");

/// Readings of a machine at one moment. What it could not tell is `None`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
pub struct Health {
    /// Seconds since its first process started.
    pub up_s: Option<u64>,
    /// Of the processor, in degrees Celsius (`/sys/class/thermal`).
    pub temperature_c: Option<f64>,
    /// Its supply, where it is a Raspberry Pi.
    pub power: Option<Power>,
    /// What `/` is on.
    pub root: Root,
    /// When picluster last changed something there, in seconds since the epoch by the node's clock: the time of its
    /// ownership records.
    pub applied: Option<i64>,
}

/// What the firmware says of supply and throttling (`vcgencmd get_throttled`, Raspberry Pi documentation), or, where only
/// the kernel can be asked, its voltage alarm (`rpi_volt`, Linux `drivers/hwmon/raspberrypi-hwmon.c`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Power {
    /// The voltage is or was below what the board needs.
    pub under_voltage: Since,
    /// The processor's frequency is or was capped; `None`: it cannot be told.
    pub frequency_capped: Option<Since>,
    /// The processor is or was throttled; `None`: it cannot be told.
    pub throttled: Option<Since>,
    /// The soft temperature limit is or was reached; `None`: it cannot be told.
    pub soft_temperature_limit: Option<Since>,
}

/// Now, and at any time since the node started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Since {
    /// At this moment.
    pub now: bool,
    /// At some time since the node started.
    pub since_boot: bool,
}

/// What `/` is on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Root {
    /// Its file system: `ext4`, `overlay`.
    pub filesystem: String,
    /// The kernel's name of the disk: `mmcblk0`, `nvme0n1`, `sda`; empty when it is on none (a network, memory) or on one
    /// that cannot be told.
    pub disk: String,
    /// What kind of disk.
    pub medium: Medium,
    /// What the maker calls it: `SL32G`; empty where it does not say.
    pub name: String,
    /// When it was made, as the medium says it: `03/2021`; empty where it does not say.
    pub made: String,
    /// Its serial number; empty where it does not say.
    pub serial: String,
    /// Its size in bytes; 0: not known.
    pub bytes: u64,
    /// The kernel takes no writes for it: a switch on the card, or a medium that protects itself.
    pub write_protected: bool,
    /// The greater of an eMMC's two estimates of its used life (`life_time`, JEDEC eMMC 5.0): 1 is up to 10 %, 10 up to
    /// 100 %, 11 beyond. `None`: the medium does not say (no SD card does).
    pub life_time: Option<u8>,
    /// An eMMC's spare blocks (`pre_eol_info`): 1 enough, 2 80 % are used, 3 urgent. `None`: it does not say.
    pub pre_eol: Option<u8>,
    /// The controller's state where it is not a good one (`dead`, `offline`); empty otherwise.
    pub state: String,
    /// Errors of this disk in the kernel's log.
    pub errors: u64,
}

/// Kinds of disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    /// An SD card.
    Sd,
    /// Flash soldered to the board (Compute Modules).
    Emmc,
    /// NVMe.
    Nvme,
    /// A stick or disk behind USB.
    Usb,
    /// Another disk.
    Disk,
    /// None, or it cannot be told.
    #[default]
    Unknown,
}

/// Sensors of the processor, by the type of their thermal zone: Raspberry Pi's, then those of other boards and PCs.
const PROCESSOR: [&str; 5] = [
    "cpu-thermal",
    "bcm2835_thermal",
    "soc-thermal",
    "cpu_thermal",
    "x86_pkg_temp",
];

/// The bits of `get_throttled` that mean now; the same 16 places higher mean since the start.
const UNDER_VOLTAGE: u32 = 0;
const CAPPED: u32 = 1;
const THROTTLED: u32 = 2;
const SOFT_LIMIT: u32 = 3;

impl Health {
    /// The question for it.
    #[must_use]
    pub fn query() -> Query {
        Query::Fragment(HEALTH_SH.to_owned())
    }

    /// Reads the answer to [`Health::query`]; `None` when it was not asked or broke off.
    #[must_use]
    pub fn of(answers: &Answers) -> Option<Self> {
        let (_, text) = answers.fragment(HEALTH_SH).ok()?;
        Self::parse(text)
    }

    /// Reads what [`HEALTH_SH`] printed; `None` when it broke off. Lines that make no sense are readings that are not
    /// there.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut health = Self::default();
        let mut readings = Readings::default();
        let mut complete = false;
        for line in text.lines() {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            let value = value.trim();
            match key {
                "up" => health.up_s = value.parse().ok(),
                "temp" => readings.temperature(value),
                "undervoltage" => readings.alarm = Some(value == "1"),
                "throttled" => {
                    let hex = value.trim_start_matches("0x");
                    readings.throttled = u32::from_str_radix(hex, 16).ok();
                }
                "filesystem" => value.clone_into(&mut health.root.filesystem),
                "log" => readings.log(value),
                "applied" => health.applied = value.parse().ok(),
                "end" => complete = true,
                _ => health.root.line(key, value),
            }
        }
        health.temperature_c = readings.best.map(|(_, degrees)| degrees);
        health.power = readings.power();
        let disk = &health.root.disk;
        health.root.errors = readings.errors_of(disk);
        complete.then_some(health)
    }
}

/// What only makes sense together.
#[derive(Default)]
struct Readings {
    /// The best sensor so far: the smaller, the better.
    best: Option<(usize, f64)>,
    /// The kernel's voltage alarm.
    alarm: Option<bool>,
    /// The firmware's word.
    throttled: Option<u32>,
    /// The kernel's log speaks of under-voltage.
    logged: bool,
    /// Errors in the kernel's log, by device.
    errors: Vec<(String, u64)>,
}

impl Readings {
    fn temperature(&mut self, value: &str) {
        let (number, kind) = value.split_once(' ').unwrap_or((value, ""));
        let Ok(milli) = number.parse::<i32>() else {
            return;
        };
        let rank = PROCESSOR
            .iter()
            .position(|k| *k == kind)
            .unwrap_or(PROCESSOR.len());
        if self.best.is_none_or(|(before, _)| rank < before) {
            self.best = Some((rank, f64::from(milli) / 1000.0));
        }
    }

    fn log(&mut self, value: &str) {
        let (count, what) = value.split_once(' ').unwrap_or((value, ""));
        let last = what.rsplit(' ').next().unwrap_or_default();
        if what.ends_with("voltage detected") {
            self.logged = true;
        } else {
            self.errors
                .push((last.to_owned(), count.parse().unwrap_or(1)));
        }
    }

    /// Those of a disk and its partitions.
    fn errors_of(&self, disk: &str) -> u64 {
        let mine = |device: &str| {
            let rest = device.strip_prefix(disk);
            !disk.is_empty()
                && rest.is_some_and(|r| {
                    let number = r.strip_prefix('p').unwrap_or(r);
                    number.bytes().all(|b| b.is_ascii_digit())
                })
        };
        let errors = self.errors.iter().filter(|(device, _)| mine(device));
        errors.map(|(_, n)| n).sum()
    }

    fn power(&self) -> Option<Power> {
        let alarm = self.alarm.unwrap_or(false);
        let Some(bits) = self.throttled else {
            return self.alarm.map(|now| Power {
                under_voltage: Since {
                    now,
                    since_boot: now || self.logged,
                },
                ..Power::default()
            });
        };
        let since = |bit: u32| {
            let now = bits & (1 << bit) != 0;
            Since {
                now,
                since_boot: now || bits & (1 << (bit + 16)) != 0,
            }
        };
        let volts = since(UNDER_VOLTAGE);
        Some(Power {
            under_voltage: Since {
                now: volts.now || alarm,
                // The kernel's driver clears the firmware's memory each time it asks; its log remembers.
                since_boot: volts.since_boot || alarm || self.logged,
            },
            frequency_capped: Some(since(CAPPED)),
            throttled: Some(since(THROTTLED)),
            soft_temperature_limit: Some(since(SOFT_LIMIT)),
        })
    }
}

impl Root {
    /// One line about the disk.
    fn line(&mut self, key: &str, value: &str) {
        match key {
            "disk" => {
                let (name, bus) = value.split_once(' ').unwrap_or((value, ""));
                name.clone_into(&mut self.disk);
                self.medium = match name {
                    _ if bus == "usb" => Medium::Usb,
                    _ if name.starts_with("nvme") => Medium::Nvme,
                    // What is behind such a name says so itself.
                    _ if name.starts_with("mmcblk") => Medium::Sd,
                    _ => Medium::Disk,
                };
            }
            "disk.type" if value == "MMC" => self.medium = Medium::Emmc,
            "disk.size" => self.bytes = value.parse::<u64>().unwrap_or(0) * 512,
            "disk.ro" => self.write_protected = value == "1",
            "disk.name" | "disk.model" => value.clone_into(&mut self.name),
            "disk.date" => value.clone_into(&mut self.made),
            "disk.serial" => value.clone_into(&mut self.serial),
            "disk.life_time" => {
                let each = value.split_whitespace().filter_map(hex);
                self.life_time = each.max().filter(|most| *most > 0);
            }
            "disk.pre_eol_info" => self.pre_eol = hex(value).filter(|n| *n > 0),
            "disk.state" if !matches!(value, "live" | "running") => {
                value.clone_into(&mut self.state);
            }
            _ => {}
        }
    }
}

fn hex(text: &str) -> Option<u8> {
    u8::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn health(lines: &str) -> Health {
        Health::parse(&format!("{lines}\nend\n")).unwrap()
    }

    fn now(since_boot: bool) -> Since {
        Since {
            now: true,
            since_boot,
        }
    }

    const WAS: Since = Since {
        now: false,
        since_boot: true,
    };

    #[test]
    fn what_broke_off_says_nothing() {
        assert_eq!(Health::parse("up 12\ntemp 48312 cpu-thermal\n"), None);
        assert_eq!(Health::parse(""), None);
        assert_eq!(health(""), Health::default());
    }

    #[test]
    fn the_processors_sensor_is_taken_wherever_it_stands() {
        let of = |lines| health(lines).temperature_c;
        assert_eq!(of("temp 48312 cpu-thermal"), Some(48.312));
        assert_eq!(
            of("temp 31000 acpitz\ntemp 52000 x86_pkg_temp\ntemp 40000 nvme"),
            Some(52.0)
        );
        assert_eq!(of("temp 41000 something"), Some(41.0));
        assert_eq!(of("temp -3000 cpu-thermal"), Some(-3.0));
        assert_eq!(of("temp hot cpu-thermal"), None);
    }

    #[test]
    fn the_firmwares_bits_are_those_of_its_documentation() {
        let power = |lines| health(lines).power;
        assert_eq!(power(""), None);
        let good = power("throttled 0x0").unwrap();
        assert_eq!(good.under_voltage, Since::default());
        assert_eq!(good.throttled, Some(Since::default()));
        let bad = power("throttled 0x50005").unwrap();
        assert_eq!(bad.under_voltage, now(true));
        assert_eq!(bad.throttled, Some(now(true)));
        assert_eq!(bad.frequency_capped, Some(Since::default()));
        let past = power("throttled 0x50000").unwrap();
        assert_eq!((past.under_voltage, past.throttled), (WAS, Some(WAS)));
        let hot = power("throttled 0x80008").unwrap();
        assert_eq!(hot.soft_temperature_limit, Some(now(true)));
        assert_eq!(hot.under_voltage, Since::default());
        let capped = power("throttled 0x20000").unwrap();
        assert_eq!(capped.frequency_capped, Some(WAS));
    }

    #[test]
    fn the_kernels_alarm_speaks_of_voltage_alone() {
        let low = health("undervoltage 1").power.unwrap();
        assert_eq!((low.under_voltage, low.throttled), (now(true), None));
        let good = health("undervoltage 0").power.unwrap();
        assert_eq!(good.under_voltage, Since::default());
    }

    #[test]
    fn the_kernels_log_remembers_what_the_alarm_forgets() {
        let was = |lines| health(lines).power.unwrap().under_voltage;
        assert_eq!(was("undervoltage 0\nlog 3 Undervoltage detected"), WAS);
        assert_eq!(was("undervoltage 0\nlog 1 Under-voltage detected"), WAS);
        assert_eq!(was("throttled 0x0\nlog 1 Undervoltage detected"), WAS);
        assert_eq!(was("undervoltage 1\nthrottled 0x0"), now(true));
        // Words without a sensor: on another machine.
        assert_eq!(health("log 1 Undervoltage detected").power, None);
    }

    #[test]
    fn media_are_told_apart() {
        let medium = |lines| health(lines).root.medium;
        assert_eq!(medium(""), Medium::Unknown);
        assert_eq!(medium("disk mmcblk0 \ndisk.type SD"), Medium::Sd);
        assert_eq!(medium("disk mmcblk0 \ndisk.type MMC"), Medium::Emmc);
        assert_eq!(medium("disk nvme0n1 "), Medium::Nvme);
        assert_eq!(medium("disk sda usb\ndisk.type 0"), Medium::Usb);
        assert_eq!(medium("disk sda "), Medium::Disk);
    }

    #[test]
    fn an_emmc_tells_of_its_wear() {
        let root = health("disk mmcblk0 \ndisk.type MMC\ndisk.size 61071360\ndisk.life_time 0x02 0x09\ndisk.pre_eol_info 0x02").root;
        assert_eq!((root.life_time, root.pre_eol), (Some(9), Some(2)));
        assert_eq!(root.bytes, 31_268_536_320);
        // Zero: not defined.
        let root = health("disk mmcblk0 \ndisk.life_time 0x00 0x00\ndisk.pre_eol_info 0x00").root;
        assert_eq!((root.life_time, root.pre_eol), (None, None));
    }

    #[test]
    fn errors_are_those_of_the_disk_under_the_root() {
        let errors = |lines: &str| health(&format!("disk mmcblk0 \n{lines}")).root.errors;
        let log = "log 4 I/O error, dev mmcblk0\nlog 2 EXT4-fs error (device mmcblk0p2";
        assert_eq!(errors(log), 6);
        assert_eq!(
            errors("log 9 I/O error, dev sda\nlog 1 I/O error, dev mmcblk0boot0"),
            0
        );
        assert_eq!(health("log 9 I/O error, dev sda").root.errors, 0);
        assert_eq!(
            health("disk sda usb\nlog 2 I/O error, dev sda1\nlog 1 I/O error, dev sdaa")
                .root
                .errors,
            2
        );
    }
}
