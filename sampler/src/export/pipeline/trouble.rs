//! Says each trouble once when it begins and once when it is over, however often it happens in between.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::stats::DropReason;
use crate::export::client::{Encoding, FailureKind, Step};

/// What can be wrong; two of the same are one story to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Attempts fail, and are made again.
    Failing(FailureKind),
    /// Requests are refused for good.
    Refusing(FailureKind),
    /// The receiver takes requests and rejects points in them.
    Rejecting,
    /// Requests or snapshots are dropped here.
    Dropping(DropReason),
}

impl Trouble {
    const fn what(self) -> &'static str {
        match self {
            Self::Failing(_) => "failed attempts",
            Self::Refusing(_) => "refused requests",
            Self::Rejecting => "rejected points",
            Self::Dropping(_) => "dropped data",
        }
    }

    /// How long it must not have been seen, when an export succeeds, to be over. A trouble of single requests
    /// may alternate with successes, and is not over at each of them.
    const fn quiet(self) -> Duration {
        match self {
            Self::Failing(_) => Duration::ZERO,
            _ => Duration::from_secs(60),
        }
    }
}

/// What libraries say of a peer that speaks something else, in an operator's words.
fn hint(text: &str) -> &'static str {
    const SPEAKS_SOMETHING_ELSE: &[&str] =
        &["invalid HTTP version parsed", "frame with invalid size", "InvalidContentType"];
    let other = SPEAKS_SOMETHING_ELSE.iter().any(|sign| text.contains(sign));
    if other { "; check export.protocol, the port and http or https" } else { "" }
}

#[derive(Debug)]
struct Open {
    trouble: Trouble,
    began: Instant,
    last: Instant,
    times: u64,
}

/// The troubles that are going on with one receiver.
#[derive(Debug)]
pub(super) struct Troubles {
    /// The receiver's URL.
    receiver: Box<str>,
    open: Vec<Open>,
    /// Encodings that were refused. It is for good, and said once.
    refused: Vec<Encoding>,
}

impl Troubles {
    pub(super) fn new(receiver: &str) -> Self {
        Self { receiver: receiver.into(), open: Vec::new(), refused: Vec::new() }
    }

    /// Something happened; true when it is new.
    pub(super) fn seen(&mut self, trouble: Trouble, text: &str, now: Instant) -> bool {
        if let Some(open) = self.open.iter_mut().find(|open| open.trouble == trouble) {
            open.last = now;
            open.times += 1;
            return false;
        }
        let (receiver, hint) = (&self.receiver, hint(text));
        match trouble {
            Trouble::Failing(_) => warn!("export to {receiver} fails and is tried again: {text}{hint}"),
            Trouble::Refusing(_) => warn!("{receiver} refuses a request, which is dropped: {text}{hint}"),
            Trouble::Rejecting => warn!("{receiver} rejects points: {text}"),
            Trouble::Dropping(reason) => warn!("export to {receiver} drops data ({}): {text}", reason.key()),
        }
        self.open.push(Open { trouble, began: now, last: now, times: 1 });
        true
    }

    /// A request was refused for its encoding and sent again; true when it is new.
    pub(super) fn stepped(&mut self, step: &Step) -> bool {
        if self.refused.contains(&step.from) {
            return false;
        }
        let (receiver, from, to) = (&self.receiver, step.from.name(), step.to.name());
        info!("{receiver} refuses compression {from}, the request is sent again with {to}: {}", step.failure);
        self.refused.push(step.from);
        true
    }

    /// An export succeeded; returns how many troubles that ends.
    pub(super) fn succeeded(&mut self, now: Instant) -> usize {
        let before = self.open.len();
        self.open.retain(|open| {
            let over = now.duration_since(open.last) >= open.trouble.quiet();
            if over {
                // Attempts that fail go on until one succeeds; refusals end with the last of them.
                let end = if matches!(open.trouble, Trouble::Failing(_)) { now } else { open.last };
                let lasted = humantime::format_duration(Duration::from_secs((end - open.began).as_secs()));
                let (receiver, what) = (&self.receiver, open.trouble.what());
                info!(times = open.times, "export to {receiver} works again; {lasted} of {what}");
            }
            !over
        });
        before - self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::client::Failure;

    #[test]
    fn a_failure_is_said_once_and_ends_with_the_first_success() {
        let mut troubles = Troubles::new("http://r");
        let now = Instant::now();
        let refused = Trouble::Failing(FailureKind::Unreachable);
        let timed_out = Trouble::Failing(FailureKind::TimedOut);
        assert_eq!(
            [refused, refused, timed_out, refused].map(|it| troubles.seen(it, "x", now)),
            [true, false, true, false]
        );
        assert_eq!(troubles.succeeded(now), 2);
        assert_eq!(troubles.succeeded(now), 0);
        assert!(troubles.seen(refused, "x", now), "it began again");
    }

    #[test]
    fn a_peer_that_speaks_something_else_is_named_as_that() {
        assert!(hint("client error (SendRequest): invalid HTTP version parsed").contains("export.protocol"));
        assert_eq!(hint("connection refused"), "");
    }

    #[test]
    fn an_encoding_that_is_refused_is_said_once_and_does_not_end() {
        let mut troubles = Troubles::new("http://r");
        let step = |from, to| Step {
            from,
            to,
            failure: Failure { kind: FailureKind::Http(415), text: "HTTP 415".into() },
        };
        let (first, second) = (step(Encoding::Zstd, Encoding::Gzip), step(Encoding::Gzip, Encoding::None));
        let said = [&first, &second, &first, &second].map(|step| troubles.stepped(step));
        assert_eq!(said, [true, true, false, false]);
        assert_eq!(troubles.succeeded(Instant::now() + Duration::from_secs(200)), 0);
        assert!(!troubles.stepped(&first));
    }

    #[test]
    fn refusals_between_successes_are_one_trouble() {
        let mut troubles = Troubles::new("http://r");
        let start = Instant::now();
        let refusing = Trouble::Refusing(FailureKind::Http(413));
        for second in 0..100 {
            let now = start + Duration::from_secs(second);
            assert_eq!(troubles.seen(refusing, "x", now), second == 0);
            assert_eq!(troubles.succeeded(now), 0);
        }
        assert_eq!(troubles.succeeded(start + Duration::from_secs(200)), 1);
    }
}
