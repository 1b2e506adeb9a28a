//! Whether bytes are those that were written.

/// An odd number whose bits follow no rule: XXH64's first.
const PRIME: u64 = 0x9e37_79b1_85eb_ca87;

/// A sum over words in four lanes, so that a processor adds four at once. It finds what a write that was cut
/// off or a memory that is broken does to bytes. It is no protection from who chooses the bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checksum {
    lanes: [u64; 4],
    length: u64,
}

/// Bytes that all lanes take at once.
const BLOCK: usize = 32;

impl Checksum {
    pub(super) const EMPTY: Self = Self { lanes: [PRIME, !PRIME, PRIME << 1, !PRIME << 1], length: 0 };

    /// Of these bytes alone.
    pub(super) fn of(bytes: &[u8]) -> u64 {
        let mut sum = Self::EMPTY;
        sum.add(bytes);
        sum.end()
    }

    /// Adds bytes: all but the last come in whole blocks.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        debug_assert!(self.length.is_multiple_of(BLOCK as u64), "bytes follow an end");
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        blocks.iter().for_each(|block| self.add_block(block));
        if !rest.is_empty() {
            let mut block = [0; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            self.add_block(&block);
        }
        self.length += bytes.len() as u64;
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn end(self) -> u64 {
        self.lanes.into_iter().fold(self.length, mixed)
    }

    fn add_block(&mut self, block: &[u8; BLOCK]) {
        let (words, _) = block.as_chunks();
        for (lane, word) in self.lanes.iter_mut().zip(words) {
            *lane = mixed(*lane, u64::from_le_bytes(*word));
        }
    }
}

/// Of two words that differ the results do, whatever the sum is, and of two sums as well: so one word that is
/// another never goes unseen.
const fn mixed(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(PRIME).rotate_left(29)
}
