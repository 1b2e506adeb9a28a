//! The comparison catches each kind of deviation, from the texts of both sides on.

use hvsampler::model::BLOCKED;
use serde_json::{Value, json};

use super::compare::{Deviation, compare, summary};
use super::point::{Point, PointValue};
use super::{counted, received};

const SHARES: [&str; 7] = ["vm", "helper", "host", "kernel", "irq", "quota", "unattributed"];

const HOST_START: u64 = 500;
const NAME: &str = "a\"b\\\nü";
/// A count of nanoseconds that a double of seconds cannot hold exactly.
const RUN: u64 = 9_007_199_254_740_993;

/// Three snapshots: one guest with one vCPU; its counts have grown; it has ended.
fn lines() -> Vec<Value> {
    let line = |at: u64, vms: Vec<Value>, ended: Vec<Value>| {
        json!({
            "schema": "hvsampler.snapshot/1", "time_unit": "ns", "at_unix_ns": at,
            "host": {"id": null, "name": "h", "kernel": "k", "arch": "amd64", "cpus": 2},
            "metrics": {"hypervisor.vm.count": vms.len()},
            "vms": vms, "ended": ended, "sampler": {"snapshots": 1},
        })
    };
    let ended = json!({
        "attributes": {"hypervisor.vm.id": "7-1", "hypervisor.vcpu.id": 3},
        "tid": 71,
        "vm_gone": true,
        "starts_unix_ns": {"created": 250, "followed": 260},
        "metrics": vcpu_metrics(RUN + 2),
    });
    vec![
        line(1000, vec![vm(RUN)], vec![]),
        line(2000, vec![vm(RUN + 1)], vec![]),
        line(3000, vec![], vec![ended]),
    ]
}

fn vm(run: u64) -> Value {
    let nothing = json!({"count": 0, "sum_ns": 0, "zero_count": 0, "buckets": []});
    let buckets = json!([{"index": -3, "count": 2}, {"index": -1, "count": 1}]);
    let waits = json!({"count": 4, "sum_ns": 800_000_000, "zero_count": 1, "buckets": buckets});
    let occupants: serde_json::Map<_, _> =
        SHARES.iter().map(|kind| ((*kind).to_owned(), 250_000_000.into())).collect();
    let blocked: serde_json::Map<_, _> =
        BLOCKED.iter().map(|reason| (reason.key.to_owned(), 125_000_000.into())).collect();
    let vcpu = json!({
        "attributes": {"hypervisor.vcpu.id": 3},
        "tid": 71,
        "scheduler": {"run_ns": run, "run_delay_ns": 0, "running_ns": 0, "waiting_ns": 0},
        "starts_unix_ns": {"created": 250, "followed": 260, "seen": 255},
        "metrics": vcpu_metrics(run),
        "exits": [],
    });
    let io = json!({
        "attributes": {"hypervisor.exit.reason": "io"},
        "starts_unix_ns": {},
        "metrics": {
            "hypervisor.vm.exits": 4,
            "hypervisor.vm.exit.duration": waits,
            "hypervisor.vm.exit.vmm.time": 250_000_000,
            "hypervisor.vm.exit.vmm.exits": 3,
        },
    });
    let taker = json!({
        "attributes": {"hypervisor.steal.by.kind": "vm", "hypervisor.steal.by.vm": "8-1"},
        "starts_unix_ns": {"own": 270},
        "metrics": {"hypervisor.vm.steal.time": 250_000_000},
    });
    json!({
        "attributes": {
            "hypervisor.vm.id": "7-1", "hypervisor.vm.name": NAME, "hypervisor.vm.platform": "unknown",
            "process.pid": 70,
        },
        "starts_unix_ns": {"created": 200, "seen": 220},
        "metrics": {
            "hypervisor.vcpu.steal.duration": waits,
            "hypervisor.vcpu.wakeup.latency": nothing,
            "hypervisor.vcpu.run.duration": nothing,
            "hypervisor.vm.kvm.events": {"exits": 9},
            "hypervisor.vm.kvm.time": {"halt_wait": 250_000_000},
            "hypervisor.vcpu.blocked.time": blocked,
            "hypervisor.vcpu.page_faults": {"minor": 6, "major": 6},
            "hypervisor.vm.steal.time": occupants,
            "hypervisor.vm.co_stop.time": 125_000_000,
            "hypervisor.vm.helper.time": {"vhost": {"run": 500_000_000, "steal": 250_000_000}},
            "hypervisor.vm.helper.count": {"vhost": 1},
            "hypervisor.vm.vcpu.count": 1,
            "hypervisor.vm.uptime": 250_000_000,
            "hypervisor.vm.info": 1,
        },
        "vcpus": [vcpu],
        "exits": [io],
        "steal_by": [taker],
        "control_groups": [],
        "numa": [],
        "placement": [],
        "disks": [],
        "interfaces": [],
        "devices": [],
    })
}

