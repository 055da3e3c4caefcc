//! Which names a topic may have (Kafka's `Topic.java`).

use std::collections::HashMap;

/// Longest name in characters.
pub const TOPIC_NAME_MAX_LENGTH: usize = 249;

/// The topic in which groups keep their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Topics that brokers keep for themselves.
pub const INTERNAL_TOPICS: [&str; 3] = [OFFSETS_TOPIC, "__transaction_state", "__share_group_state"];

/// The name of Kafka's own metadata log, which no client may create.
pub const METADATA_TOPIC: &str = "__cluster_metadata";

pub fn is_internal(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}

/// `Err` holds the sentence that Kafka answers with INVALID_TOPIC_EXCEPTION.
pub fn validate(name: &str) -> Result<(), String> {
    let reason = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." => "'.' is not allowed".to_owned(),
        ".." => "'..' is not allowed".to_owned(),
        _ if name.len() > TOPIC_NAME_MAX_LENGTH => {
            format!("the length of '{name}' is longer than the max allowed length {TOPIC_NAME_MAX_LENGTH}")
        }
        _ if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) => {
            format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
        }
        _ => return Ok(()),
    };
    Err(format!("Topic name is invalid: {reason}"))
}

const SEPARATORS: [char; 2] = ['.', '_'];

/// Names that differ only in `.` and `_` would share their metrics in Kafka, so the second one is refused.
pub fn collide(one: &str, other: &str) -> bool {
    one != other && one.len() == other.len() && unified(one).eq(unified(other))
}

fn unified(name: &str) -> impl Iterator<Item = u8> + '_ {
    name.bytes().map(|byte| if byte == b'.' { b'_' } else { byte })
}

/// Up to so many new names are compared with each that is there; for more, those are put in order first.
const COMPARED_ONE_BY_ONE: usize = 16;

/// Which of the names that are there collide with new ones. To compare a thousand new ones with a hundred thousand one by one takes half a
/// second, in which nothing else is decided.
pub struct Collisions<'a, I> {
    there: I,
    by_unified: Option<HashMap<Vec<u8>, &'a str>>,
}

impl<'a, I: Iterator<Item = &'a str> + Clone> Collisions<'a, I> {
    /// `new`: so many names will be asked for.
    pub fn new(there: I, new: usize) -> Collisions<'a, I> {
        let ordered = || {
            let separated = there.clone().filter(|name| name.contains(SEPARATORS));
            separated.map(|name| (unified(name).collect(), name)).collect()
        };
        let by_unified = (new > COMPARED_ONE_BY_ONE).then(ordered);
        Collisions { there, by_unified }
    }

    /// One that collides with this name.
    pub fn with(&self, name: &str) -> Option<&'a str> {
        if !name.contains(SEPARATORS) {
            return None;
        }
        if let Some(by_unified) = &self.by_unified {
            match by_unified.get(&unified(name).collect::<Vec<u8>>()) {
                // Of two that are there and collide one is known here.
                Some(same) if *same == name => {}
                found => return found.copied(),
            }
        }
        self.there.clone().find(|other| collide(other, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_names_are_compared_alike() {
        let there = ["a", "a.b", "a_b", "c.d.e", "x-y", "z_"];
        for new in [1, COMPARED_ONE_BY_ONE + 1] {
            let collisions = Collisions::new(there.iter().copied(), new);
            for (name, expected) in [
                ("a", None),
                ("a.b", Some("a_b")),
                ("a_b", Some("a.b")),
                ("c_d.e", Some("c.d.e")),
                ("c.d.e", None),
                ("c.d", None),
                ("x.y", None),
                ("z.", Some("z_")),
            ] {
                assert_eq!(collisions.with(name), expected, "{name} of {new}");
            }
        }
    }

    #[test]
    fn names_are_judged_as_in_kafka() {
        for good in ["a", "A-b_c.9", "...", &"x".repeat(249)] {
            assert_eq!(validate(good), Ok(()), "{good}");
        }
        for (bad, reason) in [
            ("", "the empty string is not allowed"),
            (".", "'.' is not allowed"),
            ("..", "'..' is not allowed"),
            ("a b", "'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"),
            ("ä", "'ä' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"),
        ] {
            assert_eq!(validate(bad), Err(format!("Topic name is invalid: {reason}")));
        }
        assert!(
            validate(&"x".repeat(250)).is_err_and(|text| text.ends_with("is longer than the max allowed length 249"))
        );
    }

    #[test]
    fn dots_and_underscores_collide() {
        assert!(collide("a.b", "a_b"));
        assert!(collide("a._", "a_."));
        for (one, other) in [("a.b", "a.b"), ("a.b", "a-b"), ("a.b", "a.bc"), ("ab", "a_b")] {
            assert!(!collide(one, other), "{one} {other}");
        }
    }
}
