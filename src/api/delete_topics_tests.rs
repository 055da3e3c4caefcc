use std::collections::BTreeMap as Map;

use super::*;
use crate::meta::image::Topic;

fn image() -> Image {
    let mut image = Image::default();
    for (id, name, internal) in [(1, "one", false), (2, "two", false), (3, "__consumer_offsets", true)] {
        let topic = Topic {
            name: name.to_owned(),
            replication_factor: 1,
            internal,
            configs: Map::new(),
            partitions: Vec::new(),
        };
        image.topics.insert(TopicId(id), topic);
        image.names.insert(name.to_owned(), TopicId(id));
    }
    image
}

fn by_name(name: &str) -> Asked {
    Asked { name: Some(name.to_owned()), id: TopicId::ZERO }
}

fn by_id(id: u128) -> Asked {
    Asked { name: None, id: TopicId(id) }
}

#[tokio::test]
async fn requests_are_judged_as_in_kafka() {
    use ResponseError::{InvalidRequest, UnknownTopicId, UnknownTopicOrPartition};
    let both = Asked { name: Some("one".to_owned()), id: TopicId(1) };
    let maps = "The provided topic name maps to an ID that was already supplied.";
    type Answer = Result<u128, (ResponseError, &'static str)>;
    let cases: Vec<(Vec<Asked>, Vec<Answer>)> = vec![
        (vec![by_name("one"), by_id(2)], vec![Ok(1), Ok(2)]),
        (
            vec![by_name("none")],
            vec![Err((UnknownTopicOrPartition, "This server does not host this topic-partition."))],
        ),
        (vec![by_id(9)], vec![Err((UnknownTopicId, "This server does not host this topic ID."))]),
        (vec![by_id(0)], vec![Err((InvalidRequest, "Neither topic name nor id were specified."))]),
        (vec![both], vec![Err((InvalidRequest, "You may not specify both topic name and topic id."))]),
        (vec![by_name("one"), by_name("one")], vec![Err((InvalidRequest, "Duplicate topic name.")); 2]),
        (vec![by_id(1), by_id(1)], vec![Err((InvalidRequest, "Duplicate topic id.")); 2]),
        (vec![by_name("one"), by_id(1)], vec![Err((InvalidRequest, maps))]),
        (vec![by_id(1), by_name("one")], vec![Err((InvalidRequest, maps))]),
        (
            vec![by_id(1), by_id(1), by_name("one")],
            vec![
                Err((InvalidRequest, "Duplicate topic id.")),
                Err((InvalidRequest, "Duplicate topic id.")),
                Err((InvalidRequest, maps)),
            ],
        ),
    ];
    for (asked, answers) in cases {
        let (changes, rows) = delete(&image(), &asked, &duplicates(&asked).await);
        let deleted: Vec<Change> =
            answers.iter().flatten().map(|id| Change::DeleteTopic { id: TopicId(*id) }).collect();
        assert_eq!(changes, deleted, "{asked:?}");
        for (row, answer) in rows.into_iter().zip(answers) {
            match answer {
                Ok(id) => assert_eq!((row.id, row.refusal), (TopicId(id), None)),
                Err((error, message)) => {
                    let refusal = row.refusal.unwrap();
                    assert_eq!((refusal.error, refusal.message.as_deref().unwrap_or("")), (error, message));
                }
            }
        }
    }
    let asked = [by_name("__consumer_offsets")];
    assert!(delete(&image(), &asked, &duplicates(&asked).await).0.is_empty());
}
