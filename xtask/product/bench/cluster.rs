//! `bench --cluster EXAMPLE`: a whole cluster from blank, and unchanged; with what of it could not have been any shorter.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use picluster_engine::{Event, EventKind};
use picluster_plan::critical::critical_path;
use picluster_plan::{Plan, StepAddr};

use super::load;
use super::measure::Spent;
use super::rack::Rack;
use crate::Outcome;

/// The systems of kraken's machines, as its README rehearses it. Others run what the lab gives by itself.
const KRAKEN: [&str; 4] = [
    "kraken01=rpi-os-bookworm",
    "kraken02=rpi-os-bookworm",
    "kraken09=ubuntu-24.04",
    "kraken10=ubuntu-24.04",
];

/// The acts, in the order of a round.
const ACTS: [(&str, &[&str]); 3] = [
    ("apply from blank", &["apply", "--yes", "--json"]),
    ("plan, unchanged", &["plan"]),
    ("second apply", &["apply", "--yes"]),
];

/// One apply from blank.
struct Run {
    spent: Spent,
    /// The engine's part of the wall time: from the first event to the last one.
    engine: f64,
    /// Seconds of every step.
    took: BTreeMap<StepAddr, f64>,
    plan: Plan,
}

/// Runs it: the example's name, `--runs 3`, `--k3s FILE`.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let [example, words @ ..] = words else {
        return Err("bench --cluster wants the name of an example".into());
    };
    let inventory = format!("examples/{example}/inventory.yaml");
    let os: &[&str] = if *example == "kraken" { &KRAKEN } else { &[] };
    let (mut runs, mut k3s) = (3, None);
    for pair in words.chunks(2) {
        match pair {
            ["--runs", n] => {
                runs = n
                    .parse()
                    .map_err(|_| format!("--runs: {n:?} is no number"))?
            }
            ["--k3s", file] => k3s = Some(*file),
            _ => return Err(format!("{pair:?} is not understood; see cargo xtask help")),
        }
    }
    let k3s = k3s.ok_or("bench --cluster wants --k3s FILE")?;
    let before = load::average();
    let mut rack = Rack::of(&inventory, os)?;
    rack.aside(&["fetch", "--from", k3s])?;
    let (mut blank, mut others) = (Vec::new(), BTreeMap::<&str, Vec<Spent>>::new());
    for round in 1..=runs.max(1) {
        if round > 1 {
            rack.wipe()?;
            rack.aside(&["fetch", "--from", k3s])?;
        }
        load::settle(|| rack.node_seconds())?;
        let plan = rack.aside(&["plan", "--json"])?;
        let plan: Plan = serde_json::from_str(&plan).map_err(|e| format!("plan --json: {e}"))?;
        for (name, words) in ACTS {
            let spent = rack.picluster(words)?;
            eprintln!(
                "  {example}, round {round} of {runs}: {name}: {:.2} s",
                spent.wall
            );
            if name == ACTS[0].0 {
                blank.push(timed(spent, plan.clone(), &rack.printed())?);
                load::settle(|| rack.node_seconds())?;
            } else {
                others.entry(name).or_default().push(spent);
            }
        }
        let left = rack.aside(&["plan"])?;
        if !left.contains("Nothing to do") {
            return Err(format!("a second apply had something to do:\n{left}"));
        }
    }
    rack.down()?;
    println!("{}", page(example, &mut blank, &others, &before)?);
    Ok(())
}

/// Reads the events of an apply.
fn timed(spent: Spent, plan: Plan, printed: &str) -> Outcome<Run> {
    let (mut took, mut times) = (BTreeMap::new(), Vec::new());
    for event in printed
        .lines()
        .filter_map(|line| serde_json::from_str::<Event>(line).ok())
    {
        times.push(event.at);
        if let EventKind::StepFinished { addr, seconds, .. } = event.event {
            took.insert(addr, seconds);
        }
    }
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return Err(format!("apply --json printed no events:\n{printed}"));
    };
    #[allow(clippy::cast_precision_loss, reason = "milliseconds of one run")]
    let engine = (last - first) as f64 / 1000.0;
    Ok(Run {
        spent,
        engine,
        took,
        plan,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn row(page: &mut String, name: &str, all: &[Spent]) {
    let of = |f: fn(&Spent) -> f64| all.iter().map(f).collect::<Vec<_>>();
    let walls = of(|s| s.wall);
    let _ = writeln!(
        page,
        "| {name} | {:.2} ({:.2}–{:.2}) | {:.2} | {:.2} | {:.1} |",
        median(walls.clone()),
        walls.iter().copied().fold(f64::INFINITY, f64::min),
        walls.iter().copied().fold(0.0, f64::max),
        median(of(|s| s.cpu)),
        median(of(|s| s.node_cpu)),
        median(of(|s| s.peak)) / 1e6,
    );
}

/// The page; the critical path is that of the run in the middle.
fn page(
    example: &str,
    blank: &mut [Run],
    others: &BTreeMap<&str, Vec<Spent>>,
    load: &str,
) -> Outcome<String> {
    blank.sort_by(|a, b| a.spent.wall.total_cmp(&b.spent.wall));
    let run = blank.get(blank.len() / 2).ok_or("no run")?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut page = format!(
        "\n## {example}\n\n{cores} processors for controller and nodes together, median of {} rounds, load of the machine before: {load}.\n\n\
         | act | wall s (min–max) | CPU here s | CPU nodes s | peak MB here |\n| --- | --: | --: | --: | --: |\n",
        blank.len()
    );
    for (name, _) in ACTS {
        match others.get(name) {
            Some(all) => row(&mut page, name, all),
            None => row(
                &mut page,
                name,
                &blank.iter().map(|r| r.spent).collect::<Vec<_>>(),
            ),
        }
    }
    let took = |addr: &StepAddr| run.took.get(addr).copied().unwrap_or(0.0);
    let path = critical_path(&run.plan.steps, took);
    let longest: f64 = path.iter().map(|leg| leg.seconds).sum();
    let sum: f64 = run.took.values().sum();
    let mut nodes: BTreeMap<&str, f64> = BTreeMap::new();
    for (addr, seconds) in &run.took {
        *nodes.entry(addr.node.as_str()).or_default() += seconds;
    }
    let busiest = nodes.iter().max_by(|a, b| a.1.total_cmp(b.1));
    let _ = writeln!(
        page,
        "\nApply from blank, the run in the middle: {:.2} s, of which {:.2} s are the engine's. The critical path is {longest:.2} s: {} of {} \
         steps, each of which waits for the one before it.",
        run.spent.wall,
        run.engine,
        path.len(),
        run.plan.steps.len(),
    );
    let _ = writeln!(
        page,
        "All steps together are {sum:.2} s, {:.1} times the engine's; the engine took {:.2} times the critical path.",
        sum / run.engine,
        run.engine / longest,
    );
    if let Some((node, seconds)) = busiest {
        let _ = writeln!(
            page,
            "The node with the most to do is {node}: {seconds:.2} s of steps, one after the other."
        );
    }
    page.push_str("\n| step of the critical path | s |\n| --- | --: |\n");
    for leg in &path {
        let _ = writeln!(page, "| `{}` | {:.2} |", leg.addr, leg.seconds);
    }
    Ok(page)
}
