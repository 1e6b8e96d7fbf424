//! A plan that is no longer true is refused step by step, and a plan file holds no secret.

use picluster_engine::Outcome;
use picluster_engine::report::SkipReason;
use picluster_plan::Plan;
use sha2::{Digest as _, Sha256};

use crate::rig::{Desk, Rig, ran};

const ROLE: &str = r#"
doc: Three files, one of which needs another.
resources:
  - file: { path: /srv/a, content: "a {{ vars.version }}\n" }
  - file: { path: /srv/b, content: "b {{ vars.version }}\n" }
    needs: ["file[/srv/a]"]
  - file: { path: /srv/c, content: "c {{ vars.version }}\n" }
"#;

const SECRET_ROLE: &str = r#"
doc: A file with a secret in it.
resources:
  - file: { path: /srv/token, content: "token={{ vars.token }}\n", mode: "0600" }
  - file: { path: /srv/plain, content: "plain\n" }
"#;

fn inventory(cluster: &str, vars: &str) -> String {
    format!(
        "cluster: {cluster}\nssh: {{ user: pi }}\nroles: [small]\nvars: {{ {vars} }}\nnodes:\n  rpi01: {{ address: 192.168.2.1 }}\n"
    )
}

#[test]
fn a_step_whose_ground_moved_is_refused_with_its_dependents_and_the_rest_is_done() {
    let desk = Desk::new(&inventory("stale", "version: 1"));
    desk.write("roles/small/role.yaml", ROLE);
    let rig = Rig::up_from(desk, &[]);
    rig.run(&["apply", "--yes"]).expect(0);
    rig.desk
        .write("inventory.yaml", &inventory("stale", "version: 2"));
    rig.run(&["plan", "--out", "today.plan"]).expect(0);
    rig.on("rpi01", "echo by hand > /srv/a").expect(0);

    let applied = rig
        .run(&["apply", "--yes", "--json", "today.plan"])
        .expect(5);
    assert!(matches!(
        applied.outcome("rpi01/small/file[/srv/a]"),
        Outcome::Stale { .. }
    ));
    let b = applied.outcome("rpi01/small/file[/srv/b]");
    assert!(
        matches!(&b, Outcome::Skipped(SkipReason::Needs(a)) if a.to_string() == "rpi01/small/file[/srv/a]"),
        "{b:?}"
    );
    assert_eq!(
        applied.outcome("rpi01/small/file[/srv/c]"),
        Outcome::Changed
    );
    assert_eq!(
        rig.on("rpi01", "cat /srv/a /srv/b /srv/c").out,
        "by hand\nb 1\nc 2\n"
    );

    // A plan whose every step is already done is no longer needed, and says so: nothing to refuse.
    rig.run(&["apply", "--yes"]).expect(0);
    let again = rig
        .run(&["apply", "--yes", "--json", "today.plan"])
        .expect(0);
    assert_eq!(
        again.outcome("rpi01/small/file[/srv/a]"),
        Outcome::Unchanged
    );
}

#[test]
fn a_plan_file_holds_no_secret_and_a_changed_secret_makes_it_stale() {
    const OLD: &str = "q7-Correct-Horse";
    const NEW: &str = "z9-Battery-Staple";
    let desk = Desk::new(&inventory("sealed", "token: not yet a secret"));
    desk.write("roles/small/role.yaml", SECRET_ROLE);
    let rig = Rig::up_from(desk, &[]);
    rig.desk.write(
        "inventory.yaml",
        &inventory("sealed", "token: { env: RACK_TOKEN }"),
    );
    let run = |token: &str, args: &[&str]| {
        ran(&rig.command(args).env("RACK_TOKEN", token).output().unwrap())
    };

    run(OLD, &["plan", "--out", "today.plan"]).expect(0);
    let text = std::fs::read_to_string(rig.desk.path().join("today.plan")).unwrap();
    assert!(!text.contains(OLD));
    assert!(
        text.contains("RACK_TOKEN"),
        "the reference stands in the plan"
    );
    // Nor anything that tells a guess right without the store's key.
    let content = format!("token={OLD}\n");
    for guess in [OLD, &content] {
        let digest = format!("{:x}", Sha256::digest(guess.as_bytes()));
        assert!(
            !text.contains(&digest[..16]),
            "an unkeyed digest of {guess:?} stands in the plan"
        );
    }
    let plan: Plan = serde_json::from_str(&text).unwrap();
    assert!(plan.steps.iter().all(|s| s.recorded.is_some()));

    let applied = run(NEW, &["apply", "--yes", "--json", "today.plan"]).expect(5);
    let token = applied.outcome("rpi01/small/file[/srv/token]");
    assert!(
        matches!(&token, Outcome::Stale { what } if what.contains("RACK_TOKEN")),
        "{token:?}"
    );
    assert_eq!(
        applied.outcome("rpi01/small/file[/srv/plain]"),
        Outcome::Changed
    );
    rig.on("rpi01", "[ ! -e /srv/token ]").expect(0);

    run(OLD, &["apply", "--yes", "today.plan"]).expect(0);
    assert_eq!(rig.on("rpi01", "cat /srv/token").out, content);
}
