//! What an operator can set about the export: the `[export]` table, and the `OTEL_*` variables over it.

mod env;
mod target;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

pub use self::target::Target;
use crate::{
    duration,
    model::{FACTS, Fact, Pattern, catalog},
};

/// `service.name` where nothing else is configured.
pub const DEFAULT_SERVICE_NAME: &str = "hvsampler";

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {problem}; {fix}")]
pub struct SettingError {
    /// The key in the configuration file or the environment variable.
    pub name: String,
    /// What is wrong with it. Never holds the value of a header.
    pub problem: String,
    /// What is accepted.
    pub fix: String,
}

impl SettingError {
    fn new(name: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name: name.into(), problem: problem.into(), fix: fix.into() }
    }
}

/// How OTLP travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// gRPC over HTTP/2, by convention on port 4317.
    #[serde(rename = "grpc")]
    Grpc,
    /// Protobuf in HTTP/1.1 POST requests, by convention on port 4318.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// How requests are compressed. A receiver that refuses an encoding is sent the next lower one, of zstd, gzip
/// and none, from then on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all to a receiver on this host, zstd to any other.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// gzip at its fastest level: every receiver should take it.
    Gzip,
    /// zstd at level 1.
    Zstd,
}

/// In which form distributions are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Histograms {
    /// As exponential histograms, with the kernel's buckets as they are.
    #[default]
    Exponential,
    /// Not at all: for receivers that cannot store them and refuse what comes with them.
    None,
}

/// What all points of a guest have as attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmAttributes {
    /// Facts about the guest, each once and in the order of the table: the order in which they are written
    /// makes no other series.
    pub facts: Vec<Fact>,
    /// The labels that rules give it.
    pub labels: bool,
}

impl<'de> Deserialize<'de> for VmAttributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const LABELS: &str = "labels";
        let (mut wanted, mut labels) = (Vec::new(), false);
        for key in Vec::<String>::deserialize(deserializer)? {
            if key == LABELS {
                labels = true;
                continue;
            }
            wanted.push(Fact::of_key(&key).ok_or_else(|| {
                let known: Vec<_> = FACTS.iter().map(|row| row.key).collect();
                D::Error::custom(format!(
                    "{key:?} is no fact about a guest; give some of {}, {LABELS}",
                    known.join(", ")
                ))
            })?);
        }
        let facts = FACTS.iter().map(|row| row.fact).filter(|fact| wanted.contains(fact)).collect();
        Ok(Self { facts, labels })
    }
}

/// Headers sent with every request. They often hold credentials, so `Debug` shows the names alone.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Headers(pub BTreeMap<String, String>);

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.0.keys().map(|name| (name, "…"))).finish()
    }
}

/// Waits between attempts to send a request again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// Upper bound of the first wait; each further one is twice as long. Every wait is shortened at random by
    /// up to a half.
    #[serde(deserialize_with = "duration::deserialize")]
    pub initial_backoff: Duration,
    /// Upper bound of every wait that the receiver did not ask for.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_backoff: Duration,
    /// A request that failed and is older than this is dropped.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_age: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
            max_age: Duration::from_secs(15 * 60),
        }
    }
}

/// Keys and certificates, PEM files all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// Authorities that may vouch for the receiver; they replace the system's.
    pub ca_certificate: Option<PathBuf>,
    /// The certificate chain that the sampler shows to the receiver; needs `client_key`.
    pub client_certificate: Option<PathBuf>,
    /// The private key of `client_certificate`.
    pub client_key: Option<PathBuf>,
    /// For a gRPC endpoint without a scheme: plain text where `true`, TLS where `false`.
    pub insecure: bool,
}

