//! Lines of snapshots: held against their schema, against a golden document, and against each other.

use std::sync::Arc;

use hvsampler::model::Counter;
use hvsampler::{
    export::json::{self, Lines},
    model::{
        AttributedVm, Ended, ExitKind, ExitTotals, HelperKind, HelperSum, HelperTimes, Resource, Snapshot,
        State, Totals, VcpuId,
        catalog::{Entity, ForEachEntity, Instrument, Scope, for_each_entity},
    },
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    arbitrary,
    documents::{assert_lines_are_plain, assert_valid, parse, strict},
    golden::assert_file,
    sample::{snapshot, vcpu, vm},
};

const SECOND: u64 = 1_000_000_000;

/// The documents of snapshots that follow each other.
fn lines<const N: usize>(snapshots: [Snapshot; N]) -> [Value; N] {
    let mut lines = Lines::default();
    snapshots.map(|snapshot| {
        let line = String::from_utf8(lines.next(Arc::new(snapshot)).unwrap().to_vec()).unwrap();
        assert_lines_are_plain(&line);
        parse(&line)
    })
}

/// Two snapshots of a guest; in the second all has grown, and new kinds have come.
fn pair() -> [Snapshot; 2] {
    let of = |vcpus| snapshot(vec![vm(7, Some("a\"b\n"), vcpus)]);
    let vcpus = || vec![vcpu(0, 8, [1000, 500, 500], 3), vcpu(1, 9, [0, 0, 2000], 0)];
    let (mut before, mut now) = (of(vcpus()), of(vcpus()));
    before.at_unix_ns -= 2 * SECOND;
    (before.sampler.snapshots, now.sampler.snapshots) = (1, 2);
    let grown = &mut now.vms[0];
    let vcpu = &mut grown.vcpus[0];
    vcpu.states.set(State::Run, 31 * SECOND);
    vcpu.states.set(State::Throttled, 5);
    vcpu.totals = Totals { run_ns: 1_500_000_000, run_delay_ns: 7 };
    vcpu.counters[Counter::InvoluntarySwitches as usize] += 6;
    vcpu.distributions = vcpu.distributions.plus(&vcpu.distributions_added()).into();
    let hlt = ExitTotals { count: 4, vmm_count: 1, vmm_ns: 2, ..ExitTotals::default() };
    grown.kvm.as_mut().unwrap().exits.add(ExitKind { reason: "msr", raw: Some("MSR") }, &hlt);
    grown.attributed.kinds[2] += 11;
    grown.attributed.vms[0].ns += 12;
    let new = AttributedVm { id: "78-5".into(), since_unix_ns: grown.seen_unix_ns + 1, ns: 13 };
    grown.attributed.vms.insert(0, new);
    let total = HelperTimes { run_ns: 14, run_delay_ns: 15 };
    grown.helpers.set(HelperKind::IoThread, HelperSum { threads: 2, total });
    grown.co_stop.ns += 16;
    grown.control_group.as_mut().unwrap().events[1] = Some(7);
    let host = now.host_state.as_mut().unwrap();
    host.pressure.set(Resource::Memory, [Some(5_000 + 17), Some(3_000)]);
    host.cpu_ns[3] = Some(4 * SECOND);
    [before, now]
}

fn attribute<'a>(list: &'a Value, key: &str, value: impl Into<Value>) -> &'a Value {
    let value = value.into();
    list.as_array().unwrap().iter().find(|part| part["attributes"][key] == value).unwrap()
}

#[test]
fn the_schema_is_the_catalog() {
    assert_file(
        "schema/snapshot-1.schema.json",
        &format!("{}\n", serde_json::to_string_pretty(&json::schema()).unwrap()),
    );
}

