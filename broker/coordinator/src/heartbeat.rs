//! Heartbeat, and the end of a session without one.

use crate::group::{Context, Group};
use crate::shard::{Shard, valid_group_id};
use crate::{Decision, GroupError, GroupState, Heartbeat, Response, Token};

impl Shard {
    pub(crate) fn heartbeat(
        &mut self,
        now_ms: i64,
        token: Token,
        request: Heartbeat,
        decision: &mut Decision,
    ) {
        let outcome = match valid_group_id(&request.group_id) {
            true => self
                .with_group(now_ms, decision, &request.group_id, |group, cx| {
                    group.heartbeat(cx, &request)
                })
                .unwrap_or(Err(GroupError::UnknownMemberId)),
            false => Err(GroupError::InvalidGroupId),
        };
        decision.replies.push((token, Response::Heartbeat(outcome)));
    }
}

impl Group {
    fn heartbeat(&mut self, cx: &mut Context<'_>, request: &Heartbeat) -> Result<(), GroupError> {
        let id = request.member_id.as_str();
        self.check_member(id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation_id {
            return Err(GroupError::IllegalGeneration);
        }
        self.touch(cx, id);
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            // Members heartbeat from the JoinGroup answer on: here all is well.
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMemberId),
        }
    }

    /// Nothing was heard of a member, or of a pending member id, for its session timeout.
    pub(crate) fn on_session_timer(&mut self, cx: &mut Context<'_>, id: &str) {
        if self.remove_pending(cx, id) {
            return self.try_complete_join(cx);
        }
        if self.remove(cx, id, "its session ended") {
            self.rebalance(cx, &format!("the session of member {id} ended"));
        }
    }
}
