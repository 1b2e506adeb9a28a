//! Test harness of hvsampler: guests with known loads, the kernel's own numbers to hold the sampler
//! against, and a runner for tests that need privileges.
//!
//! | module | what it holds |
//! |---|---|
//! | [`vmm`] | a tiny KVM virtual machine monitor whose vCPUs do exactly what a test asks for |
//! | [`guest`] | that VMM as a process of its own, started, watched and ended |
//! | [`scenario`] | guests plus what is done to them: contention, quotas, moves, stops, churn |
//! | [`oracle`] | the kernel's own numbers, read from `/proc` and cgroups, and a guest's from its console |
//! | [`exactness`] | the comparison of a reader of counters with the oracle, to the nanosecond |
//! | [`runner`] | one process, one line and one deadline for each test |
//! | [`suite`] | the registry of tests |
//! | [`bench`](mod@bench) | what the programs cost, against empty twins |
//! | [`twin`] | programs that tests and benchmarks alone load |
//! | [`host`] | affinity, priority, signals and the few other things asked of the host |

pub mod bench;
pub mod exactness;
pub mod guest;
pub mod host;
pub mod oracle;
pub mod runner;
pub mod scenario;
pub mod suite;
pub mod twin;
pub mod vmm;
