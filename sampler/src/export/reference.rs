//! The catalog as documents: the reference page, and a registry file in the form of the semantic conventions.

use std::fmt::Write as _;

use crate::model::{
    Level, SamplerKind, SamplerStats, Vcpu,
    catalog::{Entity, Family, ForEachEntity, Instrument, Scope, Series, Start, for_each_entity, is_number},
};

const HEAD: &str = "\
# Metrics

<!-- Written from the catalog by `cargo xtask bless`, and held by a test: edits here are lost. -->

One section for each metric that hvsampler exports as OTLP. Times are seconds here, and nanoseconds in JSON.
A document there has them under the same names, below `metrics`, by the values of their own attributes.
Sums are cumulative. Histograms are exponential, of scale 0: their buckets are powers of two of seconds. What
a host does not know is absent, never zero. *Start* is the moment at which a value was zero. *Error* is by how
much a value may be off; [meaning.md](meaning.md#how-exact-the-numbers-are) says what the words mean. A series
ends with one point that is flagged as having no recorded value.

[meaning.md](meaning.md) says what the states mean and where they come from. The same for tools, without what
the sampler counts of itself, is [registry.yaml](registry.yaml).
";

/// The reference page, as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut page = Page { text: HEAD.to_owned() };
    for_each_entity(&mut page);
    page.own();
    page.text
}

struct Page {
    text: String,
}

impl ForEachEntity for Page {
    fn entity<E: Entity>(&mut self) {
        let _ = writeln!(self.text, "\n## Of {}\n\nIn JSON: {}.", E::NAME, place::<E>());
        if !E::ATTRIBUTES.is_empty() {
            self.text.push_str("\n| attribute | what it holds |\n|---|---|\n");
            for (key, help) in E::ATTRIBUTES {
                let _ = writeln!(self.text, "| `{key}` | {help} |");
            }
        }
        for series in E::SERIES {
            self.series::<E>(series);
        }
        self.details::<E>();
    }
}

/// Where JSON has an entity.
fn place<E: Entity>() -> String {
    match E::SCOPE {
        Scope::Host => "the document itself".to_owned(),
        Scope::Vm => "`vms[]`".to_owned(),
        Scope::Part(list) if E::of_vcpu(&Vcpu::default()).is_some() => {
            format!("`vms[].{list}[]`, and a vCPU's own in `vms[].vcpus[].{list}[]`")
        }
        Scope::Part(list) => format!("`vms[].{list}[]`"),
    }
}

impl Page {
    fn details<E: Entity>(&mut self) {
        if E::DETAILS.is_empty() {
            return;
        }
        self.text.push_str(
            "\nIn JSON alone:\n\n| metric | unit | what it is | start | error |\n|---|---|---|---|---|\n",
        );
        for Series { family: Family { name, unit, help, bound, .. }, start: since, .. } in E::DETAILS {
            let (unit, start, error) = (unit.ucum(), start::<E>(*since), bound.text());
            let _ = writeln!(self.text, "| `{name}` | `{unit}` | {help} | {start} | {error} |");
        }
    }

    fn series<E: Entity>(&mut self, series: &Series<E::Data>) {
        let Family { name, unit, instrument, help, bound, level } = series.family;
        let _ = writeln!(
            self.text,
            "\n### {name}\n\n{}\n\n{}, unit `{}`, {}.\n{}\n{}",
            wrapped(help),
            title(instrument),
            unit.ucum(),
            at_level(level),
            wrapped(&format!("Start: {}.", start::<E>(series.start))),
            wrapped(&format!("Error: {}.", bound.text())),
        );
        for dimension in series.attributes {
            let _ = writeln!(self.text, "\n| `{}` | what it stands for |\n|---|---|", dimension.key);
            for label in dimension.values {
                let _ = writeln!(self.text, "| `{}` | {} |", label.key, label.help);
            }
        }
    }

    /// What the sampler counts of itself.
    fn own(&mut self) {
        self.text.push_str(
            "\n## Of the sampler itself\n\nIn the scope `hvsampler.self`, through the OpenTelemetry SDK. All names begin with\n\
             `hypervisor.sampler.`.\n\n| metric | kind | unit | what it counts |\n|---|---|---|---|\n",
        );
        for row in SamplerStats::default().rows() {
            let kind = match row.kind {
                SamplerKind::Counter => "counter",
                SamplerKind::UpDown => "up-down counter",
            };
            let help = row.help.split_whitespace().collect::<Vec<_>>().join(" ");
            let (name, unit) = row.metric();
            let _ = writeln!(self.text, "| `{name}` | {kind} | `{unit}` | {help} |");
        }
        self.text.push_str(
            "\nBeside these: `hypervisor.sampler.sink.dropped` by sink, `hypervisor.sampler.export.*`, and\n`process.cpu.time` and \
             `process.memory.usage` of the sampler. [meaning.md](meaning.md#losses) has them.\n",
        );
    }
}

