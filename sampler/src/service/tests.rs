//! The service from end to end, on a source without a kernel. No test depends on how fast the machine is:
//! each waits until what it expects has come.

mod beginning;
mod receiver;
mod status;
mod supervised;

use std::{
    io::Write as _,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
};

use self::receiver::Collector;
use super::{queued::Queued, *};
use crate::{
    agent::BpfLog,
    config::{LogSettings, StartDelay},
    export::settings::VmAttributes,
    kernel::priority,
    model::{Fact, GuestPattern, GuestSelection, HostParts, Level, Levels, Snapshot, Vm},
    source::{
        Settings,
        fake::{FakeHost, Fault},
    },
};

/// Bound of every wait: reached only by a failure.
const LONG: Duration = Duration::from_secs(30);

fn config() -> Config {
    Config {
        interval: Duration::from_millis(10),
        start_delay: StartDelay::Fixed(Duration::ZERO),
        nice: priority::get().unwrap(),
        // Services of other tests are in this process too.
        status_socket: PathBuf::new(),
        ..Config::default()
    }
}

/// Takes all.
struct Recorder(Sender<Arc<Snapshot>>);

impl Sink for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }

    fn offer(&mut self, snapshot: Arc<Snapshot>) {
        self.0.send(snapshot).unwrap();
    }

    fn dropped(&self) -> u64 {
        0
    }
}

/// Panics at the second snapshot.
struct Broken(u32);

impl Sink for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn offer(&mut self, _: Arc<Snapshot>) {
        self.0 += 1;
        assert!(self.0 < 2, "as asked");
    }

    fn dropped(&self) -> u64 {
        0
    }
}

type Reload = Arc<Mutex<Result<Config, ConfigError>>>;

/// A service at work.
struct Service {
    host: FakeHost,
    snapshots: Receiver<Arc<Snapshot>>,
    /// All snapshots that were waited through.
    seen: Vec<Arc<Snapshot>>,
    /// What the next reading of the configuration gives.
    next_config: Reload,
    hang_up: mpsc::UnboundedSender<()>,
    ask: mpsc::UnboundedSender<()>,
    shutdown: oneshot::Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Service {
    fn start(config: Config, more: Vec<Box<dyn Sink>>) -> Self {
        Self::start_with_log(config, more, LogControl::none())
    }

    fn start_with_log(config: Config, more: Vec<Box<dyn Sink>>, log: LogControl) -> Self {
        Self::start_under(Supervision::default(), &[], config, more, log)
    }

    fn start_under(
        supervision: Supervision,
        faults: &[Fault],
        config: Config,
        more: Vec<Box<dyn Sink>>,
        log: LogControl,
    ) -> Self {
        let (host, source) = FakeHost::new();
        host.faults(faults);
        let (recorder, snapshots) = channel();
        let (hang_up, hung_up) = mpsc::unbounded_channel();
        let (ask, asked) = mpsc::unbounded_channel();
        let (shutdown, shut_down) = oneshot::channel::<()>();
        let next_config: Reload = Arc::new(Mutex::new(Ok(config.clone())));
        let reload = Arc::clone(&next_config);
        let work = move || {
            let reload =
                || std::mem::replace(&mut *reload.lock().unwrap(), Err(no_config())).map(Loaded::from);
            let sinks = more.into_iter().chain([Box::new(Recorder(recorder)) as Box<dyn Sink>]).collect();
            let start = Start { reload, log, output: Output::None, sinks, supervision };
            let (hang_up, ask) = (each_of(hung_up), each_of(asked));
            let shutdown = async { drop(shut_down.await) };
            let open = |_: &StartOptions| {
                let hooks = vec!["a hook (fake)".to_owned()];
                Ok(Opened { source: Box::new(source), vcpus: 0, hooks, bpf_log: BpfLog::default() })
            };
            let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let source = Opener { hypervisor: "fake", open };
            runtime.block_on(run_with(config, start, Steering { shutdown, hang_up, ask }, source))
        };
        let thread = thread::spawn(work);
        Self { host, snapshots, seen: Vec::new(), next_config, hang_up, ask, shutdown, thread }
    }

    /// Waits for a snapshot that is as it should be.
    fn until(&mut self, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let end = Instant::now() + LONG;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let snapshot = self.snapshots.recv_timeout(left).expect("no such snapshot has come");
            self.seen.push(Arc::clone(&snapshot));
            if wanted(&snapshot) {
                return snapshot;
            }
        }
    }