fn vcpu_metrics(run: u64) -> Value {
    json!({
        "hypervisor.vcpu.time": {"run": run, "steal": 1, "halted": 2},
        "hypervisor.vcpu.cpu.time": 3,
        "hypervisor.vcpu.run_delay": 4,
        "hypervisor.vcpu.yields": 5,
        "hypervisor.vcpu.preemptions": 6,
        "hypervisor.vcpu.migrations": 7,
        "hypervisor.vcpu.timeslices": 8,
    })
}

fn snapshots(lines: &[Value]) -> Vec<counted::Snapshot> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    counted::read(&text).unwrap()
}

fn points() -> Vec<Point> {
    counted::points(&snapshots(&lines()), HOST_START).unwrap()
}

/// The points that a collector would write of [`lines`], made by hand.
fn otlp() -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let int = |key: &str, value: &str| json!({"key": key, "value": {"intValue": value}});
    let id = || text("hypervisor.vm.id", "7-1");
    let vcpu = || vec![id(), int("hypervisor.vcpu.id", "3")];
    let state = |state: &str| [vcpu(), vec![text("hypervisor.vcpu.state", state)]].concat();
    let info = || {
        let name = text("hypervisor.vm.name", NAME);
        vec![id(), name, text("hypervisor.vm.platform", "unknown"), int("process.pid", "70")]
    };
    // A series with its values at the three times; the last is its end.
    let series = |attributes: Vec<Value>, start: Option<&str>, field: &str, values: [Value; 2]| {
        let point = |at: &str| {
            let mut point = json!({"attributes": attributes, "timeUnixNano": at});
            if let Some(start) = start {
                point["startTimeUnixNano"] = start.into();
            }
            point
        };
        let [mut one, mut two, mut end] = ["1000", "2000", "3000"].map(point);
        let [first, second] = values;
        one[field] = first;
        two[field] = second;
        end["flags"] = 1.into();
        vec![one, two, end]
    };
    let counter = |name: &str, unit: &str, points: Vec<Value>| {
        let sum = json!({"dataPoints": points, "aggregationTemporality": 2, "isMonotonic": true});
        json!({"name": name, "description": "d", "unit": unit, "sum": sum})
    };
    let level = |name: &str, unit: &str, points: Vec<Value>| {
        let sum = json!({"dataPoints": points, "aggregationTemporality": 2});
        json!({"name": name, "description": "d", "unit": unit, "sum": sum})
    };
    let gauge = |name: &str, unit: &str, points: Vec<Value>| {
        let gauge = json!({"dataPoints": points});
        json!({"name": name, "description": "d", "unit": unit, "gauge": gauge})
    };
    let time =
        |key: &str, values: [f64; 2]| series(state(key), Some("260"), "asDouble", values.map(Value::from));
    let count = |value: &str| series(vcpu(), Some("250"), "asInt", [value.into(), value.into()]);
    let total = |value: f64| series(vcpu(), Some("250"), "asDouble", [value.into(), value.into()]);
    // As the numbers, but for the attributes' order and the values.
    let distribution = |name: &str, attributes: Vec<Value>, value: Value| {
        let mut points = series(attributes, Some("220"), "sum", [0.into(), 0.into()]);
        let Value::Object(value) = value else { unreachable!() };
        for point in &mut points[..2] {
            for (key, value) in &value {
                point[key] = value.clone();
            }
            point["zeroThreshold"] = 2.384_185_791_015_625e-7.into();
        }
        let histogram = json!({"dataPoints": points, "aggregationTemporality": 2});
        json!({"name": name, "description": "d", "unit": "s", "exponentialHistogram": histogram})
    };
    let waits = json!({
        "count": "4", "sum": 0.8, "zeroCount": "1",
        "positive": {"offset": -3, "bucketCounts": ["2", "0", "1"]},
    });
    let host =
        |at: &str, value: &str| json!({"timeUnixNano": at, "startTimeUnixNano": "500", "asInt": value});
    let run = time("run", [9_007_199.254_740_993, 9_007_199.254_740_994]);
    let times = [run, time("steal", [1e-9, 1e-9]), time("halted", [2e-9, 2e-9])].concat();
    let occupant = |kind: &&str| {
        let attributes = vec![id(), text("hypervisor.steal.by.kind", kind)];
        series(attributes, Some("220"), "asDouble", [0.25.into(), 0.25.into()])
    };
    let taker = vec![id(), text("hypervisor.steal.by.kind", "vm"), text("hypervisor.steal.by.vm", "8-1")];
    let taker = series(taker, Some("270"), "asDouble", [0.25.into(), 0.25.into()]);
    let occupants: Vec<_> = SHARES.iter().flat_map(occupant).chain(taker).collect();
    let passes = vec![id(), text("hypervisor.kvm.event", "exits")];
    let passes = series(passes, Some("220"), "asInt", ["9".into(), "9".into()]);
    let io = || vec![id(), text("hypervisor.exit.reason", "io")];
    let exits = series(io(), Some("220"), "asInt", ["4".into(), "4".into()]);
    let in_vmm = series(io(), Some("220"), "asDouble", [0.25.into(), 0.25.into()]);
    let halt_wait = vec![id(), text("hypervisor.kvm.time.kind", "halt_wait")];
    let halt_wait = series(halt_wait, Some("220"), "asDouble", [0.25.into(), 0.25.into()]);
    let blocked = BLOCKED.iter().flat_map(|reason| {
        let attributes = vec![id(), text("hypervisor.blocked.reason", reason.key)];
        series(attributes, Some("220"), "asDouble", [0.125.into(), 0.125.into()])
    });
    let faults = ["minor", "major"].into_iter().flat_map(|of| {
        let attributes = vec![id(), text("hypervisor.page_fault.type", of)];
        series(attributes, Some("220"), "asInt", ["6".into(), "6".into()])
    });
    let co_stop = series(vec![id()], Some("220"), "asDouble", [0.125.into(), 0.125.into()]);
    let helper = |state: &str, value: f64| {
        let attributes =
            vec![id(), text("hypervisor.helper.kind", "vhost"), text("hypervisor.helper.state", state)];
        series(attributes, Some("220"), "asDouble", [value.into(), value.into()])
    };
    let helpers = [helper("run", 0.5), helper("steal", 0.25)].concat();
    let vhost = vec![id(), text("hypervisor.helper.kind", "vhost")];
    let vhost = series(vhost, Some("220"), "asInt", ["1".into(), "1".into()]);
    let metrics = json!([
        counter("hypervisor.vcpu.time", "s", times),
        counter("hypervisor.vcpu.cpu.time", "s", total(3e-9)),
        counter("hypervisor.vcpu.run_delay", "s", total(4e-9)),
        counter("hypervisor.vcpu.yields", "{yield}", count("5")),
        counter("hypervisor.vcpu.preemptions", "{preemption}", count("6")),
        counter("hypervisor.vcpu.migrations", "{migration}", count("7")),
        counter("hypervisor.vcpu.timeslices", "{timeslice}", count("8")),
        distribution("hypervisor.vcpu.steal.duration", vec![id()], waits.clone()),
        distribution("hypervisor.vcpu.wakeup.latency", vec![id()], json!({"sum": 0})),
        distribution("hypervisor.vcpu.run.duration", vec![id()], json!({"sum": 0})),
        counter("hypervisor.vm.kvm.events", "{event}", passes),
        counter("hypervisor.vm.kvm.time", "s", halt_wait),
        counter("hypervisor.vcpu.blocked.time", "s", blocked.collect()),
        counter("hypervisor.vcpu.page_faults", "{fault}", faults.collect()),
        counter("hypervisor.vm.steal.time", "s", occupants),
        counter("hypervisor.vm.exits", "{exit}", exits),
        distribution("hypervisor.vm.exit.duration", io(), waits),
        counter("hypervisor.vm.exit.vmm.time", "s", in_vmm),
        counter("hypervisor.vm.co_stop.time", "s", co_stop),
        counter("hypervisor.vm.helper.time", "s", helpers),
        level("hypervisor.vm.helper.count", "{thread}", vhost),
        gauge("hypervisor.vm.info", "{vm}", series(info(), None, "asInt", ["1".into(), "1".into()])),
        level(
            "hypervisor.vm.vcpu.count",
            "{vcpu}",
            series(vec![id()], Some("200"), "asInt", ["1".into(), "1".into()])
        ),
        gauge("hypervisor.vm.uptime", "s", series(vec![id()], None, "asDouble", [0.25.into(), 0.25.into()])),
        level("hypervisor.vm.count", "{vm}", vec![host("1000", "1"), host("2000", "1"), host("3000", "0")]),
    ]);
    let scope = json!({"scope": {"name": "hvsampler", "version": "0.1.0"}, "metrics": metrics});
    let resource = json!({"attributes": [text("os.type", "linux")]});
    json!({"resourceMetrics": [{"resource": resource, "scopeMetrics": [scope]}]})
}

