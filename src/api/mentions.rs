//! Lists of a request that name something twice. Kafka puts most of them into maps: of several mentions the last one counts.

/// Whether something is there twice. Lists come sorted, or short: one that is sorted costs one look at each element.
pub fn any_twice<T: Ord + Copy>(items: impl Iterator<Item = T> + Clone) -> bool {
    if items.clone().is_sorted_by(|one, next| one < next) {
        return false;
    }
    let mut all: Vec<T> = items.collect();
    all.sort_unstable();
    all.windows(2).any(|pair| pair[0] == pair[1])
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
}
