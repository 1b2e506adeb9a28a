//! What the service says to systemd, or to whichever service manager gave it `NOTIFY_SOCKET`: sd_notify(3).
//!
//! Messages are sent by the task that steers the service. A manager that takes none costs that task a second
//! for each message; the sampling thread knows nothing of it.

mod inherited;
mod message;
mod socket;
mod store;
mod watch;

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    ffi::OsString,
    future::pending,
    os::fd::BorrowedFd,
    time::Duration,
};

pub use self::inherited::Inherited;
use self::{
    message::{Line, text},
    socket::Address,
    watch::Watch,
};
use crate::{agent::Sampling, kernel::clock::Clock};

/// Longest time between two looks, at which what the service says of itself is renewed.
const PERIOD: Duration = Duration::from_secs(10);

/// Looks within the time after which the watchdog acts. With four of them the sampling thread may stand still
/// for three quarters of that time, whenever that begins.
const LOOKS: u32 = 4;

/// What the service manager gave to this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supervision {
    /// Where messages go: a path, or an abstract name after `@`.
    address: Option<OsString>,
    /// How long the manager waits for a sign of life before it acts.
    watchdog: Option<Duration>,
    /// How many descriptors it keeps, where it says so: systemd 254 and later.
    keeps: Option<usize>,
}

impl Supervision {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID` and `FDSTORE` as this process, `pid`, has them. A
    /// watchdog of another process is none.
    #[must_use]
    pub fn of(env: &dyn Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let number = |name: &str| env(name)?.to_str()?.parse::<u64>().ok();
        let is_for_us = number("WATCHDOG_PID").is_none_or(|other| other == u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| is_for_us && *usec > 0);
        Self {
            address: env("NOTIFY_SOCKET").filter(|address| !address.is_empty()),
            watchdog: watchdog.map(Duration::from_micros),
            keeps: number("FDSTORE").map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
        }
    }
}

/// The service manager, where there is one.
pub(super) struct Manager {
    address: Option<Address>,
    watchdog: Option<Duration>,
    /// How many descriptors it keeps, where it says so.
    keeps: Option<usize>,
    /// It has heard that the service is ready.
    is_ready: Cell<bool>,
    /// It does not take messages, which was logged.
    is_deaf: Cell<bool>,
    /// Why the configuration that was read last does not hold.
    refused: RefCell<Option<String>>,
}

impl Manager {
    /// A manager whose address cannot be used is none: sampling does not depend on it.
    pub(super) fn of(supervision: &Supervision) -> Self {
        let address = supervision.address.as_ref().and_then(|address| {
            let parsed = Address::parse(address);
            parsed.inspect_err(|error| tracing::warn!(%error, ?address, "NOTIFY_SOCKET is not used")).ok()
        });
        Self {
            watchdog: supervision.watchdog.filter(|_| address.is_some()),
            address,
            keeps: supervision.keeps,
            is_ready: Cell::new(false),
            is_deaf: Cell::new(false),
            refused: RefCell::default(),
        }
    }

    /// A part of the start begins, which takes so long at most: the start may take longer than the unit says.
    pub(super) async fn starts(&self, what: &str, at_most: Duration) {
        self.send(&[Line::Status(what.to_owned()), Line::ExtendTimeout(at_most)]).await;
    }

    /// The configuration is about to be read again. Before the service is ready this is part of its start.
    pub(super) async fn reloads(&self) {
        if self.is_ready.get() {
            self.send(&[Line::Reloading { monotonic_us: Clock::now_monotonic_ns() / 1000 }]).await;
        }
    }

    /// It was read, and holds unless it was refused for a reason.
    pub(super) async fn reloaded(&self, refused: Option<String>, facts: &str) {
        self.refused.replace(refused);
        if self.is_ready.get() {
            self.send(&[Line::Ready, Line::Status(self.status(facts))]).await;
        }
    }

    /// The service ends, which takes so long at most.
    pub(super) async fn stops(&self, at_most: Duration) {
        let status = Line::Status("taking the last snapshot and sending what waits".to_owned());
        self.send(&[Line::Stopping, Line::ExtendTimeout(at_most), status]).await;
    }

    /// Says that the service is ready once the first snapshot is taken. From then on says what it does, and
    /// that it lives: while the sampling thread moves, and only then.
    pub(super) async fn supervise(&self, sampling: &Sampling, facts: impl Fn() -> String) -> Infallible {
        if self.address.is_none() || !sampling.has_sampled().await {
            return pending().await;
        }
        let period = self.watchdog.map_or(PERIOD, |time| PERIOD.min(time / LOOKS));
        while !self.send(&[Line::Ready, Line::Status(self.status(&facts()))]).await {
            tokio::time::sleep(period).await;
        }
        self.is_ready.set(true);
        let mut watch = Watch::begin(sampling.turns(), self.watchdog.is_some());
        loop {
            tokio::time::sleep(period).await;
            let lines = watch.look(sampling.turns(), &self.status(&facts()));
            self.send(&lines).await;
        }
    }

    fn status(&self, facts: &str) -> String {
        match &*self.refused.borrow() {
            Some(reason) => format!("{facts}; the configuration that was read last does not hold: {reason}"),
            None => facts.to_owned(),
        }
    }

    /// Whether the manager has taken it.
    async fn send(&self, lines: &[Line]) -> bool {
        self.send_with(lines, None).await
    }

    /// The same with a descriptor.
    async fn send_with(&self, lines: &[Line], descriptor: Option<BorrowedFd<'_>>) -> bool {
        let Some(address) = self.address.as_ref().filter(|_| !lines.is_empty()) else { return true };
        let sent = address.send(&text(lines), descriptor).await;
        if let Err(error) = &sent
            && !self.is_deaf.get()
        {
            tracing::warn!(%error, "the service manager takes no messages (NOTIFY_SOCKET)");
        }
        self.is_deaf.set(sent.is_err());
        sent.is_ok()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod unit;
