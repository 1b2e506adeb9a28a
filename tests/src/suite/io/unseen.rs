//! Machines whose kernel runs no programs while a thread of its first process has the CPU.
//!
//! Such kernels are there, made for machines whose first process is to be left alone: a request that ends in
//! an interrupt of it is in the kernel's statistics and in its trace, and no program is called. The kernel
//! counts that nowhere, as it does a call that it skips. A kernel as it is released has no such exception.

use anyhow::Context as _;

use crate::oracle::{BlockTrace, threads};
use crate::runner::{Context, Outcome};

/// How often a test is made.
const ATTEMPTS: usize = 4;
/// The first process.
const FIRST: u32 = 1;

/// Makes a test, and makes it again where it failed while a request ended in a thread of the first process.
pub(super) fn apart_from_the_first_process(
    context: &Context,
    test: impl Fn(&Context) -> anyhow::Result<Outcome>,
) -> anyhow::Result<Outcome> {
    for _ in 1..ATTEMPTS {
        let trace = BlockTrace::start(&context.directory().join("tracefs"))?;
        let outcome = test(context);
        let Err(error) = outcome else { return outcome };
        let first = threads(FIRST).context("the first process has no threads")?;
        let is_its = |tid: &u32| first.iter().any(|(of, _)| of == tid);
        let unseen = trace.ended_in()?.iter().filter(|tid| is_its(tid)).count();
        if unseen == 0 {
            return Err(error);
        }
        eprintln!("  once more, as {unseen} requests ended in the first process: {error:#}");
    }
    test(context)
}
