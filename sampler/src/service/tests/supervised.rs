//! What a service manager hears of a service: a socket of ours stands for it.

use std::{ffi::OsString, io, os::unix::net::UnixDatagram};

use super::*;
use crate::kernel::clock::Clock;

/// The manager's end.
struct Listener {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Listener {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Self { socket, directory }
    }

    /// What a service is started with.
    fn supervision(&self, watchdog: Option<Duration>) -> Supervision {
        let path = self.directory.path().join("notify");
        let env = |name: &str| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into_os_string()),
            "WATCHDOG_USEC" => watchdog.map(|time| OsString::from(time.as_micros().to_string())),
            _ => None,
        };
        Supervision::of(&env, std::process::id())
    }

    /// The next message, if one comes within this time.
    fn within(&self, time: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let mut message = [0; 4096];
        match self.socket.recv(&mut message) {
            Ok(length) => Some(String::from_utf8(message[..length].to_vec()).unwrap()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn next(&self) -> String {
        self.within(LONG).expect("the manager hears nothing")
    }

    /// What has come already.
    fn waiting(&self) -> Vec<String> {
        let short = Duration::from_millis(1);
        std::iter::from_fn(|| self.within(short)).collect()
    }

    /// Waits for a message with this line. Returns it.
    fn until(&self, line: &str) -> String {
        let mut heard = Vec::new();
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            let message = self.next();
            if message.lines().any(|own| own == line) {
                return message;
            }
            heard.push(message);
        }
        panic!("{line} was not among {heard:?}");
    }
}

fn start(listener: &Listener, watchdog: Option<Duration>, faults: &[Fault]) -> Service {
    Service::start_under(listener.supervision(watchdog), faults, config(), Vec::new(), LogControl::none())
}

fn until_it_hangs(service: &Service) {
    let end = Instant::now() + LONG;
    while !service.host.hangs() {
        assert!(Instant::now() < end, "no reading hangs");
        thread::yield_now();
    }
}

fn value<'a>(message: &'a str, name: &str) -> &'a str {
    let found = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {message:?}"))
}

#[test]
fn it_is_ready_when_the_first_snapshot_is_taken() {
    let listener = Listener::new();
    let service = start(&listener, None, &[Fault::Hangs]);
    until_it_hangs(&service);
    // All that came before the first snapshot gives the start more time.
    let before = listener.waiting();
    let statuses: Vec<&str> = before.iter().map(|message| value(message, "STATUS")).collect();
    assert_eq!(statuses, ["loading the eBPF programs", "looking for guests", "first snapshot in 0s"]);
    let extended: Vec<u64> =
        before.iter().map(|message| value(message, "EXTEND_TIMEOUT_USEC").parse().unwrap()).collect();
    assert_eq!(extended, [300_000_000, 31_000_000, 30_000_000]);
    service.host.go_on();
    let ready = listener.next();
    let status = "STATUS=0 guests with 0 vCPUs, every 10ms, not exported";
    assert_eq!(ready, format!("READY=1\n{status}"));
    assert_whole(service.stop());
}

#[test]
fn a_sampling_thread_that_hangs_gives_no_sign_of_life() {
    /// Of the service's looks at its thread.
    const PERIOD: Duration = Duration::from_millis(20);
    let listener = Listener::new();
    let service = start(&listener, Some(PERIOD * 4), &[]);
    listener.until("WATCHDOG=1");
    service.host.faults(&[Fault::Hangs]);
    until_it_hangs(&service);
    listener.waiting();
    // One may be on its way, and one more follows where a turn was made since the last look. A slow machine
    // makes fewer looks, and has none that fails.
    let heard = std::iter::from_fn(|| listener.within(PERIOD * 20));
    let signs = heard.take(10).filter(|message| message.contains("WATCHDOG=1")).count();
    assert!(signs <= 2, "{signs} signs of life of a thread that hangs");
    service.host.go_on();
    listener.until("WATCHDOG=1");
    assert_whole(service.stop());
}

#[test]
fn a_reload_is_answered_whatever_came_of_it() {
    let listener = Listener::new();
    let service = start(&listener, None, &[]);
    listener.until("READY=1");
    let before = Clock::now_monotonic_ns() / 1000;
    let new = Config { interval: Duration::from_millis(20), ..config() };
    for (next, answer) in [
        (Err(no_config()), "every 10ms, not exported; the configuration that was read last does not hold: "),
        (Ok(new), "every 20ms, not exported"),
    ] {
        let reason = next.as_ref().err().map(ToString::to_string).unwrap_or_default();
        service.reload(next);
        let begun = listener.until("RELOADING=1");
        let moment: u64 = value(&begun, "MONOTONIC_USEC").parse().unwrap();
        assert!((before..=Clock::now_monotonic_ns() / 1000).contains(&moment), "{before} {begun:?}");
        let answered = listener.until("READY=1");
        assert!(value(&answered, "STATUS").ends_with(&format!("{answer}{reason}")), "{answered:?}");
    }
    assert_whole(service.stop());
}

#[test]
fn a_reload_before_the_service_is_ready_does_not_make_it_ready() {
    let listener = Listener::new();
    let service = start(&listener, None, &[Fault::Hangs]);
    until_it_hangs(&service);
    listener.waiting();
    service.reload(Ok(config()));
    let end = Instant::now() + LONG;
    while service.next_config.lock().unwrap().is_ok() {
        assert!(Instant::now() < end, "the configuration is not read");
        thread::yield_now();
    }
    service.host.go_on();
    let ready = listener.next();
    assert!(ready.starts_with("READY=1\n"), "{ready:?}");
    assert_whole(service.stop());
}

#[test]
fn its_end_is_announced_with_the_time_that_it_takes() {
    let listener = Listener::new();
    let service = start(&listener, None, &[]);
    listener.until("READY=1");
    assert_whole(service.stop());
    let stopping = listener.until("STOPPING=1");
    assert_eq!(value(&stopping, "EXTEND_TIMEOUT_USEC"), "35000000");
}

#[test]
fn a_manager_that_is_gone_stops_nothing() {
    let listener = Listener::new();
    let supervision = listener.supervision(Some(Duration::from_millis(80)));
    drop(listener);
    let mut service = Service::start_under(supervision, &[], config(), Vec::new(), LogControl::none());
    service.some_more(5);
    assert_whole(service.stop());
}
