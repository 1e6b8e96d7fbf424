//! The folder of packages that nodes install from.

use indexmap::IndexMap;

use crate::diagnostic::Diagnostic;
use crate::inventory::{Deb, Node, Packages};
use crate::load::{Local, Scope, ssh};
use crate::name::NodeName;

/// Reads the section; `None` when there is none.
pub fn read(scope: &Scope<'_>, local: &dyn Local, out: &mut Vec<Diagnostic>) -> Option<Packages> {
    let document = scope.document.packages.as_ref()?;
    let folder = document.folder.as_ref()?;
    let path = ssh::join(scope.folder, &folder.value.0);
    scope.wants_file(&path, &folder.span);
    let listed = local.list(&path);
    let mut files: Vec<Deb> = Vec::new();
    for name in listed.iter().flatten().filter(|n| n.ends_with(".deb")) {
        match arch(name) {
            Some(arch) => files.push(Deb {
                name: name.clone(),
                path: path.join(name),
                arch: arch.to_owned(),
            }),
            None => out.push(
                Diagnostic::new(
                    format!("{name} does not say which machines it is for"),
                    &folder.span,
                )
                .help("name it as apt-get download does: NAME_VERSION_ARCHITECTURE.deb"),
            ),
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    if files.is_empty() && listed.is_some() && local.exists(&path) {
        out.push(
            Diagnostic::new(format!("no .deb is in {}", path.display()), &folder.span).help(
                "where there is a network: apt-get download PACKAGE…, and what these depend on; or remove `packages`",
            ),
        );
    }
    Some(Packages {
        files,
        only: document.only.unwrap_or(false),
        span: folder.span.clone(),
    })
}

/// The role that brings them to nodes.
const ROLE: &str = "base";

/// Whether somebody takes them up.
pub fn check_nodes(
    packages: &Packages,
    nodes: &IndexMap<NodeName, Node>,
    out: &mut Vec<Diagnostic>,
) {
    let mut roles = nodes.values().flat_map(|node| &node.roles);
    if !roles.any(|role| role.role.as_str() == ROLE) {
        out.push(
            Diagnostic::new("no node installs from this folder", &packages.span)
                .help("add role `base` to `roles`, before those that install something"),
        );
    }
}

/// The architecture in a file's name. Other characters than these are in no name that apt gives
/// (deb-control(5), and `%3a` for the colon of an epoch).
fn arch(name: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-.~_%".contains(c);
    let stem = name.strip_suffix(".deb").filter(|s| s.chars().all(plain))?;
    let (rest, arch) = stem.rsplit_once('_')?;
    (rest.contains('_') && !arch.is_empty()).then_some(arch)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_architecture_is_read_from_the_name() {
        for (name, arch) in [
            ("nfs-common_1%3a2.6.4-3_arm64.deb", Some("arm64")),
            ("tzdata_2024a-0+deb12u1_all.deb", Some("all")),
            ("nfs-common_arm64.deb", None),
            ("nfs-common.deb", None),
            ("a b_1_all.deb", None),
            ("a_1_.deb", None),
        ] {
            assert_eq!(super::arch(name), arch, "{name}");
        }
    }
}
