//! Which session gets a partition: rendezvous hashing over node ids.
//!
//! Part of the format: every broker applies the same grants, so neither this function nor its constants ever change. The score of
//! (topic id, partition, node id) is, in wrapping 64-bit arithmetic,
//!
//! ```text
//! mix(x): x ^= x >> 30; x *= 0xbf58476d1ce4e5b9; x ^= x >> 27; x *= 0x94d049bb133111eb; x ^= x >> 31      (splitmix64)
//! a = mix(high half of the topic id + 0x9e3779b97f4a7c15)
//! b = mix(a ^ low half of the topic id)
//! c = mix(b ^ (partition as 32 bits << 32 | node id as 32 bits))
//! ```
//!
//! The highest score wins; of two sessions with one score (two lives of one node id) the greater session id, the later one.

use crate::types::{NodeId, SessionId, TopicId};

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The weight of a node for a partition.
pub fn score(topic: TopicId, partition: i32, node: NodeId) -> u64 {
    let high = (topic.0 >> 64) as u64;
    let low = topic.0 as u64;
    let place = (u64::from(partition.cast_unsigned()) << 32) | u64::from(node.cast_unsigned());
    mix(mix(mix(high.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ low) ^ place)
}

/// The session that gets the partition; `None` if there is no candidate. The order of the candidates does not matter.
pub fn choose(topic: TopicId, partition: i32, candidates: &[(SessionId, NodeId)]) -> Option<SessionId> {
    candidates
        .iter()
        .max_by_key(|(session, node)| (score(topic, partition, *node), *session))
        .map(|(session, _)| *session)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(revision: u64) -> SessionId {
        SessionId { revision, random: 7 }
    }

    #[test]
    fn spreads_evenly_and_moves_only_the_share_of_a_leaver() {
        let candidates: Vec<_> = (1..=5).map(|node| (session(node), node as NodeId)).collect();
        let mut counts = [0u32; 6];
        for partition in 0..5000 {
            let owner = choose(TopicId(0xabc << 70), partition, &candidates).unwrap();
            counts[owner.revision as usize] += 1;
            let without: Vec<_> = candidates.iter().copied().filter(|(id, _)| id.revision != 3).collect();
            let next = choose(TopicId(0xabc << 70), partition, &without).unwrap();
            assert!(owner.revision == 3 || owner == next);
        }
        assert!(counts[1..].iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_later_life_of_a_node_wins() {
        assert_eq!(choose(TopicId(1), 0, &[(session(9), 1), (session(4), 1)]), Some(session(9)));
        assert_eq!(choose(TopicId(1), 0, &[]), None);
    }
}
