//! How many lines each place in the code may log. What is beyond is left out, counted, and said from time to
//! time.

use std::{
    collections::HashMap,
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// Lines that a place may log at once: a host may have so many guests that come together.
const BURST: u32 = 200;

/// Time after which it may log one more.
const REFILL: Duration = Duration::from_secs(1);

/// Bytes of a line that is left out which are shown.
const SHOWN_BYTES: usize = 120;

/// A place in the code: the address of what it says of itself, of which there is one for each.
type Place = usize;

fn place_of(metadata: &'static Metadata<'static>) -> Place {
    std::ptr::from_ref(metadata).addr()
}

/// The lines that are left out. Clones share them. There is one entry for each place in the code that has
/// logged, so their number is bounded by it.
///
/// What is at level debug or below is not limited: who asks for it wants all of it, and lines that find no
/// room are dropped and counted anyhow.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits(Arc<Mutex<Sites>>);

#[derive(Debug, Default)]
struct Sites {
    by_place: HashMap<Place, Site>,
    /// All that was left out since the start.
    left_out: u64,
}

#[derive(Debug)]
struct Site {
    /// Lines that it may log now.
    tokens: u32,
    /// Up to when tokens were given.
    filled: Instant,
    /// Lines that were left out and are not said yet.
    unsaid: u64,
    /// The first of them.
    like: String,
}

/// Lines of one place that were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) lines: u64,
    /// The message of the first.
    pub(super) like: String,
}

impl Limits {
    /// Lines that were left out since the start.
    pub(super) fn left_out(&self) -> u64 {
        self.sites().left_out
    }

    /// What was left out since the last call.
    pub(super) fn take_unsaid(&self) -> Vec<LeftOut> {
        let mut sites = self.sites();
        let unsaid = sites.by_place.values_mut().filter(|site| site.unsaid > 0);
        unsaid.map(Site::take_unsaid).collect()
    }

    /// Whether a place may log a line now; `like` gives the message of one that may not.
    fn admits(&self, place: Place, now: Instant, like: impl FnOnce() -> String) -> bool {
        let mut sites = self.sites();
        let site = sites.by_place.entry(place).or_insert_with(|| Site::new(now));
        if site.admits(now) {
            return true;
        }
        if site.unsaid == 0 {
            site.like = like();
        }
        site.unsaid += 1;
        sites.left_out += 1;
        false
    }

    fn sites(&self) -> MutexGuard<'_, Sites> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Site {
    const fn new(now: Instant) -> Self {
        Self { tokens: BURST, filled: now, unsaid: 0, like: String::new() }
    }

    fn admits(&mut self, now: Instant) -> bool {
        let refills = now.saturating_duration_since(self.filled).as_nanos() / REFILL.as_nanos();
        let refills = u32::try_from(refills).unwrap_or(u32::MAX);
        // No part of a second is lost.
        self.filled += REFILL.saturating_mul(refills);
        self.tokens = self.tokens.saturating_add(refills).min(BURST);
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }

    fn take_unsaid(&mut self) -> LeftOut {
        LeftOut { lines: std::mem::take(&mut self.unsaid), like: std::mem::take(&mut self.like) }
    }
}

impl<S: Subscriber> Layer<S> for Limits {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        *metadata.level() > Level::INFO || self.admits(place_of(metadata), Instant::now(), || message(event))
    }
}

fn message(event: &Event<'_>) -> String {
    struct Message(String);
    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            if field.name() == "message" {
                let _ = write!(self.0, "{value:?}");
            }
        }
    }
    let mut message = Message(String::new());
    event.record(&mut message);
    message.0.truncate(message.0.floor_char_boundary(SHOWN_BYTES));
    message.0
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Takes the levels of events.
    struct Seen(Sender<Level>);

    impl<S: Subscriber> Layer<S> for Seen {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.send(*event.metadata().level()).unwrap();
        }
    }

    fn with(limits: &Limits, work: impl FnOnce()) -> Vec<Level> {
        let (seen, levels) = channel();
        let subscriber = tracing_subscriber::registry().with(limits.clone()).with(Seen(seen));
        tracing::subscriber::with_default(subscriber, work);
        levels.try_iter().collect()
    }

    #[test]
    fn each_place_has_its_own_measure_and_what_is_beyond_is_counted() {
        let limits = Limits::default();
        let levels = with(&limits, || {
            for number in 0..BURST + 7 {
                tracing::info!("often {number}");
                if number % 2 == 0 {
                    tracing::warn!("less often");
                }
            }
        });
        let of = |wanted| levels.iter().filter(|level| **level == wanted).count();
        // A machine that takes seconds for it refills.
        assert_eq!(of(Level::INFO) as u64 + limits.left_out(), u64::from(BURST) + 7);
        assert_eq!(of(Level::WARN), (BURST as usize + 7).div_ceil(2));
        let unsaid = limits.take_unsaid();
        assert_eq!(unsaid.iter().map(|site| site.lines).sum::<u64>(), limits.left_out());
        assert!(unsaid.iter().all(|site| site.like.starts_with("often 2")), "{unsaid:?}");
        assert_eq!(limits.take_unsaid(), []);
    }

    #[test]
    fn what_was_asked_for_in_detail_is_not_limited() {
        let limits = Limits::default();
        let levels = with(&limits, || (0..BURST * 2).for_each(|_| tracing::debug!("often")));
        assert_eq!((levels.len(), limits.left_out()), (BURST as usize * 2, 0));
    }

    #[test]
    fn time_gives_lines_back_and_no_more_than_at_first() {
        let start = Instant::now();
        let mut site = Site::new(start);
        let admitted = |site: &mut Site, now| (0..BURST * 3).filter(|_| site.admits(now)).count();
        assert_eq!(admitted(&mut site, start), BURST as usize);
        assert_eq!(admitted(&mut site, start + REFILL / 2), 0);
        assert_eq!(admitted(&mut site, start + REFILL * 3 / 2), 1, "halves add up");
        assert_eq!(admitted(&mut site, start + REFILL * 2), 1);
        assert_eq!(admitted(&mut site, start + REFILL * 10_000), BURST as usize);
    }
}
