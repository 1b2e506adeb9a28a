//! What documents have that is no metric.

use serde_json::{Map, Value, json};

use crate::model::{Level, OCCUPANT_KINDS, SamplerStats};

/// A whole number.
pub(super) fn count(help: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": help })
}

/// What is defined elsewhere.
pub(super) fn reference(name: &str, help: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}"), "description": help })
}

/// A list of what an object has several of.
#[derive(Clone, Copy)]
pub(super) struct List {
    pub(super) name: &'static str,
    /// What each is.
    pub(super) each: &'static str,
    /// It is there, if empty, whichever hypervisor runs the guest.
    pub(super) is_always: bool,
}

/// Fields of an object.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) all: Map<String, Value>,
    /// Those that are always there.
    pub(super) required: Vec<&'static str>,
}

impl Fields {
    fn new<const N: usize>(all: [(&str, Value); N], required: &[&'static str]) -> Self {
        Self { all: fields(all), required: required.to_vec() }
    }

    fn with_lists(mut self, several: &[List]) -> Self {
        self.all.extend(lists(several));
        self.required.extend(several.iter().filter(|list| list.is_always).map(|list| list.name));
        self
    }
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn lists(lists: &[List]) -> impl Iterator<Item = (String, Value)> {
    lists.iter().map(|List { name, each, is_always }| {
        let items = json!({ "$ref": format!("#/$defs/{name}") });
        let whose = if *is_always { "" } else { " Absent of a guest that is none of KVM." };
        let help = format!("Each is {each}.{whose}");
        ((*name).to_owned(), json!({ "type": "array", "items": items, "description": help }))
    })
}

/// Of a VM, with the lists of what it has several of.
pub(super) fn vm_fields(several: &[List]) -> Fields {
    let levels = Level::ALL.map(Level::key);
    let occupants = "Who had the CPUs for how long of the interval while its vCPUs waited for one, the one that \
        had most first. Absent where lines between this and the one before are missing.";
    let all = [
        ("level", json!({ "enum": levels, "description": "How much KVM's hooks observe of it now." })),
        ("co_stop_tick_ns", count("Resolution of hypervisor.vm.co_stop.time, ns, where that is observed.")),
        ("occupants", reference("occupants", occupants)),
    ];
    Fields::new(all, &[]).with_lists(several)
}

/// Of a vCPU, with the lists of what it has several of.
pub(super) fn vcpu_fields(several: &[List]) -> Fields {
    let all = [("tid", tid()), ("scheduler", json!({ "$ref": "#/$defs/scheduler" }))];
    Fields::new(all, &[]).with_lists(several)
}

/// Of a vCPU that ended.
pub(super) fn ended_fields() -> Fields {
    let vm_gone = json!({ "type": "boolean", "description": "The VM ended with it." });
    Fields::new([("vm_gone", vm_gone), ("tid", tid())], &["vm_gone"])
}

fn tid() -> Value {
    count("Its thread in the initial pid namespace, where a thread of the host runs it.")
}

/// Puts what several objects have into the definitions.
pub(super) fn put(defs: &mut Map<String, Value>) {
    defs.extend(fields([
        ("host", host()),
        ("scheduler", scheduler()),
        ("occupants", occupants()),
        ("histogram", histogram()),
        ("count", json!({ "type": "integer", "minimum": 0 })),
        ("sampler", sampler()),
    ]));
}

fn host() -> Value {
    json!({
        "type": "object",
        "required": ["id", "name", "kernel", "arch", "cpus"],
        "properties": {
            "id": { "type": ["string", "null"], "description": "`/etc/machine-id`, else null." },
            "name": { "type": "string" },
            "kernel": { "type": "string", "description": "As `uname -r` prints it." },
            "arch": { "type": "string", "description": "In OpenTelemetry's words." },
            "cpus": count("Physical CPUs that are online."),
        },
    })
}

fn scheduler() -> Value {
    json!({
        "type": "object",
        "description": "What the kernel has counted of the thread, to the nanosecond, and what goes on and \
            is not in it yet. Absent where no thread of the host runs the vCPU, or has run it yet.",
        "required": ["run_ns", "run_delay_ns", "running_ns", "waiting_ns"],
        "properties": {
            "run_ns": count("CPU time (`se.sum_exec_runtime`), ns."),
            "run_delay_ns": count("Run delay (`sched_info.run_delay`), ns."),
            "running_ns": count("CPU time that the kernel has not added yet, ns."),
            "waiting_ns": count("Length of the wait that goes on, ns."),
        },
    })
}

fn occupants() -> Value {
    let kinds: Vec<_> = OCCUPANT_KINDS.iter().map(|kind| kind.key).collect();
    json!({
        "type": "array",
        "items": {
            "type": "object",
            "required": ["kind", "name", "id", "ns"],
            "properties": {
                "kind": { "enum": kinds },
                "name": { "type": ["string", "null"], "description": "Its name; null where none is known." },
                "id": { "type": ["string", "null"], "description": "hypervisor.vm.id of a VM, else null." },
                "ns": count("For how long, ns."),
            },
        },
    })
}

fn histogram() -> Value {
    let bucket = json!({
        "type": "object",
        "required": ["index", "count"],
        "properties": {
            "index": { "type": "integer", "description": "Bucket i has (2^i, 2^(i+1)] s." },
            "count": count("Durations in it."),
        },
    });
    json!({
        "type": "object",
        "required": ["count", "sum_ns", "zero_count", "buckets"],
        "properties": {
            "count": count("All durations."),
            "sum_ns": count("Their sum, ns."),
            "zero_count": count("Those up to 2^-22 s."),
            "buckets": { "type": "array", "items": bucket, "description": "The others; none that is empty." },
        },
    })
}

fn sampler() -> Value {
    let rows = SamplerStats::default().rows();
    let required: Vec<_> = rows.iter().map(|row| row.name).collect();
    let properties = rows.iter().map(|row| {
        let help = row.help.split_whitespace().collect::<Vec<_>>().join(" ");
        (row.name.to_owned(), count(&format!("{help} Unit: {}.", row.unit)))
    });
    let properties: Map<_, _> = properties.collect();
    json!({ "type": "object", "required": required, "properties": properties })
}
