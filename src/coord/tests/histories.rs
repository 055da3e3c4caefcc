//! Random histories: whatever happens, invariants hold after every step, and the log tells the same story as memory.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::group::Member;
use super::super::message::DeleteOffsets;
use super::*;

const IDS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Event {
    New { id: usize, fixed: bool, known: bool, protocols: usize },
    Again { id: usize, protocols: usize },
    Sync { id: usize, stale: bool },
    Heartbeat { id: usize, stale: bool },
    Leave { id: usize },
    Commit { id: usize, partition: i32, simple: bool },
    DeleteOffsets { partition: i32 },
    DeleteGroup,
    TopicDeleted,
    Pass { ms: i64 },
    Reload,
}

fn event() -> impl Strategy<Value = Event> {
    let id = 0..IDS.len();
    prop_oneof![
        3 => (id.clone(), any::<bool>(), any::<bool>(), 0..3usize)
            .prop_map(|(id, fixed, known, protocols)| Event::New { id, fixed, known, protocols }),
        4 => (id.clone(), 0..3usize).prop_map(|(id, protocols)| Event::Again { id, protocols }),
        6 => (id.clone(), any::<bool>()).prop_map(|(id, stale)| Event::Sync { id, stale: stale && id == 0 }),
        2 => (id.clone(), any::<bool>()).prop_map(|(id, stale)| Event::Heartbeat { id, stale }),
        1 => id.clone().prop_map(|id| Event::Leave { id }),
        3 => (id, 0..4i32, any::<bool>()).prop_map(|(id, partition, simple)| Event::Commit { id, partition, simple }),
        1 => (0..4i32).prop_map(|partition| Event::DeleteOffsets { partition }),
        1 => Just(Event::DeleteGroup),
        1 => Just(Event::TopicDeleted),
        3 => prop_oneof![Just(50), Just(4_000), Just(11_000), Just(70_000)].prop_map(|ms| Event::Pass { ms }),
        1 => Just(Event::Reload),
    ]
}

fn protocols(choice: usize) -> &'static [&'static str] {
    [&["range"][..], &["range", "sticky"], &["sticky", "range"]][choice]
}

/// A history's members: numbered ids, so that no id is ever given twice.
struct World {
    bench: Bench,
    current: BTreeMap<usize, String>,
    made: usize,
}

impl World {
    fn apply(&mut self, event: &Event) {
        let bench = &mut self.bench;
        let name = |id: &usize| self.current.get(id).cloned().unwrap_or_else(|| "nobody".to_owned());
        let generation = bench.partition.group(GROUP).map_or(0, Group::generation);
        match event {
            Event::New { id, fixed, known, protocols: choice } => {
                self.made += 1;
                let new_id = format!("{}-{}", IDS[*id], self.made);
                let join = if *fixed { static_member(IDS[*id], &new_id) } else { dynamic(&new_id) };
                let join = Join { requires_known_member_id: *known, ..with_protocols(join, protocols(*choice)) };
                self.current.insert(*id, new_id);
                bench.join(join);
            }
            Event::Again { id, protocols: choice } => {
                let join = with_protocols(rejoin(&name(id)), protocols(*choice));
                bench.join(join);
            }
            Event::Sync { id, stale } => {
                let member = name(id);
                let assignment = format!("of generation {generation}");
                bench.sync(&member, generation - i32::from(*stale), &[(&member, &assignment)]);
            }
            Event::Heartbeat { id, stale } => {
                let member = name(id);
                let _ = bench.heartbeat(&member, generation - i32::from(*stale));
            }
            Event::Leave { id } => {
                let member = name(id);
                let _ = bench.leave(&member, None);
            }
            Event::Commit { id, partition, simple } => {
                let (member, generation) = if *simple { (String::new(), -1) } else { (name(id), generation) };
                let offset = i64::from(*partition) + self.made as i64;
                let _ = bench.commit_with(&member, generation, commit_of("t", *partition, offset), None);
            }
            Event::DeleteOffsets { partition } => {
                let partitions = vec![("t".to_owned(), *partition)];
                bench.send(|reply| Input::DeleteOffsets(DeleteOffsets { reply, partitions }));
            }
            Event::DeleteGroup => {
                bench.send(Input::DeleteGroup);
            }
            Event::TopicDeleted => {
                bench.send(|_| Input::TopicsDeleted([("t".to_owned(), TopicId(7))].into()));
            }
            Event::Pass { ms } => bench.pass(*ms),
            Event::Reload => {
                bench.partition = bench.replayed();
                for (_, outputs) in bench.partition.loaded(bench.now) {
                    bench.take(outputs);
                }
            }
        }
    }
}

