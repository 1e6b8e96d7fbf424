//! Which machine a program was built for, from the first bytes of its file.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::arch::Arch;

/// Why a file cannot be run on an architecture. Completes "FILE …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Not a Linux program at all.
    #[error("is no Linux program: {0}")]
    NoProgram(&'static str),
    /// A program for something else.
    #[error("is a program for {built}, not for {wanted}")]
    OtherMachine {
        /// What it was built for.
        built: String,
        /// What it should have been built for.
        wanted: Arch,
    },
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

/// `e_machine` of the ELF header (System V ABI, chapter 4, and its list of machines).
fn machine(arch: Arch) -> u16 {
    match arch {
        Arch::Amd64 => 62,
        Arch::Arm64 => 183,
        Arch::Armhf => 40,
    }
}

/// Checks the beginning of a file (20 bytes are enough).
///
/// # Errors
/// What it is instead.
pub fn check(head: &[u8], wanted: Arch) -> Result<(), ElfError> {
    if !head.starts_with(b"\x7fELF") || head.len() < 20 {
        let text = String::from_utf8_lossy(head).to_lowercase();
        return Err(ElfError::NoProgram(match head {
            [] => "it is empty",
            [0x1f, 0x8b, ..] => "it is compressed with gzip",
            [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed with zstd",
            [b'#', b'!', ..] => "it is a script",
            _ if text.trim_start().starts_with('<') => {
                "it is a web page; was it downloaded with an error in it?"
            }
            _ => "its first bytes are not those of an ELF file",
        }));
    }
    let built = if head[5] == 2 {
        u16::from_be_bytes([head[18], head[19]])
    } else {
        u16::from_le_bytes([head[18], head[19]])
    };
    if head[5] == 1 && built == machine(wanted) {
        return Ok(());
    }
    let known = Arch::ALL.into_iter().find(|a| machine(*a) == built);
    Err(ElfError::OtherMachine {
        built: match (known, built) {
            (Some(arch), _) => arch.to_string(),
            (None, 3) => "32-bit x86".into(),
            (None, 243) => "RISC-V".into(),
            (None, other) => format!("machine number {other}"),
        },
        wanted,
    })
}

/// What a program file is built for, if that is one of ours.
#[must_use]
pub fn arch_of(path: &Path) -> Option<Arch> {
    Arch::ALL
        .into_iter()
        .find(|arch| check_file(path, *arch).is_ok())
}

/// Checks a file.
///
/// # Errors
/// What it is instead.
pub fn check_file(path: &Path, wanted: Arch) -> Result<(), ElfError> {
    let mut head = Vec::with_capacity(64);
    File::open(path)
        .and_then(|file| file.take(64).read_to_end(&mut head))
        .map_err(|e| ElfError::Unreadable(e.to_string()))?;
    check(&head, wanted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn head(machine: u16, order: u8) -> Vec<u8> {
        let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
        head[5] = order;
        head.extend(if order == 2 {
            machine.to_be_bytes()
        } else {
            machine.to_le_bytes()
        });
        head
    }

    #[test]
    fn every_architecture_takes_its_own_programs_and_no_other() {
        for built in Arch::ALL {
            for wanted in Arch::ALL {
                let result = check(&head(machine(built), 1), wanted);
                assert_eq!(result.is_ok(), built == wanted, "{built} on {wanted}");
            }
        }
        let said = |head: &[u8]| check(head, Arch::Arm64).unwrap_err().to_string();
        assert_eq!(said(&head(62, 1)), "is a program for amd64, not for arm64");
        assert_eq!(
            said(&head(243, 1)),
            "is a program for RISC-V, not for arm64"
        );
        // Big-endian ARM has the same number and is another machine.
        assert!(check(&head(183, 2), Arch::Arm64).is_err());
        assert!(said(b"").contains("empty"));
        assert!(said(b"<!DOCTYPE html><html>").contains("web page"));
        assert!(said(b"#!/bin/sh\n").contains("script"));
        assert!(said(b"\x1f\x8b\x08\0").contains("gzip"));
        assert!(said(b"\x7fELF").contains("no Linux program"));
    }

    #[test]
    fn this_very_program_runs_here() {
        let here = Arch::of_kernel(std::env::consts::ARCH).unwrap();
        let path = std::env::current_exe().unwrap();
        assert_eq!(check_file(&path, here), Ok(()));
        assert!(check_file(Path::new("/nonexistent"), here).is_err());
    }
}
