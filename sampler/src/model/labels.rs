//! Labels that an operator gives to guests, by what is known of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize, Serializer};

use super::{
    Facts, GuestPattern, Snapshot, VmKey,
    catalog::{Entity, ForEachEntity, for_each_entity},
};

/// Characters of a label's key, and of its value.
const LONGEST: usize = 255;
/// Keys that all rules together may have: each may become a label of every series.
const KEYS: usize = 32;

/// Labels that back ends set themselves.
const TAKEN: [&str; 6] = ["job", "instance", "le", "quantile", "otel_scope_name", "otel_scope_version"];

/// Keys of the attributes of the resource that every export carries. Collectors copy some of them to each
/// point, and would overwrite a label there.
pub const RESOURCE_KEYS: [&str; 10] = [
    "service.name",
    "service.version",
    "service.instance.id",
    "host.id",
    "host.name",
    "host.arch",
    "os.type",
    "os.version",
    "os.build_id",
    "hypervisor.name",
];

/// Keys of all attributes that the sampler itself sets, as they are stored. A label of such a key would give
/// a point the same key twice.
static OWN: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    struct Keys(BTreeSet<String>);
    impl ForEachEntity for Keys {
        fn entity<E: Entity>(&mut self) {
            let dimensions = E::SERIES.iter().chain(E::DETAILS).flat_map(|series| series.attributes);
            let keys = E::ATTRIBUTES.iter().map(|(key, _)| *key).chain(dimensions.map(|one| one.key));
            self.0.extend(keys.map(as_stored));
        }
    }
    let mut keys = Keys(RESOURCE_KEYS.into_iter().map(as_stored).collect());
    for_each_entity(&mut keys);
    keys.0
});

/// Guests that match all patterns get these labels. Of two rules that set the same label the later one does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LabelRule {
    /// All guests where it is empty.
    #[serde(rename = "match", default)]
    matches: Vec<GuestPattern>,
    set: Labels,
}

/// Keys and values.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
struct Labels(Vec<(&'static str, Arc<str>)>);

/// The rules, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Vec<LabelRule>")]
pub struct LabelRules(Vec<LabelRule>);

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = String;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, String> {
        let label = |(key, value): (String, String)| {
            check(&key)?;
            if value.is_empty() || value.len() > LONGEST {
                return Err(format!("the value of {key:?} has {} bytes; give 1 to {LONGEST}", value.len()));
            }
            Ok((interned(key), Arc::from(value)))
        };
        Ok(Self(labels.into_iter().map(label).collect::<Result<_, _>>()?))
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, &**value)))
    }
}

impl TryFrom<Vec<LabelRule>> for LabelRules {
    type Error = String;

    fn try_from(rules: Vec<LabelRule>) -> Result<Self, String> {
        let keys: BTreeSet<_> =
            rules.iter().flat_map(|rule| rule.set.0.iter().map(|(key, _)| *key)).collect();
        if keys.len() > KEYS {
            return Err(format!("sets {} different labels; set {KEYS} at most", keys.len()));
        }
        let mut stored = BTreeMap::new();
        for key in keys {
            if let Some(other) = stored.insert(as_stored(key), key) {
                return Err(format!("sets {other:?} and {key:?}, which are one label to many back ends"));
            }
        }
        Ok(Self(rules))
    }
}

/// Whether a label may be called so.
fn check(key: &str) -> Result<(), String> {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let begins = key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !begins || key.len() > LONGEST || !key.bytes().all(is_word) {
        return Err(format!(
            "{key:?} is no name of a label; begin with a small letter, and go on with small letters, digits, '.', '_' and '-'"
        ));
    }
    let stored = as_stored(key);
    if stored.starts_with("hypervisor_") || OWN.contains(&stored) {
        return Err(format!(
            "{key:?} is an attribute that the sampler itself sets; call the label otherwise"
        ));
    }
    if TAKEN.contains(&&*stored) {
        return Err(format!("{key:?} is a label that back ends set themselves; call the label otherwise"));
    }
    Ok(())
}

/// As Prometheus and others store a name: what differs in its other characters alone is one label there, and
/// its values are put together.
fn as_stored(key: &str) -> String {
    key.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect()
}

/// A key that lives as long as the program, as those of all attributes do. Each is kept once, however often
/// the settings are read.
fn interned(key: String) -> &'static str {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(&*key) {
        return known;
    }
    let key: &str = key.leak();
    known.insert(key);
    key
}

impl LabelRules {
    fn of(&self, id: &str, facts: &Facts) -> BTreeMap<&'static str, Arc<str>> {
        let rules =
            self.0.iter().filter(|rule| rule.matches.iter().all(|pattern| pattern.matches(id, facts)));
        rules.flat_map(|rule| rule.set.0.iter().cloned()).collect()
    }

    fn labelled(&self, id: &str, facts: &Facts) -> Arc<Facts> {
        Arc::new(facts.clone().with_labels(self.of(id, facts).into_iter().collect()))
    }
}

/// Puts labels on guests. What was worked out is kept until other facts are known of a guest.
#[derive(Debug, Default)]
pub struct Labelling {
    rules: LabelRules,
    /// The facts that were seen, and the same with labels.
    known: HashMap<VmKey, (Arc<Facts>, Arc<Facts>)>,
}

