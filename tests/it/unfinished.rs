//! Why something differs: what an earlier run began and did not finish, and what somebody changed in
//! a secret, are not called drift; what leaves the documents is taken up by who read it.

use picluster_plan::{Cause, Plan};

use crate::rig::{Desk, Rig};

const INVENTORY: &str = "
cluster: unfinished
ssh: { user: pi }
roles: [small]
nodes:
  rpi01: { address: 192.168.2.1 }
";

const ROLE: &str = r#"
doc: A step that fails until it is let, one that waits, a file with a secret, and a drop-in of sshd.
resources:
  - command: { name: fails, run: "touch /srv/tried; test -e /srv/ok; touch /srv/made", creates: /srv/made }
  - command: { name: slow, run: "touch /run/begun; until [ -e /run/go ]; do sleep 0.1; done; touch /srv/slow", creates: /srv/slow }
    needs: ["command[fails]"]
  - file: { path: /srv/token, content: "{{ vars.token }}\n", mode: "0600" }
  - file: { path: /etc/ssh/sshd_config.d/50-x.conf, content: "MaxAuthTries 5\n" }
  - unit: { name: ssh.service, reload_on: [/etc/ssh/sshd_config.d/50-x.conf] }
"#;

const VARS: &str = "vars: { token: { command: [cat, token] } }\n";

fn plan(rig: &Rig, token: &str) -> Plan {
    rig.desk.write("token", token);
    let ran = rig.run(&["plan", "--json"]).expect(0);
    serde_json::from_str(&ran.out).unwrap()
}

fn causes(plan: &Plan) -> Vec<(String, Cause)> {
    let steps = plan.steps.iter();
    steps.map(|s| (s.addr.local(), s.cause)).collect()
}

#[test]
fn what_was_begun_is_not_called_drift_nor_is_a_new_secret() {
    let desk = Desk::new(&format!("{INVENTORY}{VARS}"));
    desk.write("roles/small/role.yaml", ROLE);
    desk.write("token", "one");
    let rig = Rig::up_from(desk, &[]);
    let apply = |token: &str, code: i32| {
        rig.desk.write("token", token);
        rig.run(&["apply", "--yes"]).expect(code)
    };
    let fails = || "small/command[fails]".to_owned();
    let slow = || "small/command[slow]".to_owned();

    apply("one", 3);
    let again = plan(&rig, "one");
    assert_eq!(
        causes(&again),
        [(fails(), Cause::Unfinished), (slow(), Cause::New)]
    );
    assert!(again.steps[0].begun.is_some_and(|at| at > 1_700_000_000));
    let words = rig.run(&["plan"]).expect(0);
    assert!(
        words.out.contains("unfinished: begun on 2"),
        "{}",
        words.out
    );

    // A controller that is killed in the middle, and a node that loses its power there.
    rig.on("rpi01", "touch /srv/ok").expect(0);
    let mut run = rig.start(&["apply", "--yes", "--json"]);
    run.until_started("rpi01/small/command[slow]");
    rig.until("rpi01", "[ -e /run/begun ]");
    run.kill();
    drop(run);
    rig.lab.kill("rpi01").unwrap();
    rig.lab.start("rpi01", picluster_lab::Wait::Ready).unwrap();
    assert_eq!(causes(&plan(&rig, "one")), [(slow(), Cause::Unfinished)]);
    rig.on("rpi01", "touch /run/go").expect(0);
    apply("one", 0);
    assert_eq!(causes(&plan(&rig, "one")), []);
    rig.on(
        "rpi01",
        "[ -z \"$(find /var/lib/picluster/owned -name '*.begun')\" ]",
    )
    .expect(0);

    // Drift is drift, a new value is intent.
    let token = || "small/file[/srv/token]".to_owned();
    assert_eq!(causes(&plan(&rig, "two")), [(token(), Cause::Intent)]);
    rig.on("rpi01", "echo x > /srv/token").expect(0);
    assert_eq!(causes(&plan(&rig, "one")), [(token(), Cause::Drift)]);
    apply("two", 0);
    rig.on("rpi01", "echo x > /srv/token").expect(0);
    assert_eq!(causes(&plan(&rig, "two")), [(token(), Cause::Drift)]);
    apply("two", 0);

    // The role leaves, and with it the unit that read the drop-in: sshd takes that up all the same.
    let effective = "sshd -T | grep -i '^maxauthtries'";
    assert_eq!(rig.on("rpi01", effective).out, "maxauthtries 5\n");
    rig.on(
        "rpi01",
        "journalctl --rotate -q; journalctl --sync; date +%s > /run/then",
    )
    .expect(0);
    rig.desk
        .write("inventory.yaml", &INVENTORY.replace("roles: [small]\n", ""));
    let gone = plan(&rig, "two");
    assert_eq!(
        causes(&gone).last(),
        Some(&("picluster/unit[ssh.service]".to_owned(), Cause::Follows))
    );
    apply("two", 0);
    rig.until(
        "rpi01",
        "journalctl -q -u ssh.service --since @$(cat /run/then) -o cat | grep -qi reload",
    );
    rig.on("rpi01", "[ -z \"$(ls /run/picluster/pending)\" ]")
        .expect(0);
    assert_eq!(causes(&plan(&rig, "two")), []);
}
