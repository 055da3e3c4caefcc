//! Hands leases over to other brokers while both live: its share to one that came, everything to the others by one that leaves.
//!
//! ```text
//! park produce and fetch ─► through = the last segment with the partitions' records ─► TransferLease ─► slots close, clients go on there
//!                                    └► it is sealed at once                 others hear of it, read what was written up to `through`, serve
//! ```
//!
//! What goes to several brokers at one time goes in one entry, so that all hear of it at once.
//!
//! No data moves, and the entry may be appended while `through` is still uploading: who takes over waits for it, or for the lower end
//! of our session. From before the append until its outcome is known the partitions neither take records nor show any: what we
//! would take then could lie behind `through`, and what we would show could be old.
//!
//! Failure: while the table does not answer the partitions stay parked, for the entry may land yet; the first answer tells whether
//! they are still ours. Cancellation: they stay parked, so it is for a session that ends.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Log;
use super::slot::PartitionSlot;
use crate::meta::ProposeError;
use crate::meta::entry::{Change, TransferredPartitions};
use crate::meta::image::{Image, PartitionState, SessionState};
use crate::meta::{hash, level};
use crate::store::retry::Backoff;
use crate::types::{NodeId, PartitionId, SegmentNumber, SessionId, TopicId};

/// A broker that came gets so many leases at once, with so long between: 200 a second.
const STEP: usize = 50;
const STEP_PAUSE: Duration = Duration::from_millis(250);

/// Brokers that give a newcomer its share begin so long one after another: each parks its partitions until its entry is in the table, and the
/// loser of a race for a revision would park them for longer, the more brokers the longer.
const TURN: Duration = Duration::from_millis(100);

/// So many leases of a broker that leaves go in one entry, whose length is limited.
const LEAVING_STEP: usize = 2_000;

/// Pauses between questions to a table that does not answer.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Hands over what others should hold, until it is dropped. `living`: sessions that write.
pub async fn run(log: Arc<Log>, mut living: watch::Receiver<BTreeSet<SessionId>>) {
    let mut is_our_turn = false;
    loop {
        let alive = living.borrow_and_update().clone();
        let moves = if log.proof.holds() { shares(&log, &alive) } else { BTreeMap::new() };
        if moves.is_empty() {
            is_our_turn = false;
            if living.changed().await.is_err() {
                return;
            }
            continue;
        }
        if !is_our_turn {
            is_our_turn = true;
            tokio::time::sleep(TURN * log.meta.read(|image| turn(image, log.session))).await;
            continue;
        }
        hand_all_over(&log, moves).await;
        tokio::time::sleep(STEP_PAUSE).await;
    }
}

/// Hands over everything: the broker is about to stop. Tells whether there was anything to hand over.
pub async fn leave(log: &Arc<Log>, alive: &BTreeSet<SessionId>) -> bool {
    let mut had_any = false;
    loop {
        let moves = log.meta.read(|image| {
            let others = if may_hand_over(image) { heirs(image, log.session, alive) } else { Vec::new() };
            let to = |id: PartitionId, _: &PartitionState| hash::choose(id.topic, id.index, &others);
            plan(image, log.session, LEAVING_STEP, |id| serves(log, id), to)
        });
        if moves.is_empty() {
            return had_any;
        }
        had_any = true;
        hand_all_over(log, moves).await;
    }
}

/// How many others begin before us.
fn turn(image: &Image, own: SessionId) -> u32 {
    let before = image.ready_sessions().take_while(|(id, _)| *id != own).count();
    u32::try_from(before).unwrap_or(u32::MAX)
}

/// Who takes over from one that leaves: those that are seen to write. Where nobody is yet (all others have just been started), all that
/// are ready: they get it anyhow when the session is closed, and like this no request is refused meanwhile.
fn heirs(image: &Image, own: SessionId, alive: &BTreeSet<SessionId>) -> Vec<(SessionId, NodeId)> {
    let others: Vec<_> = ready(image).into_iter().filter(|(id, _)| *id != own).collect();
    let living: Vec<_> = others.iter().copied().filter(|(id, _)| alive.contains(id)).collect();
    if living.is_empty() { others } else { living }
}

/// The next step of what others should hold.
fn shares(log: &Log, alive: &BTreeSet<SessionId>) -> BTreeMap<SessionId, Vec<PartitionId>> {
    if alive.is_empty() {
        return BTreeMap::new();
    }
    log.meta.read(|image| {
        let ready = if may_hand_over(image) { ready(image) } else { Vec::new() };
        plan(image, log.session, STEP, |id| serves(log, id), |id, state| share_of(id, state, &ready, alive))
    })
}