impl Labelling {
    /// By these rules.
    #[must_use]
    pub fn new(rules: LabelRules) -> Self {
        Self { rules, known: HashMap::new() }
    }

    /// Puts the labels on all guests of a snapshot.
    pub fn apply(&mut self, snapshot: &mut Snapshot) {
        let Self { rules, known } = self;
        if rules.0.is_empty() {
            return;
        }
        for vm in &mut snapshot.vms {
            let fresh = || (vm.facts.clone(), rules.labelled(&vm.id, &vm.facts));
            let (seen, labelled) = known.entry(vm.key).or_insert_with(fresh);
            if !Arc::ptr_eq(seen, &vm.facts) {
                (*seen, *labelled) = fresh();
            }
            vm.facts = labelled.clone();
        }
        for ended in &mut snapshot.ended {
            ended.vm_facts = rules.labelled(&ended.vm_id, &ended.vm_facts);
        }
        if known.len() > 2 * snapshot.vms.len() {
            let live: BTreeSet<_> = snapshot.vms.iter().map(|vm| vm.key).collect();
            known.retain(|key, _| live.contains(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fact, Vm};

    fn rules(text: &str) -> Result<LabelRules, String> {
        #[derive(Deserialize)]
        struct Table {
            labels: LabelRules,
        }
        toml::from_str(text).map(|table: Table| table.labels).map_err(|error| error.to_string())
    }

    const RULES: &str = r#"
        labels = [
            { set = { tier = "bronze" } },
            { match = ["name=db-*", "platform=qemu"], set = { tier = "gold", team = "storage" } },
        ]"#;

    fn vm(n: u64, name: &str) -> Vm {
        let facts = Facts::default().with(Fact::Platform, "qemu").with(Fact::Name, name);
        Vm { key: VmKey::new([n, 1]), facts: facts.into(), ..Vm::default() }
    }

    fn labels(vm: &Vm) -> String {
        vm.facts.labels().iter().map(|(key, value)| format!("{key}={value} ")).collect()
    }

    #[test]
    fn guests_that_match_all_patterns_get_the_labels_and_the_later_rule_wins() {
        let mut labelling = Labelling::new(rules(RULES).unwrap());
        let mut snapshot = Snapshot { vms: vec![vm(1, "db-1"), vm(2, "web")], ..Snapshot::default() };
        let facts = snapshot.vms[0].facts.clone();
        labelling.apply(&mut snapshot);
        assert_eq!(labels(&snapshot.vms[0]), "team=storage tier=gold ");
        assert_eq!(labels(&snapshot.vms[1]), "tier=bronze ");
        let labelled = snapshot.vms[0].facts.clone();
        snapshot.vms[0].facts = facts;
        labelling.apply(&mut snapshot);
        assert!(Arc::ptr_eq(&labelled, &snapshot.vms[0].facts), "what was worked out is kept");
        snapshot.vms[0] = vm(1, "web-2");
        labelling.apply(&mut snapshot);
        assert_eq!(labels(&snapshot.vms[0]), "tier=bronze ", "renamed");
    }

    #[test]
    fn guests_that_ended_are_forgotten() {
        let mut labelling = Labelling::new(rules(RULES).unwrap());
        for n in 0..100 {
            labelling.apply(&mut Snapshot { vms: vec![vm(n, "web")], ..Snapshot::default() });
        }
        assert!(labelling.known.len() <= 2, "{}", labelling.known.len());
    }

    #[test]
    fn labels_that_cannot_be_are_named() {
        for (text, problem) in [
            (r#"labels = [{ set = { Team = "x" } }]"#, "\"Team\" is no name of a label"),
            (
                r#"labels = [{ set = { "hypervisor.vm.id" = "x" } }]"#,
                "an attribute that the sampler itself sets",
            ),
            (r#"labels = [{ set = { "k8s.pod.name" = "x" } }]"#, "an attribute that the sampler itself sets"),
            (r#"labels = [{ set = { k8s-pod_name = "x" } }]"#, "an attribute that the sampler itself sets"),
            (
                r#"labels = [{ set = { hypervisor_vm_id = "x" } }]"#,
                "an attribute that the sampler itself sets",
            ),
            (r#"labels = [{ set = { instance = "x" } }]"#, "a label that back ends set themselves"),
            (
                r#"labels = [{ set = { "a.b" = "x" } }, { set = { a_b = "x" } }]"#,
                "are one label to many back ends",
            ),
            (r#"labels = [{ set = { team = "" } }]"#, "the value of \"team\" has 0 bytes"),
            (r#"labels = [{ match = ["colour=x"], set = { team = "x" } }]"#, "\"colour\" is no fact"),
        ] {
            let error = rules(text).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        let many: String = (0..=KEYS).map(|n| format!("k{n} = \"x\", ")).collect();
        let error =
            rules(&format!("labels = [{{ set = {{ {} }} }}]", many.trim_end_matches(", "))).unwrap_err();
        assert!(error.contains("sets 33 different labels; set 32 at most"), "{error}");
    }
}
