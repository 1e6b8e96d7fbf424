//! The benchmark: figures of picluster beside those of OpenSSH, on the same lab nodes in the same run.
//!
//! Every act is started the same way: one program inside the lab's network. OpenSSH's clients are all started by
//! one shell, so that they do not pay for the entry as many times as there are nodes.

mod cluster;
mod figures;
mod load;
mod measure;
mod peers;
mod push;
mod rack;
mod start;
mod work;

use figures::Figures;
use measure::Spent;
use rack::Rack;

use crate::Outcome;

/// What is measured, in the order it is done in every round.
const ACTS: [(&str, Act); 5] = [
    ("apply from blank", |rack| {
        rack.picluster(&["apply", "--yes"])
    }),
    ("`ssh … true`", |rack| rack.ssh_everywhere("true", None)),
    ("`ssh …` our probe program", |rack| {
        rack.ssh_everywhere("sudo -n sh -s", Some(work::PROBE))
    }),
    ("plan, unchanged", |rack| rack.picluster(&["plan"])),
    ("second apply", |rack| rack.picluster(&["apply", "--yes"])),
];

type Act = fn(&Rack) -> Outcome<Spent>;

/// From this many nodes on one round is enough: what is of interest there is memory.
const MANY: usize = 100;

/// Runs it: `--nodes 10,50,100`, `--runs 3`; with `--peers`, other tools beside us (10 nodes, once, unless said otherwise).
pub(crate) fn run(words: &[&str]) -> Outcome {
    match words {
        ["--cluster", rest @ ..] => return cluster::run(rest),
        ["--push"] => return push_only(),
        _ => {}
    }
    let peers = words.contains(&"--peers");
    let (mut sizes, mut runs) = if peers {
        (vec![10], 1)
    } else {
        (vec![10, 50, 100], 3)
    };
    let words: Vec<&str> = words.iter().copied().filter(|w| *w != "--peers").collect();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words
            .next()
            .ok_or_else(|| format!("{word} needs a value"))?;
        let number = |text: &str| {
            text.parse::<usize>()
                .map_err(|_| format!("{word}: {text:?} is no number"))
        };
        match *word {
            "--nodes" => sizes = value.split(',').map(number).collect::<Outcome<_>>()?,
            "--runs" => runs = number(value)?.max(1),
            _ => return Err(format!("{word:?} is not understood; see cargo xtask help")),
        }
    }
    for (at, nodes) in sizes.into_iter().enumerate() {
        if !(1..=200).contains(&nodes) {
            return Err(format!(
                "--nodes {nodes}: 1 to 200 of them fit into one network"
            ));
        }
        if peers {
            println!("\n{}", peers::measure(nodes, runs)?);
        } else {
            let runs = if nodes < MANY { runs } else { 1 };
            measure(nodes, runs, at == 0)?;
        }
    }
    Ok(())
}

/// The large file alone.
fn push_only() -> Outcome {
    let rack = Rack::up(1)?;
    rack.picluster(&["apply", "--yes"])?;
    println!("{}", push::measure(&rack)?);
    rack.down()
}

/// Prints what it finds as soon as that is there. `once`: also what does not depend on the number of nodes.
fn measure(nodes: usize, runs: usize, once: bool) -> Outcome {
    let mut rack = Rack::up(nodes)?;
    let mut figures = Figures::new(nodes, runs);
    for round in 1..=runs {
        if round > 1 {
            rack.wipe()?;
        }
        load::settle(|| rack.node_seconds())?;
        for (name, act) in ACTS {
            let spent = act(&rack)?;
            eprintln!(
                "  {nodes} nodes, round {round} of {runs}: {name}: {:.2} s",
                spent.wall
            );
            figures.add(name, spent);
            if name == ACTS[0].0 {
                rack.ask_what_is_probed()?;
                figures.resources = rack.resources;
                // What an apply sets off on nodes (a unit that starts) is not the next act's doing.
                load::settle(|| rack.node_seconds())?;
            }
        }
        figures.add(figures::ENTRY, rack.entry()?);
    }
    println!("\n{}", figures.page().trim_end());
    if once {
        print!("{}", start::measure(&rack)?);
        println!("{}", push::measure(&rack)?);
    }
    rack.down()
}
