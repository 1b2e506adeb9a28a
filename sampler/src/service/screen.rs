//! The live table on standard output.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, mpsc::Receiver},
};

use super::queued::Queued;
use crate::{
    export::table::{self, Column, TableOptions},
    model::Snapshot,
};

/// Cursor home, and clear from there: the table is drawn over itself.
const HOME: &str = "\x1b[H\x1b[J";

/// Shows each snapshot, unless the one before is still being drawn: a terminal that is held (Ctrl-S) must not
/// hold the sampling.
pub(super) fn start(columns: Vec<&'static Column>) -> io::Result<Queued> {
    let options = TableOptions { columns, vcpus: true, devices: true, max_guests: None };
    Queued::start("table", 1, move |queue| draw(queue, &options))
}

fn draw(queue: Receiver<Arc<Snapshot>>, options: &TableOptions) {
    let mut out = io::stdout();
    let home = if out.is_terminal() { HOME } else { "" };
    for snapshot in queue {
        let text = table::render(&snapshot, options);
        // A reader that went away does not end the service.
        if writeln!(out, "{home}{text}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}
