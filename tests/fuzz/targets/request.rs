//! A frame from a client: header, guard, and the decoder behind it. Nothing may panic, and decoding
//! may take memory only in proportion to the body.
//!
//! The input's first byte chooses what it is: a frame as it stands, or numbers for a random request
//! and for the damage that is done to it.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_wire::guard::{self, GuardLimits, sample};

#[path = "../../../broker/wire/tests/common/mod.rs"]
mod common;

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

/// Those of the broker.
const LIMITS: GuardLimits = GuardLimits::DEFAULT;

fuzz_target!(|data: &[u8]| {
    let Some((&form, data)) = data.split_first() else {
        return;
    };
    if form % 2 == 0 {
        let Ok(header) = guard::header(data) else {
            return;
        };
        let body = &data[header.size_bytes..];
        decode_if_passed(header.api_key, header.api_version, body);
    } else {
        damaged_sample(data);
    }
});

fn damaged_sample(data: &[u8]) {
    let [api, version, damage_at, damage, numbers @ ..] = data else {
        return;
    };
    let apis: Vec<_> = guard::apis().collect();
    let api = apis[usize::from(*api) % apis.len()];
    let versions: Vec<i16> = api.versions().collect();
    let version = versions[usize::from(*version) % versions.len()];
    let mut numbers = numbers.iter().cycle();
    let mut state = 0u64;
    let mut random = || {
        let input = numbers.next().copied().unwrap_or(0);
        state = state.wrapping_mul(31).wrapping_add(u64::from(input) + 1);
        state >> 3
    };
    let mut body = sample::body(api, version, 3, &mut random);
    assert_eq!(
        guard::check(api.key(), version, &body, &LIMITS),
        Ok(body.len())
    );
    if !body.is_empty() {
        let at = usize::from(*damage_at) % body.len();
        body[at] = *damage;
    }
    decode_if_passed(api.key(), version, &body);
}

fn decode_if_passed(key: i16, version: i16, body: &[u8]) {
    let Ok(taken) = guard::check(key, version, body, &LIMITS) else {
        return;
    };
    let bytes = Bytes::copy_from_slice(body);
    let before = ALLOCATED.get();
    let decoded = common::decode(key, version, bytes.clone());
    let used = ALLOCATED.get() - before;
    assert!(
        used <= 4096 + 512 * body.len(),
        "{used} bytes for {}",
        body.len()
    );
    if decoded.is_ok() {
        let Ok(decoded) = common::round_trip(key, version, bytes) else {
            panic!("decodes once and not twice");
        };
        assert_eq!(body.len() - decoded.left_bytes, taken);
        if let Ok(again) = decoded.again {
            let checked = guard::check(key, version, &again, &LIMITS);
            assert_eq!(checked, Ok(again.len()));
        }
    }
}
