//! Shows that every invariant has a test that fails when it is broken: breaks the invariant on purpose,
//! in a copy of the checkout, and insists on red.

mod copy;
mod data;
mod run;
mod table;

use std::collections::BTreeSet;
use std::time::Instant;

use crate::{Outcome, machine};
use copy::{Broken, State};
use data::{Data, Guard, Red};
use run::{Bench, Verdict};

/// How to go about it.
#[derive(Debug)]
pub(crate) struct Options {
    /// Only these invariants; all when there are none.
    pub numbers: Vec<u32>,
    /// The last commit instead of the files as they stand.
    pub committed: bool,
    /// Also the tests that boot lab nodes.
    pub lab: bool,
    /// Only write the table of `docs/ARCHITECTURE.md`.
    pub table: bool,
}

/// Breaks everything there is to break, one after the other.
pub(crate) fn run(options: &Options) -> Outcome {
    if options.table {
        let root = machine::workspace();
        return table::write(&root, &Data::read(&root)?, false);
    }
    let state = if options.committed {
        State::Committed
    } else {
        State::Working
    };
    let root = copy::prepare(state)?;
    let data = Data::read(&root)?;
    let reds: Vec<&Red> = data
        .reds
        .iter()
        .filter(|r| options.numbers.is_empty() || options.numbers.contains(&r.invariant))
        .filter(|r| options.lab || !r.guard.lab)
        .collect();
    let bench = Bench::new(root);
    let mut wrong = healthy(&bench, &reds);
    let mut rows = Vec::new();
    for red in reds {
        let begun = Instant::now();
        let verdict = broken(&bench, red);
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{:>3}  {verdict}  {seconds:.0} s  {}",
            red.invariant, red.breaks
        );
        if verdict != Verdict::Red {
            wrong.push(format!("{}: {} ({verdict})", red.invariant, red.breaks));
        }
        rows.push((red, verdict, seconds));
    }
    println!("\n| # | what was broken | guard | result | seconds |\n|---|---|---|---|---|");
    for (red, verdict, seconds) in &rows {
        println!(
            "| {} | {} | `{}` | {verdict} | {seconds:.0} |",
            red.invariant, red.breaks, red.guard.test
        );
    }
    if wrong.is_empty() {
        println!("\n{} changes, each turned its guard red", rows.len());
        Ok(())
    } else {
        Err(format!(
            "not as it should be:\n  {}\nWhat was printed stands in {}",
            wrong.join("\n  "),
            bench.logs().display()
        ))
    }
}

/// Every guard has to be green first: a test that always fails proves nothing.
fn healthy(bench: &Bench, reds: &[&Red]) -> Vec<String> {
    let guards: BTreeSet<&Guard> = reds.iter().map(|r| &r.guard).collect();
    guards
        .into_iter()
        .filter_map(|guard| {
            let verdict = bench.try_guard(guard, "healthy");
            println!("     {verdict}  unbroken: {} {}", guard.package, guard.test);
            (verdict != Verdict::Green).then(|| {
                format!(
                    "{} {}: {verdict} with nothing broken",
                    guard.package, guard.test
                )
            })
        })
        .collect()
}

fn broken(bench: &Bench, red: &Red) -> Verdict {
    match Broken::new(bench.root(), &red.file, &red.find, &red.replace) {
        Err(what) => Verdict::NoPlace(what),
        Ok(_as_it_was_again_when_dropped) => bench.try_guard(&red.guard, &red.breaks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn data() -> Data {
        match Data::read(&machine::workspace()) {
            Ok(data) => data,
            Err(what) => panic!("{what}"),
        }
    }

    #[test]
    fn every_invariant_has_a_change_that_breaks_it_and_a_fast_guard() {
        let data = data();
        let numbers: Vec<u32> = data.invariants.iter().map(|i| i.number).collect();
        assert_eq!(numbers, (1..=13).collect::<Vec<_>>());
        for number in numbers {
            assert!(
                data.reds_of(number).any(|r| !r.guard.lab),
                "invariant {number}"
            );
        }
        assert!(data.reds.iter().all(|r| (1..=13).contains(&r.invariant)));
    }

    #[test]
    fn what_is_to_be_broken_stands_in_its_file_exactly_once() {
        let root = machine::workspace();
        let mut wrong = Vec::new();
        for red in data().reds {
            let text = fs::read_to_string(root.join(&red.file)).unwrap_or_default();
            if let Err(what) = copy::once(&text, &red.find) {
                wrong.push(format!("{}: {}: {what}", red.breaks, red.file));
            }
            if red.find == red.replace {
                wrong.push(format!("{}: nothing is changed", red.breaks));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn the_table_in_the_architecture_page_is_up_to_date() {
        let written = table::write(&machine::workspace(), &data(), true);
        assert_eq!(written, Ok(()));
    }
}
