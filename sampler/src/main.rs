//! The `hvsampler` command.

fn main() {}
