//! Inputs that are made of others.

use fastrand::Rng;

/// Longest input that is made.
const MAX: usize = 64 << 10;

/// Changes that are made to one input, at most.
const CHANGES: usize = 6;

/// Numbers at which something may change, as their lowest bytes.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    4,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x0001_0000,
    0x7fff_ffff,
    0xffff_fffe,
    0x0001_0000_0000,
    u64::MAX >> 1,
    u64::MAX,
];

/// The same as people write them, and what looks like a number.
const TEXTS: [&str; 16] = [
    "0",
    "1",
    "-1",
    "255",
    "256",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "1e400",
    "NaN",
    "0x10",
];

/// Makes inputs.
pub(super) struct Mutator<'t> {
    random: Rng,
    words: &'t [&'t str],
}

impl<'t> Mutator<'t> {
    /// The same inputs for the same seed.
    pub(super) fn new(seed: u64, words: &'t [&'t str]) -> Self {
        Self { random: Rng::with_seed(seed), words }
    }

    /// An input that is one of the corpus but for some changes. `corpus` is not empty.
    pub(super) fn make(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.pick(corpus).to_vec();
        for _ in 0..self.random.usize(1..=CHANGES) {
            self.change(&mut input, corpus);
            input.truncate(MAX);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        match self.random.u8(0..12) {
            0 => self.flip(input),
            1 => self.put_byte(input),
            2 => self.insert_bytes(input),
            3 => self.remove(input),
            4 => self.copy(input),
            5 => self.put_number(input),
            6 | 7 => self.put_word(input),
            8 => self.put_decimal(input),
            9 => input.truncate(self.place(input)),
            10 => self.splice(input, corpus),
            _ => self.repeat(input),
        }
    }

    fn flip(&mut self, input: &mut [u8]) {
        let bit = 1 << self.random.u8(0..8);
        if let Some(byte) = self.random.choice(input) {
            *byte ^= bit;
        }
    }

    fn put_byte(&mut self, input: &mut [u8]) {
        let new = self.random.u8(..);
        if let Some(byte) = self.random.choice(input) {
            *byte = new;
        }
    }

    fn insert_bytes(&mut self, input: &mut Vec<u8>) {
        let at = self.place(input);
        let bytes: Vec<u8> = (0..self.random.usize(1..=8)).map(|_| self.random.u8(..)).collect();
        input.splice(at..at, bytes);
    }

    fn remove(&mut self, input: &mut Vec<u8>) {
        let (begin, end) = self.range(input);
        input.drain(begin..end);
    }

    fn copy(&mut self, input: &mut Vec<u8>) {
        let (begin, end) = self.range(input);
        let (piece, at) = (input[begin..end].to_vec(), self.place(input));
        input.splice(at..at, piece);
    }

    /// A number in binary, in the place of what was there.
    fn put_number(&mut self, input: &mut [u8]) {
        let number = NUMBERS[self.random.usize(..NUMBERS.len())];
        let length = 1 << self.random.usize(0..4);
        let bytes = if self.random.bool() {
            number.to_le_bytes()[..length].to_vec()
        } else {
            number.to_be_bytes()[8 - length..].to_vec()
        };
        let at = self.place(input);
        input[at..].iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    }

    /// A word, beside or in the place of what was there.
    fn put_word(&mut self, input: &mut Vec<u8>) {
        let Some(word) = self.random.choice(self.words) else { return };
        let at = self.place(input);
        let end = if self.random.bool() { at } else { (at + word.len()).min(input.len()) };
        input.splice(at..end, word.bytes());
    }

    /// A number as people write it, in the place of another.
    fn put_decimal(&mut self, input: &mut Vec<u8>) {
        let from = self.place(input);
        let Some(begin) = input[from..].iter().position(u8::is_ascii_digit).map(|at| from + at) else {
            return;
        };
        let end = input[begin..].iter().position(|byte| !byte.is_ascii_digit());
        let end = end.map_or(input.len(), |length| begin + length);
        let text = TEXTS[self.random.usize(..TEXTS.len())];
        input.splice(begin..end, text.bytes());
    }

    /// The begin of this one and the end of another.
    fn splice(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let other = self.pick(corpus);
        let (at, from) = (self.place(input), self.place(other));
        input.truncate(at);
        input.extend_from_slice(&other[from..]);
    }

    /// A piece again and again.
    fn repeat(&mut self, input: &mut Vec<u8>) {
        let (begin, end) = self.range(input);
        if begin == end {
            return;
        }
        let times = self.random.usize(1..=256).min(MAX / (end - begin));
        let piece = input[begin..end].repeat(times);
        input.splice(begin..begin, piece);
    }

    fn pick<'c>(&mut self, corpus: &'c [Vec<u8>]) -> &'c [u8] {
        &corpus[self.random.usize(..corpus.len())]
    }

    fn place(&mut self, input: &[u8]) -> usize {
        self.random.usize(..=input.len())
    }

    /// Most often a short one.
    fn range(&mut self, input: &[u8]) -> (usize, usize) {
        let begin = self.place(input);
        let most = input.len() - begin;
        let length = if self.random.bool() { most.min(16) } else { most };
        (begin, begin + self.random.usize(..=length))
    }
}
