//! The board and its card as files: device tree, `/sys/block/mmcblk0`, `/proc/cpuinfo`.

use crate::spec::PiPersonality;

/// Files below `/sys/firmware`. Device tree strings end in a NUL.
pub(crate) fn device_tree(pi: &PiPersonality) -> Vec<(&'static str, Vec<u8>)> {
    let nul = |s: &str| [s.as_bytes(), b"\0"].concat();
    let compatible: &[u8] = match () {
        () if pi.model.contains("Pi 5") || pi.model.contains("Module 5") => {
            b"raspberrypi,5-model-b\0brcm,bcm2712\0"
        }
        () if pi.model.contains("Pi 3") || pi.model.contains("Module 3") => {
            b"raspberrypi,3-model-b-plus\0brcm,bcm2837\0"
        }
        () => b"raspberrypi,4-model-b\0brcm,bcm2711\0",
    };
    vec![
        ("devicetree/base/model", nul(&pi.model)),
        ("devicetree/base/serial-number", nul(&pi.serial)),
        ("devicetree/base/compatible", compatible.to_vec()),
    ]
}

/// Files below `/sys/block`. The fields of the CID are split as the kernel's mmc driver prints them
/// (SD Physical Layer specification, CID register).
pub(crate) fn block_devices(pi: &PiPersonality) -> Vec<(&'static str, Vec<u8>)> {
    let cid = pi.sd_cid.as_str();
    let hex = |range: std::ops::Range<usize>| cid.get(range).unwrap_or_default();
    let byte = |i: usize| u8::from_str_radix(hex(2 * i..2 * i + 2), 16).unwrap_or(0);
    let name: String = (3..8)
        .map(|i| char::from(byte(i)))
        .filter(char::is_ascii_graphic)
        .collect();
    let date = u16::from_str_radix(hex(27..30), 16).unwrap_or(0);
    let line = |s: String| (s + "\n").into_bytes();
    vec![
        ("mmcblk0/size", line("62333952".into())),
        ("mmcblk0/removable", line("0".into())),
        ("mmcblk0/device/type", line("SD".into())),
        ("mmcblk0/device/cid", line(cid.to_owned())),
        ("mmcblk0/device/name", line(name)),
        (
            "mmcblk0/device/manfid",
            line(format!("0x{:0>6}", hex(0..2))),
        ),
        ("mmcblk0/device/oemid", line(format!("0x{}", hex(2..6)))),
        (
            "mmcblk0/device/hwrev",
            line(format!("0x{:x}", byte(8) >> 4)),
        ),
        (
            "mmcblk0/device/fwrev",
            line(format!("0x{:x}", byte(8) & 15)),
        ),
        ("mmcblk0/device/serial", line(format!("0x{}", hex(18..26)))),
        (
            "mmcblk0/device/date",
            line(format!("{:02}/{}", date & 15, 2000 + (date >> 4))),
        ),
    ]
}

/// `/proc/cpuinfo` with the closing lines a Pi's kernel adds.
pub(crate) fn cpuinfo(host: &str, pi: &PiPersonality) -> String {
    let revision = if pi.model.contains("Pi 5") {
        "c04170"
    } else {
        "c03114"
    };
    let kept: Vec<&str> = host
        .lines()
        .filter(|l| {
            !["Serial", "Revision", "Model\t", "Hardware"]
                .iter()
                .any(|k| l.starts_with(k))
        })
        .collect();
    format!(
        "{}\n\nRevision\t: {revision}\nSerial\t\t: {}\nModel\t\t: {}\n",
        kept.join("\n").trim_end(),
        pi.serial,
        pi.model
    )
}

/// The CID of the card that is put in at the `wipes`-th wipe: another serial number, else the same kind of card.
pub(crate) fn replaced_cid(cid: &str, wipes: u32) -> String {
    use sha2::{Digest, Sha256};
    if wipes == 0 || cid.len() != 32 || !cid.is_ascii() {
        return cid.to_owned();
    }
    let digest = Sha256::digest(format!("{cid}/{wipes}").as_bytes());
    let serial: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!(
        "{}{serial}{}",
        cid.get(..18).unwrap_or_default(),
        cid.get(26..).unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::OsFlavour;

    #[test]
    fn the_cid_is_split_into_its_fields() {
        let mut pi = PiPersonality::for_node(OsFlavour::RpiOsBookworm, "n");
        pi.sd_cid = "035344534c3332478528e9cae80153d1".into();
        let files = block_devices(&pi);
        let get = |p: &str| {
            String::from_utf8(
                files
                    .iter()
                    .find(|(n, _)| *n == format!("mmcblk0/device/{p}"))
                    .unwrap()
                    .1
                    .clone(),
            )
            .unwrap()
        };
        assert_eq!(get("name"), "SL32G\n");
        assert_eq!(get("serial"), "0x28e9cae8\n");
        assert_eq!(get("manfid"), "0x000003\n");
        assert_eq!(get("oemid"), "0x5344\n");
        assert_eq!(get("date"), "03/2021\n");
        assert_ne!(replaced_cid(&pi.sd_cid, 1), pi.sd_cid);
        assert_eq!(replaced_cid(&pi.sd_cid, 1).len(), 32);
    }
}
