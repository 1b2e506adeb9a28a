//! What the running kernel is and can do: BTF, capabilities, limits.
