//! What people and programs read: the table held against golden texts, the JSON documents against their
//! schemas.

#![expect(clippy::unwrap_used, reason = "what fails in a test's helper fails the test")]

mod arbitrary;
mod documents;
mod golden;
mod reference;
mod sample;
mod snapshots;
mod status;
mod table;
