//! `lab status`: what runs, of one lab or of all.

use picluster_engine::ExitCode;
use picluster_lab::{Lab, NodeStatus, Power};

use crate::cli::LabMaybe;
use crate::error::Failure;
use crate::term::{Style, count};
use crate::verbs;
use crate::verbs::lab::home::Home;
use crate::verbs::lab::{failure, options, which};

/// Shows a lab's nodes; without an inventory, all labs.
///
/// # Errors
/// When the named lab does not run or does not answer.
pub fn run(args: &LabMaybe, style: Style) -> Result<ExitCode, Failure> {
    let text = match &args.inventory {
        Some(which) => {
            let lab = which::open(which)?;
            nodes(&lab.status().map_err(failure)?, style)
        }
        None => all(style)?,
    };
    verbs::print(&text);
    Ok(ExitCode::Done)
}

fn nodes(nodes: &[NodeStatus], style: Style) -> String {
    nodes
        .iter()
        .map(|node| {
            let power = match node.power {
                Power::On if node.cut => style.yellow("cut off"),
                Power::On => style.green("on"),
                Power::Off => style.red("off"),
                Power::Absent => style.dim("absent"),
            };
            format!(
                "{}  {power}  {}@{}:{}  {}{}\n",
                style.bold(&node.name),
                node.user,
                node.address,
                node.ssh_port,
                count(node.boots as usize, "boot"),
                node.note
                    .as_deref()
                    .map(|n| format!("  {n}"))
                    .unwrap_or_default(),
            )
        })
        .collect()
}

fn all(style: Style) -> Result<String, Failure> {
    let options = options()?;
    let mut labs = Vec::new();
    for name in Lab::running(&options) {
        // One that ends at this very moment is no lab any more.
        let Some(status) = Lab::open(&name, &options)
            .ok()
            .and_then(|lab| lab.status().ok())
        else {
            continue;
        };
        let inventory = Home::inventory_of(&name, &options).map(|p| p.display().to_string());
        labs.push((name, inventory, status));
    }
    Ok(list(&labs, style))
}

/// One line a lab.
fn list(labs: &[(String, Option<String>, Vec<NodeStatus>)], style: Style) -> String {
    if labs.is_empty() {
        return "no lab is running; start one: picluster lab up INVENTORY\n".into();
    }
    let widest = labs.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let lines: String = labs
        .iter()
        .map(|(name, inventory, nodes)| {
            let on = nodes.iter().filter(|n| n.power == Power::On).count();
            format!(
                "{}  {on} of {} on  {}\n",
                style.bold(&format!("{name:widest$}")),
                count(nodes.len(), "node"),
                inventory.as_deref().unwrap_or("(inventory not known)"),
            )
        })
        .collect();
    format!("{lines}\npicluster lab status|down takes the inventory or the lab's name\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn node(name: &str, power: Power) -> NodeStatus {
        NodeStatus {
            name: name.into(),
            address: "192.168.2.1".parse().unwrap(),
            ssh_port: 22,
            user: "pi".into(),
            power,
            cut: name == "rpi02",
            boots: 1,
            init_pid: None,
            note: (power == Power::Off).then(|| "it powered itself off".into()),
        }
    }

    #[test]
    fn what_is_shown() {
        let rack = vec![
            node("rpi01", Power::On),
            node("rpi02", Power::On),
            node("rpi03", Power::Off),
            node("rpi04", Power::Absent),
        ];
        let labs = [
            (
                "homelab-1a2b3c4d".into(),
                Some("/home/u/rack/inventory.yaml".into()),
                rack.clone(),
            ),
            ("old".into(), None, vec![node("a", Power::On)]),
        ];
        let style = Style::plain(100);
        insta::assert_snapshot!(format!(
            "{}\n---\n{}\n---\n{}",
            nodes(&rack, style),
            list(&labs, style),
            list(&[], style)
        ));
    }
}
