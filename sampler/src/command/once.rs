//! `hvsampler once`: one interval, printed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    agent::{self, StartOptions},
    cli::{OnceArgs, OnceFormat},
    config::DEFAULT_NICE,
    export::{json, table},
    kernel::priority,
    model::{HostParts, Levels, Snapshot},
};

/// How long the names of those that took a guest's time are waited for.
const NAMES: Duration = Duration::from_millis(200);

/// Samples one interval and renders it.
///
/// # Errors
/// When the programs cannot be put to work, or the kernel's threads cannot be walked over.
pub fn run(args: &OnceArgs) -> Result<String> {
    let levels = Levels { most: args.level, ..Levels::default() };
    let options = StartOptions {
        bpf_log_level: 0,
        interval: args.interval,
        levels,
        host: HostParts::default(),
        nice: DEFAULT_NICE,
    };
    let (mut driver, _bpf_log) = agent::start(&options)?;
    // Printing needs no priority, and both readings do.
    let (before, snapshot) = priority::with(options.nice, || -> Result<(Snapshot, Snapshot)> {
        let begin = Instant::now();
        driver.read()?;
        let before = driver.compose();
        driver.attend_until(begin + args.interval);
        Ok((before, driver.snapshot_after(NAMES)?))
    })?;
    Ok(match args.format {
        OnceFormat::Table => table::render(
            &snapshot,
            &table::TableOptions {
                columns: args.columns.clone(),
                vcpus: args.vcpu,
                devices: args.device,
                max_guests: None,
            },
        ),
        OnceFormat::Json => {
            let mut lines = json::Lines::since(Arc::new(before));
            String::from_utf8(lines.next(Arc::new(snapshot))?.to_vec())?
        }
    })
}
