//! Who speaks: the resource attributes that every export of this host carries.

use std::collections::BTreeMap;

use super::settings::ExportSettings;
use crate::model::Host;

/// Longest attribute value that is exported, bytes. Guest names come from strangers, and receivers have
/// limits of their own.
pub const MAX_ATTRIBUTE_BYTES: usize = 1024;

/// Version of the semantic conventions that the standard attributes follow.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// Version of the sampler, as `service.version` and as version of the instrumentation scope.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Attributes of the resource, ordered by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    attributes: BTreeMap<String, String>,
}

impl Resource {
    /// What the settings and the host say; configured attributes win, unknown ones are absent.
    #[must_use]
    pub fn new(settings: &ExportSettings, host: &Host) -> Self {
        let instance = host.id.as_deref().unwrap_or(&host.name);
        let found = [
            ("service.name", settings.service_name.as_str()),
            ("service.version", VERSION),
            ("service.instance.id", instance),
            ("host.id", host.id.as_deref().unwrap_or_default()),
            ("host.name", &host.name),
            ("host.arch", &host.arch),
            ("os.type", "linux"),
            ("os.version", &host.kernel),
            ("hypervisor.name", "kvm"),
        ];
        let configured =
            settings.resource_attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let attributes = found
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .chain(configured)
            .map(|(key, value)| (bounded(key).to_owned(), bounded(value).to_owned()))
            .collect();
        Self { attributes }
    }

    /// Keys and values, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// The text, cut at a character boundary where it is longer than [`MAX_ATTRIBUTE_BYTES`].
#[must_use]
pub fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_ATTRIBUTE_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            id: Some("5d1f".into()),
            name: "node1".into(),
            kernel: "6.12.0".into(),
            arch: "amd64".into(),
            cpus: 8,
        }
    }

    fn value<'a>(resource: &'a Resource, key: &str) -> Option<&'a str> {
        resource.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    #[test]
    fn configured_attributes_win() {
        let settings = ExportSettings {
            resource_attributes: [("host.name".into(), "alias".into()), ("rack".into(), "7".into())].into(),
            ..Default::default()
        };
        let resource = Resource::new(&settings, &host());
        assert_eq!(value(&resource, "host.name"), Some("alias"));
        assert_eq!(value(&resource, "rack"), Some("7"));
        assert_eq!(value(&resource, "service.name"), Some("hvsampler"));
        assert_eq!(value(&resource, "service.instance.id"), Some("5d1f"));
        assert_eq!(value(&resource, "os.version"), Some("6.12.0"));
    }

    #[test]
    fn what_is_unknown_is_absent_and_the_name_stands_in_for_the_id() {
        let host = Host { id: None, arch: String::new(), ..host() };
        let resource = Resource::new(&ExportSettings::default(), &host);
        assert_eq!(value(&resource, "host.id"), None);
        assert_eq!(value(&resource, "host.arch"), None);
        assert_eq!(value(&resource, "service.instance.id"), Some("node1"));
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(bounded("short"), "short");
        let long = format!("{}ü", "x".repeat(MAX_ATTRIBUTE_BYTES - 1));
        assert_eq!(bounded(&long).len(), MAX_ATTRIBUTE_BYTES - 1);
    }
}
