//! JoinGroup: who may join, under which id, and whether that means a rebalance.

use super::error::GroupError;
use super::group::{Group, Member, State, Step};
use super::message::{Join, Joined, Limits, Reply};
use super::timers::TimerKey;

impl Group {
    pub(super) fn join(&mut self, step: &mut Step<'_>, join: Join) {
        let refused =
            |step: &mut Step<'_>, id: &str, error| step.out.reply(join.reply, Reply::Join(Joined::refused(id, error)));
        if !self.accepts(step.limits, &join.member_id) {
            let member_id = join.member_id.clone();
            refused(step, "", GroupError::MaxSizeReached);
            return self.turn_away(step, &member_id);
        }
        if !self.supports(&join.protocol_type, &join.protocols) {
            return refused(step, &join.member_id, GroupError::InconsistentProtocol);
        }
        if join.member_id.is_empty() {
            return self.join_new(step, join);
        }
        if self.pending_join.contains(&join.member_id) {
            if join.instance_id.is_some() {
                return refused(step, &join.member_id, GroupError::UnknownMember);
            }
            let id = join.member_id.clone();
            return self.add_and_rebalance(step, join, id);
        }
        match self.check_member(&join.member_id, join.instance_id.as_deref()) {
            Ok(()) => self.join_known(step, join),
            Err(error) => refused(step, &join.member_id, error),
        }
    }

    /// During a rebalance the places go to those who joined first, so that a group over its size sheds the last ones.
    fn accepts(&self, limits: &Limits, member_id: &str) -> bool {
        let known = self.members.get(member_id);
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                known.is_some_and(|member| member.awaiting_join.is_some())
                    || self.members.values().filter(|member| member.awaiting_join.is_some()).count()
                        < limits.group_max_size
            }
            State::CompletingRebalance | State::Stable => known.is_some() || self.members.len() < limits.group_max_size,
        }
    }

    /// A member that found no place is out; the others need not wait for it.
    fn turn_away(&mut self, step: &mut Step<'_>, member_id: &str) {
        self.remove_member(member_id);
        if self.state == State::PreparingRebalance {
            self.maybe_complete_join(step);
        }
    }

    fn join_new(&mut self, step: &mut Step<'_>, join: Join) {
        let new_id = join.new_member_id.clone();
        if let Some(instance_id) = join.instance_id.clone() {
            return match self.statics.get(&instance_id).cloned() {
                Some(old_id) => self.replace_static(step, join, &old_id, new_id),
                None => self.add_and_rebalance(step, join, new_id),
            };
        }
        if !join.requires_known_member_id {
            return self.add_and_rebalance(step, join, new_id);
        }
        if self.pending_join.len() >= step.limits.max_pending_members
            && let Some(evicted) = self.pending_join.pop_first()
        {
            self.timers.cancel_member(&evicted);
        }
        self.pending_join.insert(new_id.clone());
        let timeout_ms = i64::from(join.session_timeout_ms).max(1);
        self.timers.set(TimerKey::Member(new_id.clone()), step.now.steady_ms.saturating_add(timeout_ms));
        step.out.reply(join.reply, Reply::Join(Joined::refused(new_id, GroupError::MemberIdRequired)));
    }

    /// A member that the group knows joins again: with news it starts a rebalance, without it is told where the group stands
    /// (its first answer may have been lost).
    fn join_known(&mut self, step: &mut Step<'_>, join: Join) {
        let same = self.members.get(&join.member_id).is_some_and(|member| member.protocols == join.protocols);
        let is_leader = self.is_leader(&join.member_id);
        match self.state {
            State::CompletingRebalance if same => {
                let joined = self.joined(&join.member_id, is_leader);
                step.out.reply(join.reply, Reply::Join(joined));
            }
            // The leader's join means a rebalance: it may know of a change that no member's metadata shows.
            State::Stable if same && !is_leader => {
                let joined = self.joined(&join.member_id, false);
                step.out.reply(join.reply, Reply::Join(joined));
            }
            State::Empty => {
                step.out.reply(join.reply, Reply::Join(Joined::refused(join.member_id, GroupError::UnknownMember)));
            }
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                let member_id = join.member_id.clone();
                self.update_member(step, &member_id, join);
                self.rebalance_or_complete(step);
            }
        }
    }

    fn update_member(&mut self, step: &mut Step<'_>, member_id: &str, join: Join) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        self.metadata_bytes -= member.metadata_bytes();
        member.protocols = join.protocols;
        self.metadata_bytes += member.metadata_bytes();
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        if let Some(earlier) = member.awaiting_join.replace(join.reply) {
            // The same member asked twice; whoever still waits for the first answer shall ask again.
            let refused = Joined::refused(member_id, GroupError::RebalanceInProgress);
            step.out.reply(earlier, Reply::Join(refused));
        }
    }

    fn add_and_rebalance(&mut self, step: &mut Step<'_>, join: Join, id: String) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if self.state == State::PreparingRebalance && self.initial {
            self.joiner_came = true;
        }
        self.add_member(Member::from_join(&join, id.clone()));
        // It can't send heartbeats before it has its answer, and nobody notices when it goes away meanwhile.
        let deadline = step.now.steady_ms.saturating_add(Limits::NEW_MEMBER_TIMEOUT_MS);
        self.timers.set(TimerKey::Member(id), deadline);
        self.rebalance_or_complete(step);
    }

    /// A static member comes back under a new id: the old id is fenced at once. If nothing changed for the others, the group
    /// stays as it is (KIP-345), and a leader is told that it need not assign again (KIP-814).
    fn replace_static(&mut self, step: &mut Step<'_>, join: Join, old_id: &str, new_id: String) {
        let leader_before = self.leader.clone().unwrap_or_default();
        let skips = join.supports_skip_assignment;
        self.rename_static(step, old_id, &new_id);
        self.update_member(step, &new_id, join);
        self.set_session_timer(step.now, &new_id);
        match self.state {
            State::Stable if self.select_protocol() == self.protocol_name => {
                self.store_generation(step);
                let mut joined = self.joined(&new_id, skips && self.is_leader(&new_id));
                if skips {
                    joined.skip_assignment = self.is_leader(&new_id);
                } else {
                    // It must not take itself for a leader that has to assign.
                    joined.leader = leader_before;
                }
                self.answer_join(step, &new_id, joined);
            }
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(step),
            State::PreparingRebalance | State::Empty => self.maybe_complete_join(step),
        }
    }

    fn rename_static(&mut self, step: &mut Step<'_>, old_id: &str, new_id: &str) {
        self.answer_join(step, old_id, Joined::refused(old_id, GroupError::FencedInstance));
        self.answer_sync(step, old_id, Err(GroupError::FencedInstance));
        let Some(mut member) = self.members.remove(old_id) else { return };
        self.timers.cancel_member(old_id);
        member.id = new_id.to_owned();
        member.is_new = false;
        if let Some(instance_id) = &member.instance_id {
            self.statics.insert(instance_id.clone(), new_id.to_owned());
        }
        if self.pending_sync.remove(old_id) {
            self.pending_sync.insert(new_id.to_owned());
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id.to_owned());
        }
        self.members.insert(new_id.to_owned(), member);
    }
}