/// Who should hold a partition in our place: the highest hash, if it lives. One that handed it over to us does not get it back: it
/// was the highest before, so it is about to stop.
fn share_of(
    id: PartitionId,
    state: &PartitionState,
    ready: &[(SessionId, NodeId)],
    alive: &BTreeSet<SessionId>,
) -> Option<SessionId> {
    let to = hash::choose(id.topic, id.index, ready)?;
    let gave_it = state.tenures.iter().any(|tenure| tenure.session == to);
    (alive.contains(&to) && !gave_it).then_some(to)
}

/// Below that level others would not understand it: a broker keeps what it has and lets go of it by closing its session.
fn may_hand_over(image: &Image) -> bool {
    image.level >= level::HAND_OVER
}

fn ready(image: &Image) -> Vec<(SessionId, NodeId)> {
    image.ready_sessions().map(|(id, session)| (id, session.node_id)).collect()
}

/// Partitions that `own` holds and `to` gives to others, `most` at the most.
fn plan(
    image: &Image,
    own: SessionId,
    most: usize,
    movable: impl Fn(PartitionId) -> bool,
    to: impl Fn(PartitionId, &PartitionState) -> Option<SessionId>,
) -> BTreeMap<SessionId, Vec<PartitionId>> {
    let mut moves: BTreeMap<SessionId, Vec<PartitionId>> = BTreeMap::new();
    let held = image.held_by(own).filter_map(|(id, _)| {
        let to = to(id, image.partition(id)?).filter(|to| *to != own)?;
        movable(id).then_some((to, id))
    });
    for (to, id) in held.take(most) {
        moves.entry(to).or_default().push(id);
    }
    moves
}

fn serves(log: &Log, id: PartitionId) -> bool {
    log.slots.get(id).is_some_and(|slot| slot.lock().partition().is_ok())
}

/// Partitions on their way to a session.
struct Leaving {
    to: SessionId,
    slots: Vec<Arc<PartitionSlot>>,
}

/// Hands partitions over to the sessions given, with one entry; returns when it is known whether they went.
async fn hand_all_over(log: &Arc<Log>, moves: BTreeMap<SessionId, Vec<PartitionId>>) {
    let parked = |ids: Vec<PartitionId>| {
        ids.into_iter().filter_map(|id| log.slots.get(id)).filter(|slot| slot.begin_handover()).collect()
    };
    let leaving: Vec<Leaving> = moves.into_iter().map(|(to, ids)| Leaving { to, slots: parked(ids) }).collect();
    let begun = log.env.clock.boot();
    let through = log.appender.last_of_what_is_in();
    let own = log.session;
    let ids = |leaving: &Leaving| (leaving.to, leaving.slots.iter().map(|slot| slot.id).collect());
    let to: Arc<[(SessionId, Vec<PartitionId>)]> = leaving.iter().map(ids).collect();
    let mut asked = false;
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let to = to.clone();
        // Once the outcome is unknown only a question is safe: its answer comes after the outcome.
        let changes = move |image: &Image| {
            let known = if asked { &[] } else { &*to };
            known.iter().flat_map(|(to, ids)| transfer(image, own, *to, through, ids)).collect()
        };
        match log.meta.propose(move |image| Ok::<_, Infallible>(changes(image))).await {
            Ok(_) | Err(ProposeError::Refused(_) | ProposeError::Rule(_) | ProposeError::TooLarge { .. }) => break,
            Err(ProposeError::Meta(_)) if log.appender.is_over() => return,
            Err(ProposeError::Meta(error)) => {
                let partitions = leaving.iter().map(|leaving| leaving.slots.len()).sum::<usize>();
                tracing::warn!(%error, partitions, "leases are on their way to other brokers; asking on");
                asked = true;
                tokio::time::sleep(backoff.next(log.env.entropy.as_ref())).await;
            }
        }
    }
    log.reconcile();
    let is_ours = |id: PartitionId| log.meta.read(|image| image.holder(id)).is_some_and(|(holder, _)| holder == own);
    let seconds = (log.env.clock.boot() - begun).as_secs_f64();
    for Leaving { to, slots } in leaving {
        let kept: Vec<_> = slots.iter().filter(|slot| is_ours(slot.id)).collect();
        tracing::info!(%to, through, partitions = slots.len() - kept.len(), kept = kept.len(), seconds, "handed leases over");
        kept.into_iter().for_each(|slot| slot.end_handover());
    }
}

