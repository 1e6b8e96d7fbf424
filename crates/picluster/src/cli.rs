//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// From one inventory to a prepared rack of Raspberry Pis.
#[derive(Debug, Parser)]
#[command(
    name = "picluster",
    version = VERSION,
    max_term_width = 100,
    after_help = "Start with:  picluster validate inventory.yaml\n             picluster plan\n             picluster apply\nNo Pis at hand?  picluster lab rehearse inventory.yaml"
)]
pub struct Cli {
    /// When to colour: NO_COLOR is honoured, too
    #[arg(long, global = true, value_enum, default_value_t = ColorWhen::Auto)]
    pub color: ColorWhen,
    /// Log what happens to stderr (-v: decisions, -vv: every message); RUST_LOG overrides
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    /// The verb.
    pub verb: Verb,
}

/// Version, with the commit where one is known.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("PICLUSTER_COMMIT"),
    ")"
);

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Check the inventory and its roles, without any connection
    #[command(after_help = "Example:\n  picluster validate inventory.yaml")]
    Validate(ValidateArgs),
    /// Show what differs between the nodes and the inventory, and why
    #[command(
        after_help = "Examples:\n  picluster plan\n  picluster plan --only 'rpi0*/base' --out today.plan\n  picluster plan --json | jq '.steps[].addr'"
    )]
    Plan(PlanArgs),
    /// Make it so: on all nodes in parallel
    #[command(
        after_help = "Examples:\n  picluster apply inventory.yaml\n  picluster apply --yes --json inventory.yaml\n  picluster apply today.plan"
    )]
    Apply(ApplyArgs),
    /// Ask the nodes who they are
    #[command(
        after_help = "Examples:\n  picluster facts --on 'rpi*'\n  picluster facts --json | jq '.nodes[].observed.facts.board.model'"
    )]
    Facts(FactsArgs),
    /// Show how every node is: cluster, pending changes, temperature, supply, disk
    #[command(
        after_help = "Examples:\n  picluster status\n  picluster status --only 'rpi0*' --only nvme\n  picluster status --json | jq -r '.warnings[] | \"\\(.node): \\(.what)\"'\n\nIt asks what `plan` asks, and a little more, and writes nothing. Warnings do not change the exit\ncode; a node that was not reached does (4), and one that nothing can be planned for (3)."
    )]
    Status(StatusArgs),
    /// Run a command on all nodes at once
    #[command(
        after_help = "Examples:\n  picluster exec --on 'rpi0*' -- uptime\n  picluster exec --root -- 'systemctl is-system-running; df -h /'"
    )]
    Exec(ExecArgs),
    /// Say where the values of a node come from, with file and line
    #[command(
        after_help = "Examples:\n  picluster explain rpi01\n  picluster explain rpi01 data_mount\n  picluster explain rpi01 ssh\n  picluster explain --json rpi01 'kubernetes.*' | jq '.values[].sources[0]'"
    )]
    Explain(ExplainArgs),
    /// Forget a node's pinned host key, after its card was changed on purpose
    #[command(after_help = "Example:\n  picluster forget-key rpi04")]
    ForgetKey(ForgetKeyArgs),
    /// Take everything of ours off nodes, and them out of the cluster
    #[command(
        after_help = "Examples:\n  picluster reset rpi04\n  picluster reset --yes --confirm homelab rpi04 rpi05\n  picluster reset\n\nWhat is undone is what picluster wrote down on the node itself that it made: files, settings, k3s with its data. What was\nthere before stays, and so do packages, accounts and what others have put there. Without names all nodes are reset: that is\nthe end of the cluster. The inventory is not changed; the next apply would set them up again."
    )]
    Reset(ResetArgs),
    /// Switch nodes off, in an order that hurts nobody
    #[command(
        after_help = "Examples:\n  picluster shutdown rpi05\n  picluster shutdown --yes 'rpi0*'\n  picluster shutdown\n\nAgents go first, then servers one by one, the first of the inventory last. Where a server stays on, the pods of those that\ngo are moved before, and come back with the next apply. Each is seen not to answer any more. Without names all nodes are\nswitched off. To start again: servers first."
    )]
    Shutdown(ShutdownArgs),
    /// Have here what an apply will send, while there is a network
    #[command(
        after_help = "Examples:\n  picluster fetch inventory.yaml\n  picluster fetch --arch arm64 --arch amd64"
    )]
    Fetch(FetchArgs),
    /// Fetch the administrator's credentials and merge them into your kubeconfig
    #[command(
        after_help = "Examples:\n  picluster kubeconfig\n  picluster kubeconfig --out ./homelab.yaml\n  picluster kubeconfig --remove"
    )]
    Kubeconfig(KubeconfigArgs),
    /// Print the plan's graph in Graphviz' DOT language
    #[command(after_help = "Example:\n  picluster graph | dot -Tsvg > plan.svg")]
    Graph(GraphArgs),
    /// Disposable nodes on this machine: rehearse an inventory before it meets hardware
    #[command(after_help = "Example:\n  picluster lab rehearse inventory.yaml")]
    Lab(LabArgs),
}