fn read(otlp: &Value) -> Vec<Point> {
    let batches = received::read(&format!("{otlp}\n")).unwrap();
    batches.into_iter().flat_map(|batch| batch.points).collect()
}

/// The single deviation after `change` was made to what was received.
fn after(change: impl FnOnce(&mut Vec<Point>)) -> Deviation {
    let mut received = points();
    change(&mut received);
    let mut deviations = compare(&points(), &received);
    assert_eq!(deviations.len(), 1, "{}", summary(&deviations));
    deviations.remove(0)
}

/// A point of the run time in the second snapshot.
fn target(points: &mut [Point]) -> &mut Point {
    let is_run = |point: &&mut Point| point.series.text("hypervisor.vcpu.state") == Some("run");
    points.iter_mut().filter(is_run).find(|point| point.at_unix_ns == 2000).unwrap()
}

#[test]
fn what_a_collector_writes_by_the_specification_is_equal() {
    let deviations = compare(&points(), &read(&otlp()));
    assert!(deviations.is_empty(), "{}", summary(&deviations));
    assert_eq!(points().len(), 3 * 41, "3 states, 6 counters, 31 of the VM and 1 of the host");
}

#[test]
fn order_is_no_deviation() {
    let mut received = points();
    received.reverse();
    assert!(compare(&points(), &received).is_empty());
}