    /// Waits for so many snapshots.
    fn some_more(&mut self, number: usize) {
        (0..number).for_each(|_| drop(self.until(|_| true)));
    }

    /// Lets the service read this configuration.
    fn reload(&self, config: Result<Config, ConfigError>) {
        *self.next_config.lock().unwrap() = config;
        self.hang_up.send(()).unwrap();
    }

    /// Stops the service. Returns all its snapshots, and the readings that the source counted.
    fn stop(mut self) -> (Vec<Arc<Snapshot>>, u64) {
        self.shutdown.send(()).unwrap();
        self.thread.join().unwrap().unwrap();
        self.seen.extend(self.snapshots.try_iter());
        (self.seen, self.host.readings())
    }
}

/// Over once for each message, and never again when there can be none.
fn each_of(mut messages: mpsc::UnboundedReceiver<()>) -> impl AsyncFnMut() {
    async move || {
        if messages.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

fn no_config() -> ConfigError {
    ConfigError::Flag { name: "--none", problem: "there is no configuration".to_owned() }
}

fn guest<'a>(snapshot: &'a Snapshot, id: &str) -> Option<&'a Vm> {
    snapshot.vms.iter().find(|vm| &*vm.id == id)
}

fn is_named(snapshot: &Snapshot, id: &str) -> bool {
    guest(snapshot, id).is_some_and(|vm| vm.name().is_some())
}

/// Each reading became a snapshot, in order, up to the one at the end.
#[track_caller]
fn assert_whole((snapshots, readings): (Vec<Arc<Snapshot>>, u64)) {
    let times: Vec<u64> = snapshots.iter().map(|snapshot| snapshot.at_unix_ns).collect();
    assert_eq!(times, (1..=readings).collect::<Vec<_>>());
}

#[test]
fn guests_come_are_named_and_go() {
    let mut service = Service::start(config(), Vec::new());
    service.until(|snapshot| snapshot.vms.is_empty());
    service.host.born(1);
    let named = service.until(|snapshot| is_named(snapshot, "vm-1"));
    assert_eq!(guest(&named, "vm-1").unwrap().name().map(|name| &**name), Some("guest-1"));
    service.host.died(1);
    let last = service.until(|snapshot| !snapshot.ended.is_empty());
    assert!(last.vms.is_empty() && &*last.ended[0].vm_id == "vm-1" && last.ended[0].vm_gone);
    assert!(service.until(|_| true).ended.is_empty(), "an end is shown once");
    assert_whole(service.stop());
}

#[test]
fn a_rename_shows_with_the_next_discovery() {
    let config = Config { discovery_interval: Duration::from_millis(20), ..config() };
    let mut service = Service::start(config, Vec::new());
    service.host.born(1);
    service.until(|snapshot| is_named(snapshot, "vm-1"));
    service.host.rename(1, "renamed");
    let name = |snapshot: &Snapshot| guest(snapshot, "vm-1")?.name().cloned();
    service.until(|snapshot| name(snapshot).as_deref() == Some("renamed"));
    assert_whole(service.stop());
}

#[test]
fn a_name_that_does_not_come_holds_nothing_up() {
    let mut service = Service::start(config(), Vec::new());
    service.host.hold_name(2);
    service.host.born(2);
    service.host.born(1);
    // The other guest's name comes, and snapshots do.
    service.until(|snapshot| is_named(snapshot, "vm-1") && guest(snapshot, "vm-2").is_some());
    service.some_more(5);
    let waiting = service.until(|_| true);
    assert!(!is_named(&waiting, "vm-2") && waiting.sampler.questions_waiting == 1);
    service.host.release_names();
    service.until(|snapshot| is_named(snapshot, "vm-2") && snapshot.sampler.questions_waiting == 0);
    assert_whole(service.stop());
}

#[test]
fn a_reading_that_fails_is_counted_and_the_next_one_comes() {
    let mut service = Service::start(config(), Vec::new());
    service.some_more(1);
    service.host.faults(&[Fault::Fails, Fault::Fails]);
    service.until(|snapshot| snapshot.sampler.snapshots_failed == 2);
    service.some_more(3);
    assert_whole(service.stop());
}

