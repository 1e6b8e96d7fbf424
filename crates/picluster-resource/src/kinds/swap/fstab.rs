//! Swap lines of fstab(5).

/// What stands before a line that was switched off; taking it away switches it on again.
pub const MARK: &str = "# picluster keeps swap off: ";

/// The device or file of a line that switches swap on at boot. After fstab(5) and
/// systemd-fstab-generator(8): third field `swap`, and no option `noauto`.
fn swap_device(line: &str) -> Option<&str> {
    let line = line.trim_start();
    if line.starts_with('#') {
        return None;
    }
    let mut fields = line.split_whitespace();
    let device = fields.next()?;
    let _mount_point = fields.next()?;
    let kind = fields.next()?;
    let options = fields.next().unwrap_or("");
    (kind == "swap" && !options.split(',').any(|o| o == "noauto")).then_some(device)
}

/// The devices and files that are switched on at boot, in the order of the lines.
#[must_use]
pub fn swap_devices(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(swap_device)
        .map(str::to_owned)
        .collect()
}

/// The text with every such line commented out; everything else stays byte for byte.
#[must_use]
pub fn without_swap(text: &str) -> String {
    text.split_inclusive('\n')
        .flat_map(|line| match swap_device(line) {
            Some(_) => [MARK, line],
            None => ["", line],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_lines_that_switch_swap_on_are_commented() {
        let text = "proc /proc proc defaults 0 0\n# /old none swap sw 0 0\nPARTUUID=4d80-02  /  ext4  defaults,noatime  0  1\n/swapfile\tnone\tswap\tsw\t0\t0\n/dev/sda3 none swap noauto 0 0\nLABEL=swap none ext4 sw 0 0";
        assert_eq!(swap_devices(text), ["/swapfile"]);
        assert_eq!(
            without_swap(text),
            text.replace("/swapfile\t", &format!("{MARK}/swapfile\t"))
        );
    }

    proptest! {
        #[test]
        fn nothing_else_is_touched_and_twice_is_once(lines in proptest::collection::vec(
            prop_oneof![
                "[ -~\t]{0,40}",
                Just("/swap.img none swap sw 0 0".to_owned()),
                Just("  UUID=1 swap swap defaults,pri=5 0 0".to_owned()),
            ], 0..8), newline in any::<bool>())
        {
            let text = lines.join("\n") + if newline { "\n" } else { "" };
            let once = without_swap(&text);
            prop_assert_eq!(swap_devices(&once), Vec::<String>::new());
            prop_assert_eq!(&without_swap(&once), &once);
            prop_assert_eq!(once.replace(MARK, ""), text.replace(MARK, ""));
        }
    }
}
