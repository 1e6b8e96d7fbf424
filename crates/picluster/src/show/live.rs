//! What people see while an apply runs: one living line a node on a terminal, plain lines
//! elsewhere, the bare events with `--json`.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use picluster_engine::{Event, EventKind, NodeEnd, Outcome};
use picluster_model::NodeName;
use picluster_plan::Plan;

use crate::term::{Style, bytes};

/// Where events go.
pub enum Screen {
    /// A living line a node, on stderr.
    Live(Box<Live>),
    /// A line an event worth one, on stderr.
    Plain(Style),
    /// JSON lines on stdout.
    Json,
}

impl Screen {
    /// For a run of this plan: JSON where it was asked for, living lines where stderr is a terminal.
    #[must_use]
    pub fn of(json: bool, plan: &Plan, style: Style) -> Self {
        if json {
            Self::Json
        } else if std::io::stderr().is_terminal() {
            Self::Live(Box::new(Live::new(plan, style)))
        } else {
            Self::Plain(style)
        }
    }
}

/// The living lines.
pub struct Live {
    bars: MultiProgress,
    nodes: BTreeMap<NodeName, Lane>,
    style: Style,
}

struct Lane {
    bar: ProgressBar,
    done: usize,
    total: usize,
}

/// More nodes than this share the lines of those that work: a terminal has 24.
const LANES: usize = 18;

impl Live {
    /// Lanes for the nodes that have something to do.
    #[must_use]
    pub fn new(plan: &Plan, style: Style) -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let mut nodes: BTreeMap<NodeName, Lane> = BTreeMap::new();
        for step in &plan.steps {
            let shown = nodes.len() < LANES;
            let lane = nodes.entry(step.addr.node.clone()).or_insert_with(|| {
                let bar = ProgressBar::new_spinner();
                let bar = if shown { bars.add(bar) } else { bar };
                if !shown {
                    bar.set_draw_target(ProgressDrawTarget::hidden());
                }
                if let Ok(template) =
                    ProgressStyle::with_template("{prefix} {spinner} {wide_msg} {elapsed:>5}")
                {
                    bar.set_style(template.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
                }
                bar.enable_steady_tick(Duration::from_millis(120));
                Lane {
                    bar,
                    done: 0,
                    total: 0,
                }
            });
            lane.total += 1;
        }
        let widest = nodes.keys().map(|n| n.as_str().len()).max().unwrap_or(0);
        for (name, lane) in &nodes {
            lane.bar
                .set_prefix(style.bold(&format!("{:widest$}", name.as_str())));
            lane.bar.set_message("waiting");
        }
        Self { bars, nodes, style }
    }

    fn event(&mut self, event: &EventKind) {
        let style = self.style;
        let say = |node: &NodeName, text: String| {
            if let Some(lane) = self.nodes.get(node) {
                lane.bar.set_message(text);
            }
        };
        match event {
            EventKind::NodeConnecting { node } => say(node, "connecting".into()),
            EventKind::NodeWaiting { node, processes } => say(
                node,
                format!("waiting for {} of an earlier run", processes.join(", ")),
            ),
            EventKind::NodeRebooting { node } => say(node, style.cyan("rebooting")),
            EventKind::NodeTakingBack { node, .. } => say(
                node,
                style.yellow("no way in: waiting until the node takes the change back"),
            ),
            EventKind::NodePoweringOff { node } => say(node, style.cyan("switching off")),
            EventKind::NodeOff { node, .. } => say(node, "off".into()),
            EventKind::NodeBack { node, .. } => say(node, "back".into()),
            EventKind::NodeProving { node } => say(node, "is asked whether it serves".into()),
            EventKind::NodeProved { node, serves, .. } => say(
                node,
                if *serves {
                    "serves".into()
                } else {
                    style.red("does not serve")
                },
            ),
            EventKind::StepStarted { addr } => {
                if let Some(lane) = self.nodes.get(&addr.node) {
                    lane.bar.set_message(format!(
                        "{}/{} {}",
                        lane.done + 1,
                        lane.total,
                        addr.local()
                    ));
                }
            }
            EventKind::StepUploading { addr, sent, total } => say(
                &addr.node,
                format!("{} {} of {}", addr.local(), bytes(*sent), bytes(*total)),
            ),
            EventKind::StepFinished { addr, outcome, .. } => {
                if let Some(lane) = self.nodes.get_mut(&addr.node) {
                    lane.done += 1;
                }
                if matches!(
                    outcome,
                    Outcome::Failed(_)
                        | Outcome::Lost { .. }
                        | Outcome::Stale { .. }
                        | Outcome::RolledBack { .. }
                ) {
                    let _ = self.bars.println(format!("{} {addr}", style.red("✗")));
                }
            }
            EventKind::NodeFinished { node, end, counts } => {
                if let Some(lane) = self.nodes.get(node) {
                    let word = match end {
                        NodeEnd::Done | NodeEnd::Idle => style.green("done"),
                        _ => style.red("stopped"),
                    };
                    lane.bar
                        .finish_with_message(format!("{word}, {} changed", counts.changed));
                }
            }
            EventKind::Cancelling { now } => {
                let _ = self.bars.println(cancelling(*now));
            }
            EventKind::RunFinished { .. } => {
                let _ = self.bars.clear();
            }
            EventKind::RunStarted { .. }
            | EventKind::NodeConnected { .. }
            | EventKind::NodeUnreachable { .. } => {}
        }
    }
}

