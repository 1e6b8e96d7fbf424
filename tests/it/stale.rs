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

/// A plan file is for the very places of its inventory, and for the store that made it: said before
/// anybody is dialled (the addresses are of a network for documentation, nobody would answer).
#[test]
fn a_plan_for_other_nodes_or_of_another_store_is_refused_up_front() {
    use crate::rig::Desk;
    let inventory = |one: &str| {
        format!(
            "cluster: moved\nssh: {{ user: pi, connect_timeout: 1 }}\nnodes:\n  rpi01: {{ address: {one} }}\n  rpi02: {{ address: 192.0.2.2 }}\n"
        )
    };
    let desk = Desk::new(&inventory("192.0.2.1"));
    desk.run(&["plan", "--out", "today.plan"]).expect(4);
    let plan = desk.path().join("today.plan");
    let stranger = Desk::new(&inventory("192.0.2.1"));

    desk.write(
        "inventory.yaml",
        &inventory("192.0.2.9").replace("  rpi02: { address: 192.0.2.2 }\n", ""),
    );
    let moved = desk.run(&["apply", "--yes", "today.plan"]).expect(5);
    assert_eq!(moved.out, "");
    let shown = moved.err.replace(
        &desk.path().canonicalize().unwrap().display().to_string(),
        "[desk]",
    );
    insta::assert_snapshot!(shown);

    // The same documents elsewhere, with a store of their own.
    desk.write("inventory.yaml", &inventory("192.0.2.1"));
    let text = std::fs::read_to_string(&plan).unwrap();
    let here = |d: &Desk| d.path().canonicalize().unwrap().display().to_string();
    stranger.write("today.plan", &text.replace(&here(&desk), &here(&stranger)));
    let other = stranger.run(&["apply", "--yes", "today.plan"]).expect(5);
    assert_eq!(other.out, "");
    insta::assert_snapshot!(other.err);

    // The file alone, without the inventory it names.
    stranger.write("gone.plan", &text.replace(&here(&desk), "/nowhere"));
    let gone = stranger.run(&["apply", "--yes", "gone.plan"]).expect(1);
    insta::assert_snapshot!(gone.err);

    // With the store and the documents it was made with it is taken.
    desk.run(&["apply", "--yes", "today.plan"]).expect(4);
}
