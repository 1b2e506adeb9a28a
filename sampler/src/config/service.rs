//! What the service may do, once it has started.

use serde::{Deserialize, Serialize};

/// The `[service]` table. It holds from one start to the next.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceSettings {
    /// Whether the service gives up what it does not need.
    pub sandbox: Sandbox,
    /// Whether interfaces of guests are read that are in other network namespaces than the service.
    pub network_namespaces: bool,
    /// The user that a service becomes which is started as root; none where it stays who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// How much the service gives up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sandbox {
    /// All that it can do without, as far as the kernel lets it.
    #[default]
    Auto,
    /// Nothing.
    Off,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self { sandbox: Sandbox::default(), network_namespaces: true, user: None }
    }
}