fn cancelling(now: bool) -> &'static str {
    if now {
        "closing connections; each node stops at its next step boundary"
    } else {
        "finishing what runs; nothing new starts (Ctrl-C again closes the connections)"
    }
}

/// The plain line of an event, when it is worth one.
#[must_use]
pub fn plain(event: &EventKind, style: Style) -> Option<String> {
    Some(match event {
        EventKind::StepFinished {
            addr,
            outcome,
            seconds,
            ..
        } => match outcome {
            Outcome::Changed => format!("{} {addr} ({seconds:.1} s)", style.green("changed")),
            Outcome::Unchanged => format!("{} {addr}", style.dim("as it should be")),
            Outcome::Failed(_) => format!("{} {addr}", style.red("failed")),
            Outcome::Lost { .. } => format!("{} {addr}", style.red("lost")),
            Outcome::Stale { .. } => format!("{} {addr}", style.red("stale")),
            Outcome::RolledBack { .. } => format!("{} {addr}", style.red("rolled back")),
            Outcome::Skipped(_) => format!("{} {addr}", style.yellow("skipped")),
        },
        EventKind::NodeUnreachable { reason, .. } => reason.clone(),
        EventKind::NodeWaiting { node, processes } => {
            format!(
                "{node} waits for {} of an earlier run",
                processes.join(", ")
            )
        }
        EventKind::NodeTakingBack { node, seconds } => format!(
            "{node} lets nobody in after a guarded change; it takes it back by itself within {seconds} s"
        ),
        EventKind::NodeRebooting { node } => format!("{} {node}", style.cyan("rebooting")),
        EventKind::NodePoweringOff { node } => format!("{} {node}", style.cyan("switching off")),
        EventKind::NodeOff { node, seconds } => {
            format!("{} {node} after {seconds:.1} s", style.cyan("off"))
        }
        EventKind::NodeBack { node, seconds } => {
            format!("{} {node} (after {seconds:.0} s)", style.cyan("back"))
        }
        EventKind::NodeProved {
            node,
            serves: false,
            reason,
        } => format!(
            "{} {node}: {}",
            style.red("does not serve"),
            reason.as_deref().unwrap_or_default()
        ),
        EventKind::NodeProved { node, .. } => format!("{} {node}", style.green("serves")),
        EventKind::Cancelling { now } => cancelling(*now).into(),
        EventKind::NodeProving { .. }
        | EventKind::RunStarted { .. }
        | EventKind::NodeConnecting { .. }
        | EventKind::NodeConnected { .. }
        | EventKind::StepStarted { .. }
        | EventKind::StepUploading { .. }
        | EventKind::NodeFinished { .. }
        | EventKind::RunFinished { .. } => return None,
    })
}

impl Screen {
    /// Shows one event.
    pub fn event(&mut self, event: &Event) {
        match self {
            Self::Live(live) => live.event(&event.event),
            Self::Plain(style) => {
                if let Some(line) = plain(&event.event, *style) {
                    let _ = writeln!(std::io::stderr().lock(), "{line}");
                }
            }
            Self::Json => {
                if let Ok(line) = serde_json::to_string(event) {
                    let _ = writeln!(std::io::stdout().lock(), "{line}");
                }
            }
        }
    }
}
