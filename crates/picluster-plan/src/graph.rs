//! The graph under a plan: edges, order, cycles by name.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use petgraph::Direction;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// A directed graph over `0..n` in which an edge `a -> b` says: `a` before `b`.
#[derive(Debug, Clone)]
pub struct Order {
    graph: DiGraph<usize, ()>,
}

/// Things that wait for each other in a circle, by index, starting with the smallest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle(pub Vec<usize>);

impl Order {
    /// `n` things, no edges.
    #[must_use]
    pub fn new(n: usize) -> Self {
        let mut graph = DiGraph::with_capacity(n, n);
        for i in 0..n {
            graph.add_node(i);
        }
        Self { graph }
    }

    /// `before` comes before `after`. An edge to itself is ignored.
    pub fn edge(&mut self, before: usize, after: usize) {
        if before != after {
            self.graph
                .update_edge(NodeIndex::new(before), NodeIndex::new(after), ());
        }
    }

    /// What comes directly before `item`.
    #[must_use]
    pub fn before(&self, item: usize) -> BTreeSet<usize> {
        self.graph
            .neighbors_directed(NodeIndex::new(item), Direction::Incoming)
            .map(NodeIndex::index)
            .collect()
    }

    /// Everything that comes before `item`, directly or not.
    #[must_use]
    pub fn all_before(&self, item: usize) -> BTreeSet<usize> {
        let mut seen = BTreeSet::new();
        let mut todo: Vec<usize> = self.before(item).into_iter().collect();
        while let Some(i) = todo.pop() {
            if seen.insert(i) {
                todo.extend(self.before(i));
            }
        }
        seen
    }

    /// An order that respects every edge and, where edges leave a choice, keeps the order in which
    /// the things were declared.
    ///
    /// # Errors
    /// The first circle.
    pub fn sorted(&self) -> Result<Vec<usize>, Cycle> {
        let mut waiting: Vec<usize> = (0..self.graph.node_count())
            .map(|i| {
                self.graph
                    .neighbors_directed(NodeIndex::new(i), Direction::Incoming)
                    .count()
            })
            .collect();
        let mut ready: BinaryHeap<Reverse<usize>> = waiting
            .iter()
            .enumerate()
            .filter(|(_, n)| **n == 0)
            .map(|(i, _)| Reverse(i))
            .collect();
        let mut sorted = Vec::with_capacity(waiting.len());
        while let Some(Reverse(i)) = ready.pop() {
            sorted.push(i);
            for next in self.graph.neighbors(NodeIndex::new(i)) {
                waiting[next.index()] -= 1;
                if waiting[next.index()] == 0 {
                    ready.push(Reverse(next.index()));
                }
            }
        }
        if sorted.len() == self.graph.node_count() {
            return Ok(sorted);
        }
        let circle = tarjan_scc(&self.graph)
            .into_iter()
            .filter(|component| component.len() > 1)
            .map(|component| {
                let mut members: Vec<usize> = component.iter().map(|n| n.index()).collect();
                members.sort_unstable();
                members
            })
            .min();
        Err(Cycle(circle.unwrap_or_default()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorted_respects_every_edge_or_names_a_circle(
            edges in proptest::collection::vec((0usize..12, 0usize..12), 0..40)
        ) {
            let mut order = Order::new(12);
            for (a, b) in &edges {
                order.edge(*a, *b);
            }
            match order.sorted() {
                Ok(sorted) => {
                    let at = |i: usize| sorted.iter().position(|x| *x == i);
                    for (a, b) in edges.iter().filter(|(a, b)| a != b) {
                        prop_assert!(at(*a) < at(*b));
                    }
                }
                Err(Cycle(members)) => {
                    prop_assert!(members.len() > 1);
                    for m in &members {
                        prop_assert!(order.all_before(*m).contains(m));
                    }
                }
            }
        }
    }

    #[test]
    fn declared_order_is_kept_where_edges_leave_a_choice() {
        let mut order = Order::new(4);
        order.edge(3, 0);
        assert_eq!(order.sorted(), Ok(vec![1, 2, 3, 0]));
    }
}