fn check(bench: &Bench) {
    let Some(group) = bench.partition.group(GROUP) else { return };
    let ids: BTreeSet<&String> = group.members.keys().collect();
    assert_eq!(
        group.state() == State::Empty,
        ids.is_empty() && !group.initial && group.state() != State::PreparingRebalance
    );
    assert!(!group.is_vacant(), "a vacant group is dropped");
    if let Some(leader) = group.leader() {
        assert!(group.members.contains_key(leader), "the leader is a member");
    } else {
        assert!(group.members.is_empty(), "members have a leader");
    }
    for (instance, id) in &group.statics {
        assert_eq!(group.members[id].instance_id.as_ref(), Some(instance));
    }
    assert_eq!(group.statics.len(), group.members.values().filter(|member| member.instance_id.is_some()).count());
    let brought = group.members().map(Member::metadata_bytes).sum::<usize>();
    let is_settled = matches!(group.state(), State::Empty | State::Stable);
    assert!(group.metadata_bytes() >= brought, "what members hold is counted");
    assert!(!is_settled || group.metadata_bytes() == brought, "nothing is reserved outside of a rebalance");
    assert!(group.pending_join.iter().all(|id| !group.members.contains_key(id)));
    assert!(group.pending_sync.iter().all(|id| group.members.contains_key(id)));
    for member in group.members() {
        let (joins, syncs) = (member.awaiting_join.is_some(), member.awaiting_sync.is_some());
        assert!(!joins || group.state() == State::PreparingRebalance, "{}: joins in {:?}", member.id, group.state());
        assert!(!syncs || group.state() == State::CompletingRebalance, "{}: syncs in {:?}", member.id, group.state());
        for waiting in [member.awaiting_join, member.awaiting_sync].into_iter().flatten() {
            assert!(!bench.replies.contains_key(&waiting), "answered, but still waiting");
        }
    }
    // Somebody or something always moves the group on.
    if !group.members.is_empty() {
        assert!(group.next_deadline().is_some(), "{:?} without a timer", group.state());
    }
    assert!(group.state() != State::PreparingRebalance || group.timers.next_deadline().is_some());
}

/// What the log tells must be what memory holds, as far as anybody was told of it.
fn check_replay(bench: &Bench) {
    let replayed = bench.replayed();
    let (memory, log) = (bench.partition.group(GROUP), replayed.group(GROUP));
    let offsets = |group: Option<&Group>| group.map(|group| group.offsets.clone()).unwrap_or_default();
    assert_eq!(offsets(memory), offsets(log));
    let Some(memory) = memory else {
        assert!(log.is_none(), "the log knows a group that memory forgot");
        return;
    };
    assert_eq!(memory.stored, log.is_some_and(|group| group.stored));
    let settled = matches!(memory.state(), State::Stable | State::Empty);
    if let Some(log) = log.filter(|_| settled && memory.stored) {
        let view = |group: &Group| {
            let members: Vec<_> = group
                .members()
                .map(|member| (member.id.clone(), member.instance_id.clone(), member.assignment.clone()))
                .collect();
            let names = (group.protocol_type.clone(), group.protocol_name.clone(), group.leader.clone());
            (group.state, group.generation, names, members, group.subscribed.clone(), group.state_since_ms)
        };
        assert_eq!(view(memory), view(log));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_and_the_log_agrees(events in prop::collection::vec(event(), 1..80), delay in 0..2i64) {
        let limits = Limits { initial_rebalance_delay_ms: delay * 3000, ..limits() };
        let mut world = World { bench: Bench::new(limits), current: BTreeMap::new(), made: 0 };
        for event in &events {
            world.apply(event);
            check(&world.bench);
            check_replay(&world.bench);
        }
    }
}
