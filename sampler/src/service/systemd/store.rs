//! Descriptors that the service manager keeps over a restart: `FDSTORE` of sd_notify(3).
//!
//! It gives no receipt: `BARRIER=1` says that messages were read, and not that a descriptor was kept. What came
//! back the next start sees.

use std::os::fd::BorrowedFd;

use super::{Manager, message::Line};
use crate::kernel::descriptors::{Name, Part};

#[cfg_attr(not(test), expect(dead_code, reason = "nothing is handed over yet"))]
impl Manager {
    /// Whether it keeps so many descriptors, as far as it says. One that does not say may keep none.
    pub(super) fn can_keep(&self, count: usize) -> bool {
        self.address.is_some() && self.keeps.is_none_or(|most| count <= most)
    }

    /// Gives it descriptors to keep, each with a message of its own: a message has one name for all. The
    /// manifest comes last, and without all others not at all: it is what says that they are whole. Returns
    /// whether there is a manager that took all.
    ///
    /// One that did not take a message is not asked for the rest: each costs the same patience.
    pub(super) async fn keep(&self, descriptors: &[(Name, BorrowedFd<'_>)]) -> bool {
        if self.address.is_none() {
            return false;
        }
        let is_manifest = |one: &&(Name, BorrowedFd<'_>)| one.0.part == Part::Manifest;
        let others = descriptors.iter().filter(|one| !is_manifest(one));
        for (name, descriptor) in others.chain(descriptors.iter().filter(is_manifest)) {
            if !self.send_with(&[Line::Keep(name.to_string())], Some(*descriptor)).await {
                return false;
            }
        }
        true
    }

    /// Lets it forget all that it keeps under these names. Returns whether it took all messages; it is not asked
    /// for the rest after one that it did not take.
    pub(super) async fn forget(&self, names: impl IntoIterator<Item = &str>) -> bool {
        for name in names {
            if !self.send(&[Line::Forget(name.to_owned())]).await {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