/// What is still ours, to one that is still ready.
fn transfer(
    image: &Image,
    own: SessionId,
    to: SessionId,
    through: SegmentNumber,
    partitions: &[PartitionId],
) -> Vec<Change> {
    let is_ready = |id| image.sessions.get(&id).is_some_and(|session| session.state == SessionState::Ready);
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for id in partitions.iter().filter(|id| image.holder(**id).is_some_and(|(holder, _)| holder == own)) {
        topics.entry(id.topic).or_default().push(id.index);
    }
    if topics.is_empty() || !is_ready(own) || !is_ready(to) {
        return Vec::new();
    }
    let partitions = topics.into_iter().map(|(topic, indexes)| TransferredPartitions { topic, indexes }).collect();
    vec![Change::TransferLease { session: own, to, through, partitions }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::image::Tenure;

    const OWN: SessionId = SessionId { revision: 1, random: 1 };
    const CAME: SessionId = SessionId { revision: 2, random: 2 };
    const LEFT: SessionId = SessionId { revision: 0, random: 3 };

    fn image() -> Image {
        let mut image = Image::default();
        let entry = |image: &mut Image, changes: Vec<Change>| {
            let entry = crate::meta::entry::Entry::new(image.revision + 1, 1, changes);
            image.apply(&entry).expect("the next one");
        };
        let open = |node_id, random: u64| Change::OpenSession {
            node_id,
            random: format!("{random:016x}"),
            endpoints: Vec::new(),
            rack: None,
        };
        entry(&mut image, vec![open(0, 1)]);
        entry(&mut image, vec![open(1, 2), Change::Ready { session: OWN }]);
        entry(
            &mut image,
            vec![Change::CreateTopic {
                id: TopicId(7),
                name: "t".to_owned(),
                partitions: 100,
                replication_factor: 1,
                configs: BTreeMap::new(),
                internal: false,
            }],
        );
        entry(&mut image, vec![Change::Ready { session: CAME }]);
        image
    }

    fn moves(image: &Image, alive: &[SessionId], most: usize, movable: bool) -> Vec<(SessionId, usize)> {
        let (ready, alive) = (ready(image), alive.iter().copied().collect());
        let to = |id: PartitionId, state: &PartitionState| share_of(id, state, &ready, &alive);
        plan(image, OWN, most, |_| movable, to).into_iter().map(|(to, ids)| (to, ids.len())).collect()
    }

    #[test]
    fn who_comes_and_lives_gets_its_share_in_steps() {
        let image = image();
        let share = (0..100).filter(|index| hash::score(TopicId(7), *index, 1) > hash::score(TopicId(7), *index, 0));
        let share = share.count();
        assert!((30..70).contains(&share));
        assert_eq!(moves(&image, &[CAME], 1000, true), [(CAME, share)]);
        assert_eq!(moves(&image, &[CAME], 10, true), [(CAME, 10)]);
        assert_eq!(moves(&image, &[], 1000, true), []);
        assert_eq!(moves(&image, &[CAME], 1000, false), []);
        let mut moved = image;
        let ids: Vec<_> = (0..100).map(|index| PartitionId { topic: TopicId(7), index }).collect();
        for change in transfer(&moved.clone(), OWN, CAME, 5, &ids) {
            let entry = crate::meta::entry::Entry::new(moved.revision + 1, 1, vec![change]);
            moved.apply(&entry).expect("the next one");
        }
        assert_eq!(moved.held_by(OWN).count(), 0);
        assert!(moved.held_by(CAME).all(|(_, epoch)| epoch == 1));
        assert_eq!(transfer(&moved, OWN, CAME, 5, &ids), []);
    }

    #[test]
    fn who_leaves_gives_to_the_living_or_else_to_all() {
        let (image, heirs_of) = (image(), |image: &Image, own, alive: &[SessionId]| {
            let alive = alive.iter().copied().collect();
            heirs(image, own, &alive).into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        });
        assert_eq!(heirs_of(&image, OWN, &[CAME]), [CAME]);
        assert_eq!(heirs_of(&image, OWN, &[]), [CAME], "it has just been started");
        assert_eq!(heirs_of(&image, LEFT, &[CAME]), [CAME]);
        assert_eq!(heirs_of(&image, LEFT, &[]), [OWN, CAME]);
        assert_eq!(heirs_of(&image, LEFT, &[LEFT]), [OWN, CAME], "who lives and is not ready gets nothing");
    }

    #[test]
    fn brokers_begin_one_after_another() {
        // (brokers that are ready, before whom so many begin)
        let image = image();
        for (own, expected) in [(OWN, 0), (CAME, 1)] {
            assert_eq!(turn(&image, own), expected);
        }
        assert_eq!(turn(&Image::default(), OWN), 0);
    }

    #[test]
    fn who_gave_it_does_not_get_it_back() {
        let ready = [(OWN, 0), (CAME, 1)];
        let index = (0..100).find(|index| hash::choose(TopicId(7), *index, &ready) == Some(CAME)).expect("one of many");
        let id = PartitionId { topic: TopicId(7), index };
        for (before, to) in [(LEFT, Some(CAME)), (CAME, None)] {
            let tenure = |session, epoch, end| Tenure { session, epoch, end };
            let tenures = vec![tenure(before, 0, Some(4)), tenure(OWN, 1, None)];
            let state = PartitionState { epoch: 1, holder: Some(OWN), tenures, log_start: 0 };
            assert_eq!(share_of(id, &state, &ready, &[CAME].into()), to);
        }
    }
}
