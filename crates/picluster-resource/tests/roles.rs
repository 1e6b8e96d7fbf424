//! The built-in roles on every system they are meant for: they render, every entry is a resource,
//! and what they come to is what a person would expect to read.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use picluster_model::{
    Color, Diagnostic, Everything, Project, RenderContext, RoleLibrary, load, render, render_role,
};
use picluster_resource::{Facts, Resource, Vocabulary};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The resources of `rpi01` on every system of the fixtures: what differs, by system.
fn resources(inventory: &str) -> Result<BTreeMap<String, Vec<Resource>>, String> {
    resources_of(&loaded(inventory)?)
}

fn loaded(inventory: &str) -> Result<Project, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inventory.yaml");
    fs::write(&path, inventory).unwrap();
    let library = RoleLibrary::default().folder(repository().join("roles"));
    load(&path, &library, &Vocabulary, &Everything).map_err(plain)
}

fn plain(wrong: Vec<Diagnostic>) -> String {
    render(&wrong, Color::Plain)
}

fn resources_of(project: &Project) -> Result<BTreeMap<String, Vec<Resource>>, String> {
    let node = &project.inventory.nodes[0];
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(repository().join("tests/cases/facts")).unwrap() {
        let file = entry.unwrap().path();
        let facts = Facts::parse(&fs::read_to_string(&file).unwrap()).unwrap();
        let context = RenderContext::new(project, node, &facts.constant()).map_err(plain)?;
        let mut found = Vec::new();
        for role_use in &node.roles {
            let role = &project.roles[&role_use.role];
            for entry in render_role(role, role_use, &context).map_err(plain)? {
                found.push(Resource::from_yaml(&entry.kind, &entry.body).map_err(plain)?);
            }
        }
        all.insert(
            file.file_stem().unwrap().to_string_lossy().into_owned(),
            found,
        );
    }
    Ok(all)
}

/// One group of systems a text: those that come to the same.
fn shown(all: &BTreeMap<String, Vec<Resource>>) -> String {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (system, resources) in all {
        let mut text = String::new();
        for resource in resources {
            let _ = writeln!(text, "{}[{}]", resource.kind(), resource.key());
            let body = serde_json::to_value(resource).unwrap();
            let body = body
                .as_object()
                .and_then(|map| map.values().next())
                .unwrap();
            for (key, value) in body.as_object().unwrap() {
                let _ = writeln!(text, "    {key}: {value}");
            }
        }
        groups.entry(text).or_default().push(system);
    }
    let mut out = String::new();
    for (text, systems) in groups {
        let _ = writeln!(out, "== {}\n{text}", systems.join(" "));
    }
    out
}

#[test]
fn base() {
    let all = resources(
        r#"
cluster: homelab
ssh: { user: pi }
roles:
  - base: { time_zone: Europe/Berlin }
nodes:
  rpi[01:02]: { address: "192.168.2.{n}" }
  rpi03: { address: "fd00::3" }
  rpi04: { address: rpi04.lan }
"#,
    )
    .unwrap();
    insta::assert_snapshot!(shown(&all));
}

#[test]
fn base_left_as_small_as_it_goes() {
    let all = resources(
        r#"
cluster: homelab
roles:
  - base: { packages: [], hosts: false }
nodes:
  rpi01: { address: 192.168.2.1 }
"#,
    )
    .unwrap();
    insta::assert_snapshot!(shown(&all));
}

#[test]
fn users() {
    let all = resources(
        r#"
cluster: homelab
ssh: { user: pi }
roles:
  - users:
      root_login: "no"
      accounts:
        - name: ada.l
          sudo: nopasswd
          comment: Ada
          groups: [video]
          exclusive_keys: true
          keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC4A1OAeTYSRCxnYcAeaxi3Z2tqyYFIJH09TkZ8WhwVj ada@desk"]
        - { name: rescue, access: console, sudo: password, password: { secret: rescue-hash } }
        - { name: pi, access: console, sudo: password }
        - { name: gone, state: absent }
nodes:
  rpi01: { address: 192.168.2.1 }
"#,
    )
    .unwrap();
    insta::assert_snapshot!(shown(&all));
}

