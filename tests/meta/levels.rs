//! Feature levels: what may be appended when, who may raise them, and what older programs can read.

use std::sync::Arc;

use alluvium::meta::entry::{Change, Endpoint, Entry, TransferredPartitions};
use alluvium::meta::image::Image;
use alluvium::meta::rules::{self, RuleError};
use alluvium::meta::table::bucket::BucketTable;
use alluvium::meta::{MetaError, ProposeError, level, snapshot};
use alluvium::types::{FEATURE_LEVEL, RunId, TopicId};

use crate::golden::golden;
use crate::machine::apply;
use crate::world::{World, always, open_session_at, session, topic, ttl};

/// Sessions 1 and 2 are ready and support so much; session 1 holds partition 0 of topic 5.
fn image(first: u16, second: u16) -> Image {
    let mut image = Image::default();
    apply(&mut image, vec![open_session_at(1, 7, first)]);
    apply(&mut image, vec![Change::Ready { session: session(1, 7) }, topic(5, "a", 1)]);
    apply(&mut image, vec![open_session_at(2, 7, second)]);
    apply(&mut image, vec![Change::Ready { session: session(3, 7) }]);
    image
}

fn raise(level: u16) -> Change {
    Change::RaiseLevel { level }
}

/// All changes that version 2 brought, but for the raise and the move.
fn of_version_2() -> Vec<Change> {
    let (one, other) = (session(1, 7), session(3, 7));
    let partitions = vec![TransferredPartitions { topic: TopicId(5), indexes: vec![0] }];
    let claim = RunId { revision: 6, random: 9 };
    vec![
        Change::TransferLease { session: one, to: other, through: 4, partitions },
        Change::ClaimMerge { session: one, from: 0, to: 3, by: one, random: format!("{:016x}", 9) },
        Change::CommitRun { claim, empty: false },
        Change::EndClaim { claim },
    ]
}

#[test]
fn a_level_is_raised_when_all_open_sessions_support_it() {
    // (what the two sessions support, the level asked for, whether it may be)
    for (first, second, asked, allowed) in [
        (2, 2, 2, true),
        (2, 3, 2, true),
        (3, 3, 3, false),
        (2, 3, 3, false),
        (0, 2, 2, false),
        (2, 0, 2, false),
        (1, 2, 2, false),
        (2, 2, 1, false),
        (2, 2, 0, false),
    ] {
        let found = rules::check(&image(first, second), &raise(asked));
        assert_eq!(found.is_ok(), allowed, "{first}, {second}, {asked}: {found:?}");
    }
    let mut image = image(2, 0);
    let refused = RuleError::Unsupported { level: 2, session: session(3, 7), supported: 1 };
    assert_eq!(rules::check(&image, &raise(2)), Err(refused));
    apply(&mut image, vec![Change::FenceSession { session: session(3, 7), end: 1, ready: vec![] }]);
    assert_eq!(rules::check(&image, &raise(2)), Ok(()), "who is over is not asked");
}

#[test]
fn nothing_is_appended_that_the_level_does_not_know() {
    let mut low = image(2, 2);
    for change in of_version_2() {
        assert_eq!(rules::check(&low, &change), Err(RuleError::Level { needed: 2, level: 1 }), "{change:?}");
        assert_eq!(Entry::new(9, 1, vec![ttl(1), change]).version, 2);
    }
    assert_eq!(rules::check(&low, &Change::MoveTable { to: "elsewhere".to_owned() }), Ok(()), "it stops everybody");
    assert_eq!(rules::check(&low, &open_session_at(3, 1, 0)), Ok(()));
    apply(&mut low, vec![raise(2)]);
    assert_eq!(low.level, 2);
    for change in of_version_2() {
        assert!(!matches!(rules::check(&low, &change), Err(RuleError::Level { .. })), "{change:?}");
        let alone = rules::check(&low, &change);
        // A claim that is committed or ended has to be there first.
        assert!(alone.is_ok() || matches!(alone, Err(RuleError::UnknownClaim { .. })), "{change:?}: {alone:?}");
    }
    for (supported, allowed) in [(0, false), (1, false), (2, true), (3, true)] {
        let open = rules::check(&low, &open_session_at(3, 1, supported));
        assert_eq!(open.is_ok(), allowed, "a session of level {supported}: {open:?}");
    }
    assert!(rules::check(&low, &raise(2)).is_err() && rules::check(&low, &raise(1)).is_err());
}

/// Whatever the rules say: behind a change of a version nobody can read who does not know that version.
#[test]
fn the_level_is_never_below_what_stands_in_the_table() {
    for change in of_version_2().into_iter().chain([raise(2), Change::MoveTable { to: "elsewhere".to_owned() }]) {
        let mut image = image(0, 0);
        assert_eq!(image.level, 1);
        apply(&mut image, vec![change.clone()]);
        assert_eq!(image.level, 2, "{change:?}");
        apply(&mut image, vec![raise(1), ttl(5)]);
        assert_eq!(image.level, 2, "it never falls");
    }
    let above = Entry::new(1, 1, vec![raise(FEATURE_LEVEL + 1)]);
    assert_eq!(above.version, FEATURE_LEVEL + 1);
    let error = Entry::decode(1, &above.encode()).unwrap_err().to_string();
    assert!(error.contains("version 3 is unknown") && error.contains("feature level 3 or above"), "{error}");
    let hidden = Entry { version: 2, ..above };
    assert!(Entry::decode(1, &hidden.encode()).is_err(), "version 2 has no such level");
}

