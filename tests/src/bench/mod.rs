//! Prices, measured as matched twins in one run. They print; they never judge.

pub mod agent;
pub mod devices;
pub mod exits;
mod fleet;
pub mod hooks;
pub mod host;
pub mod interrupts;
mod pid_max;
mod pingpong;
mod programs;
pub mod requests;
mod service;
mod sink;
pub mod start;
pub mod walk;

use std::fs;

use anyhow::{Context as _, Result};

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Kernel and CPU: without them no price means anything.
fn machine() -> String {
    format!("kernel {}, {}", release(), cpu().unwrap_or_else(|_| "unknown CPU".into()))
}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn cpu() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let line = text.lines().find(|line| line.starts_with("model name")).context("no model name")?;
    Ok(line.split(':').nth(1).unwrap_or_default().trim().to_owned())
}
