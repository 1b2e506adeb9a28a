//! The sampler's own telemetry, through the OpenTelemetry SDK.
//!
//! The SDK collects on a thread of its own and blocks it, while connections belong to tokio: the two meet
//! in [`transport`], which hands each request to the runtime. So both protocols, TLS and headers are those
//! of the data path, and no choice of runtime deadlocks.

pub mod process;
mod transport;

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    metrics::{Meter, MeterProvider as _},
};
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, Protocol, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use tracing::debug;

use self::transport::Transport;
use super::{
    client::{Client, ClientError},
    pipeline::{DropReason, PipelineStats},
    resource::{Resource, SCHEMA_URL, VERSION},
    settings::ExportSettings,
};
use crate::model::{Host, SamplerKind, SamplerRow, SamplerStats};

/// Name of the instrumentation scope.
pub const SCOPE: &str = "hvsampler.self";

/// What the sampler knows of itself at one moment.
#[derive(Clone, Debug, Default)]
pub struct SelfStats {
    /// Counters of sampling.
    pub sampler: SamplerStats,
    /// Sinks with the snapshots that each has dropped.
    pub sinks: Vec<(&'static str, u64)>,
    /// Counters of the export.
    pub pipeline: PipelineStats,
}

/// Reads [`SelfStats`]; called on the SDK's thread for each instrument, so it must be cheap and must not
/// wait.
pub type ReadStats = Box<dyn Fn() -> SelfStats + Send + Sync>;

/// Self-telemetry that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SelfTelemetryError {
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The SDK's exporter cannot be made.
    #[error("the exporter of the sampler's own telemetry cannot be made")]
    Exporter(#[from] ExporterBuildError),
}

/// Running self-telemetry.
#[derive(Debug)]
pub struct SelfTelemetry {
    provider: SdkMeterProvider,
}

impl SelfTelemetry {
    /// Exports every `interval` to the endpoint of the data path, with the data path's resource.
    ///
    /// # Errors
    /// No endpoint is set, or a setting, key or certificate cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        settings: &ExportSettings,
        host: &Host,
        interval: Duration,
        read: ReadStats,
    ) -> Result<Self, SelfTelemetryError> {
        let client = Client::new(settings)?;
        let exporter = MetricExporter::builder()
            .with_temporality(Temporality::Cumulative)
            .with_http()
            .with_http_client(Transport::new(client))
            // The transport knows better; set all the same, for the SDK would read the environment.
            .with_endpoint(settings.target().map_err(ClientError::from)?.uri.to_string())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(settings.timeout)
            .build()?;
        let reader = PeriodicReader::builder(exporter).with_interval(interval).build();
        let provider =
            SdkMeterProvider::builder().with_resource(resource(settings, host)).with_reader(reader).build();
        let scope =
            InstrumentationScope::builder(SCOPE).with_version(VERSION).with_schema_url(SCHEMA_URL).build();
        let meter = provider.meter_with_scope(scope);
        let read: Arc<dyn Fn() -> SelfStats + Send + Sync> = read.into();
        sampler_instruments(&meter, &read);
        sink_instruments(&meter, &read);
        export_instruments(&meter, &read);
        process_instruments(&meter);
        Ok(Self { provider })
    }

    /// Exports once more and stops, within about `deadline`.
    pub async fn shutdown(self, deadline: Duration) {
        // The SDK blocks until its thread has exported, and that needs this runtime to go on.
        let provider = self.provider;
        let stop = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(deadline));
        match tokio::time::timeout(deadline, stop).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => debug!("the sampler's own telemetry was not flushed: {error}"),
            Ok(Err(error)) => debug!("the sampler's own telemetry was not flushed: {error}"),
            Err(_) => debug!("the sampler's own telemetry was not flushed within {deadline:?}"),
        }
    }
}

/// The SDK's form of the data path's resource; built from nothing, for its detectors would add to it.
fn resource(settings: &ExportSettings, host: &Host) -> opentelemetry_sdk::Resource {
    let resource = Resource::new(settings, host);
    let attributes: Vec<_> =
        resource.iter().map(|(key, value)| KeyValue::new(key.to_owned(), value.to_owned())).collect();
    opentelemetry_sdk::Resource::builder_empty().with_schema_url(attributes, SCHEMA_URL).build()
}

type Read = Arc<dyn Fn() -> SelfStats + Send + Sync>;

/// One instrument for each row of [`SamplerStats`].
fn sampler_instruments(meter: &Meter, read: &Read) {
    for (index, row) in SamplerStats::default().rows().into_iter().enumerate() {
        let name = format!("hypervisor.sampler.{}", row.metric().0);
        let read = read.clone();
        let value = move || read().sampler.rows().get(index).map_or(0, |row| row.value);
        if row.unit == "ns" {
            time(meter, name, &row, value);
            continue;
        }
        let register = match row.kind {
            SamplerKind::Counter => counter,
            SamplerKind::UpDown => up_down,
        };
        register(meter, name, row.unit, row.help, value);
    }
}

/// A time that is counted in ns.
fn time(meter: &Meter, name: String, row: &SamplerRow, ns: impl Fn() -> u64 + Send + Sync + 'static) {
    let seconds = move || ns() as f64 / 1e9;
    match row.kind {
        SamplerKind::Counter => {
            let instrument = meter.f64_observable_counter(name).with_unit("s").with_description(row.help);
            instrument.with_callback(move |to| to.observe(seconds(), &[])).build();
        }
        SamplerKind::UpDown => {
            let instrument =
                meter.f64_observable_up_down_counter(name).with_unit("s").with_description(row.help);
            instrument.with_callback(move |to| to.observe(seconds(), &[])).build();
        }
    }
}