/// The `[export]` table.
///
/// [`ExportSettings::apply_env`] applies the `OTEL_*` variables to it, and
/// [`ExportSettings::validate`] says whether the result can be used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportSettings {
    /// Base URL of the receiver; `v1/metrics` is appended for HTTP. Without one nothing is exported.
    pub endpoint: Option<String>,
    /// URL for metrics, used as it is and in place of `endpoint`.
    pub metrics_endpoint: Option<String>,
    /// Switches the export off, whatever the endpoints say.
    pub disabled: bool,
    /// How OTLP travels.
    pub protocol: Protocol,
    /// Headers sent with every request.
    pub headers: Headers,
    /// How requests are compressed.
    pub compression: Compression,
    /// In which form distributions are sent.
    pub histograms: Histograms,
    /// Facts about a guest that all of its points have as attributes.
    pub vm_attributes: VmAttributes,
    /// Names of metrics that are not sent.
    pub families_off: Vec<Pattern>,
    /// Bound of one attempt, from connecting to the last byte of the answer.
    #[serde(deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// Bound of the memory that requests waiting to be sent may use, in bytes. They wait compressed, but for
    /// what is to be sent uncompressed and takes no more than half of it.
    pub queue_bytes: usize,
    /// Waits between attempts.
    pub retry: RetrySettings,
    /// Keys and certificates.
    pub tls: TlsSettings,
    /// `service.name` of the resource.
    pub service_name: String,
    /// Attributes of the resource; they win over those that the sampler finds by itself.
    pub resource_attributes: BTreeMap<String, String>,
}

impl Default for ExportSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            metrics_endpoint: None,
            disabled: false,
            protocol: Protocol::default(),
            headers: Headers::default(),
            compression: Compression::default(),
            histograms: Histograms::default(),
            vm_attributes: VmAttributes::default(),
            families_off: Vec::new(),
            timeout: Duration::from_secs(10),
            queue_bytes: 16 << 20,
            retry: RetrySettings::default(),
            tls: TlsSettings::default(),
            service_name: DEFAULT_SERVICE_NAME.to_owned(),
            resource_attributes: BTreeMap::new(),
        }
    }
}

/// A smaller queue would drop requests while the receiver is well.
const MIN_QUEUE_BYTES: usize = 16 << 10;

