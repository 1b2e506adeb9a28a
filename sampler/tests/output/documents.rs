//! The JSON documents, held against their schemas.
//!
//! The schemas allow more fields, for programs that read what a later version writes. The tests do not: a
//! field that is rendered and not described fails.

use hvsampler::{
    cli::Format,
    collect::{
        platform::{GuestIdentity, Sourced},
        procfs::{GuestProcess, Scan},
    },
    command::{check, list},
    export::json,
    kernel::check::CheckItem,
    model::{STATES, SamplerStats},
};
use jsonschema::Validator;
use proptest::{collection, option, prelude::*};
use sampler_ebpf::abi::{COUNTERS, DISTRIBUTIONS, KVM_STATS, Unit};
use serde_json::{Map, Value};

use super::{
    arbitrary,
    golden::assert_file,
    sample::{snapshot, vcpu, vm},
};

const ONCE: &str = include_str!("../../schema/once-1.schema.json");
const LIST: &str = include_str!("../../schema/list-1.schema.json");
const CHECK: &str = include_str!("../../schema/check-1.schema.json");

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The schema with every object closed. `counters` is a part of other objects, so those are closed and it is
/// not.
fn strict(schema: &str) -> Validator {
    fn close(value: &mut Value, name: &str) {
        let Value::Object(object) = value else { return };
        if object.contains_key("properties") && name != "counters" {
            object.insert("unevaluatedProperties".to_owned(), Value::Bool(false));
        }
        for (name, value) in object {
            close(value, name);
        }
    }
    let mut schema = parse(schema);
    close(&mut schema, "");
    jsonschema::draft202012::new(&schema).unwrap()
}

#[track_caller]
fn assert_valid(validator: &Validator, document: &Value) {
    let errors: Vec<_> =
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}

fn once() -> Value {
    let mut sample = snapshot(vec![vm(7, Some("a\"b\n"), vec![vcpu(0, 8, [1000, 500, 500], 3)])]);
    sample.sampler.snapshots = 2;
    parse(&json::once(&sample).unwrap())
}

#[test]
fn schemas_are_schemas() {
    for schema in [ONCE, LIST, CHECK] {
        jsonschema::draft202012::meta::validate(&parse(schema)).unwrap();
    }
}

/// A row in a table of the model needs no hand in the schema: its properties are written from the tables.
#[test]
fn the_schema_describes_every_counter_and_state() {
    let mut schema = parse(ONCE);
    let property = |text: String| serde_json::json!({ "type": "integer", "minimum": 0, "description": text });
    let unit = |unit: Unit| match unit {
        Unit::Nanoseconds => "ns",
        Unit::Count(what) => what,
    };
    let mut counters: Map<_, _> = COUNTERS
        .iter()
        .map(|row| (row.key.to_owned(), property(format!("{} Unit: {}.", row.help, unit(row.unit)))))
        .collect();
    let switches =
        "Times the vCPU thread left a CPU: voluntary_switches and involuntary_switches. Unit: {switch}.";
    counters.insert("switches".to_owned(), property(switches.to_owned()));
    let states = STATES.iter().map(|row| (row.key.to_owned(), property(format!("{} Unit: ns.", row.help))));
    let sampler = SamplerStats::default();
    let sampler = sampler
        .rows()
        .into_iter()
        .map(|row| (row.name.to_owned(), property(format!("{} Unit: {}.", row.help, row.unit))));
    schema["$defs"]["counters"]["properties"] = Value::Object(counters);
    let kvm = KVM_STATS
        .iter()
        .map(|row| (row.key.to_owned(), property(format!("{} Unit: {}.", row.help, unit(row.unit)))));
    schema["$defs"]["kvm"]["properties"] = Value::Object(kvm.collect());
    let distributions = DISTRIBUTIONS.iter().map(|row| {
        let histogram = serde_json::json!({ "$ref": "#/$defs/histogram", "description": row.help });
        (row.key.to_owned(), histogram)
    });
    schema["$defs"]["distributions"]["properties"] = Value::Object(distributions.collect());
    schema["$defs"]["states"]["properties"] = Value::Object(states.collect());
    schema["$defs"]["sampler"]["properties"] = Value::Object(sampler.collect());
    let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    assert_file("schema/once-1.schema.json", &text);
}

#[test]
fn once_has_the_fields_that_programs_rely_on() {
    let document = once();
    assert_eq!(document["schema"], "hvsampler.once/1");
    let vcpu = &document["vms"][0]["vcpus"][0];
    assert_eq!(document["vms"][0]["name"], "a\"b\n");
    assert_eq!(vcpu["run_ns"], 30_000_000_000_u64);
    assert_eq!(vcpu["run_delay_ns"], 15_000_000_000_u64);
    assert_eq!(vcpu["switches"], 180);
    assert_eq!(vcpu["interval"]["run_ns"], 1_000_000_000);
    assert_eq!(vcpu["interval"]["run_delay_ns"], 500_000_000);
    assert_eq!(vcpu["interval"]["switches"], 6);
    assert_eq!(vcpu["interval"]["states"]["blocked"], 500_000_000);
    let waits = &vcpu["interval"]["distributions"]["steal"];
    assert_eq!(waits["count"], 12);
    assert_eq!(waits["zero_count"], 3);
    assert_eq!(waits["buckets"][0], serde_json::json!({ "index": -19, "count": 3 }));
    assert_valid(&strict(ONCE), &document);
}

