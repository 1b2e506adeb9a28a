//! What the service says of itself, as a document.
//!
//! `sampler/schema/status-1.schema.json` describes it. What is not known is absent, never zero.

use serde::{Deserialize, Serialize};

/// Value of `schema` in the document.
pub const SCHEMA: &str = "hvsampler.status/1";

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the service.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it was started, Unix time in ns.
    pub started_unix_ns: u64,
    /// For how long it runs, ns; a clock that is set changes nothing.
    pub uptime_ns: u64,
    /// When this was said, Unix time in ns.
    pub at_unix_ns: u64,
    /// The host.
    pub host: StatusHost,
    /// The most that is observed of guests.
    pub level: String,
    /// Time between snapshots, ns.
    pub interval_ns: u64,
    /// What it follows; absent before the first snapshot.
    pub follows: Option<Follows>,
    /// How its snapshots fare; absent before the first one.
    pub snapshots: Option<Snapshots>,
    /// Where they go; none where nothing is exported.
    pub destinations: Vec<Destination>,
    /// What it costs.
    pub cost: Cost,
    /// What it lost; absent before the first snapshot.
    pub lost: Option<Lost>,
}

/// The host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusHost {
    /// Its name.
    pub name: String,
    /// Release of its kernel.
    pub kernel: String,
}

/// What the last snapshot has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follows {
    /// Guests that are shown.
    pub guests: u64,
    /// Their vCPUs.
    pub vcpus: u64,
    /// Threads that run vCPUs and have a slot.
    pub vcpu_threads: u64,
    /// Threads that work for those guests and run no vCPU.
    pub helper_threads: u64,
}

/// How snapshots fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshots {
    /// When the last one was taken, Unix time in ns.
    pub last_unix_ns: u64,
    /// Those that were taken.
    pub taken: u64,
    /// Those of which all was read more than 100 ms after they were due.
    pub late: u64,
    /// Those that were left out because the one before was not over.
    pub skipped: u64,
    /// Those that could not be taken.
    pub failed: u64,
    /// Time from the moment at which they were due until all was read of them, added up, ns.
    pub lateness_ns: u64,
    /// The same of the last one alone.
    pub last_lateness_ns: u64,
}

/// A receiver of snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Its URL, without secrets.
    pub target: String,
    /// Requests that wait, the one that is being sent included.
    pub queue_requests: u64,
    /// Memory that they use, bytes.
    pub queue_bytes: u64,
    /// Memory that they may use, bytes.
    pub queue_limit_bytes: u64,
    /// Requests that it took.
    pub requests: u64,
    /// Points in them, without those that it rejected.
    pub points: u64,
    /// Points that it rejected in requests that it took.
    pub rejected_points: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// What was given up, by reason.
    pub dropped: Vec<GivenUp>,
    /// What went wrong last; absent where nothing did. Since then all may have gone well.
    pub last_error: Option<LastError>,
}

/// What was given up for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// Why.
    pub reason: String,
    /// Requests; where the encoder was behind, snapshots.
    pub requests: u64,
    /// Points in them.
    pub points: u64,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When, Unix time in ns.
    pub at_unix_ns: u64,
    /// In words.
    pub text: String,
}

/// What the service costs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU time of the process, ns; threads that have ended are in it.
    pub cpu_ns: Option<u64>,
    /// Resident memory of the process, bytes. Maps are not in it.
    pub resident_bytes: Option<u64>,
    /// Its threads, in the order of their ids.
    pub threads: Vec<ThreadCost>,
    /// Threads that are not listed, because there are too many.
    pub threads_left_out: u64,
    /// The eBPF programs.
    pub programs: Programs,
}

/// What a thread costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadCost {
    /// Its id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Its CPU time, ns.
    pub cpu_ns: u64,
}

/// What the eBPF programs cost, as the kernel counts it while it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    /// Whether `kernel.bpf_stats_enabled` is set; absent where the kernel does not say.
    pub counting: Option<bool>,
    /// How to have runs counted; absent where they are.
    pub fix: Option<String>,
    /// Those that are loaded, by name.
    pub loaded: Vec<ProgramCost>,
}

/// What a program costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramCost {
    /// Its name.
    pub name: String,
    /// Runs while the kernel counted; absent where it does not count and has never done so.
    pub runs: Option<u64>,
    /// Time that those took, ns.
    pub time_ns: Option<u64>,
}

/// What was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// All counters of loss, those that are 0 too.
    pub counters: Vec<Count>,
    /// Snapshots that each sink dropped, those that dropped none too.
    pub sinks: Vec<Count>,
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Its name.
    pub name: String,
    /// How much it has counted since the start.
    pub count: u64,
}

/// Why who asks gets no [`Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// In words.
    pub refused: String,
}
