//! What must hold of everything that arrived, whatever happened on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use hvsampler::model::{STATES, SamplerStats};
use uuid::Uuid;

use super::compare::{Deviation, compare, summary};
use super::counted::{self, Host, Snapshot};
use super::point::{Attribute, Attributes, Kind, Point, PointValue};
use super::received::Batch;

/// The workspace has one version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// Both sides, with what was found to differ.
pub(super) struct Delivery {
    /// What the snapshots make.
    pub(super) counted: Vec<Point>,
    /// What arrived of it, in order.
    pub(super) received: Vec<Point>,
    /// The sampler's own telemetry, in order.
    pub(super) own: Vec<Point>,
    pub(super) deviations: Vec<Deviation>,
}

impl Delivery {
    /// Compares; `began_unix_ns` is a time before the service was started.
    ///
    /// # Errors
    /// When something is wrong with what arrived beyond single points: resource, scopes, order, the start of
    /// the host's series, the states.
    pub(super) fn of(
        snapshots: &[Snapshot],
        batches: Vec<Batch>,
        began_unix_ns: u64,
    ) -> anyhow::Result<Self> {
        let first = snapshots.first().context("no snapshot was taken")?;
        let (received, own) = sort(batches, &resource(&first.host)?)?;
        let host_start = host_start(&received)?;
        ensure!(
            (began_unix_ns..=first.at_unix_ns).contains(&host_start),
            "the host's series start at {host_start}, which is not between the start of the service at \
             {began_unix_ns} and its first snapshot at {}",
            first.at_unix_ns
        );
        ensure!(
            received.iter().filter(|point| !has_own_time(point)).is_sorted_by_key(|point| point.at_unix_ns),
            "points did not arrive in the order of their times"
        );
        all_states(&received)?;
        let counted = counted::points(snapshots, host_start)?;
        let deviations = compare(&counted, &received);
        Ok(Self { counted, received, own, deviations })
    }

    /// Fails unless both sides are the same.
    pub(super) fn is_exact(&self) -> anyhow::Result<()> {
        ensure!(self.deviations.is_empty(), "{}", summary(&self.deviations));
        Ok(())
    }

    /// Points of `hypervisor.vm.info` of a process, with the name in them.
    pub(super) fn names_of(&self, pid: u32) -> BTreeSet<Option<&str>> {
        let pid = Attribute::Int(pid.into());
        let info = self.received.iter().map(|point| &point.series).filter(|series| {
            series.metric == "hypervisor.vm.info" && series.attributes.get("process.pid") == Some(&pid)
        });
        info.map(|series| series.text("hypervisor.vm.name")).collect()
    }

    /// Fails unless something of a family arrived.
    pub(super) fn has_family(&self, family: &str) -> anyhow::Result<()> {
        ensure!(
            self.received.iter().any(|point| point.series.metric == family),
            "nothing of {family} arrived"
        );
        Ok(())
    }

    /// Fails unless every series of a VM ends, once, with its last point; returns how many series those are.
    pub(super) fn has_ended(&self, vm_id: &str) -> anyhow::Result<usize> {
        let mut series: BTreeMap<_, Vec<&Point>> = BTreeMap::new();
        for point in self.received.iter().filter(|p| p.series.text("hypervisor.vm.id") == Some(vm_id)) {
            series.entry(&point.series).or_default().push(point);
        }
        for (series, points) in &series {
            let ends = points.iter().filter(|point| point.is_end()).count();
            let last = points.last().is_some_and(|point| point.is_end());
            ensure!(ends == 1 && last, "{series} has {ends} ends, its last point is one: {last}");
        }
        ensure!(!series.is_empty(), "there are no series of VM {vm_id}");
        Ok(series.len())
    }

    /// The last value of a counter of the sampler's own; `reason` is the attribute of that name.
    ///
    /// # Errors
    /// When there is no such counter.
    pub(super) fn own_value(&self, metric: &str, reason: Option<&str>) -> anyhow::Result<u64> {
        let metric = format!("hypervisor.sampler.{metric}");
        let found = self
            .own
            .iter()
            .rfind(|point| point.series.metric == metric && point.series.text("reason") == reason);
        match found.map(|point| &point.value) {
            Some(PointValue::Int(value)) => Ok(u64::try_from(*value)?),
            other => bail!("{metric} of reason {reason:?} is {other:?}"),
        }
    }

    /// The last value of a time of the sampler's own, s.
    fn own_seconds(&self, metric: &str) -> anyhow::Result<f64> {
        let metric = format!("hypervisor.sampler.{metric}");
        match self.own.iter().rfind(|point| point.series.metric == metric).map(|point| &point.value) {
            Some(PointValue::Double(seconds)) => Ok(*seconds),
            other => bail!("{metric} is {other:?}"),
        }
    }

    /// Fails unless the sampler's own telemetry says what the last snapshot says, and never fell.
    pub(super) fn own_telemetry_agrees(&self, last: &Snapshot) -> anyhow::Result<()> {
        let rows = SamplerStats::default().rows();
        for (row, &counted) in &last.sampler {
            let known = rows.iter().find(|known| known.name == row);
            let (metric, _) = known.with_context(|| format!("{row} is no row"))?.metric();
            // What the sampler counts in ns it exports in seconds.
            let exported = match row.ends_with("_ns") {
                true => self.own_seconds(metric)? * 1e9,
                false => self.own_value(metric, None)? as f64,
            };
            ensure!(
                (exported - counted as f64).abs() < 1.0,
                "{row} of hypervisor.sampler is {exported} at last, the last snapshot has {counted}"
            );
        }
        let arrived = self.own_value("export.points", None)?;
        ensure!(
            arrived == self.received.len() as u64,
            "hypervisor.sampler.export.points is {arrived}, and {} arrived",
            self.received.len()
        );
        self.own_never_falls()
    }