/// Where the inventory is.
#[derive(Debug, Clone, Args)]
pub struct Source {
    /// The inventory
    #[arg(value_name = "INVENTORY", default_value = "inventory.yaml")]
    pub inventory: PathBuf,
}

/// Where the inventory is, for verbs whose arguments are something else.
#[derive(Debug, Clone, Args)]
pub struct NamedSource {
    /// The inventory
    #[arg(
        long,
        short,
        value_name = "INVENTORY",
        default_value = "inventory.yaml"
    )]
    pub inventory: PathBuf,
}

/// How nodes are met.
#[derive(Debug, Clone, Default, Args)]
pub struct Meeting {
    /// Pin the host keys of nodes met for the first time without asking
    #[arg(long, env = "PICLUSTER_ACCEPT_NEW", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0, default_value_t = false, default_missing_value = "true")]
    pub accept_new: bool,
    /// How many nodes are worked on at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub nodes_at_once: usize,
}

/// `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    #[command(flatten)]
    /// Where the inventory is.
    pub source: Source,
}

/// Which part of a plan.
#[derive(Debug, Clone, Default, Args)]
pub struct Part {
    /// Only steps that match, and what they need: a node, node/role or whole address; * and ? are globs
    #[arg(long, value_name = "ADDR")]
    pub only: Vec<String>,
    /// No steps that match, nor those that need them
    #[arg(long, value_name = "ADDR")]
    pub except: Vec<String>,
}

/// `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    /// Where the inventory is.
    pub source: Source,
    #[command(flatten)]
    /// How nodes are met.
    pub meeting: Meeting,
    #[command(flatten)]
    /// Which part.
    pub part: Part,
    /// Found the cluster on this server, even if agents remember another one or could not be asked
    #[arg(long, value_name = "NODE")]
    pub bootstrap: Option<String>,
    /// Take nodes that left the inventory out of the cluster: drained, deleted there, and cleaned of what is ours
    #[arg(long)]
    pub remove_nodes: bool,
    /// Write the plan to a file that `apply` takes
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the plan as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Exit with 2 when there are changes
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The inventory, or a plan made by `plan --out`
    #[arg(value_name = "INVENTORY|PLANFILE", default_value = "inventory.yaml")]
    pub source: PathBuf,
    #[command(flatten)]
    /// How nodes are met.
    pub meeting: Meeting,
    #[command(flatten)]
    /// Which part.
    pub part: Part,
    /// Found the cluster on this server, even if agents remember another one or could not be asked
    #[arg(long, value_name = "NODE")]
    pub bootstrap: Option<String>,
    /// Take nodes that left the inventory out of the cluster: drained, deleted there, and cleaned of what is ours
    #[arg(long)]
    pub remove_nodes: bool,
    /// Do not ask before the first change
    #[arg(long, short)]
    pub yes: bool,
    /// Seconds after which a node takes a change to its own way in back, unless a new connection has
    /// confirmed it; a little more than three times as many after a reboot
    #[arg(long, value_name = "SECONDS", default_value_t = 90)]
    pub confirm_within: u32,
    /// Print events as JSON lines on stdout
    #[arg(long)]
    pub json: bool,
}

