//! Whether there is a sign of life to be sent, and news. Pure.

use super::message::Line;

/// What was seen and said at the last look.
#[derive(Debug)]
pub(super) struct Watch {
    turns: u64,
    said: String,
    is_watched: bool,
}

impl Watch {
    /// Begins where the sampling thread has made so many turns.
    pub(super) const fn begin(turns: u64, is_watched: bool) -> Self {
        Self { turns, said: String::new(), is_watched }
    }

    /// What is to be said when it has made so many, and the service is like that. No sign of life without a
    /// turn since the last look: an interval may be longer than the watchdog's time, and a timer of its own
    /// would live on beside a sampling thread that stands still.
    pub(super) fn look(&mut self, turns: u64, status: &str) -> Vec<Line> {
        let mut lines = Vec::new();
        let moved = std::mem::replace(&mut self.turns, turns) != turns;
        if self.is_watched && moved {
            lines.push(Line::Watchdog);
        }
        if self.said != status {
            self.said.replace_range(.., status);
            lines.push(Line::Status(status.to_owned()));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_needs_a_turn_since_the_last_look() {
        let mut watch = Watch::begin(5, true);
        watch.look(5, "same");
        assert_eq!(watch.look(5, "same"), []);
        assert_eq!(watch.look(6, "same"), [Line::Watchdog]);
        assert_eq!(watch.look(6, "same"), []);
        assert_eq!(watch.look(9, "same"), [Line::Watchdog]);
    }

    #[test]
    fn what_is_said_stands_until_it_changes_even_while_nothing_moves() {
        let mut watch = Watch::begin(0, true);
        assert_eq!(watch.look(0, "1 guest"), [Line::Status("1 guest".to_owned())]);
        assert_eq!(watch.look(1, "2 guests"), [Line::Watchdog, Line::Status("2 guests".to_owned())]);
        assert_eq!(watch.look(1, "2 guests"), []);
    }

    #[test]
    fn nobody_watches_where_no_watchdog_was_asked_for() {
        let mut watch = Watch::begin(0, false);
        watch.look(1, "same");
        assert_eq!(watch.look(2, "same"), []);
    }
}
