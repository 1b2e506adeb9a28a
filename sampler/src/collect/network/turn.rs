//! One at a time, and nobody waits long.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

/// Time that is waited for a turn. What is done in one takes some milliseconds.
const PATIENCE: Duration = Duration::from_millis(200);

/// A turn that one has at a time.
#[derive(Debug, Default)]
pub(super) struct Turn {
    is_taken: Mutex<bool>,
    is_free: Condvar,
}

/// It is one's turn.
#[derive(Debug)]
pub(super) struct Mine<'a>(&'a Turn);

impl Turn {
    /// Waits for it, for a moment; `None` where somebody has it for longer.
    pub(super) fn take(&self) -> Option<Mine<'_>> {
        let is_taken = self.is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.is_free.wait_timeout_while(is_taken, PATIENCE, |is_taken| *is_taken);
        let (mut is_taken, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
        if outcome.timed_out() {
            return None;
        }
        *is_taken = true;
        Some(Mine(self))
    }
}

#[cfg(test)]
impl Turn {
    /// Whether nobody has it.
    pub(super) fn is_free(&self) -> bool {
        !*self.is_taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Mine<'_> {
    fn drop(&mut self) {
        *self.0.is_taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.is_free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, thread};

    use super::*;

    #[test]
    fn who_has_it_keeps_others_waiting_for_a_moment_and_no_longer() {
        let turn = Turn::default();
        let mine = turn.take().unwrap();
        assert!(turn.take().is_none(), "it hangs");
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            scope.spawn(|| sender.send(turn.take().is_some()).unwrap());
            drop(mine);
            assert!(receiver.recv().unwrap());
        });
        assert!(turn.take().is_some(), "it was given back");
    }
}
