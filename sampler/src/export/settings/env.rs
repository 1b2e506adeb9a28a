//! The `OTEL_*` variables, as the OpenTelemetry specification defines them for metrics over OTLP.

use std::{collections::BTreeMap, time::Duration};

use percent_encoding::percent_decode_str;

use super::{Compression, ExportSettings, Headers, Protocol, SettingError};

/// Reads one environment variable.
type Get<'a> = &'a dyn Fn(&str) -> Option<String>;

impl ExportSettings {
    /// Applies the `OTEL_*` variables to the settings. A variable for metrics beats the general one, and an
    /// empty variable counts as unset.
    ///
    /// # Errors
    /// Names the first variable that cannot be used and what it accepts.
    pub fn apply_env(&mut self, get: Get<'_>) -> Result<(), SettingError> {
        self.apply_protocol(get)?;
        self.apply_endpoint(get)?;
        self.apply_exporter(get)?;
        if let Some((name, value)) = signal(get, "HEADERS") {
            self.headers = Headers(key_values(&name, &value)?);
        }
        if let Some((name, value)) = signal(get, "COMPRESSION") {
            self.compression = match value.as_str() {
                "none" => Compression::None,
                "gzip" => Compression::Gzip,
                // Not in the specification; most collectors take it.
                "zstd" => Compression::Zstd,
                _ => return Err(unknown(&name, &value, "none, gzip, zstd")),
            };
        }
        if let Some((name, value)) = signal(get, "TIMEOUT") {
            self.timeout = match value.parse() {
                Ok(ms) if ms > 0 => Duration::from_millis(ms),
                _ => return Err(unknown(&name, &value, "a whole number of milliseconds above 0")),
            };
        }
        refuse_delta(get)?;
        refuse_explicit_buckets(get)?;
        self.apply_tls(get)?;
        self.apply_resource(get)
    }

    fn apply_protocol(&mut self, get: Get<'_>) -> Result<(), SettingError> {
        let Some((name, value)) = signal(get, "PROTOCOL") else { return Ok(()) };
        self.protocol = match value.as_str() {
            "grpc" => Protocol::Grpc,
            "http/protobuf" => Protocol::HttpProtobuf,
            _ => return Err(unknown(&name, &value, "grpc, http/protobuf")),
        };
        Ok(())
    }

    /// Checks the URL here too, so that the error names the variable and not the key it stands for.
    fn apply_endpoint(&mut self, get: Get<'_>) -> Result<(), SettingError> {
        let (general, exact) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT");
        let name = if let Some(value) = non_empty(get, exact) {
            self.metrics_endpoint = Some(value);
            exact
        } else if let Some(value) = non_empty(get, general) {
            // The environment as a whole comes after the file: a file's exact URL must not hide it.
            self.metrics_endpoint = None;
            self.endpoint = Some(value);
            general
        } else {
            return Ok(());
        };
        self.apply_insecure(get)?;
        self.target().map(drop).map_err(|error| SettingError { name: name.to_owned(), ..error })
    }

    fn apply_exporter(&mut self, get: Get<'_>) -> Result<(), SettingError> {
        let name = "OTEL_METRICS_EXPORTER";
        match non_empty(get, name).as_deref() {
            None => {}
            Some("none") => self.disabled = true,
            Some("otlp") => {
                self.disabled = false;
                if !self.is_enabled() {
                    let port = if self.protocol == Protocol::Grpc { 4317 } else { 4318 };
                    self.endpoint = Some(format!("http://localhost:{port}"));
                }
            }
            Some(value) => return Err(unknown(name, value, "otlp, none")),
        }
        if boolean(get, "OTEL_SDK_DISABLED")? == Some(true) {
            self.disabled = true;
        }
        Ok(())
    }

    fn apply_insecure(&mut self, get: Get<'_>) -> Result<(), SettingError> {
        for name in ["OTEL_EXPORTER_OTLP_METRICS_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"] {
            if let Some(insecure) = boolean(get, name)? {
                self.tls.insecure = insecure;
                break;
            }
        }
        Ok(())
    }

    fn apply_tls(&mut self, get: Get<'_>) -> Result<(), SettingError> {
        self.apply_insecure(get)?;
        let tls = &mut self.tls;
        for (suffix, path) in [
            ("CERTIFICATE", &mut tls.ca_certificate),
            ("CLIENT_CERTIFICATE", &mut tls.client_certificate),
            ("CLIENT_KEY", &mut tls.client_key),
        ] {
            if let Some((_, value)) = signal(get, suffix) {
                *path = Some(value.into());
            }
        }
        Ok(())
    }

    fn apply_resource(&mut self, get: Get<'_>) -> Result<(), SettingError> {
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        if let Some(value) = non_empty(get, name) {
            self.resource_attributes.append(&mut key_values(name, &value)?);
        }
        if let Some(value) = non_empty(get, "OTEL_SERVICE_NAME") {
            self.resource_attributes.remove("service.name");
            self.service_name = value;
        }
        Ok(())
    }
}

/// The kernel counts in powers of two: in other buckets the counts would be guesses.
fn refuse_explicit_buckets(get: Get<'_>) -> Result<(), SettingError> {
    let name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    match non_empty(get, name) {
        Some(value) if !value.eq_ignore_ascii_case("base2_exponential_bucket_histogram") => Err(unknown(
            name,
            &value,
            "base2_exponential_bucket_histogram; export.histograms = \"none\" sends no histograms",
        )),
        _ => Ok(()),
    }
}

/// All sums are cumulative. Somebody who asks for something else must not find out from wrong graphs.
fn refuse_delta(get: Get<'_>) -> Result<(), SettingError> {
    let name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    match non_empty(get, name) {
        Some(value) if !["cumulative", "lowmemory"].iter().any(|known| value.eq_ignore_ascii_case(known)) => {
            Err(unknown(
                name,
                &value,
                "cumulative, lowmemory; the collector's cumulativetodelta processor makes deltas",
            ))
        }
        _ => Ok(()),
    }
}

fn non_empty(get: Get<'_>, name: &str) -> Option<String> {
    get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// The variable for metrics or else the general one, with its name.
fn signal(get: Get<'_>, suffix: &str) -> Option<(String, String)> {
    [format!("OTEL_EXPORTER_OTLP_METRICS_{suffix}"), format!("OTEL_EXPORTER_OTLP_{suffix}")]
        .into_iter()
        .find_map(|name| non_empty(get, &name).map(|value| (name, value)))
}

fn boolean(get: Get<'_>, name: &str) -> Result<Option<bool>, SettingError> {
    match non_empty(get, name) {
        None => Ok(None),
        Some(value) if value.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(value) if value.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(value) => Err(unknown(name, &value, "true, false")),
    }
}

/// `key=value,key=value` with percent-encoded parts, as in a W3C Baggage header.
fn key_values(name: &str, text: &str) -> Result<BTreeMap<String, String>, SettingError> {
    // Values may be credentials: the error counts the entry and does not print it.
    let refuse = |index: usize, problem: &str| {
        SettingError::new(
            name,
            format!("entry {} {problem}", index + 1),
            "write key=value pairs with commas between them, special characters percent-encoded",
        )
    };
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

fn unknown(name: &str, value: &str, accepted: &str) -> SettingError {
    let value: String = value.chars().take(64).collect();
    SettingError::new(name, format!("{value:?} is not understood"), format!("accepted: {accepted}"))
}

#[cfg(test)]
mod tests;
