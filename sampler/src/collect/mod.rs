//! From maps, ring buffer and /proc to readings.
