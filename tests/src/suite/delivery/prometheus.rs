//! From the collector by remote write into Debian's Prometheus, and what a query finds there.

use std::fs::File;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::collector::Site;
use super::daemon::{Daemon, PATIENCE};
use super::guests::{BUSY, Guests, HALF, STARVED};
use super::service::{Service, Settings};
use super::{has_devices, sees};
use crate::runner::{Context, Outcome, required_file};

/// Who starves, by name and the most starved first: for each vCPU the part of each second that it waited for
/// a CPU.
pub(super) const QUERY_OF_STARVED: &str = r#"sort_desc(
  rate(hypervisor_vcpu_time_seconds_total{hypervisor_vcpu_state="steal"}[1m])
  * on (instance, hypervisor_vm_id) group_left (hypervisor_vm_name) hypervisor_vm_info
)"#;

/// How long its vCPUs wait for a CPU at most, half of the times, by guest.
pub(super) const QUERY_OF_WAITS: &str =
    "histogram_quantile(0.5, rate(hypervisor_vcpu_steal_duration_seconds[1m]))
  * on (instance, hypervisor_vm_id) group_left (hypervisor_vm_name) hypervisor_vm_info";

/// The guests by name; a series that ended is gone at once.
const QUERY_OF_NAMES: &str = "hypervisor_vm_info";

/// What a guest of this test has something of.
const QUERIES_OF_DEVICES: [&str; 6] = [
    "hypervisor_vm_disk_operations_total",
    "hypervisor_vm_disk_io_bytes_total",
    "histogram_count(hypervisor_vm_disk_operation_duration_seconds)",
    "hypervisor_vm_network_io_bytes_total",
    "hypervisor_vm_memory_usage_bytes",
    "hypervisor_vm_device_info",
];

/// Labels that a query may rely on in each series of a guest's info.
const LABELS: [&str; 7] = [
    "host_name",
    "hypervisor_vm_id",
    "hypervisor_vm_name",
    "hypervisor_vm_platform",
    "instance",
    "job",
    "process_pid",
];

/// Labels that it has where it is known beside them: with any other of the sampler or of the system, an
/// upgrade would rename every series.
const MORE_LABELS: [&str; 3] = ["__name__", "host_id", "process_executable_name"];

/// What else is known of the sampler and of the host.
const QUERY_OF_RESOURCE: &str = "target_info";

/// Labels of that.
const RESOURCE_LABELS: [&str; 5] =
    ["deployment_environment_name", "host_arch", "hypervisor_name", "os_type", "service_version"];

pub(in super::super) fn prometheus(context: &Context) -> anyhow::Result<Outcome> {
    const PROTOCOL: &str = "grpc";
    // Shorter than operators would have it, so that the test need not wait for a minute of data.
    const WINDOW: &str = "[10s]";
    const SNAPSHOTS_IN_WINDOW: usize = 20;
    let query = QUERY_OF_STARVED.replace("[1m]", WINDOW);
    let site = Site::choose(context)?;
    let prometheus = Prometheus::start(context, site.prometheus, NativeHistograms::Stored)?;
    let collector = site.open_with(context, &[("HVS_PROMETHEUS_DROPS", "false")])?;
    let mut guests = Guests::start(context)?;
    let settings = Settings::of(&site, PROTOCOL, "500ms");
    let mut service = Service::start(context, &settings)?;
    service.wait_until("all guests are seen", |snapshots| sees(snapshots, &guests))?;
    service.wait_until("the devices of a guest are seen", |snapshots| has_devices(snapshots, &guests))?;
    // Until the window is full a rate is lower than it was.
    service.wait_for_more(SNAPSHOTS_IN_WINDOW)?;

    let ours = |samples: Vec<Sample>| -> Vec<Sample> {
        samples.into_iter().filter(|sample| [STARVED, BUSY, HALF].contains(&sample.guest())).collect()
    };
    let starved = |samples: &[Sample]| {
        samples.len() == 4 && samples.iter().any(|it| it.guest() == STARVED && it.value > 0.3)
    };
    let samples = prometheus.wait_for("a starved vCPU", || Ok(ours(prometheus.ask(&query)?)), starved)?;
    let shown: Vec<String> = samples.iter().map(|it| format!("{:?} {:.2}", it.guest(), it.value)).collect();
    context.detail(format!("steal by guest: {}", shown.join(", ")));
    ensure!(samples[0].guest() == STARVED, "the most starved guest is {:?}", samples[0].guest());
    ensure!(samples[0].value > 0.3, "its steal is {}", samples[0].value);

    let waits = prometheus.ask(&QUERY_OF_WAITS.replace("[1m]", WINDOW))?;
    let wait =
        waits.iter().find(|sample| sample.guest() == STARVED).context("no waits of the starved guest")?;
    // Two busy threads on one CPU take turns of some milliseconds.
    ensure!((0.000_5..0.5).contains(&wait.value), "its median wait is {} s", wait.value);

    labels_are_there(&prometheus.ask(QUERY_OF_NAMES)?)?;
    for query in QUERIES_OF_DEVICES {
        ensure!(!prometheus.ask(query)?.is_empty(), "Prometheus has nothing of {query}");
    }
    let resources = prometheus.ask(QUERY_OF_RESOURCE)?;
    let has_all = |sample: &Sample| RESOURCE_LABELS.iter().all(|label| sample.metric.contains_key(*label));
    ensure!(resources.iter().any(has_all), "{RESOURCE_LABELS:?} are not all in {resources:?}");
    guests.kill_half()?;
    // Without its end it would still be found for five minutes.
    prometheus.wait_for(
        "the killed guest to be gone",
        || Ok(ours(prometheus.ask(QUERY_OF_NAMES)?)),
        |samples| samples.len() == 2 && samples.iter().all(|it| it.guest() != HALF),
    )?;
    service.stop()?;
    collector.stop()?;
    let (steal, wait) = (samples[0].value, wait.value * 1e3);
    prometheus.daemon.stop()?;
    Ok(Outcome::Passed(format!(
        "found by its name with {steal:.2} s/s of steal, median wait {wait:.1} ms; the killed guest is gone"
    )))
}

