//! `explain`: where a value comes from.

use std::fmt::Write as _;

use picluster_engine::ExitCode;
use picluster_model::vars::Var;
use picluster_model::{NodeName, Yaml, YamlKind};

use crate::cli::ExplainArgs;
use crate::error::Failure;
use crate::term::Style;
use crate::{project, verbs};

/// Shows a variable's or parameter's value and every place that gave one, the winner first.
///
/// # Errors
/// An unknown node or variable, with the known ones.
pub fn run(args: &ExplainArgs, style: Style) -> Result<ExitCode, Failure> {
    let project = project::load_as_written(&args.inventory)?;
    let node = NodeName::new(args.node.as_str())
        .ok()
        .and_then(|name| project.inventory.nodes.get(&name))
        .ok_or_else(|| {
            let names: Vec<&str> = project
                .inventory
                .nodes
                .keys()
                .map(NodeName::as_str)
                .collect();
            Failure::usage(format!("there is no node {:?}", args.node))
                .hint(format!("the inventory has {}", names.join(", ")))
        })?;
    let found: Option<&Var> = node.lookup(&args.var);
    let Some(var) = found else {
        let mut names: Vec<String> = node.vars.keys().map(ToString::to_string).collect();
        for role in &node.roles {
            names.extend(role.params.keys().map(|p| format!("{}.{p}", role.role)));
        }
        return Err(
            Failure::usage(format!("{} has no variable {:?}", node.name, args.var))
                .hint(format!("it has: {}", names.join(", "))),
        );
    };
    let mut out = format!("{} {}\n", style.bold(&args.var), text(&var.value));
    for (n, origin) in var.origin.iter().enumerate() {
        let mark = if n == 0 {
            style.green("wins")
        } else {
            style.dim("over")
        };
        let _ = writeln!(
            out,
            "  {mark}  {:<18} {}  {}",
            origin.level.to_string(),
            origin.span,
            text(&origin.value)
        );
    }
    verbs::print(&out);
    Ok(ExitCode::Done)
}

/// A value on one line, as YAML's flow style. Secrets stand in documents as references only.
fn text(value: &Yaml) -> String {
    match &value.kind {
        YamlKind::Null => "null".into(),
        YamlKind::Bool(b) => b.to_string(),
        YamlKind::Int(n) => n.to_string(),
        YamlKind::Float(n) => n.to_string(),
        YamlKind::String(s) => format!("{s:?}"),
        YamlKind::Seq(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            format!("[{}]", items.join(", "))
        }
        YamlKind::Map(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, _, value)| format!("{key}: {}", text(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}
