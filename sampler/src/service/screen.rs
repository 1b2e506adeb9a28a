//! The live table on standard output.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::Builder,
};

use crate::{
    export::table::{self, TableOptions},
    model::Snapshot,
};

/// Cursor home, and clear from there: the table is drawn over itself.
const HOME: &str = "\x1b[H\x1b[J";

/// A thread that draws: a terminal that is held (Ctrl-S) must not hold the sampling.
pub(super) struct Screen {
    snapshots: SyncSender<Arc<Snapshot>>,
}

impl Screen {
    pub(super) fn start() -> io::Result<Self> {
        let (snapshots, queue) = sync_channel(1);
        Builder::new().name("table".into()).spawn(move || draw(&queue))?;
        Ok(Self { snapshots })
    }

    /// Shows a snapshot, unless the one before is still being drawn.
    pub(super) fn show(&self, snapshot: Arc<Snapshot>) {
        let _ = self.snapshots.try_send(snapshot);
    }
}

fn draw(queue: &Receiver<Arc<Snapshot>>) {
    let mut out = io::stdout();
    let home = if out.is_terminal() { HOME } else { "" };
    while let Ok(snapshot) = queue.recv() {
        let text = table::render(&snapshot, TableOptions { vcpus: true, max_guests: None });
        // A reader that went away does not end the service.
        if writeln!(out, "{home}{text}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}