#[test]
fn a_missing_point_is_caught() {
    let deviation = after(|points| drop(points.remove(4)));
    assert_eq!(deviation, Deviation::Missing(points()[4].clone()));
}

#[test]
fn an_extra_point_is_caught() {
    let mut extra = points()[4].clone();
    extra.series.attributes.clear();
    assert_eq!(after(|points| points.push(extra.clone())), Deviation::Extra(extra));
}

#[test]
fn a_point_that_arrives_twice_is_caught() {
    let again = points()[4].clone();
    assert_eq!(after(|points| points.push(again.clone())), Deviation::Twice(again));
}

#[test]
fn a_wrong_value_is_caught_to_the_last_bit() {
    let changed = after(|points| {
        let point = target(points);
        let PointValue::Double(value) = &mut point.value else { panic!("{point}") };
        *value = value.next_up();
    });
    assert!(matches!(changed, Deviation::Value { .. }), "{changed}");
    let of_another_type = after(|points| target(points).value = PointValue::Int(9_007_199));
    assert!(matches!(of_another_type, Deviation::Value { .. }), "{of_another_type}");
}

#[test]
fn a_duration_in_the_wrong_bucket_is_caught() {
    let changed = after(|points| {
        let of_waits = |point: &&mut Point| point.series.metric == "hypervisor.vcpu.steal.duration";
        let point = points.iter_mut().find(of_waits).unwrap();
        let PointValue::Distribution(distribution) = &mut point.value else { panic!("{point}") };
        let count = distribution.buckets.remove(&-3).unwrap();
        distribution.buckets.insert(-4, count);
    });
    assert!(matches!(changed, Deviation::Value { .. }), "{changed}");
}

