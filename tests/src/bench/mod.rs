//! Prices, measured as matched twins in one run. They print; they never judge.

pub mod hooks;
mod pingpong;
