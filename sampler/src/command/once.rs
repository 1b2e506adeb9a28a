//! `hvsampler once`: one interval, printed.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    agent,
    cli::{OnceArgs, OnceFormat},
    collect::procfs::ProcFs,
    export::{json, table},
};

/// How long vCPUs are waited for that /proc knows of and no walk has seen inside their ioctl yet, and guests that
/// do not say who they are: a paused one and a hung one would have the others wait for ever.
const SETTLE: Duration = Duration::from_secs(1);

/// Samples one interval and renders it.
///
/// # Errors
/// When the programs cannot be put to work, or the kernel's threads cannot be walked over.
pub fn run(args: &OnceArgs) -> Result<String> {
    let (mut follower, _bpf_log) = agent::start(0)?;
    let vcpus =
        ProcFs::system().scan().map_or(0, |scan| scan.guests.iter().map(|guest| guest.vcpu_ids.len()).sum());
    follower.settle(vcpus, SETTLE)?;
    let begin = Instant::now();
    follower.snapshot()?;
    follower.follow_until(begin + args.interval);
    let snapshot = follower.snapshot()?;
    Ok(match args.format {
        OnceFormat::Table => {
            table::render(&snapshot, table::TableOptions { vcpus: args.vcpu, max_guests: None })
        }
        OnceFormat::Json => json::once(&snapshot)?,
    })
}
