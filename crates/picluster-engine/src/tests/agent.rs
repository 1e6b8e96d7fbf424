//! The agent and its protocol, under every shell a node may have.

use picluster_resource::facts::RootAccess;
use picluster_resource::{NodePath, Query};

use super::kit::{Rig, node};
use crate::run::Access;

/// Shells that stand in for `/bin/sh`.
fn shells() -> Vec<&'static str> {
    ["dash", "bash --posix", "busybox sh"]
        .into_iter()
        .filter(|shell| {
            let name = shell.split(' ').next().unwrap_or("");
            let found = std::process::Command::new(name).arg("--help").output().is_ok();
            assert!(found || name == "busybox", "{name} is needed for this test");
            found
        })
        .collect()
}

pub fn root() -> Access {
    Access {
        root: RootAccess::IsRoot,
        password: None,
    }
}

#[tokio::test]
async fn facts_and_probes_take_one_session_and_two_round_trips() {
    for shell in shells() {
        let rig = Rig::with(|c, _| c.shell = Some(shell.into()));
        let pi = node("pi");
        let (facts, peer) = rig.engine.facts(&pi).await.unwrap();
        assert!(!facts.arch.kernel.is_empty(), "{shell}");
        assert_eq!(peer.user, "me");
        let file = rig.path("text");
        std::fs::write(&file, "a\n\n").unwrap();
        let path = NodePath::new(file.display().to_string()).unwrap();
        let answers = rig
            .engine
            .probe(&pi, &root(), vec![Query::Text(path.clone())])
            .await
            .unwrap();
        assert_eq!(answers.text(&path), Ok(Some("a\n\n")), "{shell}");
        let count = rig.engine.counters().total();
        assert_eq!((count.connections, count.execs, count.round_trips), (1, 1, 2), "{shell}");
    }
}