#[test]
fn a_slow_reading_makes_the_next_one_late_too() {
    const SLOW: Duration = Duration::from_millis(250);
    let slow_ns = SLOW.as_nanos() as u64;
    let mut service = Service::start(config(), Vec::new());
    service.some_more(1);
    service.host.faults(&[Fault::Takes(SLOW)]);
    let slow = service.until(|snapshot| snapshot.sampler.last_lateness_ns >= slow_ns).sampler;
    let next = service.until(|_| true).sampler;
    assert!(slow.snapshots_late >= 1 && next.snapshots_late == slow.snapshots_late + 1, "{slow:?} {next:?}");
    // It was due within an interval from the begin of the slow one.
    assert!(next.last_lateness_ns >= slow_ns - 10_000_000, "{next:?}");
    assert_eq!(next.lateness_ns, slow.lateness_ns + next.last_lateness_ns);
    // What was due meanwhile is left out: no snapshots in a row make up for it.
    let after = service.until(|_| true).sampler;
    assert!(after.snapshots_skipped > slow.snapshots_skipped, "{after:?}");
    assert_whole(service.stop());
}

#[test]
fn a_sink_that_stands_still_keeps_nothing_from_the_others() {
    let (go_on, stands_still) = channel::<()>();
    let stalled = Queued::start("stalled", 1, move |queue| {
        assert!(stands_still.recv().is_err());
        drop(queue);
    });
    let mut service = Service::start(config(), vec![Box::new(stalled.unwrap())]);
    let before = service.until(|snapshot| snapshot.sampler.snapshots_dropped > 0).sampler;
    service.some_more(3);
    let after = service.until(|_| true).sampler;
    assert_eq!(after.snapshots_dropped, before.snapshots_dropped + 4);
    drop(go_on);
    assert_whole(service.stop());
}

/// The one test of this process that has a log: others may write into it as well.
#[test]
fn a_log_that_nobody_reads_costs_lines_that_are_counted_and_no_snapshots() {
    const FAULTS: u64 = 20;
    const ROOM: u64 = 2;
    let (unread, mut pipe) = std::io::pipe().unwrap();
    let log = logging::to(pipe.try_clone().unwrap(), ROOM as usize, &LogSettings::default()).unwrap();
    // More than a pipe takes: it is full until its reader is gone.
    let filler = thread::spawn(move || pipe.write_all(&vec![b'x'; 16 << 20]));
    let lines = log.lines();
    let mut service = Service::start_with_log(config(), Vec::new(), log);
    service.some_more(1);
    // The sampling thread says so of each.
    service.host.faults(&[Fault::Fails; FAULTS as usize]);
    // Some may have found room in the pipe before it was full.
    service.until(|snapshot| snapshot.sampler.snapshots_failed == FAULTS);
    service.host.faults(&[Fault::Fails; FAULTS as usize]);
    service.until(|snapshot| snapshot.sampler.log_lines_dropped >= FAULTS - ROOM - 1);
    service.some_more(3);
    assert_whole(service.stop());
    assert!(!lines.flush(Duration::from_millis(100)), "nobody has read a line");
    let before = lines.missing().dropped();
    drop(unread);
    assert!(filler.join().unwrap().is_err());
    assert!(lines.flush(LONG), "those that waited are lost as well");
    assert!(lines.missing().dropped() > before);
}

#[test]
fn a_sink_that_panics_keeps_nothing_from_the_others() {
    let mut service = Service::start(config(), vec![Box::new(Broken(0))]);
    service.until(|snapshot| snapshot.sampler.sinks_failed == 1 && snapshot.sampler.snapshots_dropped > 2);
    assert_whole(service.stop());
}

#[test]
fn a_source_that_panics_ends_the_service() {
    let mut service = Service::start(config(), Vec::new());
    service.some_more(1);
    service.host.faults(&[Fault::Panics]);
    let error = service.thread.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the sampling thread panicked");
    assert_eq!(service.host.faults_left(), 0);
}

#[test]
fn a_question_for_the_audit_changes_nothing() {
    let mut service = Service::start(config(), Vec::new());
    service.some_more(1);
    service.ask.send(()).unwrap();
    service.some_more(3);
    assert_whole(service.stop());
}