/// A text in lines that one reads.
fn wrapped(text: &str) -> String {
    const COLUMNS: usize = 108;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if lines[last].chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push(word.to_owned());
        } else {
            let space = if lines[last].is_empty() { "" } else { " " };
            lines[last].push_str(space);
            lines[last].push_str(word);
        }
    }
    lines.join("\n")
}

const fn title(instrument: Instrument) -> &'static str {
    match instrument {
        Instrument::Counter => "Counter",
        Instrument::UpDownCounter => "Up-down counter",
        Instrument::Gauge => "Gauge",
        Instrument::Histogram => "Histogram",
    }
}

const fn at_level(level: Level) -> &'static str {
    match level {
        Level::Basic => "at every level",
        Level::Sampled => "at levels sampled and full",
        Level::Full => "at level full only",
    }
}

/// When the values of an entity's series were zero.
fn start<E: Entity>(start: Start) -> String {
    match start.event(&E::STARTS) {
        Some(event) => format!("when {event}"),
        None => "none, a value of the moment".to_owned(),
    }
}

/// The registry, as YAML.
#[must_use]
pub fn registry() -> String {
    let mut registry = Registry::default();
    for_each_entity(&mut registry);
    format!(
        "# Written from the catalog by `cargo xtask bless`, and held by a test: edits here are lost.\n\
         groups:\n{}  - id: registry.hypervisor\n    type: attribute_group\n    \
         brief: Attributes of the hypervisor's metrics.\n    attributes:\n{}",
        registry.metrics, registry.attributes
    )
}

#[derive(Default)]
struct Registry {
    metrics: String,
    attributes: String,
    /// Metrics and attributes that are written already.
    known: Vec<&'static str>,
}

impl ForEachEntity for Registry {
    fn entity<E: Entity>(&mut self) {
        for (key, help) in E::ATTRIBUTES {
            if self.is_new(key) {
                let kind = if is_number(key) { "int" } else { "string" };
                let _ = writeln!(
                    self.attributes,
                    "      - id: {key}\n        type: {kind}\n        stability: development\n        brief: {}",
                    quoted(help)
                );
            }
        }
        for series in E::SERIES {
            self.series(series, E::ATTRIBUTES);
        }
    }
}

impl Registry {
    fn is_new(&mut self, name: &'static str) -> bool {
        let is_new = !self.known.contains(&name);
        if is_new {
            self.known.push(name);
        }
        is_new
    }

    fn series<D>(&mut self, series: &Series<D>, entity: &[(&'static str, &'static str)]) {
        for dimension in series.attributes.iter().filter(|dimension| !dimension.values.is_empty()) {
            if !self.is_new(dimension.key) {
                continue;
            }
            let _ = writeln!(
                self.attributes,
                "      - id: {}\n        stability: development\n        type:\n          members:",
                dimension.key
            );
            for label in dimension.values {
                let _ = writeln!(
                    self.attributes,
                    "            - id: {0}\n              value: {0}\n              brief: {1}\n              stability: development",
                    label.key,
                    quoted(label.help)
                );
            }
        }
        let Family { name, unit, instrument, help, .. } = series.family;
        if !self.is_new(name) {
            return;
        }
        let _ = write!(
            self.metrics,
            "  - id: metric.{name}\n    type: metric\n    metric_name: {name}\n    stability: development\n    brief: {}\n    \
             instrument: {}\n    unit: {}\n",
            quoted(help),
            instrument.key(),
            quoted(unit.ucum()),
        );
        let own = series.attributes.iter().map(|dimension| dimension.key);
        let keys: Vec<_> = entity.iter().map(|(key, _)| *key).chain(own).collect();
        if !keys.is_empty() {
            self.metrics.push_str("    attributes:\n");
            for key in keys {
                let _ = writeln!(self.metrics, "      - ref: {key}");
            }
        }
    }
}

/// A YAML scalar in double quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
