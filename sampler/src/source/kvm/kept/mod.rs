//! What of KVM's guests outlives the process.

mod exits;
