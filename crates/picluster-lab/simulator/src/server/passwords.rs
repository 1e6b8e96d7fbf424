//! `cred/passwd`, and hashes of node passwords (pkg/passwd/passwd.go, pkg/authenticator/hash/scrypt.go).

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::fault::{Fault, Outcome};
use crate::{files, text};

/// The password of a user.
pub(super) fn read(path: &Path, user: &str) -> Option<String> {
    files::read(path).ok()?.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        (fields.get(1) == Some(&user)).then(|| fields[0].to_owned())
    })
}

/// Writes the two users of a cluster.
pub(super) fn write(path: &Path, server: &str, node: &str) -> Outcome {
    let text = format!("{node},node,node,k3s:agent\n{server},server,server,k3s:server\n");
    files::write_changed(path, text.as_bytes(), 0o600)
}

/// Upstream takes 2^15 rounds, that is 32 MiB and a tenth of a second; the format says how many there were, and here
/// nobody attacks.
const LOG_N: u8 = 10;
const R: u32 = 8;
const P: u32 = 1;

fn derive(
    password: &str,
    salt: &[u8],
    log_n: u8,
    r: u32,
    p: u32,
    length: usize,
) -> Outcome<Vec<u8>> {
    let params = scrypt::Params::new(log_n, r, p, length).map_err(|e| Fault(e.to_string()))?;
    let mut out = vec![0; length];
    scrypt::scrypt(password.as_bytes(), salt, &params, &mut out)
        .map_err(|e| Fault(e.to_string()))?;
    Ok(out)
}

/// `$1:<salt>:<log n>:<r>:<p>:<key>`.
pub(super) fn hash(password: &str) -> Outcome<String> {
    let salt = text::random::<8>();
    let key = derive(password, &salt, LOG_N, R, P, 64)?;
    Ok(format!(
        "$1:{}:{LOG_N}:{R}:{P}:{}",
        text::hex(&salt),
        STANDARD_NO_PAD.encode(key)
    ))
}

/// Whether a password is the one that was hashed.
pub(super) fn verify(hash: &str, password: &str) -> Outcome {
    let fields: Vec<&str> = hash.trim_start_matches('$').split(':').collect();
    let bad = || Fault::new("input does not match format");
    let [version, salt, log_n, r, p, key] = fields.as_slice() else {
        return Err(bad());
    };
    if *version != "1" {
        return Err(Fault(format!(
            "hash version {version} does not match package version 1"
        )));
    }
    let salt: Vec<u8> = (0..salt.len() / 2)
        .map(|i| u8::from_str_radix(&salt[2 * i..2 * i + 2], 16))
        .collect::<Result<_, _>>()
        .map_err(|_| bad())?;
    let key = STANDARD_NO_PAD.decode(key).map_err(|_| bad())?;
    let number = |s: &str| s.parse::<u32>().map_err(|_| bad());
    let log_n = u8::try_from(number(log_n)?).map_err(|_| bad())?;
    if derive(password, &salt, log_n, number(r)?, number(p)?, key.len())? == key {
        Ok(())
    } else {
        Err(Fault::new("hash does not match"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_password_and_no_other() {
        let hash = hash("secret").unwrap();
        assert!(hash.starts_with("$1:"));
        assert_eq!(verify(&hash, "secret"), Ok(()));
        assert_eq!(verify(&hash, "other").unwrap_err().0, "hash does not match");
    }
}
