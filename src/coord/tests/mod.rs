//! Tests of the pure core: a bench that speaks for members, tables of every state against every input, and random histories.

mod deletions;
mod histories;
mod joins;
mod offsets;
mod rebalances;
mod recorded;
mod runtime;
mod table;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::error::GroupError;
use super::group::{Group, State};
use super::message::{
    Commit, CommitPartition, Heartbeat, Input, Join, Joined, Leave, Limits, MemberName, Now, Reply, ReplyTo, Sync,
    Synced,
};
use super::partition::Partition;
use super::records::Record;
use crate::types::TopicId;

pub const GROUP: &str = "g";

pub fn limits() -> Limits {
    Limits { initial_rebalance_delay_ms: 0, ..Limits::from_settings(&crate::config::KafkaSettings::default()) }
}

/// A partition with one group, a clock, and everything that came out.
pub struct Bench {
    pub partition: Partition,
    pub now: Now,
    pub replies: BTreeMap<ReplyTo, Reply>,
    pub records: Vec<Record>,
    next: u64,
}

impl Bench {
    pub fn new(limits: Limits) -> Bench {
        let now = Now { wall_ms: 1_700_000_000_000, steady_ms: 1000 };
        Bench { partition: Partition::new(limits), now, replies: BTreeMap::new(), records: Vec::new(), next: 0 }
    }

    pub fn send(&mut self, input: impl FnOnce(ReplyTo) -> Input) -> ReplyTo {
        self.next += 1;
        let to = ReplyTo(self.next);
        let outputs = self.partition.step(GROUP, input(to), self.now);
        self.take(outputs);
        to
    }

    fn take(&mut self, outputs: super::message::Outputs) {
        self.records.extend(outputs.records);
        for (to, reply) in outputs.replies {
            assert!(self.replies.insert(to, reply).is_none(), "{to:?} is answered twice");
        }
    }

    /// Lets time pass, timer by timer.
    pub fn pass(&mut self, ms: i64) {
        let end = self.now.steady_ms + ms;
        while self.now.steady_ms < end {
            let next = self.partition.next_deadline().clamp(self.now.steady_ms + 1, end);
            self.now.wall_ms += next - self.now.steady_ms;
            self.now.steady_ms = next;
            for (_, outputs) in self.partition.tick(self.now) {
                self.take(outputs);
            }
        }
    }

    pub fn group(&self) -> &Group {
        self.partition.group(GROUP).expect("the group exists")
    }

    pub fn state(&self) -> State {
        self.group().state()
    }

    pub fn generation(&self) -> i32 {
        self.group().generation()
    }

    pub fn join(&mut self, join: Join) -> ReplyTo {
        self.send(|to| Input::Join(Join { reply: to, ..join }))
    }

    pub fn joined(&self, to: ReplyTo) -> &Joined {
        match self.replies.get(&to) {
            Some(Reply::Join(joined)) => joined,
            other => panic!("no answer to a join: {other:?}"),
        }
    }

