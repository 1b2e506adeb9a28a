//! `hvsampler once`: one interval, printed.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    agent,
    cli::{OnceArgs, OnceFormat},
    export::{json, table},
    source::Levels,
};

/// How long the names of those that took a guest's time are waited for.
const NAMES: Duration = Duration::from_millis(200);

/// Samples one interval and renders it.
///
/// # Errors
/// When the programs cannot be put to work, or the kernel's threads cannot be walked over.
pub fn run(args: &OnceArgs) -> Result<String> {
    let (mut follower, _bpf_log) = agent::start(0, Levels { most: args.level, ..Levels::default() })?;
    follower.set_interval(args.interval)?;
    let begin = Instant::now();
    follower.snapshot()?;
    follower.follow_until(begin + args.interval);
    let snapshot = follower.snapshot_after(NAMES)?;
    Ok(match args.format {
        OnceFormat::Table => {
            table::render(&snapshot, table::TableOptions { vcpus: args.vcpu, max_guests: None })
        }
        OnceFormat::Json => json::once(&snapshot)?,
    })
}
