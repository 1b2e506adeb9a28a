//! Patterns of guests, as operators write them.

use serde::{Deserialize, Serialize, Serializer};

use super::{FACTS, Fact, Facts, Pattern};

/// What a guest's id is called among its facts.
const ID: &str = "id";

/// Guests by what is known of them, as in `name=web-*`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct GuestPattern {
    /// Of which fact; of the guest's id where it is none.
    fact: Option<Fact>,
    pattern: Pattern,
}

impl TryFrom<String> for GuestPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let known = || FACTS.iter().map(|row| row.key).chain([ID]).collect::<Vec<_>>().join(", ");
        let (key, pattern) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} has no =; write FACT=PATTERN, as in \"name=web-*\""))?;
        let fact = Fact::of_key(key);
        if fact.is_none() && key != ID {
            return Err(format!("{key:?} is no fact about a guest; give one of {}", known()));
        }
        Ok(Self { fact, pattern: Pattern::new(pattern) })
    }
}

impl Serialize for GuestPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let key = self.fact.map_or(ID, |fact| fact.row().key);
        serializer.collect_str(&format_args!("{key}={}", self.pattern.text()))
    }
}

impl GuestPattern {
    pub(super) fn matches(&self, id: &str, facts: &Facts) -> bool {
        let value = self.fact.map_or(Some(id), |fact| facts.get(fact).map(|value| &**value));
        value.is_some_and(|value| self.pattern.matches(value))
    }
}
