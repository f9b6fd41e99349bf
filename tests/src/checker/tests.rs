//! Each rule is shown its violation and must see it; a clean history must stay clean.

use super::{Rule, check};
use crate::history::{Event, History, Id, Nanos, Read, Seen, Sent};

fn batch(producer: u32, first: u64, count: u32) -> Sent {
    Sent {
        producer,
        partition: 0,
        first,
        count,
    }
}

fn send(producer: u32, first: u64, count: u32, at: Nanos) -> Event {
    Event::Send {
        batch: batch(producer, first, count),
        at,
    }
}

fn ack(producer: u32, first: u64, count: u32, base_offset: i64, at: Nanos) -> Event {
    Event::Ack {
        batch: batch(producer, first, count),
        base_offset: Some(base_offset),
        at,
    }
}

/// `(producer, number)` from `fetch_offset` on, at consecutive offsets.
fn read(asked_at: Nanos, fetch_offset: i64, records: &[(u32, u64)]) -> Read {
    let records: Vec<Seen> = records
        .iter()
        .zip(fetch_offset..)
        .map(|((producer, number), offset)| Seen {
            offset,
            id: Some(Id {
                producer: *producer,
                number: *number,
            }),
        })
        .collect();
    let high_watermark = fetch_offset + records.len() as i64;
    Read {
        reader: 9,
        partition: 0,
        asked_at,
        answered_at: asked_at,
        fetch_offset,
        high_watermark,
        records,
    }
}

/// Two producers, three batches, one of which was never acknowledged; a reader; a complete read.
fn clean() -> Vec<Event> {
    vec![
        send(1, 0, 2, 10),
        ack(1, 0, 2, 0, 20),
        send(2, 0, 1, 15),
        ack(2, 0, 1, 2, 30),
        send(1, 2, 1, 40),
        Event::Read(read(35, 1, &[(1, 1), (2, 0)])),
        Event::Complete(read(100, 0, &[(1, 0), (1, 1), (2, 0), (1, 2)])),
    ]
}

fn rules(events: Vec<Event>) -> Vec<Rule> {
    let (_, violations) = check(&History { events });
    let mut rules: Vec<Rule> = Vec::new();
    for violation in violations {
        if !rules.contains(&violation.rule) {
            rules.push(violation.rule);
        }
    }
    rules
}

#[test]
fn a_clean_history_is_clean() {
    assert_eq!(rules(clean()), vec![]);
    let (summary, _) = check(&History { events: clean() });
    assert_eq!(
        (
            summary.sent_records,
            summary.acknowledged_records,
            summary.stored_records
        ),
        (4, 3, 4)
    );
}

#[test]
fn lost_write() {
    let mut events = clean();
    // The last acknowledged record is gone, and the log ends before it; it had been read.
    events[6] = Event::Complete(read(100, 0, &[(1, 0), (1, 1)]));
    let all = vec![Rule::LostWrite, Rule::Realtime, Rule::TakenBack];
    assert_eq!(rules(events), all);
}

#[test]
fn lost_write_with_another_record_in_its_place() {
    let mut events = clean();
    events[6] = Event::Complete(read(100, 0, &[(1, 0), (1, 1), (1, 2)]));
    let rules = rules(events);
    assert!(
        rules.contains(&Rule::LostWrite) && rules.contains(&Rule::InconsistentOffsets),
        "{rules:?}"
    );
}

#[test]
fn unseen() {
    let mut events = clean();
    events.pop();
    assert_eq!(rules(events), vec![Rule::Unseen]);
    let mut events = clean();
    // A complete read that began before the last acknowledgement proves nothing about it.
    events[6] = Event::Complete(read(25, 0, &[(1, 0), (1, 1), (2, 0)]));
    assert_eq!(rules(events), vec![Rule::Unseen]);
}

#[test]
fn inconsistent_offsets() {
    let mut events = clean();
    events.push(send(3, 0, 1, 5));
    // Another reader saw another record at offset 3.
    events.push(Event::Read(read(200, 3, &[(3, 0)])));
    assert_eq!(rules(events), vec![Rule::InconsistentOffsets]);
}

#[test]
fn an_acknowledged_offset_is_the_offset() {
    let mut events = clean();
    events[3] = ack(2, 0, 1, 3, 30);
    let rules = rules(events);
    assert!(rules.contains(&Rule::InconsistentOffsets), "{rules:?}");
}

#[test]
fn duplicate() {
    let mut events = clean();
    events[6] = Event::Complete(read(100, 0, &[(1, 0), (1, 1), (2, 0), (2, 0), (1, 2)]));
    assert_eq!(rules(events), vec![Rule::Duplicate]);
}

#[test]
fn nonmonotonic_send() {
    let mut events = clean();
    events.extend([send(3, 0, 1, 41), send(3, 1, 1, 42)]);
    events[6] = Event::Complete(read(100, 0, &[(1, 0), (1, 1), (2, 0), (3, 1), (3, 0)]));
    assert_eq!(rules(events), vec![Rule::NonmonotonicSend]);
}

#[test]
fn foreign() {
    let mut events = clean();
    // Number 3 of producer 1 was never sent.
    events[6] = Event::Complete(read(100, 0, &[(1, 0), (1, 1), (2, 0), (1, 2), (1, 3)]));
    assert_eq!(rules(events), vec![Rule::Foreign]);
    let mut events = clean();
    let mut damaged = read(100, 0, &[(1, 0), (1, 1), (2, 0), (1, 2)]);
    damaged.records[3].id = None;
    events[6] = Event::Complete(damaged);
    assert_eq!(rules(events), vec![Rule::Foreign]);
}

