//! Distributions that the scheduler program keeps of each vCPU.

macro_rules! distributions {
    ($($name:ident = $key:literal, $help:literal;)*) => {
        /// A distribution; the discriminant is its index in a slot.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Distribution { $(#[doc = $help] $name,)* }

        /// What user space calls each [`Distribution`], in the order of its discriminants.
        pub const DISTRIBUTIONS: &[&str] = &[$($key,)*];
    };
}

distributions! {
    Steal = "steal",
        "Wait for a physical CPU before each run stint, as the kernel adds it to the run delay.";
    WakeupLatency = "wakeup_latency",
        "The same, of the waits that followed a sleep: from the wake-up to running.";
    Stint = "stint",
        "CPU time of each run stint, from being given a physical CPU to leaving it.";
}
