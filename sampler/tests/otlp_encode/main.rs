//! The encoder against `opentelemetry-proto`: the same snapshots through plain prost messages must give the
//! same points, and the same number of bytes.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the failure")]

mod arbitrary;
mod devices;
mod expected;
mod guest;
mod host;
mod points;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use hvsampler::model::DISTRIBUTIONS;
use hvsampler::{
    export::{
        otlp::{Encoder, MAX_REQUEST_BYTES, Request, Selection},
        resource::Resource,
        settings::{ExportSettings, Histograms, VmAttributes},
    },
    model::{
        Ended, Fact, Facts, HelperKind, Helpers, Host, Pattern, Snapshot, State, StateTimes, VcpuId, VmKey,
    },
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{Metric, NumberDataPoint, metric::Data},
};
use proptest::prelude::*;
use prost::Message as _;

use expected::Expected;
use points::numbers;
use support::snapshot_of;

const START: u64 = 1_700_000_000_000_000_000;

fn encode(encoder: &mut Encoder, snapshot: &Snapshot) -> Vec<Request> {
    let mut requests = Vec::new();
    encoder.encode(snapshot, &mut requests);
    requests
}

fn decode(request: &Request) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest::decode(request.body.clone()).expect("the encoder writes valid protobuf")
}

fn sorted(mut message: ExportMetricsServiceRequest) -> ExportMetricsServiceRequest {
    for metric in &mut message.resource_metrics[0].scope_metrics[0].metrics {
        points::sort(metric);
    }
    message
}

/// Puts the points of split requests together again.
fn merged(requests: &[Request]) -> ExportMetricsServiceRequest {
    let mut parts = requests.iter().map(decode);
    let mut whole = parts.next().expect("there is always a request");
    for mut part in parts {
        let (whole, part) = (&mut whole.resource_metrics[0], &mut part.resource_metrics[0]);
        assert_eq!(whole.resource, part.resource);
        assert_eq!(whole.schema_url, part.schema_url);
        let (whole, part) = (&mut whole.scope_metrics[0], &mut part.scope_metrics[0]);
        assert_eq!((&whole.scope, &whole.schema_url), (&part.scope, &part.schema_url));
        for metric in part.metrics.drain(..) {
            match whole.metrics.last_mut() {
                Some(last) if last.name == metric.name => points::append(last, metric),
                _ => whole.metrics.push(metric),
            }
        }
    }
    whole
}

/// Points of a message, and how many of them end a series.
fn count(message: &ExportMetricsServiceRequest) -> (u64, u64) {
    let (mut points, mut ends) = (0, 0);
    for metric in &mut message.clone().resource_metrics[0].scope_metrics[0].metrics {
        let (these, of_them) = points::count(metric);
        points += these;
        ends += of_them;
    }
    (points, ends)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equals_prost(run in arbitrary::run()) {
        let resource = Resource::new(&run.settings, &run.host);
        let mut encoder = Encoder::new(&resource, START);
        let mut model = Expected::new(&run.settings, &run.host, START);
        for snapshot in &run.snapshots {
            let requests = encode(&mut encoder, snapshot);
            prop_assert_eq!(requests.len(), 1);
            let expected = model.message(snapshot);
            prop_assert_eq!(requests[0].body.len(), expected.encoded_len());
            prop_assert_eq!((requests[0].points, requests[0].ends), count(&expected));
            prop_assert_eq!(sorted(decode(&requests[0])), sorted(expected));
        }
    }

    #[test]
    fn split_requests_lose_and_invent_nothing(run in arbitrary::run(), limit in 600_usize..6000) {
        let resource = Resource::new(&run.settings, &run.host);
        let mut encoder = Encoder::with_limit(&resource, START, limit);
        let mut model = Expected::new(&run.settings, &run.host, START);
        for snapshot in &run.snapshots {
            let requests = encode(&mut encoder, snapshot);
            for request in &requests {
                prop_assert!(request.points == 1 || request.body.len() < limit);
                let message = decode(request);
                prop_assert_eq!(message.encoded_len(), request.body.len());
                prop_assert_eq!((request.points, request.ends), count(&message));
                let mut metrics = message.resource_metrics[0].scope_metrics[0].metrics.clone();
                prop_assert!(metrics.iter_mut().all(|metric| !points::is_empty(metric)));
            }
            prop_assert_eq!(sorted(merged(&requests)), sorted(model.message(snapshot)));
        }
    }
}

fn encoder() -> Encoder {
    Encoder::new(&Resource::new(&ExportSettings::default(), &Host::default()), START)
}

