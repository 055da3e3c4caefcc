//! Histories that were played to Apache Kafka 4.3.1, with what it answered (`recorded.txt`), played to this coordinator.
//!
//! The recording has no passing of time: sessions of half an hour, no initial delay. `O n kind …` is request number n, `R n …` an
//! answer that came after it and before the next request (to this or an earlier one). Members are named by the request that
//! made their ids. Two differences are by design: a request that a later one of the same member replaces gets an
//! answer here, where Kafka leaves it open; so does a member that waits for an assignment when it is removed.

use super::super::message::DeleteOffsets;
use super::*;

const RECORDED: &str = include_str!("recorded.txt");

/// What may be said here and not by Kafka.
const REPLACED_JOIN: &str = "join 27";
const REMOVED_SYNC: &str = "sync 25";
const REPLACED_SYNC: &str = "sync 27";

struct Player {
    bench: Bench,
    /// Request number of each reply that is awaited.
    numbers: BTreeMap<ReplyTo, usize>,
    told: usize,
}

fn code(result: Result<(), GroupError>) -> i16 {
    result.err().map_or(0, GroupError::code)
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn name(text: &str) -> String {
    if text == "-" { String::new() } else { text.to_owned() }
}

fn instance(text: &str) -> Option<String> {
    (text != "-").then(|| text.to_owned())
}

fn metadata(choice: &str) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1];
    bytes.push(choice.parse().expect("a number"));
    Bytes::from(bytes)
}

impl Player {
    fn play(&mut self, number: usize, words: &[&str]) -> Vec<String> {
        let input: Box<dyn FnOnce(ReplyTo) -> Input> = match words {
            ["join", slot, instance_id, member, version, protocols, choice] => {
                let join = recorded_join(number, slot, instance_id, member, version, (protocols, choice));
                Box::new(move |reply| Input::Join(Join { reply, ..join }))
            }
            ["sync", _, instance_id, member, generation, list] => {
                let assignments = list.split(',').filter(|id| *id != "-");
                let sync = Sync {
                    reply: ReplyTo(0),
                    generation: generation.parse().expect("a number"),
                    member_id: name(member),
                    instance_id: instance(instance_id),
                    protocol_type: Some("consumer".to_owned()),
                    protocol_name: Some("range".to_owned()),
                    assignments: assignments
                        .map(|id| (id.to_owned(), Bytes::from(format!("{id}@{generation}"))))
                        .collect(),
                };
                Box::new(move |reply| Input::Sync(Sync { reply, ..sync }))
            }
            ["heartbeat", _, instance_id, member, generation] => {
                let (member_id, instance_id) = (name(member), instance(instance_id));
                let generation = generation.parse().expect("a number");
                Box::new(move |reply| Input::Heartbeat(Heartbeat { reply, generation, member_id, instance_id }))
            }
            ["leave", _, instance_id, member] => {
                let members = vec![MemberName { member_id: name(member), instance_id: instance(instance_id) }];
                Box::new(move |reply| Input::Leave(Leave { reply, members }))
            }
            ["commit", _, instance_id, member, generation, partition] => {
                let partition = commit_of("t", partition.parse().expect("a number"), number as i64);
                let commit = Commit {
                    reply: ReplyTo(0),
                    generation: generation.parse().expect("a number"),
                    member_id: name(member),
                    instance_id: instance(instance_id),
                    retention_ms: None,
                    knows_group_not_found: true,
                    partitions: vec![partition],
                };
                Box::new(move |reply| Input::Commit(Commit { reply, ..commit }))
            }
            ["deleteoffset", topic, partition] => {
                let partitions = vec![((*topic).to_owned(), partition.parse().expect("a number"))];
                Box::new(move |reply| Input::DeleteOffsets(DeleteOffsets { reply, partitions }))
            }
            ["deletegroup"] => Box::new(Input::DeleteGroup),
            ["fetch"] => return vec![self.fetch()],
            ["describe"] => return vec![self.describe()],
            other => panic!("{other:?} is no request"),
        };
        let to = self.bench.send(input);
        self.numbers.insert(to, number);
        self.told(to)
    }

    /// The new answers, as the recording writes them.
    fn told(&mut self, _newest: ReplyTo) -> Vec<String> {
        let done: Vec<ReplyTo> =
            self.numbers.keys().copied().filter(|to| self.bench.replies.contains_key(to)).collect();
        let mut lines = Vec::new();
        for to in done {
            let number = self.numbers.remove(&to).expect("awaited");
            let text = line(&self.bench.replies[&to]);
            lines.push((number, text));
        }
        self.told += lines.len();
        lines.sort();
        lines.into_iter().map(|(number, text)| format!("{number} {text}")).collect()
    }

