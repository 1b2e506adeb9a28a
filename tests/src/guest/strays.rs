//! Guests that ended, or lost a vCPU, without being asked to.
//!
//! An emulated machine now and then sends a guest astray, and whatever a test waits for then never comes: the
//! failure that it reports is not the one that happened. So each guest looks, before it is ended, whether it
//! was still whole, and the runner asks here when a test has failed.

use std::sync::{Mutex, PoisonError};

static STRAYS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes a guest that ended by itself, in words.
pub(crate) fn note(what: String) {
    STRAYS.lock().unwrap_or_else(PoisonError::into_inner).push(what);
}

/// What was noted in this process, on one line; `None` where nothing was.
pub(crate) fn noted() -> Option<String> {
    let strays = STRAYS.lock().unwrap_or_else(PoisonError::into_inner);
    (!strays.is_empty()).then(|| strays.join(", "))
}
