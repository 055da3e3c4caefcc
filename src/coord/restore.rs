//! A group out of its records: what a coordinator knows after it has read the log.

use super::group::{Group, Member, State, Step};
use super::message::{Limits, Now, Outputs};
use super::records::{GenerationMember, GroupGeneration, Record};

impl Group {
    /// Applies a record of this group. A generation with members is stable again, one without is empty.
    pub fn restore(&mut self, record: Record) {
        match record {
            Record::Offset { topic, partition, value: Some(value), .. } => self.offsets.set(&topic, partition, value),
            Record::Offset { topic, partition, value: None, .. } => {
                self.offsets.remove(&topic, partition);
            }
            Record::Group { value, .. } => self.restore_generation(value),
        }
    }

    fn restore_generation(&mut self, value: Option<GroupGeneration>) {
        self.stored = value.is_some();
        let value = value.unwrap_or_default();
        self.members.clear();
        self.metadata_bytes = 0;
        self.statics.clear();
        self.state = if value.members.is_empty() { State::Empty } else { State::Stable };
        self.generation = value.generation;
        self.protocol_type = Some(value.protocol_type).filter(|kind| !kind.is_empty());
        self.leader = value.leader;
        self.state_since_ms = value.state_since_ms;
        let protocol = value.protocol.clone().unwrap_or_default();
        for member in value.members {
            if let Some(instance_id) = &member.instance_id {
                self.statics.insert(instance_id.clone(), member.member_id.clone());
            }
            let member = restored_member(member, &protocol);
            self.metadata_bytes += member.metadata_bytes();
            self.members.insert(member.id.clone(), member);
        }
        self.reserve();
        self.protocol_name = value.protocol;
        self.subscribed = self.compute_subscribed();
    }

    /// The coordinator serves from now on: members have a whole session to show themselves. A group over its size
    /// rebalances, so that the last ones to come back find no place.
    pub fn resume(&mut self, limits: &Limits, now: Now) -> Outputs {
        let mut out = Outputs::default();
        for member_id in self.members.keys().cloned().collect::<Vec<_>>() {
            self.set_session_timer(now, &member_id);
        }
        if self.members.len() > limits.group_max_size {
            // Nothing is assigned here, so no room is asked for.
            self.prepare_rebalance(&mut Step { limits, held: 0, now, out: &mut out });
        }
        out
    }
}

fn restored_member(member: GenerationMember, protocol: &str) -> Member {
    Member {
        id: member.member_id,
        instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: member.session_timeout_ms,
        protocols: vec![(protocol.to_owned(), member.subscription)],
        assignment: member.assignment,
        awaiting_join: None,
        awaiting_sync: None,
        is_new: false,
    }
}