    fn fetch(&self) -> String {
        let group = self.bench.partition.group(GROUP);
        let mut offsets: Vec<String> = group
            .iter()
            .flat_map(|group| group.offsets.iter().map(|(_, index, offset)| format!("{index}={}", offset.offset)))
            .collect();
        offsets.sort();
        format!("fetch {}", dash(&offsets.join(",")))
    }

    fn describe(&self) -> String {
        match self.bench.partition.group(GROUP) {
            None => "describe Dead - 0".to_owned(),
            Some(group) => {
                let kind = dash(group.protocol_type().unwrap_or(""));
                format!("describe {} {kind} {}", group.state().name(), group.members().count())
            }
        }
    }

    /// Kafka takes any member for the next leader when the leader goes; the recording says which one it was.
    fn adopt_leader(&mut self, ahead: &[&str]) {
        let next = ahead.iter().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            ["R", _, "join", "0", _, leader, ..] => Some(leader.to_owned()),
            _ => None,
        });
        if let Some(leader) = next
            && let Some(group) = self.bench.partition.group_mut(GROUP)
            && group.state() == State::PreparingRebalance
            && group.members.contains_key(&leader)
        {
            group.leader = Some(leader);
        }
    }
}

fn recorded_join(
    number: usize,
    slot: &str,
    instance_id: &str,
    member: &str,
    version: &str,
    (protocols, choice): (&str, &str),
) -> Join {
    let version: i16 = version.parse().expect("a number");
    let names: &[&str] = if protocols == "0" { &["range"] } else { &["range", "sticky"] };
    Join {
        member_id: name(member),
        new_member_id: format!("m{number}"),
        instance_id: instance(instance_id),
        client_id: format!("slot {slot}"),
        session_timeout_ms: 1_800_000,
        rebalance_timeout_ms: 1_800_000,
        protocols: names.iter().map(|name| ((*name).to_owned(), metadata(choice))).collect(),
        requires_known_member_id: version >= 4,
        supports_skip_assignment: version >= 9,
        ..dynamic("unused")
    }
}

fn line(reply: &Reply) -> String {
    match reply {
        Reply::Join(joined) => {
            let mut members: Vec<&str> = joined.members.iter().map(|member| member.member_id.as_str()).collect();
            members.sort_unstable();
            let error = joined.error.map_or(0, GroupError::code);
            let names = [dash(&joined.leader), dash(&joined.member_id)].join(" ");
            let skip = i32::from(joined.skip_assignment);
            format!("join {error} {} {names} {skip} {}", joined.generation, dash(&members.join(",")))
        }
        Reply::Sync(Err(error)) => format!("sync {} -", error.code()),
        Reply::Sync(Ok(synced)) => format!("sync 0 {}", dash(std::str::from_utf8(&synced.assignment).expect("text"))),
        Reply::Heartbeat(result) | Reply::Deleted(result) => format!("done {}", code(*result)),
        Reply::Leave(results) => format!("done {}", code(results[0].1)),
        Reply::Partitions(Err(error)) => format!("done {}", error.code()),
        Reply::Partitions(Ok(results)) => format!("done {}", code(results[0])),
        Reply::Seen => panic!("the core looks at nothing"),
    }
}

#[test]
fn kafka_answers_the_same() {
    let lines: Vec<&str> = RECORDED.lines().collect();
    let mut player = None;
    let mut answers = 0;
    for (at, recorded) in lines.iter().enumerate() {
        let words: Vec<&str> = recorded.split(' ').collect();
        match words[..] {
            ["H", _] => {
                player = Some(Player { bench: Bench::new(limits()), numbers: BTreeMap::new(), told: 0 });
            }
            ["O", number, ref request @ ..] => {
                let player = player.as_mut().expect("a history begins with H");
                player.adopt_leader(&lines[at..]);
                let number: usize = number.parse().expect("a number");
                let mut ours = player.play(number, request);
                if matches!(request, ["fetch"] | ["describe"]) {
                    ours = vec![format!("{number} {}", ours[0])];
                }
                let theirs: Vec<&str> =
                    lines[at + 1..].iter().take_while(|line| line.starts_with("R ")).map(|line| &line[2..]).collect();
                answers += theirs.len();
                compare(&lines[..=at], &ours, &theirs);
            }
            ["R", ..] => {}
            ref other => panic!("{other:?}"),
        }
    }
    assert!(answers > 1000, "{answers} answers are no comparison");
}

fn compare(past: &[&str], ours: &[String], theirs: &[&str]) {
    let allowed = |line: &&String| {
        [REPLACED_JOIN, REMOVED_SYNC, REPLACED_SYNC].iter().any(|kind| line.contains(kind))
            && !theirs.contains(&line.as_str())
    };
    let ours: Vec<&str> = ours.iter().filter(|line| !allowed(line)).map(String::as_str).collect();
    let start = past.iter().rposition(|line| line.starts_with("H ")).unwrap_or(0);
    assert_eq!(ours, theirs, "after\n{}", past[start..].join("\n"));
}
