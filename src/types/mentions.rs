//! Lists of a request that name something twice. Kafka puts most of them into maps: of several mentions the last one counts.

use std::collections::BTreeMap;

/// Whether something is there twice. Lists come sorted, or short: one that is sorted costs one look at each element.
pub fn any_twice<T: Ord + Copy>(items: impl Iterator<Item = T> + Clone) -> bool {
    if items.clone().is_sorted_by(|one, next| one < next) {
        return false;
    }
    let mut all: Vec<T> = items.collect();
    all.sort_unstable();
    all.windows(2).any(|pair| pair[0] == pair[1])
}

/// Each thing once, where it was named first, as it was named last.
pub fn last_mentions<T, K: Ord>(items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut places = BTreeMap::new();
    let mut once: Vec<T> = Vec::new();
    for item in items {
        let at = *places.entry(key(&item)).or_insert(once.len());
        match once.get_mut(at) {
            Some(earlier) => *earlier = item,
            None => once.push(item),
        }
    }
    once
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_twice_is_found() {
        for (items, expected) in [
            (&[][..], false),
            (&[1], false),
            (&[1, 2, 9], false),
            (&[9, 1, 2], false),
            (&[1, 1], true),
            (&[2, 1, 2], true),
            (&[1, 2, 2, 3], true),
        ] {
            assert_eq!(any_twice(items.iter().copied()), expected, "{items:?}");
        }
    }

    #[test]
    fn the_last_mention_counts_at_the_place_of_the_first() {
        for (items, expected) in [
            (vec![], vec![]),
            (vec![(2, 'a'), (1, 'b')], vec![(2, 'a'), (1, 'b')]),
            (vec![(2, 'a'), (1, 'b'), (2, 'c'), (3, 'd'), (2, 'e')], vec![(2, 'e'), (1, 'b'), (3, 'd')]),
        ] {
            assert_eq!(last_mentions(items, |(number, _)| *number), expected);
        }
    }
}