#[test]
fn a_reload_reaches_the_source_and_one_that_fails_changes_nothing() {
    let mut service = Service::start(config(), Vec::new());
    service.some_more(1);
    let settings = |ms, most, host| Settings {
        interval: Duration::from_millis(ms),
        levels: Levels { most, ..Levels::default() },
        host,
    };
    let host = HostParts { pressure: false, system: true };
    let new = |ms| Config { interval: Duration::from_millis(ms), level: Level::Basic, host, ..config() };
    let mut wanted = vec![settings(10, Level::Full, HostParts::default())];
    for (config, applied) in [
        (Ok(new(20)), Some(settings(20, Level::Basic, host))),
        (Err(no_config()), None),
        (Ok(new(30)), Some(settings(30, Level::Basic, host))),
    ] {
        service.reload(config);
        wanted.extend(applied);
        let end = Instant::now() + LONG;
        while service.host.configured() != wanted || service.next_config.lock().unwrap().is_ok() {
            assert!(Instant::now() < end, "{:?}, not {wanted:?}", service.host.configured());
            service.some_more(1);
        }
    }
    assert_whole(service.stop());
}

#[test]
fn what_is_sampled_is_exported_up_to_the_end() {
    let collector = Collector::start();
    let mut config = Config { interval: Duration::from_millis(100), ..config() };
    config.export.endpoint = Some(collector.url());
    config.export.compression = crate::export::settings::Compression::None;
    let mut service = Service::start(config, Vec::new());
    service.host.born(1);
    service.until(|snapshot| is_named(snapshot, "vm-1"));
    service.some_more(2);
    let (snapshots, readings) = service.stop();
    let exported = collector.received();
    // On a machine where the encoder does not get to work for long enough the oldest are dropped, never the
    // last.
    assert_eq!(exported.times.len() as u64 + exported.dropped["export"], readings);
    assert!(exported.times.is_sorted() && exported.times.last() == Some(&readings), "{exported:?}");
    assert_eq!(exported.dropped.keys().collect::<Vec<_>>(), ["audit", "export", "log", "recorder", "self"]);
    assert_eq!(exported.hypervisors.into_iter().collect::<Vec<_>>(), ["fake"], "the source says so");
    assert_whole((snapshots, readings));
}

#[test]
fn a_rename_ends_the_series_of_a_guest_that_have_its_name() {
    let collector = Collector::start();
    let mut config = Config {
        interval: Duration::from_millis(100),
        discovery_interval: Duration::from_millis(50),
        ..config()
    };
    config.export.endpoint = Some(collector.url());
    config.export.vm_attributes = VmAttributes { facts: vec![Fact::Name], labels: true };
    config.guests = toml::from_str("labels = [{ match = ['name=guest-*'], set = { team = 'a' } }]").unwrap();
    config.export.compression = crate::export::settings::Compression::None;
    let service = Service::start(config, Vec::new());
    service.host.born(1);
    let end = Instant::now() + LONG;
    let until_exported = |wanted: &str| {
        while !collector.received().names.iter().any(|(name, _)| name == wanted) {
            assert!(Instant::now() < end, "{wanted} was not exported: {:?}", collector.received());
            thread::sleep(Duration::from_millis(10));
        }
    };
    until_exported("guest-1");
    service.host.rename(1, "renamed");
    until_exported("renamed");
    service.stop();
    let mut names = collector.received().names;
    names.dedup();
    let [first, next, ended] = [("guest-1", false), ("renamed", false), ("guest-1", true)]
        .map(|(name, is_end)| (name.to_owned(), is_end));
    assert_eq!(names[..3], [first, next.clone(), ended]);
    assert!(names[3..].iter().all(|name| *name == next), "{names:?}");
}

#[test]
fn a_guest_that_is_renamed_into_what_is_denied_ends() {
    let deny = vec![GuestPattern::try_from("name=secret*".to_owned()).unwrap()];
    let guests = GuestSelection { deny, ..GuestSelection::default() };
    let discovery_interval = Duration::from_millis(20);
    let mut service = Service::start(Config { guests, discovery_interval, ..config() }, Vec::new());
    service.host.born(1);
    service.host.born(2);
    let shown = service.until(|snapshot| is_named(snapshot, "vm-1") && is_named(snapshot, "vm-2"));
    assert_eq!(shown.sampler.vms_left_out, 0);
    service.host.rename(1, "secret-1");
    let left = service.until(|snapshot| guest(snapshot, "vm-1").is_none());
    assert!(left.sampler.vms_left_out == 1 && guest(&left, "vm-2").is_some());
    service.host.died(1);
    service.host.died(2);
    let last = service.until(|snapshot| !snapshot.ended.is_empty());
    assert!(last.ended.iter().all(|ended| &*ended.vm_id == "vm-2"), "{:?}", last.ended);
    assert_whole(service.stop());
}
