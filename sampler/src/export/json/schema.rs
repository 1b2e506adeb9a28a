//! The schema of a snapshot's document, by a walk over the catalog.

mod fields;

use std::any::TypeId;

use serde_json::{Map, Value, json};

use self::fields::{Fields, List, count, ended_fields, reference, vcpu_fields, vm_fields};
use super::SNAPSHOT_SCHEMA;
use crate::model::{
    Label, Vcpu,
    catalog::{
        Entity, Family, ForEachEntity, Scope, Series, Start, Unit, Values, for_each_entity, is_number,
    },
};

/// The schema. It allows more fields than it has: later versions add some.
#[must_use]
pub fn schema() -> Value {
    let mut walk = Walk::default();
    for_each_entity(&mut walk);
    let Walk { host, vm, parts, of_vcpu } = walk;
    let all: Vec<_> = parts.iter().map(|(list, _)| *list).collect();
    let mut defs = Map::new();
    put_metrics(&mut defs, "host", &host.metrics, &host.monotonic);
    let document_fields = host_fields(&host);
    defs.insert("vm".to_owned(), object("vm", &vm, vm_fields(&all)));
    put_metrics(&mut defs, "vm", &vm.metrics, &vm.monotonic);
    for (List { name, .. }, part) in parts {
        let more = if part.is_vcpu { vcpu_fields(&of_vcpu) } else { Fields::default() };
        defs.insert(name.to_owned(), object(name, &part, more));
        if part.is_vcpu {
            defs.insert("ended".to_owned(), object(name, &part, ended_fields()));
        }
        put_metrics(&mut defs, name, &part.metrics, &part.monotonic);
    }
    fields::put(&mut defs);
    document(&defs, document_fields)
}

fn document(defs: &Map<String, Value>, of_host: Map<String, Value>) -> Value {
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:hvsampler:snapshot:1",
        "title": SNAPSHOT_SCHEMA,
        "description": "A snapshot of a host, as `hvsampler run --json` and `hvsampler once --format json` \
            print it. `metrics` are those of docs/metrics.md, by the values of their own attributes where they \
            have some; all times are integers in ns. `interval` is what was added to those that never fall \
            since the line before. What is not known is left out, never zero. Later versions of this schema \
            add fields and take none away.",
        "type": "object",
        "required": [
            "schema", "time_unit", "at_unix_ns", "host", "starts_unix_ns", "metrics", "vms", "ended",
            "sampler",
        ],
        "properties": {
            "schema": { "const": SNAPSHOT_SCHEMA },
            "time_unit": { "const": "ns", "description": "Unit of all metrics that are times." },
            "at_unix_ns": count("When it was taken, Unix time in ns."),
            "interval_ns": count("Length of the interval, ns; absent in the first line, which has none."),
            "host": reference("host", "The host."),
            "metrics": reference("host.metrics", "The host's metrics."),
            "vms": {
                "type": "array",
                "items": { "$ref": "#/$defs/vm" },
                "description": "The guests that live.",
            },
            "ended": {
                "type": "array",
                "items": { "$ref": "#/$defs/ended" },
                "description": "vCPUs that ended since the snapshot before, with their last counts.",
            },
            "sampler": reference("sampler", "What the sampler counts of itself since its start."),
        },
        "$defs": defs,
    });
    if let Some(properties) = document["properties"].as_object_mut() {
        properties.extend(of_host);
    }
    document
}

/// What the document has of the host beside its metrics.
fn host_fields(host: &Object) -> Map<String, Value> {
    let mut fields = own_times(host);
    fields.insert("starts_unix_ns".to_owned(), starts(host));
    let interval = "What the interval added to those that never fall; absent in the first line.";
    fields.insert("interval".to_owned(), reference("host.interval", interval));
    fields
}

