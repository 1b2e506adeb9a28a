//! From snapshots to the outside: OTLP, table, JSON, self-telemetry.
