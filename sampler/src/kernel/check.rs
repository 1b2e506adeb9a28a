//! One answer to "can this host do what the sampler needs?".

use std::borrow::Cow;

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// The sampler works and shows less than it could, or this is not known.
    Warn,
    /// The sampler cannot work here.
    Fail,
}

/// One row of `hvsampler check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckItem {
    /// What was looked at.
    pub name: Cow<'static, str>,
    /// How it ended.
    pub status: CheckStatus,
    /// What was found.
    pub detail: String,
    /// What to do about it; absent where there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<Cow<'static, str>>,
}

impl CheckItem {
    /// A row that is as it should be.
    #[must_use]
    pub fn ok(name: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), status: CheckStatus::Ok, detail: detail.into(), fix: None }
    }

    /// A row without which the sampler shows less.
    #[must_use]
    pub fn warn(
        name: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { name: name.into(), status: CheckStatus::Warn, detail: detail.into(), fix: Some(fix.into()) }
    }

    /// A row without which the sampler does not work.
    #[must_use]
    pub fn fail(
        name: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { name: name.into(), status: CheckStatus::Fail, detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// Whether nothing that the sampler needs is missing.
#[must_use]
pub fn all_needed(items: &[CheckItem]) -> bool {
    items.iter().all(|item| item.status != CheckStatus::Fail)
}