/// What the catalog says of an object.
#[derive(Default)]
struct Object {
    attributes: Map<String, Value>,
    /// Those that its metrics have, and what happens then.
    starts: Vec<(Start, Option<&'static str>)>,
    metrics: Map<String, Value>,
    /// Names of those that an interval adds to.
    monotonic: Vec<&'static str>,
    is_vcpu: bool,
    /// What the times are called at which values were read, where those are their own.
    own_times: Vec<&'static str>,
}

impl Object {
    fn add<E: Entity>(&mut self) {
        for (key, help) in E::ATTRIBUTES {
            let kind = if is_number(key) { "integer" } else { "string" };
            self.attributes.insert((*key).to_owned(), json!({ "type": kind, "description": help }));
        }
        for series in E::SERIES.iter().chain(E::DETAILS) {
            let Family { name, instrument, .. } = series.family;
            self.metrics.insert(name.to_owned(), metric(series));
            if instrument.is_monotonic() {
                self.monotonic.push(name);
            }
            if self.starts.iter().all(|(start, _)| *start != series.start) {
                self.starts.push((series.start, series.start.event(&E::STARTS)));
            }
        }
        self.own_times.extend(E::OWN_TIME);
        self.is_vcpu |= TypeId::of::<E::Data>() == TypeId::of::<Vcpu>();
    }
}

#[derive(Default)]
struct Walk {
    host: Object,
    vm: Object,
    /// What a VM has several of: the list, and an object in it.
    parts: Vec<(List, Object)>,
    /// What a vCPU has several of.
    of_vcpu: Vec<List>,
}

impl ForEachEntity for Walk {
    fn entity<E: Entity>(&mut self) {
        match E::SCOPE {
            Scope::Host => self.host.add::<E>(),
            Scope::Vm => self.vm.add::<E>(),
            Scope::Part(name) => {
                let mut object = Object::default();
                object.add::<E>();
                let list = List { name, each: E::NAME, is_always: !E::OF_KVM };
                self.parts.push((list, object));
                if E::of_vcpu(&Vcpu::default()).is_some() {
                    self.of_vcpu.push(list);
                }
            }
        }
    }
}

/// Puts the metrics of an object into the definitions, and what an interval adds to them.
fn put_metrics(
    defs: &mut Map<String, Value>,
    name: &str,
    metrics: &Map<String, Value>,
    monotonic: &[&'static str],
) {
    let added = monotonic.iter().map(|metric| {
        let pointer = format!("#/$defs/{name}.metrics/properties/{metric}");
        ((*metric).to_owned(), json!({ "$ref": pointer }))
    });
    let added: Map<_, _> = added.collect();
    if !added.is_empty() {
        defs.insert(format!("{name}.interval"), json!({ "type": "object", "properties": added }));
    }
    defs.insert(format!("{name}.metrics"), json!({ "type": "object", "properties": metrics }));
}

fn metric<D>(series: &Series<D>) -> Value {
    let Family { unit, help, instrument, .. } = series.family;
    let unit = match (unit, &series.values) {
        (_, Values::Histograms(_)) => "",
        (Unit::Seconds, Values::Numbers(_)) => " Unit: ns.",
        (Unit::Bytes, Values::Numbers(_)) => " Unit: bytes.",
        (Unit::Count(what), Values::Numbers(_)) => &format!(" Unit: {what}."),
    };
    let start = series.start.key().map_or(String::new(), |key| format!(" Start: {key}."));
    let kind = instrument.key();
    let mut value = by_attributes(series, series.attributes.len());
    value["description"] = format!("{help}{unit} Instrument: {kind}.{start}").into();
    value
}

/// Values by the last so many attributes of a series.
fn by_attributes<D>(series: &Series<D>, left: usize) -> Value {
    if left == 0 {
        let kind = match series.values {
            Values::Numbers(_) => "count",
            Values::Histograms(_) => "histogram",
        };
        return json!({ "$ref": format!("#/$defs/{kind}") });
    }
    let outer = &series.attributes[series.attributes.len() - left];
    let value = |label: &Label| {
        let mut value = by_attributes(series, left - 1);
        if !label.help.is_empty() {
            value["description"] = label.help.into();
        }
        (label.key.to_owned(), value)
    };
    let values: Map<_, _> = outer.values.iter().map(value).collect();
    json!({ "type": "object", "title": outer.key, "properties": values })
}

/// An object with what every entity has, and more.
fn object(name: &str, object: &Object, more: Fields) -> Value {
    let attributes = json!({ "type": "object", "properties": object.attributes });
    let mut properties = Map::new();
    properties.insert("attributes".to_owned(), attributes);
    properties.insert("starts_unix_ns".to_owned(), starts(object));
    properties.extend(own_times(object));
    properties.insert("metrics".to_owned(), reference(&format!("{name}.metrics"), "Values of now."));
    if !object.monotonic.is_empty() {
        let interval =
            "What the interval added to those that never fall; absent where the line before did not have it.";
        properties.insert("interval".to_owned(), reference(&format!("{name}.interval"), interval));
    }
    let mut required = vec!["attributes", "starts_unix_ns", "metrics"];
    required.extend(more.required);
    properties.extend(more.all);
    json!({ "type": "object", "required": required, "properties": properties })
}

fn starts(object: &Object) -> Value {
    let starts = object.starts.iter().filter_map(|(start, event)| {
        let event = event.unwrap_or_default();
        Some((start.key()?.to_owned(), count(&format!("When {event}."))))
    });
    json!({
        "type": "object",
        "properties": starts.collect::<Map<_, _>>(),
        "description": "When the values with this start were zero, Unix time in ns. What is not said here is as \
            in the object around it.",
    })
}

fn own_times(object: &Object) -> Map<String, Value> {
    let times = object.own_times.iter().map(|key| ((*key).to_owned(), count(OWN_TIME_HELP)));
    times.collect()
}

const OWN_TIME_HELP: &str = "When what is read at times of its own was read, Unix time in ns: the memory of a VM, an interface, the host.";
