//! Results combined in pairs, in a tree whose shape depends on their positions only: so the outcome repeats whatever the
//! slots, chunks and timing, also where the order of floating-point sums matters.
//!
//! A node of level l covers the items `k << l .. (k + 1) << l`. Two neighbours under one parent are combined as soon as
//! both are there, on the slot that brought the second. What is left at the end, when the number of items is no power of
//! two, is combined from the right.

use std::{collections::BTreeMap, vec::IntoIter};

/// A function that combines two neighbours, with its type erased at the run of items.
pub(crate) trait Combine<R>: Send + Sync {
    /// Adds to `nodes` what the consecutive `results` from item `first` on make up. Counts in `at` the item it has come to.
    /// After a panic what is left is still in `results` and `nodes`, so that it is not dropped while unwinding.
    fn combine_run(&self, first: usize, results: &mut IntoIter<R>, nodes: &mut Vec<(Node, R)>, at: &mut usize);

    fn combine(&self, left: R, right: R) -> R;
}

/// The items that a combined result covers: `1 << level` from `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) start: usize,
    level: u32,
}

impl Node {
    fn leaf(start: usize) -> Self {
        Self { start, level: 0 }
    }

    fn is_right(self) -> bool {
        self.start >> self.level & 1 == 1
    }

    /// The other node under its parent.
    fn sibling(self) -> Self {
        Self { start: self.start ^ 1 << self.level, ..self }
    }

    fn parent(self) -> Self {
        Self { start: self.start.min(self.sibling().start), level: self.level + 1 }
    }
}

impl<R, F: Fn(R, R) -> R + Send + Sync> Combine<R> for F {
    fn combine_run(&self, first: usize, results: &mut IntoIter<R>, nodes: &mut Vec<(Node, R)>, at: &mut usize) {
        // Two nodes of each level at most: those that wait for a right neighbour, and those that have no left one.
        for (index, result) in (first..).zip(results) {
            *at = index;
            let (mut node, mut value) = (Node::leaf(index), result);
            while node.is_right()
                && let Some((_, left)) = nodes.pop_if(|(before, _)| *before == node.sibling())
            {
                value = self(left, value);
                node = node.parent();
            }
            nodes.push((node, value));
        }
    }

    fn combine(&self, left: R, right: R) -> R {
        self(left, right)
    }
}

/// The nodes that wait for their siblings, by where they start.
pub(crate) struct Nodes<R>(BTreeMap<usize, (Node, R)>);

impl<R> Default for Nodes<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R> Nodes<R> {
    /// Takes the sibling of `node` out, or keeps `value` until that comes: then returns none.
    pub(crate) fn meet(&mut self, node: Node, value: R) -> Option<Pair<R>> {
        let sibling = node.sibling();
        match self.0.get(&sibling.start) {
            Some((other, _)) if *other == sibling => {
                let (_, other) = self.0.remove(&sibling.start)?;
                let (left, right) = if node.is_right() { (other, value) } else { (value, other) };
                Some(Pair { parent: node.parent(), left, right })
            }
            _ => {
                self.0.insert(node.start, (node, value));
                None
            }
        }
    }

    /// Every node, from the right.
    pub(crate) fn into_rest(self) -> impl Iterator<Item = (usize, R)> {
        self.0.into_iter().rev().map(|(start, (_, value))| (start, value))
    }
}

/// Two neighbours to be combined.
pub(crate) struct Pair<R> {
    pub(crate) parent: Node,
    pub(crate) left: R,
    pub(crate) right: R,
}

impl<R> Pair<R> {
    /// The first item of the right one: where they meet.
    pub(crate) fn seam(&self) -> usize {
        self.parent.start + (1 << (self.parent.level - 1))
    }
}

/// Lifts a function over results to one over results that may be `Err`; of two, the first `Err` stays.
pub(crate) fn over_results<R, E>(
    combine: std::sync::Arc<dyn Combine<R>>,
) -> impl Fn(Result<R, E>, Result<R, E>) -> Result<R, E> + Send + Sync {
    move |left, right| Ok(combine.combine(left?, right?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;

    /// Folds `count` items, cut at `cuts`, the pieces in the order given by `order`.
    fn fold(count: usize, cuts: &[usize], reverse: bool) -> String {
        let join = |a: String, b: String| format!("({a}{b})");
        let mut bounds: Vec<usize> = cuts.iter().copied().filter(|&cut| cut < count).chain([0, count]).collect();
        bounds.sort_unstable();
        bounds.dedup();
        let mut pieces: Vec<Range<usize>> = bounds.windows(2).map(|pair| pair[0]..pair[1]).collect();
        if reverse {
            pieces.reverse();
        }
        let mut nodes = Nodes::default();
        for piece in pieces {
            let results: Vec<String> = piece.clone().map(|index| index.to_string()).collect();
            let mut made = Vec::new();
            join.combine_run(piece.start, &mut results.into_iter(), &mut made, &mut 0);
            for (mut node, mut value) in made {
                while let Some(pair) = nodes.meet(node, value) {
                    assert!(pair.seam() < count);
                    (node, value) = (pair.parent, join(pair.left, pair.right));
                }
            }
        }
        let all = nodes.into_rest().map(|(_, value)| value);
        all.reduce(|right, left| join(left, right)).unwrap_or_default()
    }

    #[test]
    fn the_tree_depends_on_positions_only() {
        assert_eq!(fold(7, &[], false), "(((01)(23))((45)6))");
        for count in 0..70 {
            let whole = fold(count, &[], false);
            for cuts in [&[1][..], &[3, 4, 5], &[2, 17, 33, 40, 64], &[7, 8, 9, 10, 31, 32]] {
                for reverse in [false, true] {
                    assert_eq!(fold(count, cuts, reverse), whole, "{count} items cut at {cuts:?}");
                }
            }
        }
    }
}
