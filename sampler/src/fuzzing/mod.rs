//! Hostile inputs for whatever reads what others wrote: a process, a collector, the kernel, an operator.
//!
//! Each target has its seeds in `sampler/seeds/NAME`: inputs as they are in the field, hostile ones, and
//! every input that has ever failed. A test replays them, and then so many that are made of them by mutation,
//! the same ones each time. `cargo xtask fuzz` runs on from there for as long as it is asked to, with the
//! code instrumented, and goes on from inputs that reach code which none has reached before.
//!
//! No input may panic, take more memory at once than its target says, or run for ever; most targets hold more
//! than that against what they read. One that fails is made shorter and kept as a seed.
//!
//! Why it is neither cargo-fuzz nor bolero: docs/design/fuzzing.md.

mod coverage;
mod guard;
mod mutate;
mod seeds;

use std::{
    any::Any,
    cell::{Cell, RefCell},
    env, fmt,
    panic::{self, AssertUnwindSafe},
    sync::Once,
    time::{Duration, Instant, SystemTime},
};

use self::{coverage::Coverage, guard::Guard, mutate::Mutator, seeds::Seeds};

/// Where set, each target runs for so many seconds.
const SECONDS: &str = "HVS_FUZZ_SECONDS";

/// What separates the parts of an input that stands for several files.
const SEPARATOR: &[u8] = b"\n====\n";

/// Attempts to make an input that fails shorter.
const SHORTENINGS: usize = 2_000;

/// Something that reads what others wrote.
pub(crate) struct Target {
    /// Name of the folder of its seeds.
    pub(crate) name: &'static str,
    /// What mutations put into inputs, beside bytes and numbers.
    pub(crate) words: &'static [&'static str],
    /// Inputs beside the seeds, where no time is given.
    pub(crate) inputs: u32,
    /// Memory that one input may take at once.
    pub(crate) memory: Memory,
}

/// A bound of memory.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// For any input, bytes.
    pub(crate) fixed: usize,
    /// And for each byte of it, bytes.
    pub(crate) each: usize,
}

impl Memory {
    /// For what keeps little more than what it read.
    pub(crate) const SMALL: Self = Self { fixed: 256 << 10, each: 16 };

    const fn of(self, input: &[u8]) -> usize {
        self.fixed + self.each * input.len()
    }
}

/// For how long a target runs beyond its seeds.
#[derive(Clone, Copy)]
enum Limit {
    Inputs(u32),
    Time(Duration),
}

impl Limit {
    fn goes_on(self, done: u32, begun: Instant) -> bool {
        match self {
            Self::Inputs(inputs) => done < inputs,
            Self::Time(time) => begun.elapsed() < time,
        }
    }

    /// The same each time where the number of inputs is given.
    fn random_seed(self, name: &str) -> u64 {
        match self {
            Self::Inputs(_) => seeds::hash(name.as_bytes()),
            Self::Time(_) => SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos() as u64),
        }
    }
}

/// An input that failed, and how.
struct Failed {
    input: Vec<u8>,
    how: String,
    /// Of the mutations; nothing of a seed.
    random_seed: Option<u64>,
}

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, by \"{}\"", self.how, self.input.escape_ascii())?;
        match self.random_seed {
            Some(seed) => write!(formatter, " (random seed {seed})"),
            None => Ok(()),
        }
    }
}

