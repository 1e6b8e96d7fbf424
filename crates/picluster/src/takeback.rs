//! Ends what a run that was killed left open: a guarded change that nobody will confirm any more.
//!
//! The node would take it back by itself when its time is up. A run that is about to change the node does not wait for
//! that: it has the change taken back now, and plans from what is there then.

use picluster_engine::Engine;

use crate::survey::Survey;
use crate::term::Style;
use crate::verbs;

/// Has every open change taken back. Says whether any was, so that a new look is worth while.
pub(crate) async fn open_guards(engine: &Engine, found: &Survey, err: Style) -> bool {
    let mut any = false;
    for node in &found.open_guards {
        let access = found.access.get(node).cloned().unwrap_or_default();
        if engine.take_back(node, &access).await {
            any = true;
            verbs::say(&format!(
                "{} {node}: an earlier run broke off in the middle of a guarded change; it is taken back\n",
                err.yellow("!")
            ));
        }
    }
    any
}
