//! From snapshots to the outside: OTLP, table, JSON, self-telemetry.

pub mod client;
pub mod otlp;
pub mod resource;
pub mod settings;
pub mod json;
pub mod table;
pub mod terminal;
