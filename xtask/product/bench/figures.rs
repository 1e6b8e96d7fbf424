//! The figures as a page: medians, and what they mean beside each other.

use std::fmt::Write as _;

use super::load;
use super::measure::Spent;

/// The name of the act that only enters the lab.
pub(crate) const ENTRY: &str = "(entering the lab)";

/// The yardstick.
const TRUE: &str = "`ssh … true`";

/// All figures of one size.
pub(crate) struct Figures {
    nodes: usize,
    runs: usize,
    /// How many resources each node has.
    pub resources: usize,
    acts: Vec<(&'static str, Vec<Spent>)>,
    load: String,
}

impl Figures {
    pub(crate) fn new(nodes: usize, runs: usize) -> Self {
        Self {
            nodes,
            runs,
            resources: 0,
            acts: Vec::new(),
            load: load::average(),
        }
    }

    pub(crate) fn add(&mut self, act: &'static str, spent: Spent) {
        match self.acts.iter_mut().find(|(name, _)| *name == act) {
            Some((_, all)) => all.push(spent),
            None => self.acts.push((act, vec![spent])),
        }
    }

    fn median(&self, act: &str, of: fn(&Spent) -> f64) -> f64 {
        let all = self
            .acts
            .iter()
            .find(|(name, _)| *name == act)
            .map(|(_, all)| all.as_slice());
        let mut values: Vec<f64> = all.unwrap_or_default().iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The median of an act's seconds on the clock.
    pub(crate) fn wall(&self, act: &str) -> f64 {
        self.median(act, |s| s.wall)
    }

    /// The page.
    pub(crate) fn page(&self) -> String {
        let mut page = self.table(TRUE);
        page.push_str("\nConnections, sessions and round trips are per node.\n\n");
        page.push_str(&self.budgets(self.wall(TRUE)));
        page
    }

    /// The table; walls also as multiples of an act's.
    pub(crate) fn table(&self, base: &str) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let mut page = format!(
            "## {} nodes, {} resources each\n\n{cores} processors for controller and nodes together, median of {} rounds, \
             load of the machine before: {}.\n\n\
             | act | wall s (min–max) | × {} | CPU here s | CPU nodes s | peak MB here | connections | sessions | round trips |\n\
             | --- | --: | --: | --: | --: | --: | --: | --: | --: |\n",
            self.nodes,
            self.resources,
            self.runs,
            self.load,
            if base == TRUE { "`true`" } else { "ours" }
        );
        let base = self.wall(base);
        for (name, all) in &self.acts {
            let walls = || all.iter().map(|s| s.wall);
            let least = walls().fold(f64::INFINITY, f64::min);
            let most = walls().fold(0.0, f64::max);
            let wall = self.median(name, |s| s.wall);
            let peak = self.median(name, |s| s.peak) / 1e6;
            let peak = if peak > 0.0 {
                format!("{peak:.1}")
            } else {
                String::new()
            };
            let wire = |i: usize| {
                let last = all.last().and_then(|s| s.wire).map(|w| w[i]);
                last.map_or_else(String::new, |v| format!("{v:.1}"))
            };
            let _ = writeln!(
                page,
                "| {name} | {wall:.2} ({least:.2}–{most:.2}) | {:.2} | {:.2} | {:.2} | {peak} | {} | {} | {} |",
                wall / base,
                self.median(name, |s| s.cpu),
                self.median(name, |s| s.node_cpu),
                wire(0),
                wire(1),
                wire(2),
            );
        }
        page
    }

    fn budgets(&self, base: f64) -> String {
        let memory = match self.nodes {
            0..=10 => 40.0,
            11..=100 => 60.0,
            _ => 150.0,
        };
        let mut list = String::new();
        for act in ["plan, unchanged", "second apply"] {
            let wall = self.median(act, |s| s.wall);
            let _ = writeln!(
                list,
                "- {} {act}: {wall:.2} s, `true` over OpenSSH {base:.2} s",
                verdict(wall <= base)
            );
            let peak = self.median(act, |s| s.peak) / 1e6;
            let _ = writeln!(
                list,
                "- {} {act}: {peak:.1} MB, budget {memory:.0} MB",
                verdict(peak <= memory)
            );
            let wire = self.acts.iter().find(|(name, _)| *name == act);
            let wire = wire.and_then(|(_, all)| all.last()?.wire);
            if let Some([connections, sessions, trips]) = wire {
                let _ = writeln!(
                    list,
                    "- {} {act}: {connections:.0} connection, {sessions:.0} session, {trips:.0} round trips a node, \
                     budget 1, 2, 10",
                    verdict(connections <= 1.0 && sessions <= 2.0 && trips <= 10.0)
                );
            }
        }
        let peak = self.median("apply from blank", |s| s.peak) / 1e6;
        let _ = writeln!(
            list,
            "- {} apply from blank: {peak:.1} MB, budget {memory:.0} MB",
            verdict(peak <= memory)
        );
        list
    }
}

pub(crate) fn verdict(kept: bool) -> &'static str {
    if kept { "kept:" } else { "**missed**:" }
}
