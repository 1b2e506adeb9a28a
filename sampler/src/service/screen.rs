//! The live table on standard output.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, mpsc::Receiver},
};

use super::queued::Queued;
use crate::{
    export::table::{self, TableOptions},
    model::Snapshot,
};

/// Cursor home, and clear from there: the table is drawn over itself.
const HOME: &str = "\x1b[H\x1b[J";

/// Shows each snapshot, unless the one before is still being drawn: a terminal that is held (Ctrl-S) must not
/// hold the sampling.
pub(super) fn start() -> io::Result<Queued> {
    Queued::start("table", 1, draw)
}

fn draw(queue: Receiver<Arc<Snapshot>>) {
    let mut out = io::stdout();
    let home = if out.is_terminal() { HOME } else { "" };
    for snapshot in queue {
        let text = table::render(&snapshot, TableOptions { vcpus: true, max_guests: None });
        // A reader that went away does not end the service.
        if writeln!(out, "{home}{text}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}
