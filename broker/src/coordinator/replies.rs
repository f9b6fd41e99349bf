//! The order in which replies may leave: each waits until all that was appended before it, for
//! itself or for others, is committed. A reply without records of its own waits too, since it may
//! speak of state that is not committed yet.

use std::collections::VecDeque;

/// Replies that wait, in order. Appends are counted, and are committed in the order they were made.
#[derive(Debug)]
pub struct Replies<R> {
    appended: u64,
    committed: u64,
    /// With the number of appends that must be committed first; ascending.
    waiting: VecDeque<(u64, R)>,
}

impl<R> Default for Replies<R> {
    fn default() -> Self {
        Replies {
            appended: 0,
            committed: 0,
            waiting: VecDeque::new(),
        }
    }
}

impl<R> Replies<R> {
    /// An append was made; later replies wait for it.
    pub fn appended(&mut self) {
        self.appended += 1;
    }

    /// The oldest append that was not yet committed now is.
    pub fn committed(&mut self) {
        assert!(self.committed < self.appended, "no append without a commit");
        self.committed += 1;
    }

    pub fn push(&mut self, reply: R) {
        self.waiting.push_back((self.appended, reply));
    }

    /// The next reply that may leave.
    pub fn pop(&mut self) -> Option<R> {
        let (after, _) = self.waiting.front()?;
        if *after > self.committed {
            return None;
        }
        self.waiting.pop_front().map(|(_, reply)| reply)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Replies;

    fn popped(replies: &mut Replies<u32>) -> Vec<u32> {
        std::iter::from_fn(|| replies.pop()).collect()
    }

    #[test]
    fn nothing_appended_nothing_waits() {
        let mut replies = Replies::default();
        replies.push(1);
        replies.push(2);
        assert_eq!(popped(&mut replies), [1, 2]);
    }

    #[test]
    fn a_reply_without_records_waits_for_earlier_ones() {
        let mut replies = Replies::default();
        replies.appended();
        replies.push(1);
        replies.push(2);
        replies.appended();
        replies.push(3);
        assert!(popped(&mut replies).is_empty());
        replies.committed();
        assert_eq!(popped(&mut replies), [1, 2]);
        replies.committed();
        assert_eq!(popped(&mut replies), [3]);
    }

    #[test]
    #[should_panic(expected = "no append without a commit")]
    fn a_commit_belongs_to_an_append() {
        Replies::<u32>::default().committed();
    }

    proptest! {
        /// 0: append, 1: commit if one is open, 2: reply. Each reply leaves once, in order, exactly
        /// when the appends before it are committed.
        #[test]
        fn each_leaves_once_in_order(steps in prop::collection::vec(0u8..3, 0..200)) {
            let mut replies = Replies::default();
            let (mut appended, mut committed) = (0u32, 0u32);
            let mut needs = Vec::new();
            let mut left = Vec::new();
            for step in steps {
                match step {
                    0 => {
                        replies.appended();
                        appended += 1;
                    }
                    1 if committed < appended => {
                        replies.committed();
                        committed += 1;
                    }
                    1 => {}
                    _ => {
                        replies.push(needs.len() as u32);
                        needs.push(appended);
                    }
                }
                left.extend(popped(&mut replies));
                let may_leave = needs.iter().filter(|n| **n <= committed).count();
                prop_assert_eq!(&left, &(0..may_leave as u32).collect::<Vec<_>>());
            }
        }
    }
}