/// `facts`.
#[derive(Debug, Args)]
pub struct FactsArgs {
    #[command(flatten)]
    /// Where the inventory is.
    pub source: Source,
    #[command(flatten)]
    /// How nodes are met.
    pub meeting: Meeting,
    /// Nodes or groups, globs allowed
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    pub on: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    /// Where the inventory is.
    pub source: Source,
    #[command(flatten)]
    /// How nodes are met.
    pub meeting: Meeting,
    /// Show these nodes or groups only, globs allowed; all are asked, because what an apply would do on one depends
    /// on the others
    #[arg(long, value_name = "PATTERN")]
    pub only: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    /// Where the inventory is.
    pub source: NamedSource,
    #[command(flatten)]
    /// How nodes are met.
    pub meeting: Meeting,
    /// Nodes or groups, globs allowed
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    pub on: String,
    /// Run as root
    #[arg(long)]
    pub root: bool,
    /// Show the values of the inventory's secrets where the command prints them, instead of `(sensitive)`
    #[arg(long)]
    pub show_secrets: bool,
    /// The command; one argument is given to the node's shell, several are quoted
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The node
    pub node: String,
    /// A variable, or the name of another value: ssh.user, ROLE.PARAMETER, labels.KEY, kubernetes.config.KEY;
    /// a part of one, or a pattern with * and ?. All values when left out
    #[arg(value_name = "NAME")]
    pub var: Option<String>,
    #[command(flatten)]
    /// Where the inventory is.
    pub source: NamedSource,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `forget-key`.
#[derive(Debug, Args)]
pub struct ForgetKeyArgs {
    /// The node
    pub node: String,
    #[command(flatten)]
    /// Where the inventory is.
    pub source: NamedSource,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `reset`.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// The nodes; all when left out
    #[arg(value_name = "NODE")]
    pub nodes: Vec<String>,
    #[command(flatten)]
    /// Where the inventory is.
    pub source: NamedSource,
    #[command(flatten)]
    /// How nodes are met.
    pub meeting: Meeting,
    /// Do not ask; needs --confirm
    #[arg(long, short, requires = "confirm")]
    pub yes: bool,
    /// The name of the cluster, as consent
    #[arg(long, value_name = "CLUSTER")]
    pub confirm: Option<String>,
    /// Print events as JSON lines on stdout
    #[arg(long)]
    pub json: bool,
}

/// `shutdown`.
#[derive(Debug, Args)]
pub struct ShutdownArgs {
    /// Nodes or groups, globs allowed; all nodes when left out
    #[arg(value_name = "NODE")]
    pub nodes: Vec<String>,
    #[command(flatten)]
    /// Where the inventory is.
    pub source: NamedSource,
    #[command(flatten)]
    /// How nodes are met.
    pub meeting: Meeting,
    /// Do not move the pods of nodes that go while others stay on
    #[arg(long)]
    pub no_drain: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Print events as JSON lines on stdout
    #[arg(long)]
    pub json: bool,
}

/// `fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    #[command(flatten)]
    /// Where the inventory is.
    pub source: Source,
    /// For these machines (amd64, arm64, armhf); those of the nodes as they were last met when left
    /// out
    #[arg(long, value_name = "ARCH")]
    pub arch: Vec<String>,
    /// Take this file for the release, as if it had been fetched: for machines that reach no release
    #[arg(long, value_name = "FILE", conflicts_with = "arch")]
    pub from: Vec<PathBuf>,
}

/// `kubeconfig`.
#[derive(Debug, Args)]
pub struct KubeconfigArgs {
    #[command(flatten)]
    /// Where the inventory is.
    pub source: Source,
    #[command(flatten)]
    /// How nodes are met.
    pub meeting: Meeting,
    /// Merge into your kubeconfig: the first file of KUBECONFIG, or ~/.kube/config (the default)
    #[arg(long, conflicts_with_all = ["print", "remove"])]
    pub merge: bool,
    /// Print a kubeconfig of its own on stdout
    #[arg(long, conflicts_with_all = ["out", "remove"])]
    pub print: bool,
    /// Merge into this file instead
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Take out what picluster has merged; no node is contacted
    #[arg(long)]
    pub remove: bool,
}

/// `graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    #[command(flatten)]
    /// Where the inventory is.
    pub source: Source,
    #[command(flatten)]
    /// How nodes are met.
    pub meeting: Meeting,
}

/// `lab`.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// The lab's verb.
    #[command(subcommand)]
    pub verb: LabVerb,
}

