//! From snapshots to the outside: OTLP, table, JSON, self-telemetry.

pub mod settings;
