//! The guard against `kafka-protocol`: what it passes decodes, with memory in proportion to the body.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use ottla_wire::guard::{self, Api, GuardError, GuardLimits, sample};

/// Counts what the current thread allocates; tests run on a thread each.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: both calls go to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get().saturating_add(layout.size()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Bytes allocated while `work` runs.
fn allocated<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.get();
    let result = work();
    (result, ALLOCATED.get() - before)
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

fn each_version(mut visit: impl FnMut(&'static Api, i16)) {
    for api in guard::apis() {
        for version in api.versions() {
            visit(api, version);
        }
    }
}

const LIMITS: GuardLimits = GuardLimits {
    max_elements: 10_000,
};

#[test]
fn every_version_of_every_api_agrees_with_the_crate() {
    let mut random = Random(1);
    each_version(|api, version| {
        for _ in 0..50 {
            let body = sample::body(api, version, 3, &mut || random.next());
            let name = api.name();
            let taken = guard::check(api.key(), version, &body, &LIMITS);
            assert_eq!(taken, Ok(body.len()), "{name} {version}");
            let decoded = common::round_trip(api.key(), version, body.clone().into())
                .unwrap_or_else(|error| panic!("{name} {version}: {error}"));
            assert_eq!(decoded.left_bytes, 0, "{name} {version}");
            assert_eq!(decoded.again, Ok(body), "{name} {version}");
        }
    });
}

#[test]
fn every_truncation_is_refused() {
    let mut random = Random(2);
    each_version(|api, version| {
        let body = sample::body(api, version, 2, &mut || random.next());
        for cut in 0..body.len() {
            let refused = guard::check(api.key(), version, &body[..cut], &LIMITS);
            assert!(refused.is_err(), "{} {version} at {cut}", api.name());
        }
    });
}

/// A byte, a run of bytes, or four bytes that read as a large number.
fn mutate(body: &mut Vec<u8>, random: &mut Random) {
    if body.is_empty() {
        return;
    }
    let at = random.below(body.len());
    match random.below(6) {
        0 => body[at] = random.next() as u8,
        1 => body[at] = [0x00, 0x7f, 0x80, 0xff][random.below(4)],
        2 => body[at..].iter_mut().take(4).for_each(|byte| *byte = 0xff),
        3 => {
            let large = (random.next() as u32 & 0x7fff_ffff).to_be_bytes();
            body[at..]
                .iter_mut()
                .zip(large)
                .for_each(|(byte, b)| *byte = b);
        }
        4 => {
            body.remove(at);
        }
        _ => body.insert(at, random.next() as u8),
    }
}

/// A decoded element is a struct of a few hundred bytes, and its smallest encoding a few bytes; a
/// tagged field that is kept sits in a tree of nodes that hold eleven.
fn memory_bound(body: &[u8]) -> usize {
    4096 + 512 * body.len()
}

#[test]
fn mutated_requests_are_refused_or_decode_within_bounds() {
    let mut random = Random(3);
    let (mut refused, mut failed, mut passed) = (0, 0, 0);
    each_version(|api, version| {
        for _ in 0..400 {
            let mut body = sample::body(api, version, 3, &mut || random.next());
            for _ in 0..1 + random.below(3) {
                mutate(&mut body, &mut random);
            }
            let (checked, used) = allocated(|| guard::check(api.key(), version, &body, &LIMITS));
            assert_eq!(used, 0, "the guard allocates nothing");
            let Ok(taken) = checked else {
                refused += 1;
                continue;
            };
            assert!(taken <= body.len());
            let bound = memory_bound(&body);
            let bytes = Bytes::from(body);
            let (decoded, used) = allocated(|| common::decode(api.key(), version, bytes));
            assert!(used <= bound, "{} {version}: {used} bytes", api.name());
            match decoded {
                Ok(()) => passed += 1,
                Err(_) => failed += 1,
            }
        }
    });
    // the three outcomes all occur, so that none of the above is vacuous
    assert!(
        refused > 10_000 && passed > 10_000 && failed > 100,
        "{refused} {passed} {failed}"
    );
}

#[test]
fn what_the_guard_passes_the_crate_takes_as_long() {
    let mut random = Random(4);
    each_version(|api, version| {
        for _ in 0..100 {
            let mut body = sample::body(api, version, 2, &mut || random.next());
            mutate(&mut body, &mut random);
            body.extend_from_slice(&[0; 3]);
            let Ok(taken) = guard::check(api.key(), version, &body, &LIMITS) else {
                continue;
            };
            let size = body.len();
            if let Ok(decoded) = common::round_trip(api.key(), version, body.into()) {
                assert_eq!(size - decoded.left_bytes, taken, "{} {version}", api.name());
            }
        }
    });
}

#[test]
fn noise_never_panics() {
    let mut random = Random(5);
    let mut passed = 0;
    for _ in 0..100_000 {
        let size = random.below(64);
        let mut frame: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
        if size >= 10 {
            // an api key and a version that may exist, and no client id
            frame[8..10].copy_from_slice(&[0xff; 2]);
            frame[..4].copy_from_slice(&[0, random.below(95) as u8, 0, random.below(19) as u8]);
        }
        let Ok(header) = guard::header(&frame) else {
            continue;
        };
        let body = &frame[header.size_bytes..];
        if guard::check(header.api_key, header.api_version, body, &LIMITS).is_ok() {
            passed += 1;
            let bytes = Bytes::copy_from_slice(body);
            let (_, used) = allocated(|| common::decode(header.api_key, header.api_version, bytes));
            assert!(used <= memory_bound(body));
        }
    }
    assert!(passed > 100, "{passed}");
}

/// Elements at their smallest, many times over; `parts` is what surrounds them.
fn swollen(before: &[u8], element: &[u8], count: u32, after: &[u8]) -> Vec<u8> {
    let mut body = before.to_vec();
    let mut left = count + 1; // compact arrays count from one
    while left >= 0x80 {
        body.push(left as u8 | 0x80);
        left >>= 7;
    }
    body.push(left as u8);
    body.extend_from_slice(&element.repeat(count as usize));
    body.extend_from_slice(after);
    body
}

#[test]
fn the_element_budget_bounds_what_decoding_takes() {
    const COUNT: u32 = 25_000;
    // DescribeTopicPartitions: an empty name, and a tagged field that a tree node is made for
    let tagged = swollen(&[], &[1, 1, 9, 0], COUNT, &[0, 0, 0, 0, 0xff, 0]);
    // CreateTopics: name, partitions, replication factor, assignments, configs, no tagged fields
    let wide = swollen(
        &[],
        &[1, 0, 0, 0, 1, 0, 1, 1, 1, 0],
        COUNT,
        &[0, 0, 0, 0, 0, 0],
    );
    // ConsumerGroupDescribe: empty strings
    let narrow = swollen(&[], &[1], COUNT, &[0, 0]);
    for (key, version, elements, body) in [
        (75, 0, 2 * COUNT, tagged),
        (19, 7, COUNT, wide),
        (69, 0, COUNT, narrow),
    ] {
        let max_elements = elements as usize;
        let limits = |max_elements| GuardLimits { max_elements };
        let taken = guard::check(key, version, &body, &limits(max_elements));
        assert_eq!(taken, Ok(body.len()), "{key}");
        assert_eq!(
            guard::check(key, version, &body, &limits(max_elements - 1)),
            Err(GuardError::TooManyElements {
                max: max_elements - 1
            })
        );
        let (decoded, used) = allocated(|| common::decode(key, version, body.into()));
        assert_eq!(decoded, Ok(()), "{key}");
        assert!(
            used <= 256 * max_elements,
            "{key}: {used} for {max_elements}"
        );
    }
}
