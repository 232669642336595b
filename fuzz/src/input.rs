//! How a target takes its input apart.

/// Bytes that are taken one after the other: zeros when there are no more.
pub(crate) struct Input<'d>(pub(crate) &'d [u8]);

impl<'d> Input<'d> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As many as there are, `count` at most.
    pub(crate) fn take(&mut self, count: usize) -> &'d [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }
}

/// Sizes of reads and writes, the same for the same number: 0 is byte by byte, 255 all at once.
pub(crate) fn chops(number: u8) -> impl Iterator<Item = usize> {
    let mut state = u32::from(number) | 0x100;
    std::iter::repeat_with(move || match number {
        0 => 1,
        255 => usize::MAX,
        _ => {
            // Xorshift, and small sizes as often as large ones.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            1 + (state as usize >> 8) % (1 << (state % 18))
        }
    })
}