fn labels_are_there(samples: &[Sample]) -> anyhow::Result<()> {
    let info = samples.iter().find(|sample| sample.guest() == STARVED).context("no info of the guest")?;
    for label in LABELS {
        ensure!(info.metric.contains_key(label), "label {label} is missing in {:?}", info.metric);
    }
    for label in info.metric.keys().map(String::as_str) {
        let is_known = LABELS.contains(&label) || MORE_LABELS.contains(&label);
        ensure!(is_known || label.starts_with("hypervisor_vm_"), "label {label} is in {:?}", info.metric);
    }
    Ok(())
}

/// What a Prometheus does with exponential histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NativeHistograms {
    Stored,
    /// It refuses them, and every write that has one: the default of Debian's.
    Refused,
}

/// A running Prometheus that takes remote writes.
pub(super) struct Prometheus {
    daemon: Daemon,
    url: String,
}

/// One element of an answer.
#[derive(Debug, Clone)]
struct Sample {
    metric: serde_json::Map<String, serde_json::Value>,
    value: f64,
}

impl Sample {
    fn guest(&self) -> &str {
        self.metric.get("hypervisor_vm_name").and_then(serde_json::Value::as_str).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Vector,
}

#[derive(Deserialize)]
struct Vector {
    result: Vec<Element>,
}

#[derive(Deserialize)]
struct Element {
    metric: serde_json::Map<String, serde_json::Value>,
    value: (f64, String),
}

impl Prometheus {
    /// Starts it on a port of the loopback interface, without data, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(super) fn start(context: &Context, port: u16, histograms: NativeHistograms) -> anyhow::Result<Self> {
        let directory = context.directory();
        let config = directory.join("prometheus.yml");
        File::create(&config)?;
        let mut command = Command::new(required_file("HVS_PROMETHEUS")?);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("tsdb").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.arg("--web.enable-remote-write-receiver");
        if histograms == NativeHistograms::Stored {
            command.arg("--enable-feature=native-histograms");
        }
        let url = format!("http://127.0.0.1:{port}");
        let mut daemon = Daemon::start("prometheus", command, directory)?;
        daemon
            .wait_until("Prometheus is ready", |_| Ok(ureq::get(format!("{url}/-/ready")).call().is_ok()))?;
        Ok(Self { daemon, url })
    }

    /// Waits until it knows a guest by its name.
    ///
    /// # Errors
    /// When it does not get to know it.
    pub(super) fn wait_for_guest(&self, name: &str) -> anyhow::Result<()> {
        let known = |samples: &[Sample]| samples.iter().any(|sample| sample.guest() == name);
        self.wait_for("the guest", || self.ask(QUERY_OF_NAMES), known).map(drop)
    }

    /// Asks an instant query.
    fn ask(&self, query: &str) -> anyhow::Result<Vec<Sample>> {
        let mut answer = ureq::post(format!("{}/api/v1/query", self.url)).send_form([("query", query)])?;
        let answer: Answer = serde_json::from_str(&answer.body_mut().read_to_string()?)?;
        let sample = |element: Element| -> anyhow::Result<Sample> {
            Ok(Sample { metric: element.metric, value: element.value.1.parse()? })
        };
        answer.data.result.into_iter().map(sample).collect()
    }

    /// Asks until the answer is such, and returns it.
    fn wait_for(
        &self,
        what: &str,
        ask: impl Fn() -> anyhow::Result<Vec<Sample>>,
        holds: impl Fn(&[Sample]) -> bool,
    ) -> anyhow::Result<Vec<Sample>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let samples = ask().with_context(|| format!("asking Prometheus for {what}"))?;
            if holds(&samples) {
                return Ok(samples);
            }
            ensure!(Instant::now() < end, "Prometheus does not show {what}: {samples:?}");
            thread::sleep(Duration::from_millis(500));
        }
    }
}
