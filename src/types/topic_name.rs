//! Which names a topic may have (Kafka's `Topic.java`).

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

/// Names that differ only in `.` and `_` would share their metrics in Kafka, so the second one is refused.
pub fn collide(one: &str, other: &str) -> bool {
    one != other && one.len() == other.len() && unified(one).eq(unified(other))
}

fn unified(name: &str) -> impl Iterator<Item = u8> + '_ {
    name.bytes().map(|byte| if byte == b'.' { b'_' } else { byte })
}

#[cfg(test)]
mod tests {
    use super::*;

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
