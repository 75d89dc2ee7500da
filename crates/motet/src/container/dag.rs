//! Algorithms on directed graphs, independent of the nodes' content.

use std::collections::VecDeque;

/// For each node, its dependencies, each at most once.
pub(crate) type Needs = Vec<Vec<usize>>;

/// Finds cycles. No node is in two of the returned cycles, and the result is empty exactly if the graph has no cycle.
pub(crate) fn cycles(needs: &Needs) -> Vec<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        OnPath,
        Done,
    }
    // Providers are mostly added after their dependencies: then there is no cycle.
    if needs.iter().enumerate().all(|(node, needs)| needs.iter().all(|needed| *needed < node)) {
        return Vec::new();
    }
    let mut seen = vec![Seen::No; needs.len()];
    let mut found: Vec<Vec<usize>> = Vec::new();
    let mut in_cycle = vec![false; needs.len()];
    for root in 0..needs.len() {
        if seen[root] != Seen::No {
            continue;
        }
        // An explicit stack: a chain may be longer than the thread's stack allows.
        let mut path = vec![(root, 0)];
        seen[root] = Seen::OnPath;
        while let Some((node, next)) = path.last_mut() {
            let node = *node;
            let Some(&needed) = needs[node].get(*next) else {
                seen[node] = Seen::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match seen[needed] {
                Seen::No => {
                    seen[needed] = Seen::OnPath;
                    path.push((needed, 0));
                }
                Seen::OnPath => {
                    let from = path.iter().position(|(on_path, _)| *on_path == needed).unwrap_or_default();
                    let cycle: Vec<usize> = path[from..].iter().map(|(on_path, _)| *on_path).collect();
                    if cycle.iter().all(|node| !in_cycle[*node]) {
                        cycle.iter().for_each(|node| in_cycle[*node] = true);
                        found.push(cycle);
                    }
                }
                Seen::Done => {}
            }
        }
    }
    found
}

/// For each node, the nodes that depend on it.
pub(crate) fn reversed(needs: &Needs) -> Needs {
    let mut needed_by = vec![Vec::new(); needs.len()];
    for (node, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|needed| needed_by[*needed].push(node));
    }
    needed_by
}

/// The shortest path from a node that no other node needs down to `node`.
pub(crate) fn path_from_top(needed_by: &Needs, node: usize) -> Vec<usize> {
    let mut below = vec![None; needed_by.len()];
    let mut queue = VecDeque::from([node]);
    let mut top = node;
    while let Some(at) = queue.pop_front() {
        if needed_by[at].is_empty() {
            top = at;
            break;
        }
        for &above in &needed_by[at] {
            if above != node && below[above].is_none() {
                below[above] = Some(at);
                queue.push_back(above);
            }
        }
    }
    let mut path = vec![top];
    while let Some(next) = below[path[path.len() - 1]] {
        path.push(next);
    }
    path
}

/// Marks a node and all its direct and indirect dependencies.
pub(crate) fn closure(needs: &Needs, from: usize) -> Vec<bool> {
    let mut within = vec![false; needs.len()];
    let mut stack = vec![from];
    while let Some(node) = stack.pop() {
        if !std::mem::replace(&mut within[node], true) {
            stack.extend(&needs[node]);
        }
    }
    within
}

/// Tracks which nodes may be stopped: those whose dependents are all stopped.
#[derive(Debug)]
pub(crate) struct Unwind {
    needs: Needs,
    /// For each node, the number of dependents that are not stopped yet.
    users: Vec<usize>,
    left: usize,
}

impl Unwind {
    pub(crate) fn new(needs: Needs) -> Self {
        let mut users = vec![0; needs.len()];
        needs.iter().flatten().for_each(|needed| users[*needed] += 1);
        Self { left: needs.len(), needs, users }
    }

    /// The nodes that can be stopped at first.
    pub(crate) fn first(&self) -> Vec<usize> {
        (0..self.users.len()).filter(|node| self.users[*node] == 0).collect()
    }

    /// Notes that a node is stopped. Returns the nodes that can be stopped now.
    pub(crate) fn stopped(&mut self, node: usize) -> Vec<usize> {
        self.left -= 1;
        let mut free = Vec::new();
        for needed in std::mem::take(&mut self.needs[node]) {
            self.users[needed] -= 1;
            if self.users[needed] == 0 {
                free.push(needed);
            }
        }
        free
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn graphs() -> impl Strategy<Value = Needs> {
        (1..12_usize).prop_flat_map(|nodes| {
            vec(vec(0..nodes, 0..4), nodes).prop_map(|mut needs| {
                for needs in &mut needs {
                    needs.sort_unstable();
                    needs.dedup();
                }
                needs
            })
        })
    }

    /// Generates graphs whose edges go only to lower numbers.
    fn acyclic() -> impl Strategy<Value = Needs> {
        graphs().prop_map(|mut needs| {
            for (node, needs) in needs.iter_mut().enumerate() {
                needs.retain(|needed| *needed < node);
            }
            needs
        })
    }

    fn naively_reaches(needs: &Needs, from: usize, to: usize) -> bool {
        let mut reached: Vec<usize> = needs[from].clone();
        for _ in 0..needs.len() {
            let more: Vec<usize> = reached.iter().flat_map(|node| needs[*node].clone()).collect();
            reached.extend(more);
            reached.sort_unstable();
            reached.dedup();
        }
        reached.contains(&to)
    }

    proptest! {
        #[test]
        fn graph_with_a_cycle_yields_disjoint_cycles_and_others_none(needs in graphs()) {
            let found = cycles(&needs);
            let is_cyclic = (0..needs.len()).any(|node| naively_reaches(&needs, node, node));
            prop_assert_eq!(!found.is_empty(), is_cyclic);
            let mut in_one: Vec<usize> = Vec::new();
            for cycle in &found {
                for (at, node) in cycle.iter().enumerate() {
                    prop_assert!(needs[*node].contains(&cycle[(at + 1) % cycle.len()]));
                }
                in_one.extend(cycle);
            }
            let count = in_one.len();
            in_one.sort_unstable();
            in_one.dedup();
            prop_assert_eq!(in_one.len(), count, "a node is in two cycles");
        }

        #[test]
        fn path_from_top_leads_from_a_root_to_the_node_along_edges(needs in acyclic()) {
            let needed_by = reversed(&needs);
            for node in 0..needs.len() {
                let path = path_from_top(&needed_by, node);
                prop_assert!(needed_by[path[0]].is_empty());
                prop_assert_eq!(path[path.len() - 1], node);
                prop_assert!(path.windows(2).all(|pair| needs[pair[0]].contains(&pair[1])));
            }
        }

        #[test]
        fn graph_closure_is_the_node_and_exactly_the_nodes_it_reaches(needs in graphs()) {
            for from in 0..needs.len() {
                let within = closure(&needs, from);
                for (to, is_within) in within.into_iter().enumerate() {
                    prop_assert_eq!(is_within, to == from || naively_reaches(&needs, from, to));
                }
            }
        }

        #[test]
        fn every_node_stops_once_after_its_dependents(needs in acyclic()) {
            let mut unwind = Unwind::new(needs.clone());
            let (mut ready, mut stopped) = (unwind.first(), Vec::new());
            while let Some(node) = ready.pop() {
                prop_assert!(!stopped.contains(&node));
                for (user, needs) in needs.iter().enumerate() {
                    prop_assert!(!needs.contains(&node) || stopped.contains(&user));
                }
                stopped.push(node);
                ready.extend(unwind.stopped(node));
            }
            prop_assert_eq!(stopped.len(), needs.len());
            prop_assert!(unwind.is_done());
        }
    }
}
