//! What is kept of those that are gone, for a bounded number of them.

use std::collections::BTreeMap;

use crate::kept::{Keep, Reader, Shape, Writer};

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

/// In the order in which they changed.
impl<K: Keep + Ord + Copy, V: Keep> Keep for Remembered<K, V> {
    const SHAPE: u64 = Shape::of("Remembered").number(K::SHAPE).number(V::SHAPE).end();

    fn put(&self, to: &mut Writer<'_>) {
        let mut ordered: Vec<_> = self.values.iter().collect();
        ordered.sort_unstable_by_key(|(_, (_, change))| *change);
        (ordered.len() as u32).put(to);
        for (key, (value, _)) in ordered {
            key.put(to);
            value.put(to);
        }
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let length = u32::take(from)? as usize;
        let mut all = Self::default();
        for _ in 0..Some(length).filter(|length| *length <= ROOM)? {
            all.set(K::take(from)?, V::take(from)?);
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::checks::{bytes, value};

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

    #[test]
    fn who_goes_on_forgets_the_same_one_next() {
        let mut all = Remembered::default();
        (0..ROOM as u32).for_each(|key| all.set(key, 7_u32));
        all.set(0, 8);
        let mut kept = value::<Remembered<u32, u32>>(&bytes(&all)).unwrap();
        for all in [&mut all, &mut kept] {
            all.set(u32::MAX, 9);
            assert_eq!((all.get(&0), all.get(&1), all.get(&2)), (Some(&8), None, Some(&7)));
        }
        assert_eq!(bytes(&kept), bytes(&all));
        assert!(value::<Remembered<u32, u32>>(&bytes(&u32::MAX)).is_none());
    }
}
