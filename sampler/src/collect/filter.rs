//! The filter before the pid table: which thread ids, modulo its size, are followed.

use sampler_ebpf::abi::{FILTER_BITS, Filter};

use crate::load::{self, Object, SectionError};

/// The variable of the programs.
const SECTION: &str = ".bss.filter";

/// How many followed threads fall on each bit.
#[derive(Debug)]
pub(super) struct FilterBits {
    threads: Vec<u32>,
    words: Filter,
}

impl Default for FilterBits {
    fn default() -> Self {
        Self { threads: vec![0; FILTER_BITS as usize], words: [0; (FILTER_BITS / 64) as usize] }
    }
}

impl FilterBits {
    pub(super) fn add(&mut self, tid: u32) {
        let bit = (tid % FILTER_BITS) as usize;
        self.threads[bit] += 1;
        self.words[bit / 64] |= 1 << (bit % 64);
    }

    pub(super) fn remove(&mut self, tid: u32) {
        let bit = (tid % FILTER_BITS) as usize;
        self.threads[bit] = self.threads[bit].saturating_sub(1);
        if self.threads[bit] == 0 {
            self.words[bit / 64] &= !(1 << (bit % 64));
        }
    }
}

/// Replaces the filter that the programs see. Only this side writes it.
pub(super) fn publish(object: &mut Object, bits: &FilterBits) -> Result<(), SectionError> {
    load::publish(object, SECTION, &bits.words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(bits: &FilterBits, tid: u32) -> bool {
        let bit = (tid % FILTER_BITS) as usize;
        (bits.words[bit / 64] >> (bit % 64)) & 1 == 1
    }

    #[test]
    fn a_bit_stays_while_any_thread_falls_on_it() {
        let mut bits = FilterBits::default();
        let (one, other) = (77, 77 + FILTER_BITS);
        bits.add(one);
        bits.add(other);
        bits.remove(one);
        assert!(has(&bits, other));
        bits.remove(other);
        assert!(!has(&bits, one) && bits.words.iter().all(|word| *word == 0));
    }
}
