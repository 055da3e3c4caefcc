//! What the manifest of a run says of its partitions: their state behind its window, from which a recovery begins.

use std::collections::BTreeSet;

use super::Maintenance;
use super::layout::ends;
use super::merge::{Claimed, MergeError, Segments};
use crate::log::merged::WindowState;
use crate::log::recover;
use crate::meta::image::{PartitionState, Tenure};
use crate::segment::PartitionCheckpoint;
use crate::types::{LeaseEpoch, Offset, PartitionId};

impl Maintenance {
    /// The state of partitions behind the window. Our own are at hand: what is newer is left out. Others are recovered up to there.
    pub(super) async fn checkpoint(
        &self,
        claimed: Claimed,
        segments: &Segments,
        whole: bool,
    ) -> Result<Vec<PartitionCheckpoint>, MergeError> {
        let (mut checkpoint, mut others) = (Vec::new(), Vec::new());
        let own = claimed.session == self.log.session;
        let ours = if own { segments.as_slice() } else { &[] };
        let windows = WindowState::of_all(ours.iter().flat_map(|(_, extents)| extents));
        for (id, epoch, next_offset) in ends(segments) {
            let at_hand = windows.get(&id).and_then(|window| self.at_hand(id, claimed, Some(window)));
            match at_hand {
                Some(state) => checkpoint.push(state),
                None => others.push((id, epoch, next_offset)),
            }
        }
        if whole {
            let known: BTreeSet<PartitionId> = checkpoint.iter().map(|state| state.partition).collect();
            let idle = self.log.slots.ids().into_iter().filter(|id| !known.contains(id));
            checkpoint.extend(idle.filter_map(|id| self.at_hand(id, claimed, None)));
        }
        if !others.is_empty() {
            checkpoint.extend(self.recovered(claimed, others).await?);
        }
        checkpoint.sort_by_key(|state| state.partition);
        Ok(checkpoint)
    }

    /// Not of a partition that came back to us: its state holds what others wrote between.
    fn at_hand(&self, id: PartitionId, claimed: Claimed, window: Option<&WindowState>) -> Option<PartitionCheckpoint> {
        let slot = self.log.slots.get(id)?;
        let own = |tenure: &&Tenure| tenure.session == claimed.session;
        let once = self.log.meta.read(|image| Some(image.partition(id)?.tenures.iter().filter(own).count() == 1));
        if once != Some(true) {
            return None;
        }
        let mut inner = slot.lock();
        inner.partition().ok()?.checkpoint(claimed.session, claimed.to, window)
    }

    /// Rebuilds partitions as they were behind the window, as if their log had ended there.
    async fn recovered(
        &self,
        claimed: Claimed,
        wanted: Vec<(PartitionId, LeaseEpoch, Offset)>,
    ) -> Result<Vec<PartitionCheckpoint>, MergeError> {
        let (states, merges) = self.log.meta.read(|image| {
            let state = |(id, epoch, next): &(PartitionId, LeaseEpoch, Offset)| {
                Some(((*id, until(image.partition(*id)?, claimed, *epoch)), (image.partition(*id)?.log_start, *next)))
            };
            (wanted.iter().filter_map(state).collect::<Vec<_>>(), image.merges.clone())
        });
        let (states, ends): (Vec<_>, Vec<_>) = states.into_iter().unzip();
        let mut checkpoint = Vec::new();
        let recovered = recover::recover(&self.log.footers, &states, &merges, &BTreeSet::new()).await;
        for ((_, partition), (log_start, next_offset)) in recovered.into_iter().zip(ends) {
            checkpoint.push(PartitionCheckpoint { log_start, ..partition?.checkpoint_here(next_offset) });
        }
        Ok(checkpoint)
    }
}

/// The tenures of a partition up to the one with `epoch`, which is that of the window's last records, up to the window's end.
fn until(state: &PartitionState, claimed: Claimed, epoch: LeaseEpoch) -> PartitionState {
    let cut = |tenure: &Tenure| {
        let end = if tenure.session == claimed.session { Some(claimed.to) } else { tenure.end };
        Tenure { end: end.map(|end| tenure.end.map_or(end, |own| own.min(end))), ..*tenure }
    };
    let tenures = state.tenures.iter().filter(|tenure| tenure.epoch <= epoch).map(cut).collect();
    PartitionState { tenures, log_start: 0, holder: None, epoch }
}
