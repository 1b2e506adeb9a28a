//! The table of hooks, and from it loaded and attached programs.