#[test]
fn a_line_has_what_is_and_what_was_added() {
    let [_, now] = lines(pair());
    assert_valid(&strict(json::schema()), &now);
    assert_file("tests/golden/snapshot.json", &format!("{}\n", serde_json::to_string_pretty(&now).unwrap()));
    assert_eq!((&now["schema"], &now["interval_ns"]), (&json!("hvsampler.snapshot/1"), &json!(2 * SECOND)));
    assert_eq!(now["metrics"]["hypervisor.vm.count"], 1);
    assert_eq!(
        now["metrics"]["hypervisor.host.pressure.time"]["memory"],
        json!({ "some": 5_017, "full": 3_000 })
    );
    assert_eq!(now["interval"]["hypervisor.host.pressure.time"]["memory"], json!({ "some": 17, "full": 0 }));
    assert_eq!(now["metrics"]["hypervisor.host.pressure.time"]["cpu"], json!({ "some": 9 * SECOND }));
    assert_eq!(now["interval"]["system.cpu.time"]["idle"], SECOND);
    assert!(now["metrics"]["system.memory.linux.hugepages.usage"].get("1GiB").is_none(), "there are none");
    let (read, booted) = (&now["host_read_unix_ns"], &now["starts_unix_ns"]["boot"]);
    let at = now["at_unix_ns"].as_u64().unwrap();
    assert_eq!((read.as_u64(), booted.as_u64()), (Some(at - 4 * SECOND), Some(at - 90 * SECOND)));
    let vm = &now["vms"][0];
    assert_eq!(vm["attributes"]["hypervisor.vm.name"], "a\"b\n");
    assert_eq!(vm["attributes"]["process.pid"], 7);
    let vcpu = &vm["vcpus"][0];
    assert_eq!(vcpu["metrics"]["hypervisor.vcpu.time"]["run"], 31 * SECOND);
    assert_eq!(vcpu["interval"]["hypervisor.vcpu.time"]["run"], SECOND);
    assert_eq!(
        vcpu["interval"]["hypervisor.vcpu.time"]["throttled"], 5,
        "it was absent: nothing was counted"
    );
    assert_eq!(vcpu["interval"]["hypervisor.vcpu.cpu.time"], 1_500_000_000);
    assert_eq!(vcpu["interval"]["hypervisor.vcpu.preemptions"], 6);
    assert_eq!(vcpu["metrics"]["hypervisor.vcpu.preemptions"], 96);
    assert_eq!(vcpu["scheduler"]["run_ns"], 30 * SECOND);
    let waits = &vcpu["interval"]["hypervisor.vcpu.steal.duration"];
    assert_eq!((&waits["count"], &waits["zero_count"]), (&json!(12), &json!(3)));
    assert_eq!(waits["buckets"][0], json!({ "index": -19, "count": 3 }));
    let steal = &vm["interval"]["hypervisor.vm.steal.time"];
    assert_eq!((&steal["host"], &steal["vm"]), (&json!(11), &json!(0)));
    let helpers = &vm["interval"]["hypervisor.vm.helper.time"];
    assert_eq!(helpers["iothread"], json!({ "run": 14, "steal": 15 }), "the first of their kind");
    assert_eq!(vm["metrics"]["hypervisor.vm.helper.count"]["iothread"], 2);
    assert_eq!(vm["interval"]["hypervisor.vm.co_stop.time"], 16);
    assert_eq!(vm["occupants"][0]["name"], "loud");
}

#[test]
fn what_a_vm_has_several_of_is_found_again() {
    let [_, now] = lines(pair());
    let vm = &now["vms"][0];
    let added = |part: &Value, metric: &str| part["interval"][metric].clone();
    let by = |id: &str| {
        added(attribute(&vm["steal_by"], "hypervisor.steal.by.vm", id), "hypervisor.vm.steal.time")
    };
    assert_eq!((by("77-5"), by("78-5")), (json!(12), json!(13)));
    let exits = |reason: &str| attribute(&vm["exits"], "hypervisor.exit.reason", reason);
    assert_eq!(added(exits("msr"), "hypervisor.vm.exits"), 4, "the first of their kind");
    assert_eq!(added(exits("msr"), "hypervisor.vm.exit.vmm.exits"), 1);
    assert_eq!(added(exits("halt"), "hypervisor.vm.exits"), 0);
    assert_eq!(added(&vm["control_groups"][0], "hypervisor.vm.memory.events")["high"], 2);
    let node = attribute(&vm["numa"], "hypervisor.numa.node", 1);
    assert_eq!(node["metrics"]["hypervisor.vm.memory.numa.usage"], 7 << 20);
    let node = attribute(&vm["placement"], "hypervisor.numa.node", 0);
    assert_eq!(node["metrics"]["hypervisor.vm.vcpu.numa.count"], 1);
    assert_eq!(vm["metrics"]["hypervisor.vm.memory.numa.remote"], 7 << 20, "its vCPU is on another node");
    let own = attribute(&vm["vcpus"][0]["exits"], "hypervisor.exit.reason", "io");
    assert_eq!(own["metrics"]["hypervisor.vm.exits"], 90);
}

