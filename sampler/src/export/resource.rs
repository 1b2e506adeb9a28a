//! Who speaks: the resource attributes that every export of this host carries.

use std::collections::BTreeMap;

use uuid::{Uuid, uuid};

use super::settings::ExportSettings;
use crate::model::Host;

/// Longest attribute value that is exported, bytes. Guest names come from strangers, and receivers have
/// limits of their own.
pub const MAX_ATTRIBUTE_BYTES: usize = 1024;

/// Version of the semantic conventions that the standard attributes follow.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// The namespace that the semantic conventions have for `service.instance.id` made of something that names
/// the instance: a UUID of version 5.
pub const INSTANCES: Uuid = uuid!("4d63009a-8d0f-11ee-aad7-4c796ed8e320");

/// Version of the sampler, as `service.version` and as version of the instrumentation scope.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Attributes of the resource, ordered by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    attributes: BTreeMap<String, String>,
}

impl Resource {
    /// What the settings and the host say; configured attributes win, unknown ones are absent.
    ///
    /// The instance is that of the host, as one sampler runs on it. The version of the system is not that of
    /// its kernel, which is a build of it where it has no other (semantic conventions 1.44).
    #[must_use]
    pub fn new(settings: &ExportSettings, host: &Host) -> Self {
        let id = settings.host_id.as_deref().or(host.id.as_deref());
        let instance = instance(id.unwrap_or(&host.name));
        let found = [
            ("service.name", settings.service_name.as_str()),
            ("service.version", VERSION),
            ("service.instance.id", &instance),
            ("host.id", id.unwrap_or_default()),
            ("host.name", &host.name),
            ("host.arch", &host.arch),
            ("os.type", "linux"),
            ("os.version", host.os_version.as_deref().unwrap_or_default()),
            ("os.build_id", host.os_build.as_deref().unwrap_or(&host.kernel)),
            ("hypervisor.name", host.hypervisor.unwrap_or_default()),
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

/// Of a name that no other host has; nothing of no name.
fn instance(name: &str) -> String {
    if name.is_empty() { String::new() } else { Uuid::new_v5(&INSTANCES, name.as_bytes()).to_string() }
}

/// The text, cut at a character boundary where it is longer than [`MAX_ATTRIBUTE_BYTES`].
#[must_use]
pub fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_ATTRIBUTE_BYTES)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{
        LabelRules, RESOURCE_KEYS,
        catalog::{Entity, ForEachEntity, for_each_entity},
    };

    fn host() -> Host {
        Host {
            id: Some("5d1f".into()),
            name: "node1".into(),
            kernel: "6.12.0".into(),
            os_version: Some("12".into()),
            os_build: None,
            arch: "amd64".into(),
            cpus: 8,
            hypervisor: Some("kvm"),
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
        // As Python's uuid.uuid5 has it.
        assert_eq!(value(&resource, "service.instance.id"), Some("95e89156-0992-5c06-b493-7deb035b78e2"));
        assert_eq!(value(&resource, "host.id"), Some("5d1f"));
        assert_eq!(value(&resource, "os.version"), Some("12"));
        assert_eq!(value(&resource, "os.build_id"), Some("6.12.0"));
        assert_eq!(value(&resource, "hypervisor.name"), Some("kvm"));
    }

    /// Keys of all attributes that a point or its resource may have.
    fn own_keys() -> BTreeSet<String> {
        struct Keys(BTreeSet<String>);
        impl ForEachEntity for Keys {
            fn entity<E: Entity>(&mut self) {
                for series in E::SERIES.iter().chain(E::DETAILS) {
                    self.0.extend(series.attributes.iter().map(|dimension| dimension.key.to_owned()));
                }
                self.0.extend(E::ATTRIBUTES.iter().map(|(key, _)| (*key).to_owned()));
            }
        }
        let resource = Resource::new(&ExportSettings::default(), &host());
        let of_resource: BTreeSet<_> = resource.iter().map(|(key, _)| key.to_owned()).collect();
        let reserved = BTreeSet::from(RESOURCE_KEYS.map(str::to_owned));
        assert_eq!(of_resource, reserved, "what labels may not be called");
        let mut keys = Keys(of_resource);
        for_each_entity(&mut keys);
        keys.0
    }

    #[test]
    fn no_label_takes_the_place_of_an_attribute() {
        let keys = own_keys();
        assert!(keys.contains("system.device") && keys.contains("network.io.direction"), "{keys:?}");
        for key in keys.iter().flat_map(|key| [key.clone(), key.replace('.', "_")]) {
            let rules = serde_json::json!([{ "set": { key.as_str(): "x" } }]);
            let error = serde_json::from_value::<LabelRules>(rules).expect_err(&key).to_string();
            assert!(error.contains("is an attribute that the sampler itself sets"), "{error}");
        }
    }

    #[test]
    fn what_is_unknown_is_absent_and_the_name_stands_in_for_the_id() {
        let host = Host { id: None, arch: String::new(), ..host() };
        let resource = Resource::new(&ExportSettings::default(), &host);
        assert_eq!(value(&resource, "host.id"), None);
        assert_eq!(value(&resource, "host.arch"), None);
        assert_eq!(value(&resource, "service.instance.id"), Some("926d4708-a88c-55d5-83d1-d84ea0925bd8"));
        let nobody = Host { id: None, name: String::new(), os_version: None, hypervisor: None, ..host };
        let resource = Resource::new(&ExportSettings::default(), &nobody);
        assert_eq!(value(&resource, "service.instance.id"), None);
        assert_eq!(value(&resource, "os.version"), None);
        assert_eq!(value(&resource, "hypervisor.name"), None);
    }

    #[test]
    fn another_identity_takes_the_place_of_a_machine_id_that_is_not_unique() {
        let settings = ExportSettings { host_id: Some("rack7-node3".into()), ..Default::default() };
        let resource = Resource::new(&settings, &host());
        assert_eq!(value(&resource, "host.id"), Some("rack7-node3"));
        assert_eq!(value(&resource, "service.instance.id"), Some("5c5b97f1-31cb-59e9-a4b5-d9ee137690fb"));
    }

    #[test]
    fn a_build_of_the_system_goes_before_the_kernel() {
        let resource =
            Resource::new(&ExportSettings::default(), &Host { os_build: Some("4081".into()), ..host() });
        assert_eq!(value(&resource, "os.build_id"), Some("4081"));
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(bounded("short"), "short");
        let long = format!("{}ü", "x".repeat(MAX_ATTRIBUTE_BYTES - 1));
        assert_eq!(bounded(&long).len(), MAX_ATTRIBUTE_BYTES - 1);
    }
}
