//! What an operator can set about the export: the `[export]` table, and the `OTEL_*` variables over it.

mod env;
mod secret;
mod target;
mod variables;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub(crate) use self::target::header;
pub use self::{
    secret::Secret,
    target::Target,
    variables::{Get, Variables, Warning, one_of},
};
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Protocol {
    /// gRPC over HTTP/2, by convention on port 4317.
    #[serde(rename = "grpc")]
    Grpc,
    /// Protobuf in HTTP/1.1 POST requests, by convention on port 4318.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

impl Protocol {
    /// As an operator writes it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
        }
    }
}

/// How requests are compressed. A receiver that refuses an encoding is sent the next lower one, of zstd, gzip
/// and none, from then on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
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

impl Compression {
    /// As an operator writes it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// In which form distributions are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
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

/// What `labels` is called among them.
const LABELS: &str = "labels";

impl Serialize for VmAttributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let facts = self.facts.iter().map(|fact| fact.row().key);
        serializer.collect_seq(facts.chain(self.labels.then_some(LABELS)))
    }
}

impl<'de> Deserialize<'de> for VmAttributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
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
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Headers(pub BTreeMap<String, Secret>);

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.0.keys().map(|name| (name, "…"))).finish()
    }
}

/// What is shown in place of a secret. As a part of a setting it is an error: somebody has taken what was
/// shown for the setting itself.
pub const HIDDEN: &str = "(hidden)";

/// Waits between attempts to send a request again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// Upper bound of the first wait; each further one is twice as long. Every wait is shortened at random by
    /// up to a half.
    #[serde(with = "duration")]
    pub initial_backoff: Duration,
    /// Upper bound of every wait that the receiver did not ask for.
    #[serde(with = "duration")]
    pub max_backoff: Duration,
    /// A request that failed and is older than this is dropped.
    #[serde(with = "duration")]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// Authorities that may vouch for the receiver; they replace the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<PathBuf>,
    /// The certificate chain that the sampler shows to the receiver; needs `client_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<PathBuf>,
    /// The private key of `client_certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
    /// For a gRPC endpoint without a scheme: plain text where `true`, TLS where `false`.
    pub insecure: bool,
}

/// The `[export]` table.
///
/// [`ExportSettings::apply_env`] applies the `OTEL_*` variables to it, and
/// [`ExportSettings::validate`] says whether the result can be used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportSettings {
    /// Base URL of the receiver; `v1/metrics` is appended for HTTP. Without one nothing is exported.
    #[serde(serialize_with = "target::serialize", skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// URL for metrics, used as it is and in place of `endpoint`.
    #[serde(serialize_with = "target::serialize", skip_serializing_if = "Option::is_none")]
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
    #[serde(with = "duration")]
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
    /// What stands for the machine-id in `host.id` and `service.instance.id`, where machine-ids were cloned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
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
            host_id: None,
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
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// The same for all keys.
    #[must_use]
    pub fn problems(&self) -> Vec<SettingError> {
        let target = if self.is_enabled() { self.target().err() } else { None };
        target
            .into_iter()
            .chain(self.problems_of_headers())
            .chain(self.problems_of_sending())
            .chain(self.tls.problem())
            .collect()
    }

    fn problems_of_sending(&self) -> impl Iterator<Item = SettingError> {
        let is_of_none = |pattern: &&Pattern| !catalog::families().iter().any(|name| pattern.matches(name));
        let families = self.families_off.iter().find(is_of_none).map(|pattern| {
            SettingError::new(
                "export.families_off",
                format!("{:?} is the name of no metric", pattern.text()),
                "give names of docs/metrics.md, with * for any characters",
            )
        });
        let problem =
            |holds: bool, key, problem: &str, fix| holds.then(|| SettingError::new(key, problem, fix));
        [
            problem(
                self.timeout.is_zero(),
                "export.timeout",
                "is zero",
                "give an attempt time to succeed, for example \"10s\"",
            ),
            problem(
                self.queue_bytes < MIN_QUEUE_BYTES,
                "export.queue_bytes",
                &format!("{} is too little", self.queue_bytes),
                "give the requests of some snapshots room, 16384 bytes at least",
            ),
            families,
            problem(
                self.host_id.as_ref().is_some_and(String::is_empty),
                "export.host_id",
                "is empty",
                "give a name that no other host has, or leave it out",
            ),
            problem(
                self.retry.initial_backoff.is_zero(),
                "export.retry.initial_backoff",
                "is zero",
                "wait between attempts, for example \"1s\"",
            ),
            problem(
                self.retry.max_backoff < self.retry.initial_backoff,
                "export.retry.max_backoff",
                "is shorter than export.retry.initial_backoff",
                "make it at least as long",
            ),
        ]
        .into_iter()
        .flatten()
    }
}

impl TlsSettings {
    fn problem(&self) -> Option<SettingError> {
        (self.client_certificate.is_some() != self.client_key.is_some()).then(|| {
            SettingError::new(
                "export.tls",
                "one of client_certificate and client_key is missing",
                "set both or neither",
            )
        })
    }
}

#[cfg(test)]
mod tests;