#[test]
fn a_wrong_start_is_caught() {
    let deviation = after(|points| target(points).start_unix_ns += 1);
    assert!(matches!(deviation, Deviation::Start { .. }), "{deviation}");
}

#[test]
fn a_wrong_time_is_caught() {
    let deviation = after(|points| target(points).at_unix_ns += 1);
    assert!(matches!(deviation, Deviation::Time { .. }), "{deviation}");
}

#[test]
fn a_missing_end_is_caught() {
    let without_flag = after(|points| {
        points.iter_mut().find(|point| point.is_end()).unwrap().value = PointValue::Int(1);
    });
    assert!(matches!(without_flag, Deviation::End { .. }), "{without_flag}");
    let without_point = after(|points| {
        let end = points.iter().position(Point::is_end).unwrap();
        points.remove(end);
    });
    assert!(matches!(&without_point, Deviation::Missing(point) if point.is_end()), "{without_point}");
    let too_early = after(|points| target(points).value = PointValue::Ended);
    assert!(matches!(too_early, Deviation::End { .. }), "{too_early}");
}

#[test]
fn a_wrong_unit_or_kind_is_caught() {
    for (from, to) in [("{vm}", "1"), ("s", "ns")] {
        let mut received = points();
        let point = received.iter_mut().find(|point| point.series.unit == from).unwrap();
        point.series.unit = to.to_owned();
        let kinds: Vec<_> = compare(&points(), &received);
        assert!(matches!(&kinds[..], [Deviation::Extra(_), Deviation::Missing(_)]), "{}", summary(&kinds));
    }
}

#[test]
fn ends_follow_from_what_is_gone_and_from_what_is_named() {
    let mut unnamed = lines();
    unnamed[2]["ended"] = json!([]);
    let ends = |lines: &[Value]| {
        let points = counted::points(&snapshots(lines), HOST_START).unwrap();
        points.into_iter().filter(Point::is_end).collect::<Vec<_>>()
    };
    assert_eq!(ends(&unnamed), ends(&lines()), "the guest is gone, whether or not it is named");
    let named_only = &lines()[2..];
    assert_eq!(
        ends(named_only).len(),
        3 + 6 + 6 + BLOCKED.len() + 2 + SHARES.len(),
        "it came and went between two snapshots; its info never was"
    );
}

#[test]
fn fields_that_nobody_counted_are_errors() {
    for (pointer, key) in [
        ("/resourceMetrics/0/scopeMetrics/0/metrics/0/sum/dataPoints/0", "exemplars"),
        ("/resourceMetrics/0/scopeMetrics/0/metrics/0", "histogram"),
        ("/resourceMetrics/0/scopeMetrics/0", "surprise"),
    ] {
        let mut otlp = otlp();
        otlp.pointer_mut(pointer).unwrap()[key] = json!([]);
        received::read(&format!("{otlp}\n")).unwrap_err();
    }
    let mut delta = otlp();
    delta["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][1]["sum"]["aggregationTemporality"] = 1.into();
    assert!(!compare(&points(), &read(&delta)).is_empty());
}

#[test]
fn a_line_that_is_still_being_written_is_left_for_later() {
    assert_eq!(counted::read(&format!("{}\n{{\"sch", lines()[0])).unwrap().len(), 1);
    assert!(received::read("{\"resource").unwrap().is_empty());
    counted::read("{\"sch\n").unwrap_err();
}
