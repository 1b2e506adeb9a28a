//! What a service says of itself to whoever asks on its socket.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use super::*;
use crate::service::status::Status;

/// A service that answers.
struct Asked {
    service: Service,
    directory: tempfile::TempDir,
}

impl Asked {
    fn start(faults: &[Fault], config: Config) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { status_socket: directory.path().join("status"), ..config };
        let log = LogControl::none();
        let service = Service::start_under(Supervision::default(), faults, config, Vec::new(), log);
        Self { service, directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("status")
    }

    /// Asks until the answer is as wanted. Before the service has begun there is none.
    fn until(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let end = Instant::now() + LONG;
        let mut last = None;
        while Instant::now() < end {
            if let Ok(status) = ask(&self.path()) {
                if wanted(&status) {
                    return status;
                }
                last = Some(status);
            }
            thread::yield_now();
        }
        panic!("no such answer: {last:#?}");
    }

    /// Stops the service, and finds its socket gone.
    #[track_caller]
    fn stop(self) {
        let path = self.path();
        assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
        assert_whole(self.service.stop());
        assert_eq!(fs::symlink_metadata(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

fn ask(path: &Path) -> io::Result<Status> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(LONG))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    assert!(text.ends_with('\n'), "{text:?}");
    Ok(serde_json::from_str(&text)?)
}

#[test]
fn a_running_service_says_how_it_is() {
    let mut asked = Asked::start(&[], config());
    asked.service.host.born(1);
    asked.service.host.born(2);
    asked.service.until(|snapshot| is_named(snapshot, "vm-2"));
    let status = asked.until(|status| status.follows.is_some_and(|follows| follows.guests == 2));
    assert_eq!((status.schema.as_str(), status.pid), ("hvsampler.status/1", std::process::id()));
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    let host = host::read(&Root::system()).unwrap();
    assert_eq!((status.host.name, status.host.kernel), (host.name, host.kernel));
    assert_eq!((status.level.as_str(), status.interval_ns), ("full", 10_000_000));
    assert_eq!(status.follows.unwrap().vcpus, 2);
    assert_eq!(status.destinations, []);
    let names: Vec<&str> = status.cost.threads.iter().map(|thread| &*thread.name).collect();
    assert!(names.contains(&"sampling"), "{names:?}");
    let lost = status.lost.unwrap();
    assert!(lost.counters.iter().any(|counter| counter.name == "events_lost" && counter.count == 0));
    assert!(lost.sinks.iter().any(|sink| sink.name == "recorder" && sink.count == 0), "{:?}", lost.sinks);
    assert_eq!(fs::symlink_metadata(asked.path()).unwrap().mode() & 0o777, 0o660);
    asked.stop();
}

#[test]
fn what_is_not_known_yet_is_absent_while_the_first_snapshot_hangs() {
    let asked = Asked::start(&[Fault::Hangs], config());
    let end = Instant::now() + LONG;
    while !asked.service.host.hangs() {
        assert!(Instant::now() < end, "the source does not hang");
        thread::yield_now();
    }
    let status = asked.until(|_| true);
    assert_eq!((status.follows, status.snapshots, status.lost), (None, None, None));
    asked.service.host.go_on();
    asked.until(|status| status.snapshots.is_some_and(|snapshots| snapshots.last_unix_ns > 0));
    asked.stop();
}

#[test]
fn lateness_and_failures_are_said() {
    let mut asked = Asked::start(&[], config());
    asked.service.some_more(1);
    asked.service.host.faults(&[Fault::Fails, Fault::Takes(Duration::from_millis(150))]);
    let wanted = |status: &Status| status.snapshots.is_some_and(|it| it.failed == 1 && it.late >= 1);
    let snapshots = asked.until(wanted).snapshots.unwrap();
    assert!(snapshots.lateness_ns >= 140_000_000, "{snapshots:?}");
    let failed = |status: &Status| {
        let counters = status.lost.iter().flat_map(|lost| &lost.counters);
        counters.clone().any(|counter| counter.name == "snapshots_failed" && counter.count == 1)
    };
    asked.until(failed);
    asked.stop();
}

#[test]
fn a_reload_shows_what_holds_then() {
    let asked = Asked::start(&[], config());
    asked.until(|status| status.level == "full");
    let new = Config { interval: Duration::from_millis(20), level: Level::Basic, ..config() };
    asked.service.reload(Ok(new));
    asked.until(|status| status.level == "basic" && status.interval_ns == 20_000_000);
    asked.stop();
}

#[test]
fn a_destination_has_its_queue_and_its_last_error() {
    let unused = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let mut config = Config { shutdown_deadline: Duration::from_millis(100), ..config() };
    config.export.endpoint = Some(url.clone());
    let asked = Asked::start(&[], config);
    let status = asked.until(|status| status.destinations.iter().any(|it| it.last_error.is_some()));
    let [destination] = &status.destinations[..] else { panic!("{:?}", status.destinations) };
    assert!(destination.target.starts_with(&url), "{destination:?}");
    assert!(destination.queue_requests > 0 && destination.queue_bytes > 0, "{destination:?}");
    assert_eq!(destination.queue_limit_bytes, Config::default().export.queue_bytes as u64);
    assert!(destination.failed_attempts > 0 && destination.requests == 0, "{destination:?}");
    let error = destination.last_error.as_ref().unwrap();
    let since_start = status.started_unix_ns..=status.at_unix_ns;
    assert!(since_start.contains(&error.at_unix_ns) && !error.text.is_empty(), "{status:?}");
    asked.stop();
}

#[test]
fn those_who_never_read_and_those_who_send_hold_nothing_up() {
    let mut asked = Asked::start(&[], config());
    asked.until(|_| true);
    let silent: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(asked.path()).unwrap()).collect();
    for stream in &silent {
        // Nobody reads it: the service may have closed its end already.
        let _ = io::Write::write_all(&mut &*stream, b"GET / HTTP/1.1\r\n\r\n");
    }
    asked.until(|status| status.follows.is_some());
    asked.service.some_more(3);
    drop(silent);
    asked.stop();
}

#[test]
fn a_socket_that_a_killed_service_left_behind_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("status");
    drop(UnixListener::bind(&path).unwrap());
    let service = Service::start(Config { status_socket: path, ..config() }, Vec::new());
    let asked = Asked { service, directory };
    asked.until(|_| true);
    asked.stop();
}

#[test]
fn a_second_service_ends_with_an_error_that_names_the_first_which_goes_on() {
    let mut first = Asked::start(&[], config());
    first.until(|_| true);
    let second = Service::start(Config { status_socket: first.path(), ..config() }, Vec::new());
    let error = second.thread.join().unwrap().unwrap_err().to_string();
    let named = [first.path().display().to_string(), format!("pid {}", std::process::id())];
    assert!(named.iter().all(|name| error.contains(name)) && error.contains("status_socket"), "{error}");
    first.service.some_more(2);
    first.until(|_| true);
    first.stop();
}

#[test]
fn a_service_that_panics_leaves_no_socket() {
    let mut asked = Asked::start(&[], config());
    asked.service.some_more(1);
    asked.until(|_| true);
    asked.service.host.faults(&[Fault::Panics]);
    let path = asked.path();
    asked.service.thread.join().unwrap().unwrap_err();
    assert!(!path.exists());
}

#[test]
fn without_a_socket_the_service_works() {
    let mut service = Service::start(config(), Vec::new());
    service.some_more(2);
    assert_whole(service.stop());
}
