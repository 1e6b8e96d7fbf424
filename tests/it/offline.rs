//! Nodes that reach no network install from a folder beside the inventory.

use std::process::Command;

use crate::k3s_cluster::nothing_to_do;
use crate::rig::{Desk, Rig};

/// Builds a package that is no package of Debian.
fn deb(desk: &Desk, name: &str, version: &str, depends: &str) {
    let tree = desk.path().join("tree");
    std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: lab <lab@localhost>\n{depends}Description: of the lab\n"
    );
    std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let to = desk.path().join(format!("debs/{name}_{version}_all.deb"));
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    let built = Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Znone", "-b"])
        .args([&tree, &to])
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
}

fn inventory(packages: &str, wanted: &str) -> String {
    format!(
        "cluster: cellar\nssh: {{ user: pi }}\n{packages}roles:\n  - base: {{ packages: [{wanted}] }}\nnodes:\n  rpi01: {{ address: 192.168.2.1 }}\n"
    )
}

#[test]
fn packages_come_from_a_folder_beside_the_inventory() {
    let only = "packages: { folder: debs, only: true }\n";
    let desk = Desk::new(&inventory(only, "lab-a"));
    deb(&desk, "lab-a", "1", "Depends: lab-b\n");
    deb(&desk, "lab-b", "1", "");
    desk.write("debs/lab-c_1_s390x.deb", "for other machines");
    let rig = Rig::up_from(desk, &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    let versions = || {
        let ask = "dpkg-query -W -f='${Package} ${Version} ' lab-a lab-b";
        rig.on("rpi01", ask).expect(0).out
    };
    assert_eq!(versions(), "lab-a 1 lab-b 1 ");
    let sources = rig.on("rpi01", "apt-cache policy").expect(0).out;
    assert!(
        sources.contains("file:/var/lib/picluster-packages") && !sources.contains("http"),
        "{sources}"
    );
    rig.on(
        "rpi01",
        "[ ! -e /var/lib/picluster-packages/lab-c_1_s390x.deb ]",
    )
    .expect(0);
    nothing_to_do(rig.run(&["apply", "--yes"]));

    // Another version takes the place of the first one.
    std::fs::remove_file(rig.desk.path().join("debs/lab-a_1_all.deb")).unwrap();
    deb(&rig.desk, "lab-a", "2", "Depends: lab-b\n");
    rig.desk
        .write("inventory.yaml", &inventory(only, "lab-a=2"));
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(versions(), "lab-a 2 lab-b 1 ");
    nothing_to_do(rig.run(&["apply", "--yes"]));

    // Without the folder nothing of it stays but what was installed.
    rig.desk.write("inventory.yaml", &inventory("", "lab-a"));
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(versions(), "lab-a 2 lab-b 1 ");
    rig.on("rpi01", "[ -z \"$(ls -A /var/lib/picluster-packages)\" ] && [ ! -e /etc/apt/sources.list.d/picluster.list ] && [ ! -e /etc/apt/apt.conf.d/99picluster-only ]")
        .expect(0);
    nothing_to_do(rig.run(&["apply", "--yes"]));
}
