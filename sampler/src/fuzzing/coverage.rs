//! Which code an input reaches, where the code is instrumented as `cargo xtask fuzz` does it.
//!
//! LLVM's SanitizerCoverage with `inline-8bit-counters` keeps a counter for each edge of each function's
//! graph, and hands all of them over before `main` begins. It is part of stable compilers (`-C passes`), and
//! takes neither a sanitizer's runtime nor C++.

use std::{
    fmt, slice,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

/// The counters of each piece of the program that has some.
static COUNTERS: Mutex<Vec<&'static [AtomicU8]>> = Mutex::new(Vec::new());

/// Called for each object file of an instrumented program with the counters of the whole program.
// SAFETY: the name is LLVM's for this, and nobody else defines it.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(begin: *const AtomicU8, end: *const AtomicU8) {
    let length = end.addr() - begin.addr();
    if length == 0 {
        return;
    }
    // SAFETY: LLVM hands over memory of the program that is there for ever. Instrumented code adds to it
    // without atomic operations: on x86-64 that is a plain load and store, and an addition that gets lost on
    // the way is a counter that is one less.
    let counters = unsafe { slice::from_raw_parts(begin, length) };
    let mut known = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    if known.iter().all(|piece| piece.as_ptr() != begin) {
        known.push(counters);
    }
}

/// An input is to run.
pub(super) fn begin() {
    let known = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
    known.iter().copied().flatten().for_each(|counter| counter.store(0, Ordering::Relaxed));
}

/// What inputs have reached so far.
#[derive(Default)]
pub(super) struct Coverage {
    /// For each counter the numbers that it has had, as bits of orders of magnitude.
    seen: Vec<u8>,
}

impl Coverage {
    /// Whether the last input has reached what none has before, or more often.
    pub(super) fn is_new(&mut self) -> bool {
        let known = COUNTERS.lock().unwrap_or_else(PoisonError::into_inner);
        self.seen.resize(known.iter().map(|piece| piece.len()).sum(), 0);
        let mut is_new = false;
        for (counter, seen) in known.iter().copied().flatten().zip(&mut self.seen) {
            let bit = magnitude(counter.load(Ordering::Relaxed));
            is_new |= *seen & bit != bit;
            *seen |= bit;
        }
        is_new
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.seen.is_empty() {
            return formatter.write_str("by mutation alone: the code is not instrumented");
        }
        let reached = self.seen.iter().filter(|seen| **seen != 0).count();
        write!(formatter, "{reached} of {} edges reached", self.seen.len())
    }
}

/// Numbers that are about the same have the same bit.
const fn magnitude(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 1 << 1,
        3 => 1 << 2,
        4..=7 => 1 << 3,
        8..=15 => 1 << 4,
        16..=31 => 1 << 5,
        32..=127 => 1 << 6,
        128.. => 1 << 7,
    }
}