#[test]
fn poll_skip() {
    let mut events = clean();
    let mut gap = read(36, 0, &[(1, 0), (2, 0)]);
    gap.records[1].offset = 2;
    gap.high_watermark = 3;
    events.push(Event::Read(gap));
    assert_eq!(rules(events), vec![Rule::PollSkip]);
    let mut events = clean();
    let mut late = read(36, 1, &[(2, 0)]);
    late.records[0].offset = 2;
    late.high_watermark = 3;
    events.push(Event::Read(late));
    assert_eq!(rules(events), vec![Rule::PollSkip]);
}

#[test]
fn realtime() {
    let mut events = clean();
    // Offset 2 was acknowledged at 30; at 31 a reader is told that the log ends at 2.
    events.push(Event::Read(read(31, 2, &[])));
    assert_eq!(rules(events), vec![Rule::Realtime]);
    let mut events = clean();
    // At 30 it could not have known.
    events.push(Event::Read(read(30, 2, &[])));
    assert_eq!(rules(events), vec![]);
}

#[test]
fn taken_back() {
    // Sent and never acknowledged, and yet read: it may not go away again.
    let shown = Event::Read(read(60, 3, &[(1, 2)]));
    let mut events = clean();
    events.insert(6, shown.clone());
    assert_eq!(rules(events.clone()), vec![]);
    events[7] = Event::Complete(read(100, 0, &[(1, 0), (1, 1), (2, 0)]));
    assert_eq!(rules(events), vec![Rule::TakenBack]);
    // A lower high watermark than the one before, and then the right one again.
    let mut events = clean();
    events.insert(6, shown);
    events.push(Event::Read(read(70, 3, &[])));
    assert_eq!(rules(events), vec![Rule::TakenBack]);
    // A read that was asked for before the other one was answered may be behind it.
    let mut events = clean();
    let mut slow = read(60, 3, &[(1, 2)]);
    slow.answered_at = 90;
    events.insert(6, Event::Read(slow));
    events.push(Event::Read(read(70, 3, &[])));
    assert_eq!(rules(events), vec![]);
}

#[test]
fn replicas_differ() {
    let replica = |node, asked_at, records: &[(u32, u64)]| {
        let mut read = read(asked_at, 0, records);
        read.reader = node;
        Event::Complete(read)
    };
    let all = [(1, 0), (1, 1), (2, 0), (1, 2)];
    let mut same = clean();
    same.extend([replica(1, 101, &all), replica(2, 102, &all)]);
    assert_eq!(rules(same.clone()), vec![]);
    // The last record was acknowledged to nobody, and nobody but the second node's reader has seen it.
    let mut short = clean();
    short.pop();
    short.extend([replica(1, 101, &all[..3]), replica(2, 102, &all)]);
    assert_eq!(rules(short), vec![Rule::ReplicasDiffer]);
    // While there are senders, the later read may have more.
    let mut later = clean();
    later.pop();
    later.extend([
        replica(1, 101, &all),
        send(2, 1, 1, 102),
        replica(2, 103, &[(1, 0), (1, 1), (2, 0), (1, 2), (2, 1)]),
    ]);
    assert_eq!(rules(later), vec![]);
}

#[test]
fn failed_send() {
    let mut events = clean();
    events.push(Event::Failed {
        batch: batch(1, 2, 1),
        error: "OUT_OF_ORDER_SEQUENCE_NUMBER".into(),
        at: 50,
    });
    assert_eq!(rules(events), vec![Rule::FailedSend]);
}

#[test]
fn failed_read() {
    let mut events = clean();
    events.push(Event::ReadFailed {
        reader: 9,
        partition: 0,
        offset: 3,
        error: "OFFSET_OUT_OF_RANGE".into(),
    });
    assert_eq!(rules(events), vec![Rule::FailedRead]);
}

fn sent(offset: i64, at: Nanos) -> Event {
    Event::CommitSent {
        group: "g".into(),
        partition: 0,
        offset,
        at,
    }
}

fn acked(offset: i64, at: Nanos) -> Event {
    Event::CommitAcked {
        group: "g".into(),
        partition: 0,
        offset,
        at,
    }
}

fn shown(offset: i64, asked_at: Nanos) -> Event {
    Event::CommitRead {
        group: "g".into(),
        partition: 0,
        offset,
        asked_at,
    }
}

#[test]
fn offsets_that_only_rise_are_clean() {
    assert_eq!(
        rules(vec![shown(-1, 0), sent(5, 1), acked(5, 2), shown(5, 3)]),
        vec![]
    );
    // The answer was lost: either is right, until one was shown.
    assert_eq!(
        rules(vec![sent(5, 1), acked(5, 2), sent(8, 3), shown(5, 4)]),
        vec![]
    );
    assert_eq!(
        rules(vec![sent(5, 1), acked(5, 2), sent(8, 3), shown(8, 4)]),
        vec![]
    );
}

#[test]
fn offset_regress() {
    let lost = vec![sent(5, 1), acked(5, 2), shown(-1, 3)];
    let back = vec![
        sent(5, 1),
        acked(5, 2),
        sent(8, 3),
        acked(8, 4),
        shown(5, 5),
    ];
    let flickers = vec![
        sent(5, 1),
        acked(5, 2),
        sent(8, 3),
        shown(8, 4),
        shown(5, 5),
    ];
    let made_up = vec![sent(5, 1), acked(5, 2), shown(6, 3)];
    let never_read = vec![sent(5, 1), acked(5, 2)];
    for events in [lost, back, flickers, made_up, never_read] {
        assert_eq!(
            rules(events.clone()),
            vec![Rule::OffsetRegress],
            "{events:?}"
        );
    }
}
