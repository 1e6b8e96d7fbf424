//! `forget-key`: the pinned host key of one node, after its card was changed on purpose.

use picluster_engine::ExitCode;
use picluster_model::NodeName;
use picluster_ssh::{PinName, PinStore};

use crate::cli::ForgetKeyArgs;
use crate::error::Failure;
use crate::store::Store;
use crate::{ask, project, verbs};

/// Shows the pin, asks, and removes it. The next contact asks about the new key.
///
/// # Errors
/// An unknown node, a node without a pin, no consent.
pub fn run(args: &ForgetKeyArgs) -> Result<ExitCode, Failure> {
    let project = project::load_as_written(&args.source.inventory)?;
    let name = NodeName::new(args.node.as_str())
        .ok()
        .filter(|n| project.inventory.nodes.contains_key(n))
        .ok_or_else(|| {
            Failure::usage(format!(
                "there is no node {:?} in {}",
                args.node,
                args.source.inventory.display()
            ))
            .hint("nothing was forgotten; `picluster facts` lists the nodes")
        })?;
    let store = Store::of(&args.source.inventory, &project.inventory.cluster);
    let pins = PinStore::open(store.root()).map_err(|e| Failure::usage(e.to_string()))?;
    let pin_name = PinName::node(&name);
    let known = pins.get(&pin_name);
    let mut met = store.identities();
    if known.is_empty() && !met.contains_key(&name) {
        return Err(Failure::usage(format!("{name} has no pinned host key"))
            .hint("nothing was forgotten; the next contact asks"));
    }
    for pin in &known {
        verbs::print(&format!(
            "{name} is pinned to {}  {}\n",
            pin.fingerprint(),
            pin.note
        ));
    }
    if !args.yes
        && !ask::yes(&format!(
            "Was the card (or the board) of {name} changed on purpose?"
        ))
    {
        return Err(Failure::usage("not confirmed")
            .hint("nothing was forgotten; without a terminal say --yes"));
    }
    met.remove(&name);
    store.remember(&met)?;
    pins.remove(&pin_name)
        .map_err(|e| Failure::usage(e.to_string()))?;
    verbs::print(&format!(
        "forgotten; the next contact with {name} asks about its key\n"
    ));
    Ok(ExitCode::Done)
}