#[test]
fn a_wrong_document_is_refused() {
    let strict = strict(ONCE);
    let open = jsonschema::draft202012::new(&parse(ONCE)).unwrap();
    type Damage = fn(&mut Value);
    let damages: [(&str, Damage); 7] = [
        ("another version", |value| value["schema"] = "hvsampler.once/2".into()),
        ("a count below zero", |value| value["vms"][0]["vcpus"][0]["run_ns"] = (-1).into()),
        ("a fraction", |value| value["interval_ns"] = 1.5.into()),
        ("a number as text", |value| value["vms"][0]["vcpus"][0]["tid"] = "8".into()),
        ("a missing count", |value| remove(&mut value["vms"][0]["vcpus"][0], "run_delay_ns")),
        ("a missing name", |value| remove(&mut value["vms"][0], "name")),
        ("an interval without states", |value| {
            remove(&mut value["vms"][0]["vcpus"][0]["interval"], "states");
        }),
    ];
    for (what, damage) in damages {
        let mut document = once();
        damage(&mut document);
        assert!(!open.is_valid(&document), "{what}");
    }
    let mut more = once();
    more["vms"][0]["vcpus"][0]["new_in_a_later_version"] = 1.into();
    assert!(open.is_valid(&more) && !strict.is_valid(&more));
}

fn remove(value: &mut Value, key: &str) {
    assert!(value.as_object_mut().unwrap().remove(key).is_some(), "{key}");
}

fn identity() -> impl Strategy<Value = Result<GuestIdentity, String>> {
    let sourced = |value| Sourced { value, from: "command line, -name" };
    let known =
        (option::of(arbitrary::text()), option::of(arbitrary::text())).prop_map(move |(name, uuid)| {
            GuestIdentity {
                platform: Sourced { value: "qemu", from: "program name" },
                name: name.map(sourced),
                uuid: uuid.map(sourced),
            }
        });
    prop_oneof![known.prop_map(Ok), arbitrary::text().prop_map(Err)]
}

prop_compose! {
    fn listing()(
        host in arbitrary::host(),
        guests in collection::vec(
            (any::<u32>(), any::<u64>(), collection::vec(any::<u32>(), 0..5), identity()),
            0..4,
        ),
        [processes, denied, vanished, truncated, failed] in any::<[u64; 5]>(),
    ) -> list::Listing {
        let guests = guests.into_iter().map(|(pid, start_boottime_ns, vcpu_ids, identity)| list::Listed {
            process: GuestProcess { pid, start_boottime_ns, vcpu_ids },
            identity,
        });
        let scan = Scan { guests: Vec::new(), processes, denied, vanished, truncated, failed };
        list::Listing { host, guests: guests.collect(), scan }
    }
}

prop_compose! {
    fn report()(
        host in arbitrary::host(),
        rows in collection::vec((0..3_u8, arbitrary::text(), arbitrary::text()), 0..4),
    ) -> check::Report {
        let items = rows.into_iter().map(|(status, detail, fix)| match status {
            0 => CheckItem::ok("a check", detail),
            1 => CheckItem::warn("a check", detail, fix),
            _ => CheckItem::fail("a check", detail, fix),
        });
        check::Report { host, items: items.collect() }
    }
}

#[track_caller]
fn assert_lines_are_plain(text: &str) {
    assert!(text.ends_with('\n'));
    assert!(text.lines().all(|line| line.chars().all(hvsampler::export::terminal::is_plain)), "{text:?}");
}

#[test]
fn any_snapshot_is_described() {
    let validator = strict(ONCE);
    proptest!(|(snapshot in arbitrary::snapshot())| {
        let text = json::once(&snapshot).unwrap();
        assert_lines_are_plain(&text);
        let document = parse(&text);
        assert_valid(&validator, &document);
        let vms = document["vms"].as_array().unwrap();
        let names: Vec<_> = vms.iter().map(|vm| vm["name"].as_str()).collect();
        let expected: Vec<_> = snapshot.vms.iter().map(|vm| vm.name.as_deref()).collect();
        prop_assert_eq!(names, expected);
    });
}

#[test]
fn any_list_is_described_and_safe() {
    let validator = strict(LIST);
    proptest!(|(listing in listing())| {
        assert_valid(&validator, &parse(&listing.render(Format::Json).unwrap()));
        assert_lines_are_plain(&listing.render(Format::Json).unwrap());
        assert_lines_are_plain(&listing.render(Format::Text).unwrap());
    });
}

#[test]
fn any_report_is_described_and_safe() {
    let validator = strict(CHECK);
    proptest!(|(report in report())| {
        assert_valid(&validator, &parse(&report.render(Format::Json).unwrap()));
        assert_lines_are_plain(&report.render(Format::Json).unwrap());
        assert_lines_are_plain(&report.render(Format::Text).unwrap());
    });
}
