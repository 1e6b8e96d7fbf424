//! Invariant 4, the counter-test: after a green apply each resource is damaged by hand on the node;
//! plan shows exactly that, as drift; apply heals exactly that.

use picluster_plan::{Cause, Plan};

use crate::rig::{Desk, Rig};
use crate::unchanged::ROLE;

/// Damage, as root on the node, and the steps that heal it.
const DAMAGES: &[(&str, &[&str])] = &[
    ("rm -r /srv/app/ran", &["one/command[touch /srv/app/ran]"]),
    ("chmod 0700 /srv/app", &["one/directory[/srv/app]"]),
    ("chown nobody /srv/app", &["one/directory[/srv/app]"]),
    ("echo more >> /srv/app/conf", &["one/file[/srv/app/conf]"]),
    ("rm /srv/app/conf", &["one/file[/srv/app/conf]"]),
    ("chmod 0600 /srv/app/conf", &["one/file[/srv/app/conf]"]),
    ("chgrp adm /srv/app/conf", &["one/file[/srv/app/conf]"]),
    (
        "rm /srv/app/conf; ln -s /etc/hostname /srv/app/conf",
        &["one/file[/srv/app/conf]"],
    ),
    ("rm /srv/conf", &["one/link[/srv/conf]"]),
    ("ln -sfn /etc/hostname /srv/conf", &["one/link[/srv/conf]"]),
    (
        "sed -i /EDITOR/d /etc/environment",
        &["one/line[/etc/environment:EDITOR=vi]"],
    ),
    (
        "sed -i s/50M/60M/ /etc/systemd/journald.conf",
        &["one/ini[/etc/systemd/journald.conf:Journal.SystemMaxUse]"],
    ),
    (
        "sed -i '/nas$/d' /etc/hosts",
        &["one/block[/etc/hosts:rack]"],
    ),
    (
        "sed -i '/BEGIN picluster rack/,/END picluster rack/d' /etc/hosts",
        &["one/block[/etc/hosts:rack]"],
    ),
    ("hostname other", &["one/hostname[hostname]"]),
    ("echo other > /etc/hostname", &["one/hostname[hostname]"]),
    (
        "ln -sfn /usr/share/zoneinfo/UTC /etc/localtime",
        &["one/timezone[timezone]"],
    ),
    ("gpasswd -d olga operators", &["one/user[olga]"]),
    ("usermod -s /bin/sh olga", &["one/user[olga]"]),
    (
        "rm /home/olga/.ssh/authorized_keys",
        &["one/authorized_keys[olga]"],
    ),
    (
        "chmod 0666 /home/olga/.ssh/authorized_keys",
        &["one/authorized_keys[olga]"],
    ),
    (
        "dpkg --force-depends --purge less",
        &["one/package[less,procps,tzdata]"],
    ),
    ("systemctl disable ssh.service", &["one/unit[ssh.service]"]),
    (
        "rm /etc/ssh/sshd_config.d/10-x.conf",
        &[
            "one/file[/etc/ssh/sshd_config.d/10-x.conf]",
            "one/unit[ssh.service]",
        ],
    ),
];

fn plan(rig: &Rig) -> Plan {
    let ran = rig.run(&["plan", "--json"]).expect(0);
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {}", ran.out))
}

fn addrs(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|s| s.addr.local()).collect()
}

#[test]
fn every_damage_is_seen_and_healed_and_nothing_else() {
    let desk = Desk::new(
        "cluster: damage\nssh: { user: pi }\nroles: [one]\nnodes:\n  rpi01: { address: 192.168.2.1 }\n",
    );
    desk.write("roles/one/role.yaml", ROLE);
    let rig = Rig::up_from(desk, &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    assert_eq!(addrs(&plan(&rig)), Vec::<String>::new());
    let mut wrong = Vec::new();
    for (damage, expected) in DAMAGES {
        rig.on("rpi01", damage).expect(0);
        let seen = plan(&rig);
        if addrs(&seen) != *expected {
            wrong.push(format!(
                "after `{damage}` the plan shows {:?}",
                addrs(&seen)
            ));
        }
        // Nobody changed the documents: everything that is not a follow-up is drift. What was already
        // as desired when picluster first came (packages and units of the image) has no record.
        let found = |s: &picluster_plan::Step| matches!(s.addr.kind.as_str(), "package" | "unit");
        let named = |s: &picluster_plan::Step| match s.cause {
            Cause::Drift | Cause::Follows => true,
            Cause::New => found(s),
            Cause::Intent | Cause::Unfinished | Cause::Removed => false,
        };
        if let Some(step) = seen.steps.iter().find(|s| !named(s)) {
            wrong.push(format!(
                "after `{damage}` {} is called {:?}",
                step.addr, step.cause
            ));
        }
        let healed = rig.run(&["apply", "--yes"]);
        if healed.code != 0 {
            wrong.push(format!(
                "after `{damage}` apply ended with {}:\n{}{}",
                healed.code, healed.out, healed.err
            ));
        }
        let left = addrs(&plan(&rig));
        if !left.is_empty() {
            wrong.push(format!(
                "after `{damage}` and apply the plan still shows {left:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!("{} kinds of damage seen and healed", DAMAGES.len());
}
