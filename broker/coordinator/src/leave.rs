//! LeaveGroup, one member or several; administrators remove static members by instance id alone
//! (KIP-345), with a reason (KIP-800).

use crate::group::{Context, Group};
use crate::shard::{Shard, valid_group_id};
use crate::{
    Decision, GroupError, GroupState, LeaveGroup, LeavingMember, LeftMember, Response, Token,
};

impl Shard {
    pub(crate) fn leave_group(
        &mut self,
        now_ms: i64,
        token: Token,
        request: LeaveGroup,
        decision: &mut Decision,
    ) {
        let outcome = match valid_group_id(&request.group_id) {
            true => Ok(self
                .with_group(now_ms, decision, &request.group_id, |group, cx| {
                    group.leave(cx, &request.members)
                })
                .unwrap_or_else(|| all_unknown(&request.members))),
            false => Err(GroupError::InvalidGroupId),
        };
        decision.replies.push((token, Response::Leave(outcome)));
    }
}

impl Group {
    fn leave(&mut self, cx: &mut Context<'_>, leaving: &[LeavingMember]) -> Vec<LeftMember> {
        let mut left = Vec::with_capacity(leaving.len());
        for member in leaving {
            let error = self.leave_one(cx, member).err();
            left.push(answer(member, error));
        }
        if left.iter().any(|m| m.error.is_none()) && self.state != GroupState::Empty {
            let ids: Vec<&str> = left.iter().map(|m| m.member_id.as_str()).collect();
            self.rebalance(cx, &format!("members left: {}", ids.join(", ")));
        }
        left
    }

    fn leave_one(
        &mut self,
        cx: &mut Context<'_>,
        leaving: &LeavingMember,
    ) -> Result<(), GroupError> {
        let mut id = leaving.member_id.as_str();
        let instance = leaving.group_instance_id.as_deref();
        let by_instance;
        if id.is_empty() {
            let known = instance.and_then(|i| self.static_members.get(i));
            by_instance = known.cloned().ok_or(GroupError::UnknownMemberId)?;
            id = &by_instance;
        } else if self.remove_pending(cx, id) {
            return Ok(());
        } else {
            self.check_member(id, instance)?;
        }
        let reason = leaving.reason.as_deref().filter(|r| !r.is_empty());
        self.remove(cx, id, reason.unwrap_or("it left"));
        Ok(())
    }
}

fn all_unknown(leaving: &[LeavingMember]) -> Vec<LeftMember> {
    let unknown = |m| answer(m, Some(GroupError::UnknownMemberId));
    leaving.iter().map(unknown).collect()
}

fn answer(member: &LeavingMember, error: Option<GroupError>) -> LeftMember {
    LeftMember {
        member_id: member.member_id.clone(),
        group_instance_id: member.group_instance_id.clone(),
        error,
    }
}
