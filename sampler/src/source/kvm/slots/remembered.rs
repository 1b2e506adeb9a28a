//! What is kept of those that are gone, for a bounded number of them.

use std::collections::BTreeMap;

/// How many are kept.
const ROOM: usize = 4096;

/// By key, the ones that changed last.
#[derive(Debug)]
pub(super) struct Remembered<K, V> {
    values: BTreeMap<K, (V, u64)>,
    changes: u64,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), changes: 0 }
    }
}

impl<K: Ord + Copy, V> Remembered<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|(value, _)| value)
    }

    /// Sets a value. Of too many the one is forgotten that has not changed for longest.
    pub(super) fn set(&mut self, key: K, value: V) {
        self.changes += 1;
        self.values.insert(key, (value, self.changes));
        if self.values.len() > ROOM
            && let Some(oldest) =
                self.values.iter().min_by_key(|(_, (_, change))| *change).map(|(key, _)| *key)
        {
            self.values.remove(&oldest);
        }
    }

    pub(super) fn forget(&mut self, key: &K) {
        self.values.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_has_not_changed_for_longest_is_forgotten() {
        let mut all = Remembered::default();
        all.set(1, 0);
        for key in 2..ROOM + 2 {
            all.set(key, 7);
            all.set(1, key);
        }
        assert_eq!(all.values.len(), ROOM);
        assert_eq!((all.get(&1), all.get(&2), all.get(&3)), (Some(&(ROOM + 1)), None, Some(&7)));
        all.forget(&3);
        assert_eq!(all.get(&3), None);
    }
}
