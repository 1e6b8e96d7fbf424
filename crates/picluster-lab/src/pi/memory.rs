//! `/proc/meminfo` with the memory and swap of the personality.

use crate::pi::swap::Swap;

/// Rewrites the host's meminfo: `total_kib` caps memory, swap is that of `swaps` alone.
pub(crate) fn meminfo(host: &str, total_kib: Option<u64>, swaps: &[Swap]) -> String {
    let swap: u64 = swaps.iter().map(|s| s.kib).sum();
    let mut text = String::with_capacity(host.len());
    for line in host.lines() {
        let (key, rest) = line.split_once(':').unwrap_or((line, ""));
        let value: Option<u64> = rest
            .trim()
            .strip_suffix(" kB")
            .and_then(|v| v.trim().parse().ok());
        let value = match (key, total_kib, value) {
            ("SwapTotal" | "SwapFree", _, _) => Some(swap),
            ("SwapCached" | "Zswap" | "Zswapped", _, _) => Some(0),
            ("MemTotal", Some(total), _) => Some(total),
            // A quiet node: an eighth in use, a quarter cache.
            ("MemFree", Some(total), _) => Some(total / 8 * 5),
            ("MemAvailable", Some(total), _) => Some(total / 8 * 7),
            (_, Some(total), Some(v))
                if !key.starts_with("Vmalloc") && !key.starts_with("DirectMap") =>
            {
                Some(v.min(total / 8))
            }
            (_, _, v) => v,
        };
        match value {
            Some(v) => text.push_str(&format!("{:<15} {v:>8} kB\n", format!("{key}:"))),
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_and_swap_are_the_personality_s() {
        let host = "MemTotal:       24683600 kB\nMemFree:        23000000 kB\nSwapTotal:             5 kB\nHugePages_Total:       0\n";
        let swaps = [Swap {
            name: "/var/swap".into(),
            kind: "file",
            kib: 524_284,
            priority: -2,
        }];
        let text = meminfo(host, Some(950_000), &swaps);
        assert!(text.starts_with("MemTotal:         950000 kB\n"), "{text}");
        assert!(text.contains("SwapTotal:        524284 kB\n"), "{text}");
        assert!(text.ends_with("HugePages_Total:       0\n"), "{text}");
    }
}
