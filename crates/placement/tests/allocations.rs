//! A test whether a member fits does not allocate: counted while nothing but such tests is done.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use flowyard_placement::*;

thread_local! {
    /// Allocations of this thread; other tests run beside it.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: it hands everything on to the system's allocator, and counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NODES: u32 = 1_000;

fn node(devices: usize, free_milli: u32) -> NodeFacts {
    let all = Amounts { cpu_milli: 4, memory_bytes: 4, disk_bytes: 4, tokens: vec![1] };
    let device = |at: usize| Device {
        model: 0,
        memory_bytes: 1,
        groups: [Some(at as u32 / 4), Some(at as u32 / 2), None],
        healthy: true,
        free_milli: if at.is_multiple_of(2) { free_milli } else { 1_000 },
        free_memory: None,
        part: false,
    };
    NodeFacts { class: 0, free: all.clone(), all, devices: (0..devices).map(device).collect(), avoided: false }
}

#[test]
fn a_test_of_a_node_does_not_allocate() {
    for fit in [Fit::Fragmentation, Fit::Best, Fit::First] {
        for case in [(0, false, 0), (8, false, 1_000), (8, true, 600), (100, true, 600)] {
            tests_do_not_allocate(fit, case);
        }
    }
}

fn tests_do_not_allocate(fit: Fit, (devices, linked, share_milli): (usize, bool, u32)) {
    let wish = Wish {
        count: 2,
        model: None,
        min_memory_bytes: 0,
        link: linked.then_some(Link::Pcie),
        share_milli,
        memory_bytes: 0,
    };
    let mix = [(wish.clone(), 1)];
    let wishes = if devices > 0 { vec![wish] } else { vec![] };
    // The last token is missing, or else the devices are, so that every test is done to its end.
    let tokens = vec![if linked { 1 } else { 2 }];
    let needs = Amounts { cpu_milli: 1, memory_bytes: 1, disk_bytes: 1, tokens };
    let mut fleet = Fleet::with_fit(0, fit);
    fleet.set_mix(&mix);
    (0..NODES).for_each(|at| fleet.put_node(NodeIndex(at), node(devices, 500)));
    let shape = ShapeFacts {
        needs,
        wishes,
        size: 1,
        eligible: Bits::all(1),
        near: Near::Lowest,
        prefer: vec![],
        beside: Beside::default(),
    };
    let mut out = Vec::new();
    // Another shape makes the order that both share; what is left is to test each node.
    let impossible = Amounts { cpu_milli: 9, ..Amounts::NONE };
    fleet.put_shape(ShapeIndex(0), ShapeFacts { needs: impossible, ..shape.clone() });
    fleet.put_shape(ShapeIndex(1), shape);
    fleet.seat(ShapeIndex(0), 1, None, &mut { u64::MAX }, &mut out);
    let (before, mut left) = (COUNT.get(), u64::MAX);
    assert_eq!(fleet.seat(ShapeIndex(1), 1, None, &mut left, &mut out), Ended::NoRoom);
    // Where what becomes useless is known, so is that the devices are not to be had.
    let tested = if fit == Fit::Fragmentation && linked { 0 } else { NODES };
    assert_eq!(u64::MAX - left, u64::from(tested), "each node was tested: {fit:?}");
    let allocations = COUNT.get() - before;
    assert!(allocations < 10, "{allocations} allocations for {NODES} tests");
}