    pub fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &str)]) -> ReplyTo {
        let assignments = assignments
            .iter()
            .map(|(id, bytes)| ((*id).to_owned(), Bytes::copy_from_slice(bytes.as_bytes())))
            .collect();
        self.send(|reply| {
            Input::Sync(Sync {
                reply,
                generation,
                member_id: member.to_owned(),
                instance_id: None,
                protocol_type: None,
                protocol_name: None,
                assignments,
            })
        })
    }

    pub fn synced(&self, to: ReplyTo) -> &Result<Synced, GroupError> {
        match self.replies.get(&to) {
            Some(Reply::Sync(synced)) => synced,
            other => panic!("no answer to a sync: {other:?}"),
        }
    }

    /// The assignment that a sync got.
    pub fn assigned(&self, to: ReplyTo) -> &[u8] {
        &self.synced(to).as_ref().expect("the sync succeeded").assignment
    }

    pub fn heartbeat(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        self.heartbeat_of(member, None, generation)
    }

    pub fn heartbeat_of(&mut self, member: &str, instance: Option<&str>, generation: i32) -> Result<(), GroupError> {
        let to = self.send(|reply| {
            Input::Heartbeat(Heartbeat {
                reply,
                generation,
                member_id: member.to_owned(),
                instance_id: instance.map(str::to_owned),
            })
        });
        self.done(to)
    }

    pub fn done(&self, to: ReplyTo) -> Result<(), GroupError> {
        match self.replies.get(&to) {
            Some(Reply::Heartbeat(result) | Reply::Deleted(result)) => *result,
            other => panic!("no answer: {other:?}"),
        }
    }

    pub fn leave(&mut self, member: &str, instance: Option<&str>) -> Result<(), GroupError> {
        let name = MemberName { member_id: member.to_owned(), instance_id: instance.map(str::to_owned) };
        let to = self.send(|reply| Input::Leave(Leave { reply, members: vec![name] }));
        match self.replies.get(&to) {
            Some(Reply::Leave(results)) => results[0].1,
            other => panic!("no answer to a leave: {other:?}"),
        }
    }

    pub fn commit(&mut self, member: &str, generation: i32, offset: i64) -> Result<(), GroupError> {
        self.commit_with(member, generation, commit_of("t", 0, offset), None)
    }

    pub fn commit_with(
        &mut self,
        member: &str,
        generation: i32,
        partition: CommitPartition,
        retention_ms: Option<i64>,
    ) -> Result<(), GroupError> {
        let to = self.send(|reply| {
            Input::Commit(Commit {
                reply,
                generation,
                member_id: member.to_owned(),
                instance_id: None,
                retention_ms,
                knows_group_not_found: true,
                partitions: vec![partition],
            })
        });
        match self.replies.get(&to) {
            Some(Reply::Partitions(results)) => results.as_ref().map_err(|error| *error).and_then(|results| results[0]),
            other => panic!("no answer to a commit: {other:?}"),
        }
    }

    /// A stable group of members that join with these ids; returns the ids in the order of joining. The first one leads.
    pub fn stable(&mut self, ids: &[&str]) -> i32 {
        let joins: Vec<ReplyTo> = ids.iter().map(|id| self.join(dynamic(id))).collect();
        // The first one was alone in its generation; it comes back when the others knock.
        if ids.len() > 1 {
            for id in ids {
                if self.group().members().any(|member| member.id == *id && member.awaiting_join.is_none()) {
                    self.join(rejoin(id));
                }
            }
        }
        assert_eq!(self.state(), State::CompletingRebalance, "{joins:?}");
        let generation = self.generation();
        for id in ids.iter().rev() {
            self.sync(id, generation, &[]);
        }
        let leader = self.group().leader().expect("there is a leader").to_owned();
        if self.state() != State::Stable {
            self.sync(&leader, generation, &[]);
        }
        assert_eq!(self.state(), State::Stable);
        generation
    }

    /// What a coordinator would know that reads the records written so far.
    pub fn replayed(&self) -> Partition {
        let mut partition = Partition::new(limits());
        for record in &self.records {
            partition.replay(&record.encode()).expect("own records can be read");
        }
        partition
    }
}

/// A new dynamic member that speaks a version before MEMBER_ID_REQUIRED and gets this id.
pub fn dynamic(new_id: &str) -> Join {
    Join {
        reply: ReplyTo(0),
        member_id: String::new(),
        new_member_id: new_id.to_owned(),
        instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/10.0.0.1".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), subscription(&["t"]))],
        requires_known_member_id: false,
        supports_skip_assignment: true,
    }
}

/// The same member joins again.
pub fn rejoin(id: &str) -> Join {
    Join { member_id: id.to_owned(), ..dynamic("unused") }
}

/// A static member that comes (back) without an id.
pub fn static_member(instance: &str, new_id: &str) -> Join {
    Join { instance_id: Some(instance.to_owned()), ..dynamic(new_id) }
}

pub fn with_protocols(join: Join, names: &[&str]) -> Join {
    Join { protocols: names.iter().map(|name| ((*name).to_owned(), subscription(&["t"]))).collect(), ..join }
}

/// Version 0 of the consumer protocol's subscription.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend_from_slice(&(topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend_from_slice(&(topic.len() as i16).to_be_bytes());
        bytes.extend_from_slice(topic.as_bytes());
    }
    bytes.extend_from_slice(&[0; 4]);
    Bytes::from(bytes)
}

pub fn commit_of(topic: &str, partition: i32, offset: i64) -> CommitPartition {
    CommitPartition {
        topic: topic.to_owned(),
        topic_id: TopicId(7),
        partition,
        offset,
        leader_epoch: 3,
        metadata: "m".to_owned(),
    }
}
