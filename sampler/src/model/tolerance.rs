//! How far readings may be apart.

/// Uncertainty of one reading, ns: the scheduler's clock is measured to some microseconds, and a thread's
/// state may change while it is read.
pub const TOLERANCE_NS: u64 = 50_000;
