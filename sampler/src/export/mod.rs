//! From snapshots to the outside: OTLP, table, JSON, self-telemetry.

pub mod client;
pub mod json;
pub mod otlp;
pub mod pipeline;
pub mod reference;
pub mod resource;
pub mod selfmetrics;
pub mod settings;
pub mod table;
pub mod terminal;
