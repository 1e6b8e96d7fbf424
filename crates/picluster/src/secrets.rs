//! Finds the values of secrets, before the first connection.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use picluster_model::inventory::Project;
use picluster_model::secret::{Secret, SecretRef, SecretValues};

use crate::error::Failure;

/// Resolves references; files are looked for beside the inventory.
///
/// # Errors
/// Every reference without a value, with what to do, all at once.
pub fn resolve(
    project: &Project,
    references: &BTreeSet<SecretRef>,
) -> Result<SecretValues, Failure> {
    let (values, missing) = resolve_some(project, references);
    if missing.is_empty() {
        Ok(values)
    } else {
        Err(Failure::usage(format!(
            "these secrets have no value:\n  {}",
            missing.join("\n  ")
        ))
        .hint("nothing was sent to any node; docs/secrets.md shows each way to give one"))
    }
}

/// Resolves what can be resolved, and says why the rest has no value.
#[must_use]
pub fn resolve_some(
    project: &Project,
    references: &BTreeSet<SecretRef>,
) -> (SecretValues, Vec<String>) {
    let folder = project
        .inventory
        .path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut values = SecretValues::default();
    let mut missing = Vec::new();
    for reference in references {
        // Comes from a node, when one has been asked.
        if matches!(reference, SecretRef::ClusterValue(_)) {
            continue;
        }
        match one(folder, reference) {
            Ok(value) => {
                values.0.insert(reference.clone(), Secret::new(value));
            }
            Err(why) => missing.push(format!("{reference}: {why}")),
        }
    }
    (values, missing)
}

fn one(folder: &Path, reference: &SecretRef) -> Result<String, String> {
    match reference {
        SecretRef::Env(name) => std::env::var(name)
            .map_err(|_| format!("the environment variable {name} is not set (or not UTF-8)")),
        SecretRef::Secret(name) => age_file(&folder.join("secrets").join(format!("{name}.age"))),
        SecretRef::Sops(path) => sops(folder, path),
        SecretRef::Command(argv) => first_line(folder, argv),
        SecretRef::ClusterValue(name) => Err(format!("{name} stands on a node")),
    }
}

/// The identities that may open age files: `PICLUSTER_AGE_IDENTITY` (a file), then
/// `~/.config/picluster/age.txt`, then `~/.ssh/id_ed25519`.
fn identity_files() -> Vec<PathBuf> {
    if let Some(path) = std::env::var_os("PICLUSTER_AGE_IDENTITY") {
        return vec![PathBuf::from(path)];
    }
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let config =
        std::env::var_os("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
    vec![
        config.join("picluster/age.txt"),
        home.join(".ssh/id_ed25519"),
    ]
}

fn identities() -> Result<Vec<Box<dyn age::Identity>>, String> {
    let mut found: Vec<Box<dyn age::Identity>> = Vec::new();
    let mut tried = Vec::new();
    for path in identity_files() {
        let Ok(text) = fs::read_to_string(&path) else {
            tried.push(path.display().to_string());
            continue;
        };
        if text.contains("BEGIN OPENSSH PRIVATE KEY") {
            let key =
                age::ssh::Identity::from_buffer(text.as_bytes(), Some(path.display().to_string()))
                    .map_err(|e| format!("{}: {e}", path.display()))?;
            match key {
                age::ssh::Identity::Unencrypted(_) => found.push(Box::new(key)),
                _ => tried.push(format!("{} (has a passphrase)", path.display())),
            }
        } else {
            let file = age::IdentityFile::from_buffer(text.as_bytes())
                .map_err(|e| format!("{}: {e}", path.display()))?;
            found.extend(
                file.into_identities()
                    .map_err(|e| format!("{}: {e}", path.display()))?,
            );
        }
    }
    if found.is_empty() {
        Err(format!(
            "no age identity was found (tried {}); name one with PICLUSTER_AGE_IDENTITY=FILE",
            tried.join(", ")
        ))
    } else {
        Ok(found)
    }
}

fn age_file(path: &Path) -> Result<String, String> {
    let at = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let file = fs::File::open(path).map_err(|e| at(&e))?;
    let identities = identities()?;
    let decryptor =
        age::Decryptor::new(age::armor::ArmoredReader::new(file)).map_err(|e| at(&e))?;
    let mut reader = decryptor
        .decrypt(identities.iter().map(|i| &**i as &dyn age::Identity))
        .map_err(|e| at(&e))?;
    let mut text = String::new();
    reader.read_to_string(&mut text).map_err(|e| at(&e))?;
    // Editors end files with a newline that is no part of the secret.
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

fn run(folder: &Path, program: &str, args: &[String]) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{program} ended with {}", output.status));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| format!("{program} printed bytes that are no text"))
}

fn sops(folder: &Path, path: &str) -> Result<String, String> {
    let (file, key) = match path.split_once('#') {
        Some((file, key)) => (file, Some(key)),
        None => (path, None),
    };
    let mut args = vec!["--decrypt".to_owned()];
    if let Some(key) = key {
        let extract: String = key.split('.').map(|part| format!("[\"{part}\"]")).collect();
        args.extend(["--extract".to_owned(), extract]);
    }
    args.push(file.to_owned());
    run(folder, "sops", &args).map(|text| text.trim_end_matches('\n').to_owned())
}

fn first_line(folder: &Path, argv: &[String]) -> Result<String, String> {
    let (program, args) = argv.split_first().ok_or("the command is empty")?;
    let text = run(folder, program, args)?;
    let line = text.lines().next().unwrap_or("").to_owned();
    if line.is_empty() {
        return Err(format!("{program} printed nothing"));
    }
    Ok(line)
}
