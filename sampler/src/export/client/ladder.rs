//! Which encoding a receiver is sent: the highest that it has not refused, and none to one on this host.

use std::net::SocketAddr;

use super::{Answer, classify::Sign, frame::Encoding};
use crate::export::settings::Compression;

/// What is known of one receiver. Kept for as long as its client: what was refused is not tried again.
#[derive(Debug)]
pub(super) struct Ladder {
    /// Whether a receiver on this host is sent no compression.
    auto: bool,
    this_host: bool,
    /// The highest encoding that was not refused.
    highest: Encoding,
    /// Whether a request in `highest` was taken.
    proven: bool,
    /// Where steps began that may have had another cause.
    doubted: Option<Encoding>,
}

impl Ladder {
    /// `this_host` is what the URL says; where it says nothing, the first connection does.
    pub(super) const fn new(compression: Compression, this_host: bool) -> Self {
        let highest = match compression {
            Compression::None => Encoding::None,
            Compression::Gzip => Encoding::Gzip,
            Compression::Auto | Compression::Zstd => Encoding::Zstd,
        };
        let auto = matches!(compression, Compression::Auto);
        Self { auto, this_host, highest, proven: false, doubted: None }
    }

    /// The encoding for the next request.
    pub(super) const fn current(&self) -> Encoding {
        if self.auto && self.this_host { Encoding::None } else { self.highest }
    }

    /// Who answers. A name may move from one host to another.
    pub(super) fn connected(&mut self, peer: SocketAddr, own: SocketAddr) {
        let (peer, own) = (peer.ip().to_canonical(), own.ip().to_canonical());
        self.this_host = peer.is_loopback() || peer == own;
    }

    /// Learns from the answer to a request; returns the encoding to send the same request in again, which is
    /// always a lower one, or `None` where the answer stands.
    pub(super) fn settle(&mut self, sent: Encoding, answer: &Answer, sign: Option<Sign>) -> Option<Encoding> {
        match answer {
            Answer::Taken { .. } => {
                if sent == self.highest {
                    self.proven = true;
                    self.doubted = None;
                }
                None
            }
            Answer::Retry { .. } => None,
            Answer::Refused { .. } => {
                let lower = sign.and_then(|sign| self.refused(sent, sign));
                if lower.is_none() && sent == Encoding::None {
                    self.acquit();
                }
                lower
            }
        }
    }

    fn refused(&mut self, sent: Encoding, sign: Sign) -> Option<Encoding> {
        if self.current() < sent {
            // The connection showed a receiver on this host, or another request has found out before.
            return Some(self.current());
        }
        if sent != self.highest || (sign == Sign::Possible && self.proven) {
            return None;
        }
        let lower = sent.lower()?;
        if sign == Sign::Possible {
            self.doubted.get_or_insert(sent);
        }
        self.highest = lower;
        self.proven = false;
        Some(lower)
    }