/// The lab's verbs.
#[derive(Debug, Subcommand)]
pub enum LabVerb {
    /// Boot one node per node of the inventory, with the same names and addresses
    #[command(
        after_help = "Example:\n  picluster lab up inventory.yaml --os 'rpi0*=rpi-os-bookworm'"
    )]
    Up(LabUp),
    /// Run picluster inside the lab: lab run INVENTORY -- apply
    #[command(
        after_help = "Example:\n  picluster lab run inventory.yaml -- plan --detailed-exitcode"
    )]
    Run(LabRun),
    /// Up, plan, apply, second apply must be empty, down: a verdict about the inventory
    #[command(after_help = "Example:\n  picluster lab rehearse inventory.yaml")]
    Rehearse(LabRehearse),
    /// What is running: the nodes of a lab, or all labs of this user
    #[command(
        after_help = "Examples:\n  picluster lab status\n  picluster lab status inventory.yaml"
    )]
    Status(LabMaybe),
    /// A shell (or a command) on a node
    #[command(after_help = "Example:\n  picluster lab ssh rpi02 inventory.yaml -- uptime")]
    Ssh(LabSsh),
    /// Pull a node's network cable
    #[command(after_help = "Example:\n  picluster lab cut rpi02 inventory.yaml")]
    Cut(LabNode),
    /// Plug it in again
    #[command(after_help = "Example:\n  picluster lab heal rpi02 inventory.yaml")]
    Heal(LabNode),
    /// Cut a node's power
    #[command(after_help = "Example:\n  picluster lab kill rpi02 inventory.yaml")]
    Kill(LabNode),
    /// Switch a node on again
    #[command(after_help = "Example:\n  picluster lab start rpi02 inventory.yaml")]
    Start(LabNode),
    /// Put a new, blank SD card into a node
    #[command(after_help = "Example:\n  picluster lab wipe rpi02 inventory.yaml")]
    Wipe(LabNode),
    /// Reboot a node
    #[command(after_help = "Example:\n  picluster lab reboot rpi02 inventory.yaml")]
    Reboot(LabNode),
    /// Stop the lab; nothing is left running
    #[command(after_help = "Example:\n  picluster lab down inventory.yaml")]
    Down(LabOne),
    /// Say what this machine lacks for a lab of N nodes, and how to mend it
    #[command(after_help = "Example:\n  picluster lab check 10")]
    Check(LabCheck),
}

/// Which lab: an inventory names it.
#[derive(Debug, Clone, Args)]
pub struct LabOne {
    /// The inventory the lab was made from; for one that runs also its name, as `lab status` shows it
    #[arg(value_name = "INVENTORY", default_value = "inventory.yaml")]
    pub inventory: PathBuf,
}

/// `lab status`.
#[derive(Debug, Args)]
pub struct LabMaybe {
    /// The inventory the lab was made from, or the lab's name; left out: all labs
    #[arg(value_name = "INVENTORY")]
    pub inventory: Option<PathBuf>,
}

/// What the nodes are made of.
#[derive(Debug, Clone, Args)]
pub struct LabMade {
    /// The system on the cards, for all nodes or those a glob names; may be given several times:
    /// rpi-os-trixie, rpi-os-bookworm, ubuntu-24.04, debian
    #[arg(long, value_name = "[NODE=]OS")]
    pub os: Vec<String>,
    /// Put the programs of a real Kubernetes 1.20 on the nodes, for the k3s simulator to stand on; built from Debian's
    /// source package the first time, which takes several minutes
    #[arg(long)]
    pub kubernetes: bool,
    /// What the lab's controller takes for the inventory's release of k3s: the real program, or the simulator; without
    /// it, what `picluster fetch` has brought
    #[arg(long, value_name = "FILE")]
    pub k3s: Option<PathBuf>,
}

/// `lab up`.
#[derive(Debug, Args)]
pub struct LabUp {
    #[command(flatten)]
    /// Which lab.
    pub lab: LabOne,
    #[command(flatten)]
    /// What the nodes are made of.
    pub made: LabMade,
    /// Do not pin the nodes' host keys: the first contact asks, as it does with hardware
    #[arg(long)]
    pub ask: bool,
}

/// `lab run`.
#[derive(Debug, Args)]
pub struct LabRun {
    #[command(flatten)]
    /// Which lab.
    pub lab: LabOne,
    /// picluster's arguments
    #[arg(last = true, required = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

/// `lab rehearse`.
#[derive(Debug, Args)]
pub struct LabRehearse {
    #[command(flatten)]
    /// Which lab.
    pub lab: LabOne,
    #[command(flatten)]
    /// What the nodes are made of.
    pub made: LabMade,
    /// Leave the lab running
    #[arg(long)]
    pub keep: bool,
    /// Do not pin the nodes' host keys: the first contact asks, as it does with hardware
    #[arg(long)]
    pub ask: bool,
}

/// `lab ssh`.
#[derive(Debug, Args)]
pub struct LabSsh {
    /// The node
    pub node: String,
    #[command(flatten)]
    /// Which lab.
    pub lab: LabOne,
    /// A command instead of a shell
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// A verb about one node of a lab.
#[derive(Debug, Args)]
pub struct LabNode {
    /// The node
    pub node: String,
    #[command(flatten)]
    /// Which lab.
    pub lab: LabOne,
}

/// `lab check`.
#[derive(Debug, Args)]
pub struct LabCheck {
    /// How many nodes
    #[arg(default_value_t = 10)]
    pub nodes: usize,
}