    fn own_never_falls(&self) -> anyhow::Result<()> {
        let mut before: BTreeMap<_, f64> = BTreeMap::new();
        for point in self.own.iter().filter(|point| point.series.kind == Kind::COUNTER) {
            let value = match point.value {
                PointValue::Int(value) => value as f64,
                PointValue::Double(value) => value,
                PointValue::Distribution(_) | PointValue::Ended => continue,
            };
            let key = (&point.series, point.start_unix_ns);
            let last = before.insert(key, value).unwrap_or(0.0);
            ensure!(value >= last, "{} fell from {last} to {value}", point.series);
        }
        Ok(())
    }
}

/// The points of the data and of the sampler's own telemetry.
fn sort(batches: Vec<Batch>, resource: &Attributes) -> anyhow::Result<(Vec<Point>, Vec<Point>)> {
    let (mut data, mut own) = (Vec::new(), Vec::new());
    for mut batch in batches {
        ensure!(batch.resource == *resource, "the resource is {:?}, not {resource:?}", batch.resource);
        ensure!(
            batch.version == VERSION && batch.schema_url == SCHEMA_URL,
            "scope {} {} of schema {}",
            batch.scope,
            batch.version,
            batch.schema_url
        );
        match batch.scope.as_str() {
            "hvsampler" => data.append(&mut batch.points),
            "hvsampler.self" => own.append(&mut batch.points),
            other => bail!("unknown scope {other}"),
        }
    }
    Ok((data, own))
}

/// The attributes that every export carries.
fn resource(host: &Host) -> anyhow::Result<Attributes> {
    // Of the semantic conventions.
    let instances = uuid::uuid!("4d63009a-8d0f-11ee-aad7-4c796ed8e320");
    let id = host.id.as_ref();
    let instance = Uuid::new_v5(&instances, id.unwrap_or(&host.name).as_bytes()).to_string();
    let (version, build) = (os_release("VERSION_ID")?, os_release("BUILD_ID")?);
    let known = [
        ("deployment.environment.name", Some("test")),
        ("host.arch", Some(host.arch.as_str())),
        ("host.id", id.map(String::as_str)),
        ("host.name", Some(host.name.as_str())),
        ("hypervisor.name", Some("kvm")),
        ("os.build_id", build.as_deref().or(Some(&host.kernel))),
        ("os.type", Some("linux")),
        ("os.version", version.as_deref()),
        ("service.instance.id", Some(&instance)),
        ("service.name", Some("hvsampler")),
        ("service.version", Some(VERSION)),
    ];
    let text = |value: &str| Attribute::Text(value.to_owned());
    Ok(known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), text(value?)))).collect())
}

/// What a shell makes of the file, which is written for shells.
fn os_release(key: &str) -> anyhow::Result<Option<String>> {
    const FILES: &str = "[ -r /etc/os-release ] && . /etc/os-release || . /usr/lib/os-release";
    let shell = Command::new("sh").arg("-c").arg(format!("{FILES}; printf %s \"${key}\"")).output()?;
    ensure!(shell.status.success(), "os-release cannot be read");
    Ok(Some(String::from_utf8(shell.stdout)?).filter(|value| !value.is_empty()))
}

/// What is read at times of its own comes later than it says.
fn has_own_time(point: &Point) -> bool {
    const FAMILIES: [&str; 5] = [
        "hypervisor.vm.memory.",
        "hypervisor.vm.network.",
        "hypervisor.vm.pressure.",
        "hypervisor.host.",
        "system.",
    ];
    FAMILIES.iter().any(|family| point.series.metric.starts_with(family))
}

fn host_start(received: &[Point]) -> anyhow::Result<u64> {
    let counts = received.iter().find(|point| point.series.metric == "hypervisor.vm.count");
    Ok(counts.context("hypervisor.vm.count did not arrive")?.start_unix_ns)
}

fn all_states(received: &[Point]) -> anyhow::Result<()> {
    let states = received.iter().filter_map(|point| point.series.text("hypervisor.vcpu.state"));
    let states: BTreeSet<&str> = states.collect();
    let known: BTreeSet<&str> = STATES.iter().map(|row| row.key).collect();
    // A vCPU whose CPU time is broken down from its first reading on never has the rest. Where KVM reports no
    // entries into guests it has that, and neither of the two that take an entry to be distinguished.
    let without = |absent: &[&str]| -> BTreeSet<&str> {
        known.iter().copied().filter(|state| !absent.contains(state)).collect()
    };
    let are_entered = states.contains("guest") || states.contains("kernel");
    let expected = if are_entered { without(&["run"]) } else { without(&["guest", "kernel"]) };
    ensure!(
        states.is_subset(&known) && states.is_superset(&expected),
        "the states that arrived are {states:?}, not {expected:?}"
    );
    Ok(())
}
