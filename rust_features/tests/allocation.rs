//! The hot path asks nobody for memory. A file of its own: the counting allocator counts for the whole program.

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use candlecast_features::{
    candle::Candle,
    catalog::{NEED, State},
    engine::{Engine, Move, Precision, Room, WINDOW_LEN, Way},
    extras::{Extras, OptionalInputs},
};
use common::{lively, reference_close};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn an_update_a_peek_and_a_window_allocate_nothing() {
    let candles: Vec<(Candle, Extras)> = lively(50, 2_000)
        .iter()
        .map(|values| {
            let candle = Candle::new(*values, false, i64::MAX).unwrap();
            (candle, Extras::of(values, Some(reference_close(values)), OptionalInputs::ALL))
        })
        .collect();
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1, "the counter counts");
    for precision in [Precision::Single, Precision::Half] {
        assert_eq!(allocations_of(&candles, precision), 0, "{precision:?}");
    }
}

fn allocations_of(candles: &[(Candle, Extras)], precision: Precision) -> usize {
    let (mut engine, mut scratch) = (Box::new(Engine::new(precision)), Box::new(State::new()));
    let mut window = vec![0.0; WINDOW_LEN];
    let mut silence: Box<[(Candle, Extras)]> = Box::new([(candles[0].0, Extras::default()); 2]);
    // Whatever is built once in a program is built by now.
    candles[..NEED as usize].iter().for_each(|(candle, extras)| engine.update(candle, *extras));
    let mut other = engine.clone();
    allocations(|| {
        for bars in candles[NEED as usize - 1..].windows(4) {
            let [(newest, _), (candle, extras), _, (ahead, _)] = bars else { unreachable!("four bars") };
            silence[0].0 = newest.followed_by_silence();
            silence[1].0 = silence[0].0.followed_by_silence();
            let beyond_a_gap = Move { candle: *ahead, extras: *extras, way: Way::Silence(silence) };
            engine.peek(&beyond_a_gap, &mut scratch, Some(Room::F32(&mut window)));
            let Way::Silence(again) = beyond_a_gap.way else { unreachable!("there was silence") };
            silence = again;
            engine.update(candle, *extras);
            Engine::update_each(&mut [&mut other], &[(*candle, *extras)], &[&engine]);
            engine.write_window(Room::F32(&mut window));
        }
    })
}