impl Target {
    /// Runs the seeds, those of `made` too, and inputs that are made of them.
    ///
    /// # Panics
    /// When one fails; it is a seed from then on.
    #[track_caller]
    pub(crate) fn check(&self, made: &[Vec<u8>], run: impl FnMut(&[u8])) {
        let limit = match env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok()) {
            Some(seconds) => Limit::Time(Duration::from_secs(seconds)),
            None => Limit::Inputs(self.inputs),
        };
        self.check_with(&Seeds::of(self.name), made, limit, run);
    }

    #[track_caller]
    fn check_with(&self, seeds: &Seeds, made: &[Vec<u8>], limit: Limit, mut run: impl FnMut(&[u8])) {
        let mut corpus = seeds.read();
        corpus.extend_from_slice(made);
        assert!(!corpus.is_empty(), "{} has no seeds", self.name);
        if let Err(failed) = self.run(seeds, corpus, limit, &mut run) {
            let at = seeds.keep(&failed.input);
            panic!("{}: {failed}; it is kept as {}: commit it with what it takes", self.name, at.display());
        }
    }

    fn run(
        &self,
        seeds: &Seeds,
        mut corpus: Vec<Vec<u8>>,
        limit: Limit,
        run: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Failed> {
        let guard = Guard::of(seeds);
        let mut coverage = Coverage::default();
        self.replay(&guard, &corpus, &mut coverage, run)?;
        let random_seed = limit.random_seed(self.name);
        let mut mutator = Mutator::new(random_seed, self.words);
        let (begun, mut done) = (Instant::now(), 0_u32);
        while limit.goes_on(done, begun) {
            let input = mutator.make(&corpus);
            if let Err(how) = self.attempt(&guard, run, &input) {
                let input = self.shorten(&guard, run, input);
                return Err(Failed { input, how, random_seed: Some(random_seed) });
            }
            done += 1;
            if matches!(limit, Limit::Time(_)) && coverage.is_new() {
                corpus.push(input);
            }
        }
        if let Limit::Time(time) = limit {
            let (name, seconds) = (self.name, time.as_secs());
            println!("{name}: {done} inputs in {seconds} s, {coverage}, random seed {random_seed}");
        }
        Ok(())
    }

    fn replay(
        &self,
        guard: &Guard,
        corpus: &[Vec<u8>],
        coverage: &mut Coverage,
        run: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Failed> {
        corpus.iter().try_for_each(|input| {
            let attempted = self.attempt(guard, run, input);
            coverage.is_new();
            attempted.map_err(|how| Failed { input: input.clone(), how, random_seed: None })
        })
    }

    /// How an input fails, if it does.
    fn attempt(&self, guard: &Guard, run: &mut dyn FnMut(&[u8]), input: &[u8]) -> Result<(), String> {
        suppress_panics();
        let mut outcome = Ok(());
        guard.begin(input);
        coverage::begin();
        IS_RUNNING.set(true);
        let used = allocation_counter::measure(|| {
            outcome = panic::catch_unwind(AssertUnwindSafe(|| run(input)));
        });
        IS_RUNNING.set(false);
        guard.end();
        outcome.map_err(|panic| text_of(&*panic))?;
        let bound = self.memory.of(input);
        if used.bytes_max > bound as u64 {
            return Err(format!("{} bytes of memory at once, {bound} at most", used.bytes_max));
        }
        Ok(())
    }

    /// The shortest input that is found to fail in any way.
    fn shorten(&self, guard: &Guard, run: &mut dyn FnMut(&[u8]), mut input: Vec<u8>) -> Vec<u8> {
        let (mut attempts, mut piece) = (0, input.len() / 2);
        while piece > 0 && attempts < SHORTENINGS {
            let mut at = 0;
            while at < input.len() && attempts < SHORTENINGS {
                let end = (at + piece).min(input.len());
                let shorter = [&input[..at], &input[end..]].concat();
                attempts += 1;
                match self.attempt(guard, run, &shorter) {
                    Ok(()) => at = end,
                    Err(_) => input = shorter,
                }
            }
            piece /= 2;
        }
        input
    }
}

/// The parts of an input, empty where there are no more.
pub(crate) fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let mut rest = Some(input);
    std::array::from_fn(|_| {
        let whole = rest.take().unwrap_or_default();
        let at = whole.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        let Some(at) = at else { return whole };
        rest = Some(&whole[at + SEPARATOR.len()..]);
        &whole[..at]
    })
}

/// An input without its end, cut at some places.
pub(crate) fn cuts(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    let hash = seeds::hash(input);
    [hash, hash >> 20, hash >> 40].into_iter().map(|at| &input[..at as usize % (input.len() + 1)])
}

thread_local! {
    /// An input runs on this thread: what it panics with is said once, at the end.
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic of an input was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Lets panics of inputs print nothing: making one shorter takes hundreds of them.
fn suppress_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_RUNNING.get() {
                PLACE.set(info.location().map(ToString::to_string).unwrap_or_default());
            } else {
                before(info);
            }
        }));
    });
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("a panic at {}: {}", PLACE.take(), text.unwrap_or("without a word"))
}

#[cfg(test)]
mod tests;