fn metric(requests: &[Request], name: &str) -> Option<Metric> {
    let message = merged(requests);
    message.resource_metrics[0].scope_metrics[0].metrics.iter().find(|metric| metric.name == name).cloned()
}

fn points(requests: &[Request], name: &str) -> Vec<NumberDataPoint> {
    metric(requests, name).map(|mut metric| std::mem::take(numbers(&mut metric))).unwrap_or_default()
}

#[test]
fn requests_stay_below_the_limit_of_receivers() {
    let snapshot = snapshot_of(1000, 12);
    let requests = encode(&mut encoder(), &snapshot);
    assert!(requests.len() > 1, "{} requests", requests.len());
    assert!(requests.iter().all(|request| request.body.len() < MAX_REQUEST_BYTES));
    assert_eq!(points(&requests, "hypervisor.vcpu.time").len(), 1000 * 12 * State::ALL.len());
    assert_eq!(points(&requests, "hypervisor.vm.info").len(), 1000);
}

#[test]
fn a_receiver_that_cannot_store_histograms_gets_none() {
    let snapshot = snapshot_of(3, 2);
    let with = encode(&mut encoder(), &snapshot);
    let without = encode(
        &mut encoder().selecting(Selection { histograms: Histograms::None, ..Selection::default() }),
        &snapshot,
    );
    let names = |requests: &[Request]| -> Vec<String> {
        let metrics = merged(requests).resource_metrics.remove(0).scope_metrics.remove(0).metrics;
        metrics.into_iter().map(|metric| metric.name).collect()
    };
    let of_disks = |name: &str| name.starts_with("hypervisor.vm.disk.") && name.ends_with(".duration");
    let is_histogram = |name: &String| {
        name == "hypervisor.vm.exit.duration" || of_disks(name) || expected::WAITS.contains(&name.as_str())
    };
    let kept: Vec<String> = names(&with).into_iter().filter(|name| !is_histogram(name)).collect();
    assert_eq!(names(&without), kept);
    let kinds = snapshot.vms[0].exits().iter().len();
    assert_eq!(with[0].points - without[0].points, 3 * (DISTRIBUTIONS.len() + kinds + 8) as u64);
}

#[test]
fn a_host_without_guests_says_zero() {
    let requests = encode(&mut encoder(), &Snapshot { at_unix_ns: START + 5, ..Snapshot::default() });
    let message = merged(&requests);
    assert_eq!(message.resource_metrics[0].scope_metrics[0].metrics.len(), 1, "no empty metrics");
    let Some(Metric { unit, data: Some(Data::Sum(sum)), .. }) = metric(&requests, "hypervisor.vm.count")
    else {
        panic!("hypervisor.vm.count is missing");
    };
    assert_eq!((unit.as_str(), sum.is_monotonic, sum.aggregation_temporality), ("{vm}", false, 2));
    assert_eq!(sum.data_points.len(), 1);
    assert_eq!(
        (sum.data_points[0].start_time_unix_nano, sum.data_points[0].time_unix_nano),
        (START, START + 5)
    );
}

#[test]
fn a_series_whose_end_was_never_announced_ends() {
    let mut encoder = encoder();
    let first = snapshot_of(1, 2);
    encode(&mut encoder, &first);
    let requests = encode(&mut encoder, &Snapshot { vms: Vec::new(), ..first.clone() });
    for (name, expected) in [
        ("hypervisor.vcpu.time", 2 * State::ALL.len()),
        ("hypervisor.vcpu.migrations", 2),
        ("hypervisor.vm.info", 1),
        ("hypervisor.vm.vcpu.count", 1),
        ("hypervisor.vm.uptime", 1),
    ] {
        let points = points(&requests, name);
        assert_eq!(points.len(), expected, "{name}");
        assert!(points.iter().all(|point| point.flags == 1 && point.value.is_none()), "{name}");
    }
    let once = encode(&mut encoder, &Snapshot { vms: Vec::new(), ..first });
    assert_eq!(once[0].points, 1, "a series ends once");
}

