//! Mutations of the `metadata` target that know what it reads: a field of the JSON put to an end, taken out or doubled, and changes of
//! the sessions and topics that there are.

use std::collections::BTreeMap;

use alluvium::meta::entry::{Change, ConfigResource, Endpoint, Entry, TransferredPartitions};
use alluvium::types::{RunId, SessionId, TopicId};
use serde_json::{Number, Value};

use crate::edges::{edge, number, one, put};
use crate::messages::Gen;
use crate::metadata::furnished;

/// Says that an entry without its seal follows; see the target.
const OPEN_ENTRY: u8 = 1;

/// Changes `data`, of which `size` bytes are an input, and returns its new size; `None` leaves the change to libFuzzer.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let mut dice = Gen::new(u64::from(seed), 0, false);
    let new = match dice.below(4) {
        0 => drawn(&mut dice),
        1 | 2 => edited(&data[..size], &mut dice)?,
        _ => return None,
    };
    put(data, max_size, &new)
}

/// An entry that a broker might have written.
fn drawn(dice: &mut Gen) -> Vec<u8> {
    let changes = (0..=dice.below(4)).map(|_| change(dice)).collect();
    let entry = serde_json::to_string(&Entry::new(1 + number(dice) % 1000, 7, changes)).expect("an entry is JSON");
    [&[OPEN_ENTRY], &entry.as_bytes()[..entry.len() - 1]].concat()
}

/// The same document with some of its values changed, when it is JSON and its checksum is the target's to make.
fn edited(data: &[u8], dice: &mut Gen) -> Option<Vec<u8>> {
    let (what, content) = data.split_first()?;
    let brace: &[u8] = match what % 6 {
        1 | 5 => b"}",
        3 => b"",
        _ => return None,
    };
    let mut document: Value = serde_json::from_slice(&[content, brace].concat()).ok()?;
    for _ in 0..=dice.below(3) {
        let mut places = Vec::new();
        places_of(&document, String::new(), &mut places);
        let place = one(dice, &places);
        let words: Vec<String> = place.split('/').map(str::to_owned).collect();
        if *what % 6 == OPEN_ENTRY && words.last().is_some_and(|word| word == "changes") && dice.below(2) == 0 {
            let new = serde_json::to_value(change(dice)).ok()?;
            document.pointer_mut(place)?.as_array_mut()?.push(new);
        } else {
            edit(document.pointer_mut(place)?, dice);
        }
    }
    let text = document.to_string();
    Some([&[*what], &text.as_bytes()[..text.len() - brace.len()]].concat())
}

fn places_of(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| places_of(value, format!("{at}/{index}"), places));
        }
        Value::Object(fields) => {
            let plain = fields.iter().filter(|(name, _)| !name.contains(['/', '~']));
            plain.for_each(|(name, value)| places_of(value, format!("{at}/{name}"), places));
        }
        _ => {}
    }
    places.push(at);
}

fn edit(value: &mut Value, dice: &mut Gen) {
    match value {
        Value::Null => *value = Value::from("x"),
        Value::Bool(old) => *old = !*old,
        Value::Number(old) => {
            let new = edge(dice);
            *old =
                if dice.below(2) == 0 { Number::from(new) } else { Number::from(new.cast_signed() >> dice.below(64)) };
        }
        Value::String(old) => {
            let (topics, sessions) = known();
            *old = match dice.below(5) {
                0 => String::new(),
                1 => one(dice, &topics).to_string(),
                2 => one(dice, &sessions).to_string(),
                3 => "x".repeat(250),
                _ => format!("{old}x"),
            };
        }
        Value::Array(values) => {
            let at = dice.below(values.len().max(1) as u64) as usize;
            match values.get(at).cloned() {
                Some(_) if dice.below(2) == 0 => drop(values.remove(at)),
                Some(again) => values.push(again),
                None => values.push(Value::Null),
            }
        }
        Value::Object(fields) => {
            let names: Vec<String> = fields.keys().cloned().collect();
            if names.is_empty() || dice.below(3) == 0 {
                fields.insert("x".to_owned(), Value::from(1));
            } else {
                fields.remove(one(dice, &names));
            }
        }
    }
}

/// Ids that mean something to the image of the target, and some that do not.
fn known() -> (Vec<TopicId>, Vec<SessionId>) {
    let image = furnished();
    let topics = image.topics.keys().copied().chain([TopicId(0), TopicId(77)]);
    let sessions = image.sessions.keys().copied().chain([SessionId { revision: 9, random: 9 }]);
    (topics.collect(), sessions.collect())
}

fn change(dice: &mut Gen) -> Change {
    let (topics, sessions) = known();
    let (topic, session) = (*one(dice, &topics), *one(dice, &sessions));
    let ready = |dice: &mut Gen| (0..dice.below(3)).map(|_| *one(dice, &sessions)).collect();
    let claim = RunId { revision: 1 + number(dice) % 20, random: 9 };
    match dice.below(18) {
        0 => Change::Nop {},
        1 => Change::SetCluster { session_ttl_ms: number(dice) },
        2 => Change::OpenSession {
            node_id: number(dice) as i32,
            random: format!("{:016x}", number(dice)),
            endpoints: vec![Endpoint { listener: "L".to_owned(), host: "h".to_owned(), port: number(dice) as u16 }],
            rack: (dice.below(2) == 0).then(|| "r".to_owned()),
        },
        3 => Change::Ready { session },
        4 => Change::FenceSession { session, end: number(dice), ready: ready(dice) },
        5 => Change::GrantVacant { ready: ready(dice) },
        6 => Change::CreateTopic {
            id: if dice.below(2) == 0 { TopicId(u128::from(100 + dice.below(3))) } else { topic },
            name: (*one(dice, &["orders", "new", "newer", ""])).to_owned(),
            partitions: number(dice) as i32,
            replication_factor: number(dice) as i16,
            configs: BTreeMap::from([("retention.ms".to_owned(), number(dice).to_string())]),
            internal: dice.below(2) == 0,
        },
        7 => Change::DeleteTopic { id: topic },
        8 => Change::CreatePartitions { id: topic, count: number(dice) as i32 },
        9 => Change::AlterConfigs {
            resource: match dice.below(4) {
                0 => ConfigResource::Topic(topic),
                1 => ConfigResource::Broker(number(dice) as i32),
                2 => ConfigResource::Brokers,
                _ => ConfigResource::Group("g".to_owned()),
            },
            set: BTreeMap::from([("k".to_owned(), (dice.below(2) == 0).then(|| "v".to_owned()))]),
        },
        10 => Change::AdvanceLogStart {
            topic,
            offsets: (0..=dice.below(2)).map(|_| (number(dice) as i32, number(dice).cast_signed())).collect(),
        },
        11 => Change::ClaimMerge {
            session,
            from: number(dice) % 3,
            to: number(dice),
            by: *one(dice, &sessions),
            random: format!("{:016x}", 9),
        },
        12 => Change::CommitRun { claim, empty: dice.below(2) == 0 },
        13 => Change::EndClaim { claim },
        15 => Change::TransferLease {
            session,
            to: *one(dice, &sessions),
            through: number(dice),
            partitions: vec![TransferredPartitions {
                topic,
                indexes: (0..=dice.below(2)).map(|_| number(dice) as i32).collect(),
            }],
        },
        14 => Change::MoveTable { to: (*one(dice, &["bucket", "dynamodb://t"])).to_owned() },
        16 => Change::RaiseLevel { level: number(dice) as u16 },
        _ => Change::AllocateProducerIds { session, count: number(dice) as u32 },
    }
}
