//! The plan of a blank node is complete and true: every path that an apply changes, seen from
//! outside, is predicted by a change or belongs to a package or daemon that is named here.

use std::collections::BTreeSet;

use picluster_plan::{Plan, Work};
use picluster_resource::{Resource, Token};

use crate::rig::{Desk, Rig};
use crate::unchanged::{ROLE, is_noise};

/// Paths that a change of this kind is known to touch besides those it names.
fn belongs(resource: &Resource, packages: &BTreeSet<String>, path: &str) -> bool {
    let under = |dir: &str| path == dir || path.starts_with(&format!("{dir}/"));
    match resource {
        // shadow-utils keep backups beside what they edit, and hand out subordinate ids.
        Resource::User(_) | Resource::Group(_) => {
            [
                "/etc/passwd",
                "/etc/shadow",
                "/etc/group",
                "/etc/gshadow",
                "/etc/subuid",
                "/etc/subgid",
            ]
            .iter()
            .any(|f| path == *f || path == format!("{f}-") || path == format!("{f}.lock"))
                || path == "/etc/.pwd.lock"
                || under("/var/mail")
                || match resource {
                    Resource::User(user) => under(&format!("/home/{}", user.name)),
                    _ => false,
                }
        }
        Resource::AuthorizedKeys(keys) => under(&format!("/home/{}/.ssh", keys.user)),
        Resource::Hostname(_) => path == "/etc/hostname",
        Resource::Timezone(_) => path == "/etc/localtime" || path == "/etc/timezone",
        Resource::Unit(_) => under("/etc/systemd/system"),
        Resource::Package(_) => {
            packages.contains(path)
                || [
                    "/var/lib/dpkg",
                    "/var/lib/apt",
                    "/var/cache/apt",
                    "/var/log/apt",
                    "/var/cache/debconf",
                    "/etc/alternatives",
                    "/var/cache/ldconfig",
                ]
                .iter()
                .any(|d| under(d))
                || matches!(
                    path,
                    "/var/log/dpkg.log"
                        | "/var/log/alternatives.log"
                        | "/etc/ld.so.cache"
                        | "/usr/lib/locale"
                )
        }
        _ => false,
    }
}

#[test]
fn whatever_an_apply_writes_was_in_the_plan() {
    let desk = Desk::new(
        "cluster: truth\nssh: { user: pi }\nroles: [one]\nnodes:\n  rpi01: { address: 192.168.2.1 }\n  rpi02: { address: 192.168.2.2 }\n",
    );
    desk.write(
        "roles/one/role.yaml",
        &format!("{ROLE}  - package: {{ names: [tree] }}\n"),
    );
    let rig = Rig::up_from(desk, &["rpi02=rpi-os-bookworm"]);
    // What the first boot itself wrote is not ours.
    rig.on("rpi01", "true").expect(0);
    rig.on("rpi02", "true").expect(0);
    let before = |node| rig.lab.outside_listing(node).unwrap();
    let (first, second) = (before("rpi01"), before("rpi02"));
    let plan: Plan = serde_json::from_str(&rig.run(&["plan", "--json"]).expect(0).out).unwrap();
    rig.run(&["apply", "--yes"]).expect(0);
    for (node, before) in [("rpi01", first), ("rpi02", second)] {
        let resources: Vec<&Resource> = plan
            .steps
            .iter()
            .filter(|s| s.addr.node.as_str() == node)
            .filter_map(|s| match &s.work {
                Work::Resource(r) => Some(&**r),
                Work::Reboot { .. } | Work::PowerOff => None,
            })
            .collect();
        let named: BTreeSet<String> = resources
            .iter()
            .flat_map(|r| r.provides())
            .filter_map(|t| match t {
                Token::Path(path) => Some(path.to_string()),
                _ => None,
            })
            .chain(["/srv/app/ran".to_owned()])
            .collect();
        let packages: BTreeSet<String> = rig
            .on(node, "dpkg -L tree")
            .expect(0)
            .out
            .lines()
            .map(str::to_owned)
            .collect();
        let after = rig.lab.outside_listing(node).unwrap();
        let surprise: Vec<&str> = after
            .iter()
            .filter(|e| !before.iter().any(|b| b == *e))
            .map(|e| e.path.as_str())
            .filter(|path| !is_noise(path))
            .filter(|path| !path.starts_with("/var/lib/picluster"))
            .filter(|path| !named.contains(*path))
            .filter(|path| !resources.iter().any(|r| belongs(r, &packages, path)))
            // A directory shows up when something below it does.
            .filter(|path| {
                !after
                    .iter()
                    .any(|e| e.path.starts_with(&format!("{path}/")))
            })
            .collect();
        assert!(
            surprise.is_empty(),
            "{node}: not in the plan: {surprise:#?}"
        );
        for path in &named {
            assert!(
                after.iter().any(|e| &e.path == path)
                    || rig.on(node, &format!("test -e {path}")).code == 0,
                "{node}: planned but not there: {path}"
            );
        }
    }
}