    /// What is refused without any compression was not refused for it.
    fn acquit(&mut self) {
        if let Some(doubted) = self.doubted.take() {
            self.highest = doubted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::client::{Failure, FailureKind};

    const TAKEN: Answer = Answer::Taken { rejected: 0, message: None };

    fn refused() -> Answer {
        let failure = Failure { kind: FailureKind::Http(400), text: String::new() };
        Answer::Refused { too_large: false, failure }
    }

    fn elsewhere(compression: Compression) -> Ladder {
        Ladder::new(compression, false)
    }

    #[test]
    fn the_choice() {
        for (compression, here, there) in [
            (Compression::Auto, Encoding::None, Encoding::Zstd),
            (Compression::None, Encoding::None, Encoding::None),
            (Compression::Gzip, Encoding::Gzip, Encoding::Gzip),
            (Compression::Zstd, Encoding::Zstd, Encoding::Zstd),
        ] {
            assert_eq!(Ladder::new(compression, true).current(), here, "{compression:?}");
            assert_eq!(Ladder::new(compression, false).current(), there, "{compression:?}");
        }
    }

    #[test]
    fn the_connection_shows_a_receiver_on_this_host() {
        for (peer, own, expected) in [
            ("127.0.0.2:4318", "127.0.0.1:9", Encoding::None),
            ("[::1]:4318", "[::1]:9", Encoding::None),
            ("192.0.2.1:4318", "192.0.2.1:9", Encoding::None),
            ("[::ffff:192.0.2.1]:4318", "192.0.2.1:9", Encoding::None),
            ("192.0.2.1:4318", "192.0.2.2:4318", Encoding::Zstd),
            ("[2001:db8::1]:4318", "[2001:db8::2]:9", Encoding::Zstd),
        ] {
            let mut auto = elsewhere(Compression::Auto);
            auto.connected(peer.parse().unwrap(), own.parse().unwrap());
            assert_eq!(auto.current(), expected, "{peer} from {own}");
            let mut explicit = elsewhere(Compression::Zstd);
            explicit.connected(peer.parse().unwrap(), own.parse().unwrap());
            assert_eq!(explicit.current(), Encoding::Zstd, "{peer} from {own}");
        }
    }

    #[test]
    fn a_name_that_moves_to_another_host_is_followed_and_what_was_refused_is_remembered() {
        let mut ladder = elsewhere(Compression::Auto);
        assert_eq!(ladder.settle(Encoding::Zstd, &refused(), Some(Sign::Clear)), Some(Encoding::Gzip));
        ladder.connected("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        assert_eq!(ladder.current(), Encoding::None);
        ladder.connected("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
        assert_eq!(ladder.current(), Encoding::Gzip);
    }

    #[test]
    fn a_request_refused_for_its_encoding_by_a_receiver_on_this_host_is_sent_without() {
        let mut ladder = elsewhere(Compression::Auto);
        ladder.connected("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        assert_eq!(ladder.settle(Encoding::Zstd, &refused(), Some(Sign::Possible)), Some(Encoding::None));
    }

    #[test]
    fn each_answer_is_one_step_and_the_last_stands() {
        for sign in [Sign::Clear, Sign::Possible] {
            let mut ladder = elsewhere(Compression::Zstd);
            assert_eq!(ladder.settle(Encoding::Zstd, &refused(), Some(sign)), Some(Encoding::Gzip));
            assert_eq!(ladder.settle(Encoding::Gzip, &refused(), Some(sign)), Some(Encoding::None));
            assert_eq!(ladder.settle(Encoding::None, &TAKEN, None), None);
            assert_eq!(ladder.current(), Encoding::None, "remembered");
            assert_eq!(ladder.settle(Encoding::None, &refused(), None), None);
            assert_eq!(ladder.current(), Encoding::None, "a later refusal changes nothing");
        }
    }

    #[test]
    fn what_was_taken_once_is_given_up_for_a_clear_sign_only() {
        let mut ladder = elsewhere(Compression::Zstd);
        assert_eq!(ladder.settle(Encoding::Zstd, &TAKEN, None), None);
        assert_eq!(ladder.settle(Encoding::Zstd, &refused(), Some(Sign::Possible)), None);
        assert_eq!(ladder.current(), Encoding::Zstd);
        assert_eq!(ladder.settle(Encoding::Zstd, &refused(), Some(Sign::Clear)), Some(Encoding::Gzip));
    }

    #[test]
    fn a_request_that_is_refused_in_any_encoding_says_nothing_of_encodings() {
        let mut ladder = elsewhere(Compression::Zstd);
        for _ in 0..2 {
            assert_eq!(ladder.settle(Encoding::Zstd, &refused(), Some(Sign::Possible)), Some(Encoding::Gzip));
            assert_eq!(ladder.settle(Encoding::Gzip, &refused(), Some(Sign::Possible)), Some(Encoding::None));
            assert_eq!(ladder.settle(Encoding::None, &refused(), None), None);
            assert_eq!(ladder.current(), Encoding::Zstd);
        }
        assert_eq!(ladder.settle(Encoding::Zstd, &TAKEN, None), None);
        assert_eq!(ladder.settle(Encoding::Zstd, &refused(), Some(Sign::Possible)), None, "settled");
    }

    #[test]
    fn a_clear_refusal_is_not_forgotten_with_a_doubtful_one() {
        let mut ladder = elsewhere(Compression::Zstd);
        assert_eq!(ladder.settle(Encoding::Zstd, &refused(), Some(Sign::Clear)), Some(Encoding::Gzip));
        assert_eq!(ladder.settle(Encoding::Gzip, &refused(), Some(Sign::Possible)), Some(Encoding::None));
        assert_eq!(ladder.settle(Encoding::None, &refused(), None), None);
        assert_eq!(ladder.current(), Encoding::Gzip);
    }

    #[test]
    fn other_refusals_and_failures_are_no_step() {
        let mut ladder = elsewhere(Compression::Zstd);
        assert_eq!(ladder.settle(Encoding::Zstd, &refused(), None), None);
        let failure = Failure { kind: FailureKind::TimedOut, text: String::new() };
        let retry = Answer::Retry { after: None, failure };
        assert_eq!(ladder.settle(Encoding::Zstd, &retry, Some(Sign::Clear)), None);
        assert_eq!(ladder.current(), Encoding::Zstd);
    }
}