#[test]
fn users_with_nothing_said() {
    let all = resources("cluster: c\nroles: [users]\nnodes:\n  rpi01: { address: 192.168.2.1 }\n");
    insta::assert_snapshot!(shown(&all.unwrap()));
}

/// The resources of one role on every system, on one node.
fn role(text: &str) -> String {
    let inventory =
        format!("cluster: c\nroles:\n  - {text}\nnodes:\n  rpi01: {{ address: 192.168.2.1 }}\n");
    shown(&resources(&inventory).unwrap_or_else(|why| panic!("{why}")))
}

#[test]
fn kernel() {
    insta::assert_snapshot!(role(
        "kernel: { modules: [br_netfilter, vxlan], sysctls: { vm.swappiness: 10 } }"
    ));
}

#[test]
fn boot_config() {
    insta::assert_snapshot!(role(
        "boot-config: { wifi_off: true, bluetooth_off: true, gpu_mem: 16, pcie_gen3: true, small_pages: true, settings: [{ setting: dtparam=watchdog=on }, { setting: arm_freq=1800, section: pi4 }] }"
    ));
}

#[test]
fn storage_client() {
    insta::assert_snapshot!(role("storage-client: { packages: [cryptsetup] }"));
}

#[test]
fn data_disk() {
    insta::assert_snapshot!(role(
        "data-disk: { disks: [{ label: data, path: /mnt/data, disk: /dev/nvme0n1 }, { source: PARTUUID=4d8097e2-03, path: /mnt/old, options: [ro] }] }"
    ));
}

#[test]
fn sd_care() {
    insta::assert_snapshot!(role(
        "sd-care: { journal: volatile, tmp_in_ram: true, apt_daily_off: true, data_dirs: [{ path: /var/lib/rancher, source: /mnt/data/rancher }] }"
    ));
}

/// Every switch the other way.
#[test]
fn roles_with_their_switches_the_other_way() {
    let none = |text: &str| assert_eq!(role(text).matches('[').count(), 0, "{}", role(text));
    none("sd-care: { journal: keep, noatime: false, fstrim: false }");
    none("storage-client: { iscsi: false, nfs: false, multipath_blacklist: false }");
    none("network: { cni_interfaces: [] }");
    none("kernel: { modules: [], sysctls: {} }");
    none("boot-config");
    none("data-disk");
    let bounded = role("sd-care: { journal_size: 32M }");
    assert!(
        bounded.contains("\"[Journal]\\nSystemMaxUse=32M\\nRuntimeMaxUse=32M\\n\""),
        "{bounded}"
    );
    assert!(!bounded.contains("Storage="), "{bounded}");
    assert!(!role("kernel: { extra_modules: false }").contains("package["));
    let everywhere = role("network: { avahi: true, cni_interfaces: [] }");
    assert!(
        everywhere.contains("package[avahi-daemon,libnss-mdns]") && !everywhere.contains("ini["),
        "{everywhere}"
    );
}

#[test]
fn network() {
    insta::assert_snapshot!(role(
        "network: { avahi: true, avahi_interfaces: [eth0], interfaces: [{ interface: eth0, addresses: [\"{{ node.address }}/24\"], gateway: 192.168.2.254, dns: [192.168.2.254] }, { interface: eth1, addresses: [10.9.0.1/24] }] }"
    ));
}

#[test]
fn every_role_says_what_it_does() {
    for entry in fs::read_dir(repository().join("roles")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let readme = fs::read_to_string(folder.join("README.md")).unwrap_or_default();
        assert!(
            readme.starts_with(&format!("# {name}\n")),
            "roles/{name}/README.md"
        );
        assert!(
            readme.contains("never touches"),
            "roles/{name}/README.md says not what stays"
        );
        let inventory =
            format!("cluster: c\nroles: [{name}]\nnodes:\n  n: {{ address: 10.0.0.1 }}\n");
        let project = loaded(&inventory).unwrap_or_else(|why| panic!("{name}: {why}"));
        for parameter in project.roles[0].parameters.keys() {
            let row = format!("| `{parameter}` |");
            assert!(
                readme.contains(&row),
                "roles/{name}/README.md knows no {parameter}"
            );
        }
        resources_of(&project).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}
