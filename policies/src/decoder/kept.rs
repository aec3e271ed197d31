//! What is kept of pictures, within a bound of memory.
use crate::vision::ImageKey;
use std::collections::HashMap;

/// Most bytes that are kept where nobody says otherwise.
const MOST: usize = 2 << 30;

/// Values by picture, as many as a bound allows: where one more would pass it, those go that were not used for longest, until a
/// quarter of the bound is free.
#[derive(Debug)]
pub(super) struct Kept<V> {
    values: HashMap<ImageKey, Value<V>>,
    bytes: usize,
    most: usize,
    clock: u64,
}

#[derive(Debug)]
struct Value<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self { values: HashMap::new(), bytes: 0, most: MOST, clock: 0 }
    }
}

impl<V: Clone> Kept<V> {
    /// With this bound in bytes.
    pub(super) fn within(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Sets the bound.
    pub(super) fn bound(&mut self, most: usize) {
        self.most = most;
        self.make_room(0);
    }

    /// Keeps nothing any more.
    pub(super) fn clear(&mut self) {
        self.values.clear();
        self.bytes = 0;
    }

    /// Bytes of all that is kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something is kept of a picture.
    pub(super) fn has(&self, key: ImageKey) -> bool {
        self.values.contains_key(&key)
    }

    /// What is kept of a picture.
    pub(super) fn get(&mut self, key: ImageKey) -> Option<V> {
        self.clock += 1;
        let value = self.values.get_mut(&key)?;
        value.used = self.clock;
        Some(value.value.clone())
    }

    /// Keeps something of a picture; what is larger than the bound by itself is not kept.
    pub(super) fn put(&mut self, key: ImageKey, value: V, bytes: usize) {
        if self.values.contains_key(&key) || bytes > self.most {
            return;
        }
        self.make_room(bytes);
        self.clock += 1;
        self.bytes += bytes;
        self.values.insert(key, Value { value, bytes, used: self.clock });
    }

    /// Keeps nothing of a picture any more.
    pub(super) fn remove(&mut self, key: ImageKey) {
        self.bytes -= self.values.remove(&key).map_or(0, |value| value.bytes);
    }

    fn make_room(&mut self, bytes: usize) {
        if self.bytes + bytes <= self.most {
            return;
        }
        let mut oldest: Vec<(u64, ImageKey)> = self.values.iter().map(|(key, v)| (v.used, *key)).collect();
        oldest.sort_unstable();
        for (_, key) in oldest {
            if self.bytes + bytes <= self.most - self.most / 4 {
                break;
            }
            self.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut kept = Kept::within(100);
        (0..10).for_each(|key| kept.put(key, key, 10));
        assert_eq!((kept.bytes(), kept.get(0)), (100, Some(0)));
        kept.put(10, 10, 10);
        // A quarter is free again, the one that was just used is still there.
        assert_eq!(kept.bytes(), 75 - 75 % 10);
        assert!(kept.has(0) && kept.has(10) && !kept.has(1) && !kept.has(4) && kept.has(5));
        kept.put(5, 55, 10);
        assert_eq!(kept.get(5), Some(5));
        kept.put(99, 99, 101);
        assert!(!kept.has(99) && kept.bytes() == 70);
        kept.bound(20);
        assert!(kept.bytes() <= 15 && kept.has(5));
    }
}
