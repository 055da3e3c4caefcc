//! The rebalance itself: from "somebody has news" to "everybody knows the new generation", and what timers do to it.

use bytes::Bytes;

use super::error::GroupError;
use super::group::{Group, JoinWait, State, Step};
use super::message::{Joined, Reply, Synced};
use super::timers::TimerKey;

impl Group {
    pub(super) fn rebalance_or_complete(&mut self, step: &mut Step<'_>) {
        match self.state {
            State::PreparingRebalance => self.maybe_complete_join(step),
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare_rebalance(step),
        }
    }

    /// Everybody has to join again. Those who wait for an assignment are told so; the others learn it by heartbeat.
    pub(super) fn prepare_rebalance(&mut self, step: &mut Step<'_>) {
        if self.state == State::CompletingRebalance {
            self.drop_assignments(step, GroupError::RebalanceInProgress);
        }
        self.pending_sync.clear();
        self.timers.cancel(&TimerKey::Sync);
        let initial = self.state == State::Empty;
        self.enter(State::PreparingRebalance, step.now);
        if initial {
            let delay_ms = step.limits.initial_rebalance_delay_ms;
            let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.joiner_came = false;
            self.wait_for_joins(step, delay_ms, JoinWait::Initial { delay_ms, remaining_ms });
        } else if self.all_joined() {
            self.complete_join(step);
        } else {
            self.wait_for_joins(step, self.rebalance_timeout_ms(), JoinWait::Rebalance);
        }
    }

    fn wait_for_joins(&mut self, step: &Step<'_>, for_ms: i64, wait: JoinWait) {
        self.join_wait = Some(wait);
        self.timers.set(TimerKey::Join, step.now.steady_ms.saturating_add(for_ms));
    }

    /// Ends the join phase when nobody is missing; the initial delay runs to its end.
    pub(super) fn maybe_complete_join(&mut self, step: &mut Step<'_>) {
        if self.state == State::PreparingRebalance && !self.initial && self.all_joined() {
            self.complete_join(step);
        }
    }