#[test]
fn a_vcpu_that_another_thread_takes_over_goes_on() {
    let mut encoder = encoder();
    let first = snapshot_of(1, 1);
    encode(&mut encoder, &first);
    let old = &first.vms[0].vcpus[0];
    let mut second = first.clone();
    let taker = &mut second.vms[0].vcpus[0];
    taker.id = VcpuId::new([1, 1]);
    taker.start_unix_ns += 7;
    taker.states = StateTimes::default();
    taker.states.set(State::Run, 1);
    second.ended.push(Ended {
        vm_id: first.vms[0].id.clone(),
        vm_facts: first.vms[0].facts.clone(),
        id: old.id,
        tid: old.tid,
        index: old.index,
        unused: false,
        start_unix_ns: old.start_unix_ns,
        followed_unix_ns: old.followed_unix_ns,
        counters: old.counters,
        totals: old.totals,
        states: old.states,
        vm_gone: false,
    });
    let requests = encode(&mut encoder, &second);
    let migrations = points(&requests, "hypervisor.vcpu.migrations");
    assert_eq!(migrations.len(), 1);
    assert_eq!((migrations[0].flags, migrations[0].start_time_unix_nano), (0, old.start_unix_ns + 7));
    let ended =
        points(&requests, "hypervisor.vcpu.time").into_iter().filter(|point| point.flags == 1).count();
    assert_eq!(ended, State::ALL.len() - 1, "only the states that the new thread does not have");
}