impl ExportSettings {
    /// Whether there is somewhere to export to.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.disabled && (self.endpoint.is_some() || self.metrics_endpoint.is_some())
    }

    /// Checks everything that can be checked without the network and without opening files.
    ///
    /// # Errors
    /// Names the first key that cannot be used and what it accepts.
    pub fn validate(&self) -> Result<(), SettingError> {
        if self.is_enabled() {
            self.target()?;
        }
        self.header_map()?;
        if self.timeout.is_zero() {
            return Err(SettingError::new(
                "export.timeout",
                "is zero",
                "give an attempt time to succeed, for example \"10s\"",
            ));
        }
        if self.queue_bytes < MIN_QUEUE_BYTES {
            return Err(SettingError::new(
                "export.queue_bytes",
                format!("{} is too little", self.queue_bytes),
                "give the requests of some snapshots room, 16384 bytes at least",
            ));
        }
        let is_of_none = |pattern: &&Pattern| !catalog::families().iter().any(|name| pattern.matches(name));
        if let Some(pattern) = self.families_off.iter().find(is_of_none) {
            return Err(SettingError::new(
                "export.families_off",
                format!("{:?} is the name of no metric", pattern.text()),
                "give names of docs/metrics.md, with * for any characters",
            ));
        }
        if self.retry.initial_backoff.is_zero() {
            return Err(SettingError::new(
                "export.retry.initial_backoff",
                "is zero",
                "wait between attempts, for example \"1s\"",
            ));
        }
        if self.retry.max_backoff < self.retry.initial_backoff {
            return Err(SettingError::new(
                "export.retry.max_backoff",
                "is shorter than export.retry.initial_backoff",
                "make it at least as long",
            ));
        }
        if self.tls.client_certificate.is_some() != self.tls.client_key.is_some() {
            return Err(SettingError::new(
                "export.tls",
                "one of client_certificate and client_key is missing",
                "set both or neither",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_exports_nothing() {
        let settings: ExportSettings = toml::from_str("").unwrap();
        assert_eq!(settings, ExportSettings::default());
        assert!(!settings.is_enabled());
        settings.validate().unwrap();
    }

    #[test]
    fn every_key_is_read() {
        let settings: ExportSettings = toml::from_str(
            r#"
            endpoint = "https://collector:4317"
            metrics_endpoint = "https://collector:4318/v1/metrics"
            disabled = true
            protocol = "grpc"
            headers = { authorization = "Bearer secret" }
            compression = "none"
            histograms = "none"
            vm_attributes = ["uuid", "name"]
            families_off = ["hypervisor.vm.exit*"]
            timeout = "3s"
            queue_bytes = 1048576
            service_name = "hv"
            resource_attributes = { "deployment.environment.name" = "prod" }
            [retry]
            initial_backoff = "100ms"
            max_backoff = "2s"
            max_age = "1m"
            [tls]
            ca_certificate = "/ca.pem"
            client_certificate = "/cert.pem"
            client_key = "/key.pem"
            insecure = true
            "#,
        )
        .unwrap();
        let expected = ExportSettings {
            endpoint: Some("https://collector:4317".into()),
            metrics_endpoint: Some("https://collector:4318/v1/metrics".into()),
            disabled: true,
            protocol: Protocol::Grpc,
            headers: Headers([("authorization".into(), "Bearer secret".into())].into()),
            compression: Compression::None,
            histograms: Histograms::None,
            vm_attributes: VmAttributes { facts: vec![Fact::Name, Fact::Uuid], labels: false },
            families_off: vec![Pattern::new("hypervisor.vm.exit*")],
            timeout: Duration::from_secs(3),
            queue_bytes: 1 << 20,
            retry: RetrySettings {
                initial_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                max_age: Duration::from_secs(60),
            },
            tls: TlsSettings {
                ca_certificate: Some("/ca.pem".into()),
                client_certificate: Some("/cert.pem".into()),
                client_key: Some("/key.pem".into()),
                insecure: true,
            },
            service_name: "hv".into(),
            resource_attributes: [("deployment.environment.name".into(), "prod".into())].into(),
        };
        assert_eq!(settings, expected);
        assert!(!settings.is_enabled(), "disabled beats the endpoints");
    }

    #[test]
    fn unknown_keys_and_values_are_refused() {
        for text in [
            "endpont = 'x'",
            "[retry]\nmax = '1s'",
            "[tls]\nca = 'x'",
            "protocol = 'http/json'",
            "compression = 'zstd:1'",
            "timeout = 10",
        ] {
            assert!(toml::from_str::<ExportSettings>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn compression_lists_what_it_accepts() {
        for (value, expected) in [
            ("auto", Compression::Auto),
            ("none", Compression::None),
            ("gzip", Compression::Gzip),
            ("zstd", Compression::Zstd),
        ] {
            let settings: ExportSettings = toml::from_str(&format!("compression = '{value}'")).unwrap();
            assert_eq!(settings.compression, expected);
        }
        let error = toml::from_str::<ExportSettings>("compression = 'brotli'").unwrap_err().to_string();
        assert!(error.contains("`auto`, `none`, `gzip`, `zstd`"), "{error}");
    }

    #[test]
    fn unusable_values_name_their_key() {
        let cases = [
            ("timeout = '0s'", "export.timeout"),
            ("queue_bytes = 0", "export.queue_bytes"),
            ("[retry]\ninitial_backoff = '0s'", "export.retry.initial_backoff"),
            ("[retry]\nmax_backoff = '10ms'", "export.retry.max_backoff"),
            ("[tls]\nclient_key = '/k'", "export.tls"),
            ("endpoint = 'ftp://x'", "export.endpoint"),
            ("metrics_endpoint = 'x y'", "export.metrics_endpoint"),
            ("headers = { 'a b' = 'c' }", "export.headers"),
        ];
        for (text, name) in cases {
            let error = toml::from_str::<ExportSettings>(text).unwrap().validate().unwrap_err();
            assert_eq!(error.name, name, "{text}: {error}");
        }
    }

    #[test]
    fn debug_output_keeps_header_values_secret() {
        let settings = ExportSettings {
            headers: Headers([("authorization".into(), "Bearer s3cret".into())].into()),
            ..Default::default()
        };
        let debug = format!("{settings:?}");
        assert!(debug.contains("authorization") && !debug.contains("s3cret"), "{debug}");
    }
}
