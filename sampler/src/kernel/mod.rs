//! What the running kernel is and can do: BTF, capabilities, limits.

pub mod btf;
pub mod clock;
pub mod limits;
