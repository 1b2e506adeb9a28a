//! The `OTEL_*` variables, as the OpenTelemetry specification defines them for metrics over OTLP.

use std::{collections::BTreeMap, time::Duration};

use percent_encoding::percent_decode_str;

use super::{
    Compression, ExportSettings, Headers, Protocol, SettingError, Variables,
    variables::{Warning, one_of},
};
use crate::duration;

/// The specification has `http/json` beside them.
const PROTOCOLS: [(&str, Protocol); 2] =
    [("grpc", Protocol::Grpc), ("http/protobuf", Protocol::HttpProtobuf)];

/// `zstd` is not in the specification; most collectors take it.
const COMPRESSIONS: [(&str, Compression); 3] =
    [("none", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)];

impl ExportSettings {
    /// Applies the `OTEL_*` variables to the settings. A variable for metrics beats the general one, and an
    /// empty variable counts as unset. What is said of them is kept with the variables.
    pub fn apply_env(&mut self, variables: &mut Variables<'_>) {
        variables.set(
            &signal("PROTOCOL"),
            ("export.protocol", &mut self.protocol),
            |value| one_of(value, &PROTOCOLS),
            |protocol| format!("{:?}", protocol.key()),
        );
        self.apply_tls(variables);
        self.apply_endpoint(variables);
        self.apply_exporter(variables);
        self.apply_headers(variables);
        variables.set(
            &signal("COMPRESSION"),
            ("export.compression", &mut self.compression),
            |value| one_of(value, &COMPRESSIONS),
            |compression| format!("{:?}", compression.key()),
        );
        variables.set(&signal("TIMEOUT"), ("export.timeout", &mut self.timeout), milliseconds, |timeout| {
            format!("{:?}", duration::format(*timeout))
        });
        warn_of_delta(variables);
        warn_of_explicit_buckets(variables);
        self.apply_resource(variables);
    }

    /// Checks the URL here too, so that the error names the variable and not the key it stands for.
    fn apply_endpoint(&mut self, variables: &mut Variables<'_>) {
        let (general, exact) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT");
        let mut changed = self.clone();
        let (name, key) = if let Some(value) = variables.text(exact) {
            changed.metrics_endpoint = Some(value);
            (exact, "export.metrics_endpoint")
        } else if let Some(value) = variables.text(general) {
            // The environment as a whole comes after the file: a file's exact URL must not hide it.
            changed.metrics_endpoint = None;
            changed.endpoint = Some(value);
            (general, "export.endpoint")
        } else {
            return;
        };
        match changed.target() {
            Ok(_) => {
                *self = changed;
                variables.sets(key, name);
            }
            Err(error) => variables.problems.push(SettingError { name: name.to_owned(), ..error }),
        }
    }

    /// A list of exporters, of which the sampler has one.
    fn apply_exporter(&mut self, variables: &mut Variables<'_>) {
        let name = "OTEL_METRICS_EXPORTER";
        let value = variables.text(name).unwrap_or_default();
        let exporters: Vec<_> = value.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let wants = |exporter| exporters.iter().any(|name| name.eq_ignore_ascii_case(exporter));
        let (otlp, none) = (wants("otlp"), wants("none"));
        for other in exporters.iter().filter(|name| one_of(name, &[("otlp", ()), ("none", ())]).is_err()) {
            variables.warn(
                name,
                other,
                "is no exporter of the sampler, which has otlp and none",
                "it is left out; `hvsampler run --table` and `--json` print on standard output",
            );
        }
        if otlp || none {
            self.disabled = !otlp;
            variables.sets("export.disabled", name);
        }
        if otlp && !self.is_enabled() {
            let port = if self.protocol == Protocol::Grpc { 4317 } else { 4318 };
            self.endpoint = Some(format!("http://localhost:{port}"));
            variables.sets("export.endpoint", name);
        }
        let name = "OTEL_SDK_DISABLED";
        if variables.boolean(name) == Some(true) {
            self.disabled = true;
            variables.sets("export.disabled", name);
        }
    }

    /// Without its credentials a request would go out as somebody else's: what cannot be read is an error.
    fn apply_headers(&mut self, variables: &mut Variables<'_>) {
        let Some((name, value)) = variables.first(&signal("HEADERS")) else { return };
        match key_values(&value) {
            Ok(headers) => {
                self.headers =
                    Headers(headers.into_iter().map(|(name, value)| (name, value.into())).collect());
                variables.sets("export.headers", &name);
            }
            Err(problem) => variables.problems.push(SettingError::new(name, problem, FIX_OF_PAIRS)),
        }
    }