/// What each sink has dropped.
fn sink_instruments(meter: &Meter, read: &Read) {
    let read = read.clone();
    meter
        .u64_observable_counter("hypervisor.sampler.sink.dropped")
        .with_unit("{snapshot}")
        .with_description("Snapshots that a sink dropped because it was behind.")
        .with_callback(move |to| {
            for (sink, dropped) in read().sinks {
                to.observe(dropped, &[KeyValue::new("sink", sink)]);
            }
        })
        .build();
}

/// A counter of the export: name below `hypervisor.sampler.export`, unit, help, value.
type ExportRow = (&'static str, &'static str, &'static str, fn(&PipelineStats) -> u64);

const EXPORT_COUNTERS: &[ExportRow] = &[
    ("requests", "{request}", "Requests that the receiver took.", |stats| stats.exported_requests),
    ("points", "{point}", "Points that the receiver took.", |stats| stats.exported_points),
    ("io", "By", "Bytes of the requests that the receiver took, as sent.", |stats| stats.exported_bytes),
    ("rejected", "{point}", "Points that the receiver rejected in requests it took.", |stats| {
        stats.rejected_points
    }),
    ("failures", "{attempt}", "Attempts to send that failed.", |stats| stats.failed_attempts),
    ("retries", "{attempt}", "Failed attempts after which the request was kept.", |stats| {
        stats.retried_attempts
    }),
];

const EXPORT_UP_DOWN: &[ExportRow] = &[
    ("queue.requests", "{request}", "Requests that wait to be sent.", |stats| stats.queue_requests),
    ("queue.usage", "By", "Memory of the requests that wait to be sent.", |stats| stats.queue_bytes),
];

const EXPORT_TIMES: &[ExportRow] = &[
    ("encode.time", "s", "Time spent encoding and compressing.", |stats| stats.encode_ns),
    ("send.time", "s", "Time spent sending and waiting for answers.", |stats| stats.send_ns),
];

fn export_instruments(meter: &Meter, read: &Read) {
    let name = |row: &str| format!("hypervisor.sampler.export.{row}");
    for &(row, unit, help, value) in EXPORT_COUNTERS {
        let read = read.clone();
        counter(meter, name(row), unit, help, move || value(&read().pipeline));
    }
    for &(row, unit, help, value) in EXPORT_UP_DOWN {
        let read = read.clone();
        up_down(meter, name(row), unit, help, move || value(&read().pipeline));
    }
    for &(row, unit, help, value) in EXPORT_TIMES {
        let read = read.clone();
        let instrument = meter.f64_observable_counter(name(row)).with_unit(unit).with_description(help);
        instrument.with_callback(move |to| to.observe(value(&read().pipeline) as f64 / 1e9, &[])).build();
    }
    dropped(meter, read, "dropped.requests", "{request}", "Requests given up.", |dropped| dropped.requests);
    dropped(meter, read, "dropped.points", "{point}", "Points in requests given up.", |dropped| {
        dropped.points
    });
    dropped(meter, read, "dropped.ends", "{point}", "Ends of series in requests given up.", |dropped| {
        dropped.ends
    });
}

fn dropped(
    meter: &Meter,
    read: &Read,
    row: &str,
    unit: &'static str,
    help: &'static str,
    value: fn(super::pipeline::Dropped) -> u64,
) {
    let reasons = DropReason::ALL.map(|reason| (reason, [KeyValue::new("reason", reason.key())]));
    let read = read.clone();
    meter
        .u64_observable_counter(format!("hypervisor.sampler.export.{row}"))
        .with_unit(unit)
        .with_description(help)
        .with_callback(move |to| {
            let stats = read().pipeline;
            for (reason, attributes) in &reasons {
                to.observe(value(stats.dropped(*reason)), attributes);
            }
        })
        .build();
}

/// The price of the sampler, under the names of the semantic conventions.
fn process_instruments(meter: &Meter) {
    let modes = ["user", "system"].map(|mode| [KeyValue::new("cpu.mode", mode)]);
    meter
        .f64_observable_counter("process.cpu.time")
        .with_unit("s")
        .with_description("CPU time of the sampler's process.")
        .with_callback(move |to| {
            if let Some(times) = process::cpu_times() {
                for (attributes, time) in modes.iter().zip(times) {
                    to.observe(time.as_secs_f64(), attributes);
                }
            }
        })
        .build();
    meter
        .i64_observable_up_down_counter("process.memory.usage")
        .with_unit("By")
        .with_description("Resident memory of the sampler's process.")
        .with_callback(|to| {
            if let Some(bytes) = process::resident_bytes() {
                to.observe(signed(bytes), &[]);
            }
        })
        .build();
}

fn counter(
    meter: &Meter,
    name: String,
    unit: &'static str,
    help: &'static str,
    value: impl Fn() -> u64 + Send + Sync + 'static,
) {
    let instrument = meter.u64_observable_counter(name).with_unit(unit).with_description(help);
    instrument.with_callback(move |to| to.observe(value(), &[])).build();
}

/// A value that rises and falls.
fn up_down(
    meter: &Meter,
    name: String,
    unit: &'static str,
    help: &'static str,
    value: impl Fn() -> u64 + Send + Sync + 'static,
) {
    let instrument = meter.i64_observable_up_down_counter(name).with_unit(unit).with_description(help);
    instrument.with_callback(move |to| to.observe(signed(value()), &[])).build();
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
