//! Figures as the page that Prometheus reads: its text format, version 0.0.4.
//!
//! A part does not register figures one by one; it is asked for all of them when somebody reads the page, and says most of them from
//! what it keeps anyway. So figures that nobody reads cost nothing.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use crate::distribution::Distribution;

/// A row's labels: names that are the same in all rows of a figure, values from a closed list.
pub type Labels = Vec<(&'static str, String)>;

type NoExemplar = Exemplar<NoLabelSet, f64>;

/// A word of a closed list as answers for programs spell it: `node_lost` for `NodeLost`.
pub fn spelled(value: &impl fmt::Debug) -> String {
    let mut text = String::new();
    for letter in format!("{value:?}").chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// Whoever has figures to tell.
pub trait Source: Send + Sync + 'static {
    /// Says all of them. It may take a moment: it is asked beside the asynchronous threads.
    ///
    /// # Errors
    /// When the page cannot be written.
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result;
}

/// All figures of one process; cheap to clone.
#[derive(Clone)]
pub struct Exposition {
    registry: Arc<Registry>,
}

struct Asked(Arc<dyn Source>);

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a source of figures")
    }
}

impl Collector for Asked {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.tell(&mut Page { encoder })
    }
}

impl Exposition {
    /// The figures of these, and of the process itself.
    pub fn of(sources: Vec<Arc<dyn Source>>) -> Self {
        let mut registry = Registry::default();
        for source in sources.into_iter().chain([Arc::new(crate::process::Process) as Arc<dyn Source>]) {
            registry.register_collector(Box::new(Asked(source)));
        }
        Self { registry: Arc::new(registry) }
    }

    /// The page, as of now. It blocks for a moment.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails only if a source does, and that says nothing worse than a page that ends early.
        if prometheus_text::encode(&mut text, &self.registry).is_err() {
            tracing::warn!("some figures could not be told");
        }
        text
    }
}

/// The page while it is written.
pub struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Page<'_> {
    /// A value that goes up and down.
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// Values that go up and down, one per row.
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn gauges(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, f64)>) -> fmt::Result {
        let mut figure = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        rows.into_iter().try_for_each(|(labels, value)| figure.encode_family(&labels)?.encode_gauge(&value))
    }

    /// A count since this process began. Its name is written with `_total` behind it.
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut figure = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        figure.encode_counter(&value, None::<&NoExemplar>)
    }

    /// A sum of seconds since this process began. Its name is written with `_total` behind it.
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut figure = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        figure.encode_counter(&value, None::<&NoExemplar>)
    }

    /// Counts since this process began, one per row.
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn counters(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = (Labels, u64)>) -> fmt::Result {
        let mut figure = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        let mut row =
            |(labels, value): (Labels, u64)| figure.encode_family(&labels)?.encode_counter(&value, None::<&NoExemplar>);
        rows.into_iter().try_for_each(&mut row)
    }

    /// How long something took, each time since this process began.
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn histogram(&mut self, name: &str, help: &str, taken: &Distribution) -> fmt::Result {
        let (sum, ranges) = taken.told();
        let count = ranges.iter().map(|(_, count)| count).sum();
        let mut figure = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        figure.encode_histogram::<NoLabelSet>(sum, count, &ranges, None)
    }

    /// The same, one per row.
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn histograms<'d>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, &'d Distribution)>,
    ) -> fmt::Result {
        let mut figure = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        rows.into_iter().try_for_each(|(labels, taken)| {
            let (sum, ranges) = taken.told();
            let count = ranges.iter().map(|(_, count)| count).sum();
            figure.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &ranges, None)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Some;

    impl Source for Some {
        fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
            page.gauge("flowyard_some_things", "How many.", 2.0)?;
            page.counters("flowyard_some_calls", "How often.", [(vec![("code", "a\"b".to_owned())], 3)])?;
            let taken = Distribution::new(&[1_000_000]);
            taken.observe(Duration::from_millis(500));
            page.histogram("flowyard_some_seconds", "How long.", &taken)
        }
    }

    #[test]
    fn words_are_spelled_as_elsewhere() {
        #[derive(Debug)]
        enum Reason {
            NodeLost,
            Oom,
        }
        assert_eq!((spelled(&Reason::NodeLost), spelled(&Reason::Oom)), ("node_lost".to_owned(), "oom".to_owned()));
    }

    #[test]
    fn figures_are_written_as_prometheus_reads_them() {
        let text = Exposition::of(vec![Arc::new(Some)]).text();
        let expected = "# HELP flowyard_some_things How many.\n\
                        # TYPE flowyard_some_things gauge\n\
                        flowyard_some_things 2.0\n\
                        # HELP flowyard_some_calls_total How often.\n\
                        # TYPE flowyard_some_calls_total counter\n\
                        flowyard_some_calls_total{code=\"a\\\"b\"} 3\n\
                        # HELP flowyard_some_seconds How long.\n\
                        # TYPE flowyard_some_seconds histogram\n\
                        flowyard_some_seconds_bucket{le=\"1\"} 1\n\
                        flowyard_some_seconds_bucket{le=\"+Inf\"} 1\n\
                        flowyard_some_seconds_sum 0.5\n\
                        flowyard_some_seconds_count 1\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    }
}