    fn apply_tls(&mut self, variables: &mut Variables<'_>) {
        let tls = &mut self.tls;
        for name in signal("INSECURE") {
            if let Some(insecure) = variables.boolean(&name) {
                tls.insecure = insecure;
                variables.sets("export.tls.insecure", &name);
                break;
            }
        }
        for (suffix, path, key) in [
            ("CERTIFICATE", &mut tls.ca_certificate, "export.tls.ca_certificate"),
            ("CLIENT_CERTIFICATE", &mut tls.client_certificate, "export.tls.client_certificate"),
            ("CLIENT_KEY", &mut tls.client_key, "export.tls.client_key"),
        ] {
            if let Some((name, value)) = variables.first(&signal(suffix)) {
                *path = Some(value.into());
                variables.sets(key, &name);
            }
        }
    }

    /// A list that cannot be read is left out as a whole, as the specification says. Nothing goes to a wrong
    /// place without it.
    fn apply_resource(&mut self, variables: &mut Variables<'_>) {
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        if let Some(value) = variables.text(name) {
            match key_values(&value) {
                Ok(mut attributes) => {
                    attributes
                        .keys()
                        .for_each(|key| variables.sets_in("export.resource_attributes", key, name));
                    self.resource_attributes.append(&mut attributes);
                }
                Err(problem) => variables.warnings.push(Warning {
                    name: name.to_owned(),
                    value: None,
                    problem,
                    instead: format!("all of it is left out; {FIX_OF_PAIRS}"),
                }),
            }
        }
        let name = "OTEL_SERVICE_NAME";
        if let Some(value) = variables.text(name) {
            self.resource_attributes.remove("service.name");
            self.service_name = value;
            variables.sets("export.service_name", name);
        }
    }
}

/// The variable for metrics, and the general one.
fn signal(suffix: &str) -> [String; 2] {
    [format!("OTEL_EXPORTER_OTLP_METRICS_{suffix}"), format!("OTEL_EXPORTER_OTLP_{suffix}")]
}

/// The specification has 0 for no limit. The sampler has none of those: an attempt that never ends would hold
/// up the queue for ever.
fn milliseconds(value: &str) -> Result<Duration, String> {
    match value.parse() {
        Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
        _ => Err("is no whole number of milliseconds above 0".to_owned()),
    }
}

/// The kernel counts in powers of two: in other buckets the counts would be guesses.
fn warn_of_explicit_buckets(variables: &mut Variables<'_>) {
    let name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    if let Some(value) = variables.text(name)
        && !value.eq_ignore_ascii_case("base2_exponential_bucket_histogram")
    {
        variables.warn(
            name,
            &value,
            "cannot be had, as the kernel counts in powers of two",
            "distributions stay base2_exponential_bucket_histogram; export.histograms = \"none\" sends none",
        );
    }
}

/// All sums are cumulative. Somebody who asks for something else must not find out from wrong graphs.
fn warn_of_delta(variables: &mut Variables<'_>) {
    let name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    if let Some(value) = variables.text(name)
        && one_of(&value, &[("cumulative", ()), ("lowmemory", ())]).is_err()
    {
        variables.warn(
            name,
            &value,
            "cannot be had, as all sums are counted from their start",
            "they stay cumulative; the collector's cumulativetodelta processor makes deltas",
        );
    }
}

const FIX_OF_PAIRS: &str =
    "write key=value pairs with commas between them, special characters percent-encoded";

/// `key=value,key=value` with percent-encoded parts, as in a W3C Baggage header. Values may be credentials:
/// an error counts the entry and does not show it.
fn key_values(text: &str) -> Result<BTreeMap<String, String>, String> {
    let refuse = |index: usize, problem: &str| format!("entry {} {problem}", index + 1);
    let mut pairs = BTreeMap::new();
    for (index, entry) in text.split(',').enumerate().filter(|(_, entry)| !entry.trim().is_empty()) {
        let (key, value) = entry.split_once('=').ok_or_else(|| refuse(index, "has no \"=\""))?;
        let decode = |part: &str| {
            percent_decode_str(part.trim())
                .decode_utf8()
                .map(String::from)
                .map_err(|_| refuse(index, "is not UTF-8"))
        };
        let key = decode(key)?;
        if key.is_empty() {
            return Err(refuse(index, "has an empty key"));
        }
        pairs.insert(key, decode(value)?);
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests;
