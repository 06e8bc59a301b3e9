//! The arrivals of a trace, as many tasks as are asked for: the first of them, or all of them over and over.

use super::workload::Arrival;

/// A trace, and how many of its tasks arrive.
#[derive(Debug)]
pub(super) struct Traced {
    /// By time; at least one, each of at least one task.
    pub arrivals: Vec<Arrival>,
    /// Tasks that arrive in all.
    pub tasks: u64,
}

impl Traced {
    /// As many tasks of a trace as are asked for; all of them, once, if nothing is.
    pub(super) fn of(arrivals: Vec<Arrival>, tasks: Option<u64>) -> Self {
        let all = arrivals.iter().map(|arrival| u64::from(arrival.count)).sum();
        Self { tasks: tasks.unwrap_or(all), arrivals }
    }

    /// What arrives, in order of time. A trace that is too short begins again when its last arrival has come.
    pub(super) fn arrivals(&self) -> impl Iterator<Item = Arrival> + Send + '_ {
        let span_ms = self.arrivals.last().map_or(0, |last| last.at_ms);
        let mut left = self.tasks;
        let of_round = move |round: u64| {
            let later_ms = span_ms.saturating_mul(round);
            self.arrivals.iter().map(move |it| (it, it.at_ms.saturating_add(later_ms)))
        };
        (0..u64::MAX).flat_map(of_round).map_while(move |(arrival, at_ms)| {
            let count = u32::try_from(left).unwrap_or(u32::MAX).min(arrival.count);
            left -= u64::from(count);
            (count > 0).then(|| Arrival { at_ms, count, ..arrival.clone() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(at_ms: u64, count: u32) -> Arrival {
        Arrival {
            at_ms,
            duration_ms: 0,
            cpu_milli: 1_000,
            memory_bytes: 1,
            gpus: 0,
            model: None,
            queue: None,
            user: None,
            count,
            mark: None,
        }
    }

    #[test]
    fn a_trace_is_cut_off_or_begins_again_until_there_are_as_many_tasks() {
        let come = |tasks| {
            let traced = Traced::of(vec![arrival(5, 30), arrival(200, 1), arrival(300, 5)], tasks);
            let come: Vec<_> = traced.arrivals().map(|it| (it.at_ms, it.count)).collect();
            assert_eq!(come.iter().map(|(_, count)| u64::from(*count)).sum::<u64>(), traced.tasks);
            come
        };
        assert_eq!(come(None), [(5, 30), (200, 1), (300, 5)]);
        assert_eq!(come(Some(31)), [(5, 30), (200, 1)]);
        assert_eq!(come(Some(7)), [(5, 7)]);
        assert_eq!(come(Some(80)), [(5, 30), (200, 1), (300, 5), (305, 30), (500, 1), (600, 5), (605, 8)]);
        let at_once = Traced::of(vec![arrival(0, 2)], Some(5));
        assert_eq!(at_once.arrivals().map(|it| (it.at_ms, it.count)).collect::<Vec<_>>(), [(0, 2), (0, 2), (0, 1)]);
    }
}
