//! What of KVM's guests outlives the process.

mod account;
mod exits;
