//! picluster is killed with SIGKILL at every step boundary and inside every step, and the next apply brings the
//! nodes to the very state that an uninterrupted run brings them to.
//!
//! By default a few points, drawn with a seed that is printed and that `PICLUSTER_SEED` sets; `PICLUSTER_FULL=1`
//! goes through all of them.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use picluster_engine::{EventKind, Outcome};
use picluster_lab::{EntryKind, Wait};

use crate::rig::{Desk, Rig};

/// How many points the default suite goes through.
const SAMPLE: usize = 4;

const NODES: [&str; 2] = ["rpi01", "rpi02"];

/// One step of every kind that changes a node, with a reboot at its end.
const ROLE: &str = r#"
doc: The reference of the sweep.
resources:
  - directory: { path: /srv/app, mode: "0750" }
  - file: { path: /srv/app/conf, content: "hello {{ node.name }}\n", mode: "0640" }
  - link: { path: /srv/conf, target: /srv/app/conf }
  - line: { path: /etc/environment, line: "EDITOR=vi" }
  - ini: { path: /etc/systemd/journald.conf, section: Journal, key: SystemMaxUse, value: 50M }
  - block: { path: /etc/hosts, name: rack, content: "192.0.2.9 nas\n" }
  - hostname: { name: "{{ node.name }}" }
  - timezone: { name: Europe/Berlin }
  - group: { name: operators }
  - user: { name: olga, groups: [operators], shell: /bin/bash }
  - authorized_keys: { user: olga, keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA olga"] }
  - package: { names: [sweeper] }
  - file: { path: /etc/ssh/sshd_config.d/10-x.conf, content: "X11Forwarding no\n", validate: "sshd -t -f {}" }
  - unit: { name: ssh.service, active: true, reload_on: [/etc/ssh/sshd_config.d/10-x.conf] }
  - file: { path: /etc/systemd/system/beacon.service, content: "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n" }
  - unit: { name: beacon.service, active: true, enabled: true }
  - command: { name: slow, run: "sleep 0.3; echo ran >> /srv/app/ran", creates: /srv/app/ran }
  - kernel_cmdline: { tokens: { present: [cgroup_enable=memory] }, controllers: [memory] }
"#;

/// What differs between two uninterrupted runs on fresh cards, or is written by others while a node runs.
fn is_noise(path: &str) -> bool {
    const FILES: [&str; 16] = [
        // Made anew at the first boot of every card.
        "/etc/machine-id",
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssh/ssh_host_ed25519_key.pub",
        "/var/lib/dbus/machine-id",
        "/var/lib/systemd/random-seed",
        "/var/lib/systemd/credential.secret",
        // systemd-update-done: when /usr was made, another time for each card.
        "/etc/.updated",
        "/var/.updated",
        // Logs carry times.
        "/var/log/dpkg.log",
        "/var/log/alternatives.log",
        "/var/log/apt/history.log",
        "/var/log/apt/term.log",
        "/var/log/apt/eipp.log.xz",
        // apt's binary caches hold times and offsets; they are made again from the lists when they do not fit.
        "/var/cache/apt/pkgcache.bin",
        "/var/cache/apt/srcpkgcache.bin",
        // ldconfig's cache of inode numbers and times.
        "/var/cache/ldconfig/aux-cache",
    ];
    // PrivateTmp= directories of services carry the boot id in their names.
    FILES.contains(&path)
        || path.starts_with("/var/tmp/systemd-private-")
        || crate::unchanged::is_noise(path)
}

/// Everything on a node that is to be the same: kind, mode, owner, group, content.
type State = BTreeMap<String, (EntryKind, u32, u32, u32, String)>;

fn state(rig: &Rig, node: &str) -> State {
    rig.lab
        .outside_listing(node)
        .unwrap()
        .into_iter()
        .filter(|e| !is_noise(&e.path))
        .map(|e| (e.path, (e.kind, e.mode, e.uid, e.gid, e.sha256)))
        .collect()
}

fn differences(wanted: &State, found: &State) -> Vec<String> {
    let mut all = Vec::new();
    for path in wanted
        .keys()
        .chain(found.keys().filter(|p| !wanted.contains_key(*p)))
    {
        let (a, b) = (wanted.get(path), found.get(path));
        if a != b {
            all.push(format!("{path}: {a:?} in the uninterrupted run, {b:?} now"));
        }
    }
    all
}

/// Where the program is killed: as soon as it has said that its n-th step started or ended.
#[derive(Debug, Clone, Copy)]
enum Point {
    Started(usize),
    Finished(usize),
}

/// Makes a repository of one tiny package on a node; returns the script that makes the very same one anywhere.
/// The real archive's lists take apt many seconds to read on each new card, and are tried by other tests.
fn repository(rig: &Rig) -> String {
    let made = rig.on(
        "rpi01",
        "set -e; cd \"$(mktemp -d)\"; mkdir -p p/DEBIAN p/usr/share/sweeper repo
        printf 'Package: sweeper\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: none <none@example.org>\\nDescription: swept\\n' > p/DEBIAN/control
        echo swept > p/usr/share/sweeper/file
        dpkg-deb --root-owner-group -b p repo/sweeper.deb >/dev/null
        { cat p/DEBIAN/control; echo Filename: ./sweeper.deb; echo Size: $(stat -c %s repo/sweeper.deb); echo SHA256: $(sha256sum < repo/sweeper.deb | cut -d' ' -f1); } > repo/Packages
        tar c repo | base64 -w0",
    )
    .expect(0)
    .out;
    format!(
        "set -e; cd /opt; echo {made} | base64 -d | tar x
        rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
        echo 'deb [trusted=yes] file:/opt/repo ./' > /etc/apt/sources.list.d/local.list"
    )
}

fn blank(rig: &Rig, repository: &str) {
    std::thread::scope(|scope| {
        for node in NODES {
            scope.spawn(move || {
                rig.lab.wipe(node, Wait::Ready).unwrap();
                rig.on(node, repository).expect(0);
            });
        }
    });
    // New cards have new keys; this is a first contact again.
    let _ = fs::remove_dir_all(rig.store());
}

/// Runs an apply up to a point. Says whether a reboot was under way, or what went wrong before that point.
fn killed_at(rig: &Rig, point: Point) -> Result<bool, String> {
    let mut run = rig.start(&["apply", "--yes", "--json"]);
    let (mut started, mut finished, mut rebooting) = (0, 0, false);
    while let Some(event) = run.event() {
        match &event {
            EventKind::StepStarted { addr } => {
                started += 1;
                rebooting |= addr.kind == "reboot";
            }
            EventKind::StepFinished { outcome, .. } => {
                if outcome != &Outcome::Changed {
                    return Err(format!("before it was killed: {event:?}"));
                }
                finished += 1;
            }
            _ => continue,
        }
        let here = match point {
            Point::Started(n) => matches!(event, EventKind::StepStarted { .. }) && started == n,
            Point::Finished(n) => matches!(event, EventKind::StepFinished { .. }) && finished == n,
        };
        if here {
            run.kill();
            break;
        }
    }
    match run.end().code {
        -1 | 0 => Ok(rebooting),
        code => Err(format!("it ended with {code} before it was killed")),
    }
}

/// The next apply. Where a reboot was under way, a node may go away below it: an outcome as any other, and
/// the one after carries on.
fn carry_on(rig: &Rig, rebooting: bool) -> Result<(), String> {
    let mut tries = if rebooting { 3 } else { 1 };
    loop {
        for node in NODES {
            rig.lab
                .wait_ready(node, std::time::Duration::from_secs(30))
                .unwrap();
        }
        let run = rig.run(&["apply", "--yes"]);
        tries -= 1;
        if tries > 0 && matches!(run.code, 3 | 4) {
            continue;
        }
        if run.code == 0 {
            return Ok(());
        }
        return Err(format!(
            "the next apply ended with {}\nstdout:\n{}\nstderr:\n{}",
            run.code, run.out, run.err
        ));
    }
}

fn rig() -> Rig {
    let desk = Desk::new(
        "cluster: sweep\nssh: { user: pi }\nroles: [reference]\nnodes:\n  rpi01: { address: 192.168.2.1 }\n  rpi02: { address: 192.168.2.2 }\n",
    );
    desk.write("roles/reference/role.yaml", ROLE);
    Rig::up_from(desk, &["rpi02=rpi-os-bookworm"])
}

/// What is wrong after a kill at this point and one more apply.
fn tried(rig: &Rig, repository: &str, point: Point, wanted: &[State; 2]) -> Vec<String> {
    blank(rig, repository);
    if let Err(why) = killed_at(rig, point).and_then(|rebooting| carry_on(rig, rebooting)) {
        return vec![format!("{point:?}: {why}")];
    }
    let mut wrong = Vec::new();
    for (node, wanted) in NODES.iter().zip(wanted) {
        let found = differences(wanted, &state(rig, node));
        if !found.is_empty() {
            wrong.push(format!("{point:?} on {node}:\n  {}", found.join("\n  ")));
        }
    }
    wrong
}

#[test]
fn killed_at_any_point_the_next_apply_reaches_the_same_state() {
    let rig = rig();
    let repository = repository(&rig);
    blank(&rig, &repository);
    let whole = rig.run(&["apply", "--yes", "--json"]).expect(0);
    let steps = whole
        .events()
        .iter()
        .filter(|e| matches!(e, EventKind::StepStarted { .. }))
        .count();
    assert!(steps >= 2 * 18, "{steps} steps");
    let wanted = NODES.map(|node| state(&rig, node));

    let all: Vec<Point> = (1..=steps)
        .flat_map(|n| [Point::Started(n), Point::Finished(n)])
        .collect();
    let full = is_full();
    let points = if full { all.clone() } else { sample(&all) };
    eprintln!("sweep: {} of {} points", points.len(), all.len());
    // Most of a point's time is waiting: for reboots, and for what was left running.
    let rigs: Vec<Rig> = std::iter::once(rig)
        .chain((1..if full { 3 } else { 2 }).map(|_| self::rig()))
        .collect();
    let queue = Mutex::new(points.into_iter());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for rig in &rigs {
            scope.spawn(|| {
                loop {
                    let Some(point) = queue.lock().unwrap().next() else {
                        break;
                    };
                    let found = tried(rig, &repository, point, &wanted);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether the whole suite is run.
pub fn is_full() -> bool {
    std::env::var_os("PICLUSTER_FULL").is_some_and(|v| v == "1")
}

/// Draws numbers below a bound; the seed is printed, and `PICLUSTER_SEED` sets it.
pub fn seeded(what: &str) -> impl FnMut(usize) -> usize {
    let mut state = std::env::var("PICLUSTER_SEED")
        .ok()
        .and_then(|s| s.parse::<u64>().ok())
        .unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            now.as_secs() * 1_000 + u64::from(now.subsec_millis())
        });
    eprintln!("{what}: PICLUSTER_SEED={state}");
    move |bound| {
        // splitmix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        usize::try_from(z % bound as u64).unwrap()
    }
}

/// Some of the points, as the seed has it.
fn sample(all: &[Point]) -> Vec<Point> {
    let mut draw = seeded("sweep");
    // One point of every part of the run, so that a few points still see all of it.
    let part = all.len() / SAMPLE;
    (0..SAMPLE).map(|i| all[i * part + draw(part)]).collect()
}

const UNITS: &str = r#"
doc: Two units, one that restarts and one that reloads when its file changes, with a step before them that waits to be let go.
resources:
  - file: { path: /srv/restarts, content: "{{ vars.version }}\n" }
  - file: { path: /srv/reloads, content: "{{ vars.version }}\n" }
  - command: { name: slow, run: "touch /srv/begun; until [ -e /run/go ]; do sleep 0.1; done; echo {{ vars.version }} > /srv/slow", probe: "grep -qx {{ vars.version }} /srv/slow" }
    needs: ["file[/srv/restarts]", "file[/srv/reloads]"]
  - file: { path: /etc/systemd/system/restarts.service, content: "[Service]\nExecStart=/bin/sh -c 'cp /srv/restarts /run/restarts; exec sleep infinity'\n" }
  - file: { path: /etc/systemd/system/reloads.service, content: "[Service]\nExecStart=/bin/sh -c 'cp /srv/reloads /run/reloads; exec sleep infinity'\nExecReload=/bin/cp /srv/reloads /run/reloads\n" }
  - unit: { name: restarts.service, active: true, restart_on: [/srv/restarts] }
    needs: ["command[slow]"]
  - unit: { name: reloads.service, active: true, reload_on: [/srv/reloads] }
    needs: ["command[slow]"]
"#;

#[test]
fn killed_between_a_changed_file_and_the_restart_of_its_unit_the_next_apply_restarts_it() {
    let inventory = |version: u32| {
        format!(
            "cluster: pending\nssh: {{ user: pi }}\nroles: [units]\nvars: {{ version: {version} }}\nnodes:\n  rpi01: {{ address: 192.168.2.1 }}\n"
        )
    };
    let desk = Desk::new(&inventory(1));
    desk.write("roles/units/role.yaml", UNITS);
    let rig = Rig::up_from(desk, &[]);
    rig.on("rpi01", "touch /run/go").expect(0);
    rig.run(&["apply", "--yes"]).expect(0);
    let invocation = |unit: &str| {
        rig.on(
            "rpi01",
            &format!("systemctl show -p InvocationID --value {unit}"),
        )
        .expect(0)
        .out
    };
    let (restarts, reloads) = (invocation("restarts"), invocation("reloads"));
    assert_eq!(
        rig.on("rpi01", "cat /run/restarts /run/reloads").out,
        "1\n1\n"
    );

    rig.on("rpi01", "rm /srv/begun /run/go").expect(0);
    rig.desk.write("inventory.yaml", &inventory(2));
    let mut run = rig.start(&["apply", "--yes", "--json"]);
    run.until_started("rpi01/units/command[slow]");
    rig.until("rpi01", "[ -e /srv/begun ]");
    run.kill();
    drop(run);
    rig.on("rpi01", "touch /run/go").expect(0);
    rig.until_quiet("rpi01");
    // The files are new, the units have not noticed.
    assert_eq!(
        rig.on(
            "rpi01",
            "cat /srv/restarts /srv/reloads /run/restarts /run/reloads"
        )
        .out,
        "2\n2\n1\n1\n"
    );
    assert_eq!(
        (invocation("restarts"), invocation("reloads")),
        (restarts.clone(), reloads.clone())
    );

    let plan = rig.run(&["plan", "--detailed-exitcode"]).expect(2);
    assert!(
        plan.out.contains("restarts.service") && plan.out.contains("reloads.service"),
        "{}",
        plan.out
    );
    let next = rig.run(&["apply", "--yes", "--json"]).expect(0);
    assert_eq!(
        next.outcome("rpi01/units/unit[restarts.service]"),
        Outcome::Changed
    );
    assert_eq!(
        next.outcome("rpi01/units/unit[reloads.service]"),
        Outcome::Changed
    );
    assert_eq!(
        rig.on("rpi01", "cat /run/restarts /run/reloads").out,
        "2\n2\n"
    );
    assert_ne!(invocation("restarts"), restarts, "it was restarted");
    assert_eq!(invocation("reloads"), reloads, "a reload is not a restart");
    assert!(
        rig.run(&["apply", "--yes"])
            .expect(0)
            .out
            .contains("Nothing to do")
    );
}