/// Names and times of all intervals: nobody can take one for what it is not.
#[test]
fn an_interval_is_since_the_line_before() {
    let [first, second, third] = {
        let [before, now] = pair();
        let mut later = now.clone();
        later.at_unix_ns += 6 * SECOND;
        later.sampler.snapshots += 3;
        lines([before, now, later])
    };
    assert!(first.get("interval_ns").is_none() && first["vms"][0].get("interval").is_none());
    assert!(first["vms"][0].get("occupants").is_none());
    assert_eq!(second["interval_ns"], 2 * SECOND);
    assert_eq!(third["interval_ns"], 6 * SECOND, "two were never written");
    assert!(third["vms"][0].get("occupants").is_none(), "they are of the last interval alone");
    assert_eq!(third["vms"][0]["interval"]["hypervisor.vm.co_stop.time"], 0);
}

#[test]
fn what_the_line_before_did_not_have_has_no_interval() {
    let [before, mut now] = pair();
    now.vms[0].vcpus[1].id = VcpuId::new([10, 7]);
    now.vms.push(vm(9, None, vec![vcpu(0, 10, [1, 1, 1], 1)]));
    let [_, now] = lines([before, now]);
    assert!(now["vms"][0]["vcpus"][0].get("interval").is_some());
    let new = &now["vms"][0]["vcpus"][1];
    assert!(new.get("interval").is_none() && new["exits"][0].get("interval").is_none());
    assert!(now["vms"][1].get("interval").is_none());
    assert!(now["vms"][1]["exits"][0].get("interval").is_none());
}

/// A domain of a hypervisor below has no thread of this host, no exits that KVM would count, and no timeline.
#[test]
fn what_a_guest_cannot_say_is_absent() {
    let [before, mut now] = pair();
    now.vms[0].vcpus[0].unused = true;
    let domain = &mut now.vms[0];
    (domain.kvm, domain.co_stop.tick_ns) = (None, 0);
    (domain.vcpus[1].kvm, domain.vcpus[1].tid) = (None, None);
    let [before, now] = lines([before, now]);
    assert_valid(&strict(json::schema()), &now);
    let has = |line: &Value, vcpu: usize| -> Vec<bool> {
        let vm = &line["vms"][0];
        let vcpu = &vm["vcpus"][vcpu];
        let of_vm = [vm.get("co_stop_tick_ns"), vm.get("exits")];
        of_vm.into_iter().chain([vcpu.get("scheduler"), vcpu.get("exits")]).map(|it| it.is_some()).collect()
    };
    let [all, none]: [Vec<_>; 2] = [has(&before, 1), has(&now, 1)];
    assert_eq!((all, none), (vec![true; 4], vec![false; 4]));
    assert_eq!(has(&now, 0), [false, false, false, true], "no thread has run it, but KVM has it");
}

#[test]
fn what_ended_has_its_last_part() {
    let [before, mut now] = pair();
    let last = now.vms[0].vcpus.remove(0);
    now.ended.push(Ended {
        unused: false,
        vm_id: now.vms[0].id.clone(),
        vm_facts: now.vms[0].facts.clone(),
        id: last.id,
        tid: last.tid,
        index: last.index,
        start_unix_ns: last.start_unix_ns,
        followed_unix_ns: last.followed_unix_ns,
        counters: last.counters,
        totals: last.totals,
        states: before.vms[0].vcpus[0].states,
        vm_gone: false,
    });
    let [_, now] = lines([before, now]);
    assert_valid(&strict(json::schema()), &now);
    let ended = &now["ended"][0];
    assert_eq!(ended["attributes"], json!({ "hypervisor.vm.id": "7-5", "hypervisor.vcpu.id": 0 }));
    assert_eq!(ended["metrics"]["hypervisor.vcpu.cpu.time"], 1_500_000_000);
    assert_eq!(ended["interval"]["hypervisor.vcpu.cpu.time"], 1_500_000_000);
    assert_eq!(ended["interval"]["hypervisor.vcpu.preemptions"], 6);
    assert_eq!(ended["metrics"]["hypervisor.vcpu.time"]["run"], 30 * SECOND);
    assert!(ended["interval"].get("hypervisor.vcpu.time").is_none(), "how it was spent is not known");
}