#[test]
fn a_name_that_arrives_late_ends_the_nameless_info() {
    let mut encoder = encoder();
    let mut snapshot = snapshot_of(1, 1);
    encode(&mut encoder, &snapshot);
    snapshot.vms[0].facts = Arc::new(Facts::default().with(Fact::Name, "db\n\"1\""));
    let infos = points(&encode(&mut encoder, &snapshot), "hypervisor.vm.info");
    assert_eq!(infos.iter().map(|point| point.flags).collect::<Vec<_>>(), [0, 1]);
    assert!(format!("{:?}", infos[0].attributes).contains(r#"db\n\"1\""#));
    assert_eq!(points(&encode(&mut encoder, &snapshot), "hypervisor.vm.info").len(), 1);
}

/// All points of a message: the metric, its attributes as text, and the flags.
fn all(requests: &[Request]) -> Vec<(String, String, u32)> {
    let mut message = merged(requests);
    let mut all = Vec::new();
    for metric in &mut message.resource_metrics[0].scope_metrics[0].metrics {
        let name = metric.name.clone();
        let mut put = |attributes: &_, flags| all.push((name.clone(), format!("{attributes:?}"), flags));
        match &metric.data {
            Some(Data::ExponentialHistogram(data)) => {
                data.data_points.iter().for_each(|point| put(&point.attributes, point.flags));
            }
            _ => numbers(metric).iter().for_each(|point| put(&point.attributes, point.flags)),
        }
    }
    all
}

#[test]
fn chosen_facts_are_on_every_point_of_a_guest_and_a_rename_begins_new_series() {
    let facts = |name: &str| {
        let facts = Facts::default().with(Fact::Name, name).with(Fact::Platform, "qemu");
        Arc::new(facts.with(Fact::Project, "shop").with_labels(vec![("team", "storage".into())]))
    };
    let chosen = vec![Fact::Name, Fact::Project, Fact::Namespace];
    let vm_attributes = VmAttributes { facts: chosen, labels: true };
    let mut encoder = encoder().selecting(Selection { vm_attributes, ..Selection::default() });
    let mut snapshot = snapshot_of(1, 2);
    snapshot.vms[0].facts = facts("old");
    let is_of = |name: &str, attributes: &str| attributes.contains(&format!("StringValue(\"{name}\")"));
    let first = all(&encode(&mut encoder, &snapshot));
    for (metric, attributes, flags) in &first {
        let is_of_host = metric == "hypervisor.vm.count";
        assert_eq!(
            is_of("old", attributes) && is_of("shop", attributes),
            !is_of_host,
            "{metric} {attributes}"
        );
        let names = attributes.matches("hypervisor.vm.name").count();
        let labels = attributes.matches("key: \"team\"").count();
        let expected = usize::from(!is_of_host);
        assert_eq!((names, labels, *flags), (expected, expected, 0), "{metric}: {attributes}");
        assert!(!attributes.contains("k8s"), "what is not known is absent");
    }
    // The same facts in another place are the same series.
    snapshot.vms[0].facts = facts("old");
    assert_eq!(all(&encode(&mut encoder, &snapshot)), first);
    snapshot.vms[0].facts = facts("new");
    let renamed = all(&encode(&mut encoder, &snapshot));
    let (ended, live): (Vec<_>, Vec<_>) = renamed.iter().partition(|(_, _, flags)| *flags == 1);
    assert_eq!((ended.len(), live.len()), (first.len() - 1, first.len()));
    assert!(ended.iter().all(|(_, attributes, _)| is_of("old", attributes) && !is_of("new", attributes)));
    assert!(live.iter().all(|(_, attributes, _)| !is_of("old", attributes)));
    assert_eq!(all(&encode(&mut encoder, &snapshot)).len(), first.len(), "an end is said once");
    // A vCPU that ends has the name that its series have.
    let last = snapshot.vms[0].vcpus.remove(0);
    snapshot.ended.push(Ended {
        vm_id: snapshot.vms[0].id.clone(),
        vm_facts: snapshot.vms[0].facts.clone(),
        id: last.id,
        tid: last.tid,
        index: last.index,
        unused: false,
        start_unix_ns: last.start_unix_ns,
        followed_unix_ns: last.followed_unix_ns,
        counters: last.counters,
        totals: last.totals,
        states: last.states,
        vm_gone: false,
    });
    let ended = all(&encode(&mut encoder, &snapshot));
    let ended: Vec<_> = ended.iter().filter(|(_, _, flags)| *flags == 1).collect();
    let series = first
        .iter()
        .filter(|(metric, ..)| metric.starts_with("hypervisor.vcpu."))
        .filter(|(metric, attributes, _)| attributes.contains("vcpu.id") && !metric.ends_with("duration"));
    assert_eq!(ended.len(), series.count() / 2);
    assert!(ended.iter().all(|(_, attributes, _)| is_of("new", attributes)));
}

#[test]
fn families_that_are_off_are_not_sent() {
    let off = |patterns: &[&str]| {
        let families_off = patterns.iter().map(|pattern| Pattern::new(*pattern)).collect();
        encoder().selecting(Selection { families_off, ..Selection::default() })
    };
    let snapshot = snapshot_of(1, 1);
    let names = |encoder: &mut Encoder| {
        let mut names: Vec<_> = all(&encode(encoder, &snapshot)).into_iter().map(|(name, ..)| name).collect();
        names.dedup();
        names
    };
    let whole = names(&mut encoder());
    let some = names(&mut off(&["hypervisor.vm.exit*", "hypervisor.vcpu.time"]));
    let expected = whole
        .iter()
        .filter(|name| !name.starts_with("hypervisor.vm.exit") && *name != "hypervisor.vcpu.time");
    assert_eq!(some, expected.cloned().collect::<Vec<_>>());
    assert!(some.len() < whole.len() - 2);
    let mut requests = Vec::new();
    off(&["*"]).encode(&snapshot, &mut requests);
    assert_eq!(requests.iter().map(|request| request.points).sum::<u64>(), 0);
}

#[test]
fn a_guest_that_comes_back_under_another_id_ends_all_of_the_old_one() {
    let mut encoder = encoder();
    let mut snapshot = snapshot_of(1, 1);
    let first = encode(&mut encoder, &snapshot);
    let (begun, old) = (first[0].points, snapshot.vms[0].id.clone());
    snapshot.vms[0].id = "another".into();
    let requests = encode(&mut encoder, &snapshot);
    assert_eq!(requests[0].ends, begun - 1, "all but the number of VMs");
    let live = points(&requests, "hypervisor.vm.steal.time").into_iter().filter(|point| point.flags == 0);
    assert!(live.into_iter().all(|point| !format!("{:?}", point.attributes).contains(&*old)));
}

#[test]
fn a_guest_that_takes_an_id_over_ends_the_helpers_that_it_lacks() {
    let mut encoder = encoder();
    let mut snapshot = snapshot_of(1, 1);
    let flags = |requests: &[Request]| {
        let points = points(requests, "hypervisor.vm.helper.time");
        points.into_iter().map(|point| (point.flags, format!("{:?}", point.attributes))).collect::<Vec<_>>()
    };
    let first = flags(&encode(&mut encoder, &snapshot));
    assert_eq!(first.iter().map(|(flags, _)| *flags).collect::<Vec<_>>(), [0; 4]);
    let (mut helpers, vm) = (Helpers::default(), &mut snapshot.vms[0]);
    helpers.set(HelperKind::Emulator, *vm.helpers.get(HelperKind::Emulator).unwrap());
    (vm.helpers, vm.key) = (helpers, VmKey::new([77, 0]));
    let second = flags(&encode(&mut encoder, &snapshot));
    let ended: Vec<_> = second.iter().filter(|(flags, _)| *flags == 1).map(|(_, text)| text).collect();
    assert_eq!((second.len(), ended.len()), (4, 2));
    assert!(ended.iter().all(|text| text.contains("iothread")), "{ended:?}");
    snapshot.vms.clear();
    let last = flags(&encode(&mut encoder, &snapshot));
    assert!(last.len() == 2 && last.iter().all(|(flags, text)| *flags == 1 && text.contains("emulator")));
}
