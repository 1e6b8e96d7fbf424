//! Where a secret may be: in the file it belongs into and on the standard input it was meant for.

use picluster_model::secret::{Secret, SecretRef};
use picluster_resource::Resource;
use picluster_resource::program::sha256_hex;

use super::kit::Rig;
use crate::event::Event;
use crate::journal::Journal;
use crate::report::Outcome;

/// Nothing else on this machine is called that.
const VALUE: &str = "Zebra'9\"q$Lantern";

#[tokio::test]
async fn a_secret_is_in_no_plan_event_journal_or_list_of_processes() {
    let mut rig = Rig::new();
    let secret = SecretRef::Env("TOKEN".into());
    rig.secrets
        .0
        .insert(secret.clone(), Secret::new(VALUE.into()));
    let at = |name: &str| rig.path(name).display().to_string();
    let command = |name: &str, run: String| -> Resource {
        let json = serde_json::json!({"command": {"name": name, "run": run, "creates": at(name), "stdin": secret.placeholder()}});
        serde_json::from_value(json).unwrap()
    };
    std::fs::write(rig.path("file"), VALUE).unwrap();
    let content = format!("token={}\n", secret.placeholder());
    let resources = vec![
        rig.file("file", &content),
        // What everybody on the node could see while it runs.
        command(
            "seen",
            format!(
                "cat > {}; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ > {} 2>/dev/null || :",
                at("taken"),
                at("seen")
            ),
        ),
        command("chatty", "cat; cat >&2; exit 3".into()),
    ];
    let plan = rig.plan(&[("pi", resources)]).await;
    assert_eq!(plan.steps.len(), 3);

    let (run, mut received, _cancel) = rig.run("r1");
    let run_debug = format!("{:?} {:?}", run.secrets, run.key);
    let report = rig.engine.apply(&plan, run).await;
    let mut journal = Journal::create(rig.dir.path(), "journal").unwrap();
    let mut events: Vec<Event> = Vec::new();
    while let Ok(event) = received.try_recv() {
        journal.write(&event).unwrap();
        events.push(event);
    }
    let steps = &report.nodes.values().next().unwrap().steps;
    assert_eq!(rig.read("file"), Some(format!("token={VALUE}\n")));
    assert_eq!(
        rig.read("taken").as_deref(),
        Some(VALUE),
        "it reached the command"
    );
    assert!(
        matches!(&steps[2].outcome, Outcome::Failed(f) if f.output.contains("(sensitive)")),
        "{steps:?}"
    );
    let processes = String::from_utf8_lossy(&std::fs::read(rig.path("seen")).unwrap()).into_owned();
    assert!(processes.contains("sh"), "{processes}");

    let plan_file = serde_json::to_string(&plan).unwrap();
    let places = [
        ("the plan file", plan_file.clone()),
        ("the plan", format!("{plan:?}")),
        (
            "the events",
            format!("{} {events:?}", serde_json::to_string(&events).unwrap()),
        ),
        ("the report", format!("{report:?}")),
        ("the run", run_debug),
        (
            "the journal",
            std::fs::read_to_string(journal.path()).unwrap(),
        ),
        ("the list of processes", processes),
        ("the ownership records", all_below(&rig.path("owned/@@@@"))),
    ];
    let json = serde_json::to_string(VALUE).unwrap();
    for (place, text) in places {
        for spelling in [VALUE, json.trim_matches('"'), "Zebra'9", "q$Lantern"] {
            assert!(!text.contains(spelling), "the secret is in {place}: {text}");
        }
    }
    // A digest that needs no key would tell a right guess from a wrong one.
    for guess in [VALUE.to_owned(), format!("token={VALUE}\n")] {
        let digest = sha256_hex(guess.as_bytes());
        assert!(
            !plan_file.contains(&digest[..12]),
            "the plan file tells guesses of {guess} right"
        );
    }
}

fn all_below(dir: &std::path::Path) -> String {
    let files = std::fs::read_dir(dir).unwrap().flatten();
    files
        .map(|f| std::fs::read_to_string(f.path()).unwrap())
        .collect()
}