/// Nothing but its row brings a family into the document.
#[test]
fn every_family_is_there() {
    struct Check<'a>(&'a Value, usize);
    impl ForEachEntity for Check<'_> {
        fn entity<E: Entity>(&mut self) {
            let object = match E::SCOPE {
                Scope::Host => self.0,
                Scope::Vm => &self.0["vms"][0],
                Scope::Part(list) => &self.0["vms"][0][list][0],
            };
            for family in E::SERIES.iter().chain(E::DETAILS).map(|series| series.family) {
                assert!(object["metrics"].get(family.name).is_some(), "{}", family.name);
                let falls = !matches!(family.instrument, Instrument::Counter | Instrument::Histogram);
                assert_eq!(object["interval"].get(family.name).is_none(), falls, "{}", family.name);
                self.1 += 1;
            }
        }
    }
    let [_, now] = lines(pair());
    let mut check = Check(&now, 0);
    for_each_entity(&mut check);
    assert!(check.1 > 20, "{}", check.1);
}

#[test]
fn a_wrong_document_is_refused() {
    let strict = strict(json::schema());
    let open = jsonschema::draft202012::new(&json::schema()).unwrap();
    let [_, good] = lines(pair());
    type Damage = fn(&mut Value);
    let damages: [(&str, Damage); 8] = [
        ("another version", |value| value["schema"] = "hvsampler.snapshot/2".into()),
        ("another unit", |value| value["time_unit"] = "s".into()),
        ("a count below zero", |value| {
            value["vms"][0]["vcpus"][0]["metrics"]["hypervisor.vcpu.cpu.time"] = (-1).into();
        }),
        ("a fraction", |value| value["vms"][0]["interval"]["hypervisor.vm.co_stop.time"] = 1.5.into()),
        ("a number as text", |value| value["vms"][0]["vcpus"][0]["tid"] = "8".into()),
        ("no metrics", |value| remove(&mut value["vms"][0]["vcpus"][0], "metrics")),
        ("no vCPUs", |value| remove(&mut value["vms"][0], "vcpus")),
        ("a missing count", |value| remove(&mut value["vms"][0]["vcpus"][0]["scheduler"], "run_delay_ns")),
    ];
    for (what, damage) in damages {
        let mut document = good.clone();
        damage(&mut document);
        assert!(!open.is_valid(&document), "{what}");
    }
    let mut more = good;
    more["vms"][0]["vcpus"][0]["metrics"]["hypervisor.vcpu.new"] = 1.into();
    assert!(open.is_valid(&more) && !strict.is_valid(&more));
}

fn remove(value: &mut Value, key: &str) {
    assert!(value.as_object_mut().unwrap().remove(key).is_some(), "{key}");
}

#[test]
fn any_snapshot_is_described() {
    let validator = strict(json::schema());
    proptest!(|(snapshot in arbitrary::snapshot(), other in arbitrary::snapshot())| {
        let [_, document, other] = lines([snapshot.clone(), snapshot.clone(), other]);
        assert_valid(&validator, &document);
        assert_valid(&validator, &other);
        let vms = document["vms"].as_array().unwrap();
        let names: Vec<_> = vms.iter().map(|vm| vm["attributes"]["hypervisor.vm.name"].as_str()).collect();
        let expected: Vec<_> = snapshot.vms.iter().map(|vm| vm.name().map(|name| &**name)).collect();
        prop_assert_eq!(names, expected);
        // Nothing has changed.
        is_zero(&document["interval"]);
        vms.iter().for_each(|vm| is_zero(&vm["interval"]));
    });
}

#[track_caller]
fn is_zero(value: &Value) {
    match value {
        Value::Object(object) => object.values().for_each(is_zero),
        Value::Array(list) => assert!(list.is_empty(), "{value}"),
        number => assert_eq!(number, 0),
    }
}
