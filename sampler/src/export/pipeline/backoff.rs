//! How long to wait before the next attempt.

use std::time::Duration;

use crate::export::settings::RetrySettings;

/// Exponential back-off with jitter: hosts that lost their receiver together must not return together.
#[derive(Debug)]
pub(super) struct Backoff {
    settings: RetrySettings,
    bound: Duration,
}

impl Backoff {
    pub(super) const fn new(settings: RetrySettings) -> Self {
        Self { bound: settings.initial_backoff, settings }
    }

    /// After a definite answer.
    pub(super) const fn reset(&mut self) {
        self.bound = self.settings.initial_backoff;
    }

    /// The next wait; at least as long as the receiver asks for, unless the request would have expired by
    /// then.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let own = self.bound.mul_f64(1.0 - fastrand::f64() / 2.0);
        self.bound = (self.bound * 2).min(self.settings.max_backoff);
        let asked = asked.map(|asked| {
            asked.min(self.settings.max_age) + self.settings.initial_backoff.mul_f64(fastrand::f64())
        });
        own.max(asked.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(RetrySettings {
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_millis(450),
            max_age: Duration::from_secs(60),
        })
    }

    #[test]
    fn waits_double_up_to_the_bound_and_start_again() {
        let mut backoff = backoff();
        for bound in [100, 200, 400, 450, 450] {
            let wait = backoff.next(None).as_millis();
            assert!((bound / 2..=bound).contains(&wait), "{wait} of {bound}");
        }
        backoff.reset();
        assert!(backoff.next(None) <= Duration::from_millis(100));
    }

    #[test]
    fn waits_differ() {
        let waits: Vec<_> = (0..50).map(|_| backoff().next(None)).collect();
        assert!(waits.iter().any(|wait| *wait != waits[0]), "no jitter");
    }

    #[test]
    fn the_receiver_is_heard_within_reason() {
        let wait = backoff().next(Some(Duration::from_secs(5)));
        assert!((5000..=5100).contains(&wait.as_millis()), "{wait:?}");
        let wait = backoff().next(Some(Duration::MAX));
        assert!((60_000..=60_100).contains(&wait.as_millis()), "{wait:?}");
    }
}