    /// The join phase is over: dynamic members that did not come back are out, the next generation begins.
    fn complete_join(&mut self, step: &mut Step<'_>) {
        self.timers.cancel(&TimerKey::Join);
        self.join_wait = None;
        let absent =
            self.members.values().filter(|member| member.awaiting_join.is_none() && member.instance_id.is_none());
        for member_id in absent.map(|member| member.id.clone()).collect::<Vec<_>>() {
            self.remove_member(&member_id);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members, none of them here: wait until one comes or their sessions end.
            return self.wait_for_joins(step, self.rebalance_timeout_ms(), JoinWait::Rebalance);
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_sync.clear();
        self.protocol_name = self.select_protocol();
        self.subscribed = self.compute_subscribed();
        if self.members.is_empty() {
            self.leader = None;
            self.enter(State::Empty, step.now);
            return self.store_generation(step);
        }
        self.enter(State::CompletingRebalance, step.now);
        for member_id in self.members.keys().cloned().collect::<Vec<_>>() {
            let joined = self.joined(&member_id, self.is_leader(&member_id));
            self.answer_join(step, &member_id, joined);
            if let Some(member) = self.members.get_mut(&member_id) {
                member.is_new = false;
                member.awaiting_sync = None;
            }
            self.set_session_timer(step.now, &member_id);
            self.pending_sync.insert(member_id);
        }
        let deadline = step.now.steady_ms.saturating_add(self.rebalance_timeout_ms());
        self.timers.set(TimerKey::Sync, deadline);
    }

    /// The leader must be one that is here. Whether there is one.
    fn elect_joined_leader(&mut self) -> bool {
        let here = |id: &String| self.members.get(id).is_some_and(|member| member.awaiting_join.is_some());
        if self.leader.as_ref().is_some_and(here) {
            return true;
        }
        match self.members.values().find(|member| member.awaiting_join.is_some()) {
            Some(member) => {
                self.leader = Some(member.id.clone());
                true
            }
            None => false,
        }
    }

    /// Forgets all assignments and tells those who wait for one why.
    pub(super) fn drop_assignments(&mut self, step: &mut Step<'_>, error: GroupError) {
        for member_id in self.members.keys().cloned().collect::<Vec<_>>() {
            if let Some(member) = self.members.get_mut(&member_id) {
                member.assign(Bytes::new(), &mut self.metadata_bytes);
            }
            if self.answer_sync(step, &member_id, Err(error)) {
                self.set_session_timer(step.now, &member_id);
            }
        }
    }

    pub(super) fn answer_sync(
        &mut self,
        step: &mut Step<'_>,
        member_id: &str,
        synced: Result<Synced, GroupError>,
    ) -> bool {
        let waiting = self.members.get_mut(member_id).and_then(|member| member.awaiting_sync.take());
        if let Some(to) = waiting {
            step.out.reply(to, Reply::Sync(synced));
        }
        waiting.is_some()
    }

    /// Takes a member out and tells it, if it waits; the group goes on without it.
    pub(super) fn expel(&mut self, step: &mut Step<'_>, member_id: &str) {
        self.answer_join(step, member_id, Joined::refused("", GroupError::UnknownMember));
        self.answer_sync(step, member_id, Err(GroupError::UnknownMember));
        self.remove_member(member_id);
    }

    /// After members or pending members went away.
    pub(super) fn go_on_without(&mut self, step: &mut Step<'_>, member_left: bool) {
        match self.state {
            State::Stable | State::CompletingRebalance if member_left => self.prepare_rebalance(step),
            State::PreparingRebalance => self.maybe_complete_join(step),
            State::Empty | State::Stable | State::CompletingRebalance => {}
        }
    }

    /// Fires what is due, in order. Every timer that is set again lies in the future, but for an initial delay of zero, which
    /// is set at most twice.
    pub(super) fn fire_due(&mut self, step: &mut Step<'_>) {
        while let Some(key) = self.timers.pop_due(step.now.steady_ms) {
            match key {
                TimerKey::Join => self.join_timer(step),
                TimerKey::Sync => self.sync_timer(step),
                TimerKey::Member(member_id) => self.session_timer(step, &member_id),
            }
        }
    }

    fn join_timer(&mut self, step: &mut Step<'_>) {
        if self.state != State::PreparingRebalance {
            return;
        }
        match self.join_wait {
            Some(JoinWait::Initial { delay_ms, remaining_ms }) if self.joiner_came && remaining_ms > 0 => {
                self.joiner_came = false;
                let next = JoinWait::Initial {
                    delay_ms: step.limits.initial_rebalance_delay_ms.min(remaining_ms),
                    remaining_ms: (remaining_ms - delay_ms).max(0),
                };
                self.wait_for_joins(step, step.limits.initial_rebalance_delay_ms.min(remaining_ms), next);
            }
            Some(_) => self.complete_join(step),
            None => {}
        }
    }

    /// Members that were told the generation and did not sync in time are out.
    fn sync_timer(&mut self, step: &mut Step<'_>) {
        if !matches!(self.state, State::CompletingRebalance | State::Stable) || self.pending_sync.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut self.pending_sync) {
            self.expel(step, &member_id);
        }
        self.prepare_rebalance(step);
    }

    fn session_timer(&mut self, step: &mut Step<'_>, member_id: &str) {
        if self.pending_join.remove(member_id) {
            return self.go_on_without(step, false);
        }
        let Some(member) = self.members.get(member_id) else { return };
        // Who waits for an answer of ours can't send heartbeats; its session starts anew with the answer.
        let waits = member.awaiting_join.is_some() || member.awaiting_sync.is_some();
        if member.is_new || !waits {
            self.expel(step, member_id);
            self.go_on_without(step, true);
        }
    }
}