#[test]
fn a_snapshot_says_the_level_in_its_version() {
    for (level, mut image) in [(1, image(0, 2)), (2, image(2, 2))] {
        if level == 2 {
            apply(&mut image, vec![raise(2)]);
        }
        let bytes = snapshot::encode(&image);
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains(&format!("\"version\":{level},")) && !text.contains("\"level\""), "{text}");
        assert_eq!(snapshot::decode(image.revision, &bytes).unwrap(), image);
    }
}

/// The first entry of a cluster: ttl, level, session, with the endpoint that tells the level.
#[test]
fn a_founding_is_written_and_read_as_ever() {
    let client = Endpoint { listener: "PLAINTEXT".to_owned(), host: "broker-1.example".to_owned(), port: 9092 };
    let open = Change::OpenSession {
        node_id: 1,
        random: format!("{:016x}", 0xabc),
        endpoints: vec![client, level::endpoint(2)],
        rack: None,
    };
    let entry = Entry::new(1, 5, vec![ttl(10_000), raise(2), open]);
    let file = golden("entry-founding.json", &entry.encode());
    assert_eq!(String::from_utf8_lossy(&file), String::from_utf8_lossy(&entry.encode()));
    assert_eq!(Entry::decode(1, &file).unwrap(), entry);
    let mut image = Image::default();
    image.apply(&entry).unwrap();
    assert_eq!((image.level, image.sessions[&session(1, 0xabc)].level()), (2, 2));
    assert_eq!(level::supported_by_all(&image), Some(2));
}

/// The race that the rule is about: an older session opens at the very revision at which somebody would raise the level.
#[tokio::test(start_paused = true)]
async fn an_older_session_that_opens_first_keeps_the_level() {
    let world = World::new();
    let (a, b) = (world.broker(1).await, world.broker(2).await);
    a.propose(always(vec![open_session_at(1, 7, 2)])).await.unwrap();
    b.catch_up().await.unwrap();
    b.propose(always(vec![open_session_at(2, 7, 0)])).await.unwrap();
    assert_eq!(a.read(|image| (image.revision, level::supported_by_all(image))), (1, Some(2)), "a does not know yet");
    let raised = a.propose(|image: &Image| Ok::<_, std::convert::Infallible>(level::raise(image, 2))).await;
    assert_eq!((raised.unwrap(), a.read(|image| image.level)), (2, 1), "nothing is appended");
    let forced = a.propose(always(vec![raise(2)])).await;
    assert!(matches!(forced, Err(ProposeError::Rule(RuleError::Unsupported { .. }))), "{forced:?}");
    b.propose(always(vec![Change::FenceSession { session: session(2, 7), end: 0, ready: vec![] }])).await.unwrap();
    a.propose(always(vec![of_version_2().remove(1)])).await.expect_err("not at level 1");
    a.propose(always(vec![raise(2), of_version_2().remove(1)])).await.unwrap();
    assert_eq!(a.read(|image| image.level), 2, "one entry may raise the level and use it");
}

/// What the simulation has for older programs: they end at the first entry or snapshot above what they support.
#[tokio::test(start_paused = true)]
async fn an_older_program_ends_at_what_it_does_not_know() {
    for generation in [10, 1000] {
        let mut world = World::new();
        (world.options.generation, world.options.snapshot_every) = (generation, generation);
        let newer = world.broker(1).await;
        world.options.supports = 1;
        let older = world.broker(2).await;
        newer.propose(always(vec![open_session_at(1, 7, 2)])).await.unwrap();
        assert_eq!((older.catch_up().await.unwrap(), older.supports()), (1, 1));
        newer.propose(always(vec![raise(2)])).await.unwrap();
        let error = older.catch_up().await.unwrap_err().to_string();
        assert!(error.contains("version 2 is unknown") && error.contains("up to 1"), "{error}");
        assert!(matches!(older.propose(always(vec![ttl(5)])).await, Err(ProposeError::Meta(MetaError::Stopped(_)))));
        // With generations of 10 a snapshot is all that is left of the beginning.
        for count in 0..30 {
            newer.propose(always(vec![ttl(10_000 + count)])).await.unwrap();
        }
        let what = if generation == 10 { "snapshot version 2 is unknown" } else { "entry version 2 is unknown" };
        let Err(error) = world.open(3, Arc::new(BucketTable::new(world.store.clone()))).await else { panic!("opens") };
        assert!(error.to_string().contains(what), "{error}");
    }
}
