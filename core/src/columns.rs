//! How many blocks a matrix is split into, by columns, and where each block lies.

use std::ops::Range;

/// Shortest run of bytes, per row, worth a block of its own when a column block is strided (a row-major matrix).
/// Narrower blocks jump from row to row more often than they stream: 64 blocks of a 200 x 200 000 matrix (25 kB
/// runs) cost about 1.5 times what two do.
pub const MIN_RUN_BYTES: usize = 64 * 1024;

/// Splits `items` into `blocks` contiguous ranges whose lengths differ by at most one, the longer ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balanced {
    items: usize,
    blocks: usize,
}

impl Balanced {
    /// `blocks` is brought into `1..=items`, so that no block is empty (unless `items` is 0: one empty block).
    pub fn new(items: usize, blocks: usize) -> Self {
        Self { items, blocks: blocks.clamp(1, items.max(1)) }
    }

    /// How many blocks there are.
    pub fn count(&self) -> usize {
        self.blocks
    }

    /// The items of block `k`.
    ///
    /// # Panics
    /// If `k` is not below [`count`](Self::count).
    pub fn block(&self, k: usize) -> Range<usize> {
        assert!(k < self.blocks, "block {k} of {}", self.blocks);
        let (short, longer) = (self.items / self.blocks, self.items % self.blocks);
        let start = k * short + k.min(longer);
        start..start + short + usize::from(k < longer)
    }

    /// The end of the block that contains item `start`.
    ///
    /// # Panics
    /// If there are no items.
    pub fn block_end(&self, start: usize) -> usize {
        let (short, longer) = (self.items / self.blocks, self.items % self.blocks);
        let of_longer = longer * (short + 1);
        let k = if start < of_longer { start / (short + 1) } else { longer + (start - of_longer) / short };
        self.block(k).end
    }
}

/// How the columns of a matrix lie in memory, as far as splitting cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnLayout {
    /// A block of columns is one contiguous run, or so short per column that it does not matter.
    Contiguous,
    /// A block of columns is one run per row; `bytes` is the size of one element.
    Strided {
        /// Bytes from one element of a row to the next.
        bytes: usize,
    },
}

impl ColumnLayout {
    /// The most blocks that still stream well.
    pub fn max_blocks(&self, columns: usize) -> usize {
        match self {
            Self::Contiguous => columns,
            Self::Strided { bytes } => (columns.saturating_mul(*bytes) / MIN_RUN_BYTES).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_cover_all_items_once_and_differ_by_at_most_one(items in 0usize..5000, blocks in 0usize..200) {
            let split = Balanced::new(items, blocks);
            let mut next = 0;
            let (mut least, mut most) = (usize::MAX, 0);
            for k in 0..split.count() {
                let block = split.block(k);
                prop_assert_eq!(block.start, next);
                for item in block.clone() {
                    prop_assert_eq!(split.block_end(item), block.end);
                }
                next = block.end;
                least = least.min(block.len());
                most = most.max(block.len());
            }
            prop_assert_eq!(next, items);
            prop_assert!(most - least <= 1);
            prop_assert!(items == 0 || least > 0);
        }
    }

    #[test]
    fn narrow_strided_matrices_are_not_split_finer_than_their_rows_stream() {
        assert_eq!(ColumnLayout::Strided { bytes: 8 }.max_blocks(200_000), 24);
        assert_eq!(ColumnLayout::Strided { bytes: 8 }.max_blocks(100), 1);
        assert_eq!(ColumnLayout::Contiguous.max_blocks(100), 100);
    }
}
