//! What would be if some of those that run were gone is what would be without them, and nothing is left of it afterwards.

use flowyard_placement::*;
use proptest::prelude::*;

use crate::mirror::Mirror;
use crate::{Run, random};

fn holdings(seated: &[(u32, ShapeFacts, Seated)]) -> Vec<Vec<Holding>> {
    let of_task = |(_, shape, task): &(u32, ShapeFacts, Seated)| {
        let portion = shape.wishes.get(task.alternative as usize).map_or(Portion::NONE, Wish::portion);
        let holding = |seat: &SeatAt| Holding {
            node: seat.node,
            amounts: shape.needs.clone(),
            devices: seat.devices.clone(),
            portion,
            marks: shape.beside.leaves.clone(),
        };
        task.seats.iter().map(holding).collect()
    };
    seated.iter().map(of_task).collect()
}

/// How many members of a task one node holds, by seating them one by one.
fn one_by_one(mirror: &Mirror, shape: &ShapeFacts, ask: &Ask<'_>, node: NodeIndex, most: u32) -> u32 {
    let mut fleet = Fleet::new(0);
    fleet.put_shape(ask.shape, ShapeFacts { size: 1, ..shape.clone() });
    let Some(facts) = mirror.nodes.get(&node.0) else { return 0 };
    fleet.put_node(node, facts.clone());
    let mut out = Vec::new();
    Room::seat(&mut fleet, ask, most, &mut { u64::MAX }, &mut out);
    out.len() as u32
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_is_taken_out_is_gone_until_put_back(
        history in random::history(),
        gone in prop::collection::vec(any::<bool>(), 40),
        shape in 0u32..4,
    ) {
        let mut run = Run::new(0, Fit::Best);
        for event in &history {
            run.happens(event)?;
        }
        let Run { mut fleet, mirror, seated, .. } = run;
        let held = holdings(&seated);
        let gone: Vec<_> = (0..seated.len()).filter(|at| gone[*at % gone.len()]).collect();
        let mut without = mirror.clone();
        gone.iter().for_each(|at| without.give_back(&seated[*at].1, &seated[*at].2));
        let asks = |mirror: &Mirror| {
            let count = mirror.shapes.get(&shape).map_or(0, |shape| shape.wishes.len().max(1));
            (0..count as u32).map(|alternative| Ask { shape: ShapeIndex(shape), alternative, models: None }).collect::<Vec<_>>()
        };
        let seats = |room: &mut dyn Room<Seated = Seated>, ask: &Ask<'_>| {
            let mut out = Vec::new();
            room.seat(ask, 3, &mut { u64::MAX }, &mut out);
            out.iter().for_each(|seated| room.give_back(ask.shape, seated));
            out
        };
        let mut occupied = Occupied::new(&mut fleet, &held);
        gone.iter().for_each(|at| occupied.take_out(*at));
        for ask in asks(&mirror) {
            prop_assert_eq!(seats(&mut occupied, &ask), seats(&mut without.fresh(0), &ask));
            let facts = &without.shapes[&shape];
            for node in (0..7).map(NodeIndex) {
                let counted = one_by_one(&without, facts, &ask, node, facts.size);
                prop_assert_eq!(occupied.members_on(&ask, node, facts.size), counted);
            }
        }
        gone.iter().for_each(|at| occupied.put_back(*at));
        for ask in asks(&mirror) {
            prop_assert_eq!(seats(&mut fleet, &ask), seats(&mut mirror.fresh(0), &ask));
        }
    }
}
