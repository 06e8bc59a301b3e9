//! Spans as OpenTelemetry's protocol (OTLP 1.x) has them: the few messages of it that are used, under its field numbers.

use prost::Message;

use super::{Span, SpanId, TraceId};

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<WireSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct WireSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    string_value: Option<String>,
}

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: i32 = 1;
/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;

fn text((key, value): (&str, &str)) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { string_value: Some(value.to_owned()) }) }
}

fn wire(span: &Span) -> WireSpan {
    WireSpan {
        trace_id: span.trace.0.to_vec(),
        span_id: span.id.0.to_vec(),
        parent_span_id: span.parent.map_or_else(Vec::new, |parent| parent.0.to_vec()),
        name: span.name.to_owned(),
        kind: INTERNAL,
        start_time_unix_nano: span.start_us.saturating_mul(1_000),
        end_time_unix_nano: span.end_us.saturating_mul(1_000),
        attributes: span.attributes.iter().map(|(key, value)| text((key, value))).collect(),
        status: span.failed.as_ref().map(|why| Status { message: why.clone(), code: ERROR }),
    }
}

/// One request to a collector: these spans, of a process that says this of itself.
pub(super) fn encode(resource: &[(&'static str, String)], spans: &[Span]) -> Vec<u8> {
    let attributes = resource.iter().map(|(key, value)| text((key, value))).collect();
    let scope = Scope { name: "flowyard".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: spans.iter().map(wire).collect() }];
    let resource = Some(Resource { attributes });
    Request { resource_spans: vec![ResourceSpans { resource, scope_spans }] }.encode_to_vec()
}

/// A span as a collector receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The part that sent it (`service.name`).
    pub service: String,
    /// Whose.
    pub trace: TraceId,
    /// Which.
    pub id: SpanId,
    /// What it is a part of.
    pub parent: Option<SpanId>,
    /// What was done.
    pub name: String,
    /// When it began and was over, in nanoseconds since the Unix epoch.
    pub times_ns: (u64, u64),
    /// What there is to know.
    pub attributes: Vec<(String, String)>,
    /// Why it failed, if it did.
    pub failed: Option<String>,
}

/// What a collector reads of one request.
///
/// # Errors
/// When it is none.
pub fn decode(bytes: &[u8]) -> Result<Vec<Received>, String> {
    let request = Request::decode(bytes).map_err(|error| error.to_string())?;
    let mut received = Vec::new();
    for of_resource in request.resource_spans {
        let attributes = pairs(of_resource.resource.unwrap_or_default().attributes);
        let service = attributes.into_iter().find(|(key, _)| key == "service.name").map(|(_, value)| value);
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let wrong = |_| format!("an id of a wrong length in {}", span.name);
            received.push(Received {
                service: service.clone().unwrap_or_default(),
                trace: TraceId(span.trace_id.as_slice().try_into().map_err(wrong)?),
                id: SpanId(span.span_id.as_slice().try_into().map_err(wrong)?),
                parent: span.parent_span_id.as_slice().try_into().ok().map(SpanId),
                name: span.name,
                times_ns: (span.start_time_unix_nano, span.end_time_unix_nano),
                attributes: pairs(span.attributes),
                failed: span.status.filter(|status| status.code == ERROR).map(|status| status.message),
            });
        }
    }
    Ok(received)
}

fn pairs(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    let value = |value: Option<AnyValue>| value.and_then(|value| value.string_value).unwrap_or_default();
    attributes.into_iter().map(|pair| (pair.key, value(pair.value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_the_bytes_that_the_protocol_says() {
        let trace = TraceId([1; 16]);
        let span = Span { id: SpanId([2; 8]), ..Span::part(trace, "x", SpanId([3; 8]), "run", (1, 2)) };
        let bytes = wire(&span.clone().with("k", "v")).encode_to_vec();
        // By hand: tag and length of each field, in the order of their numbers.
        let mut expected = vec![0x0a, 16];
        expected.extend([1; 16]);
        expected.extend([0x12, 8, 2, 2, 2, 2, 2, 2, 2, 2, 0x22, 8, 3, 3, 3, 3, 3, 3, 3, 3]);
        expected.extend([0x2a, 3, b'r', b'u', b'n', 0x30, 1]);
        expected.push(0x39);
        expected.extend(1_000_u64.to_le_bytes());
        expected.push(0x41);
        expected.extend(2_000_u64.to_le_bytes());
        expected.extend([0x4a, 8, 0x0a, 1, b'k', 0x12, 3, 0x0a, 1, b'v']);
        assert_eq!(bytes, expected);
        let failed = Span { failed: Some("no".to_owned()), ..span };
        let read = decode(&encode(&[("service.name", "a".to_owned())], &[failed])).unwrap();
        assert_eq!((read[0].service.as_str(), read[0].failed.as_deref()), ("a", Some("no")));
        assert_eq!((read[0].parent, read[0].times_ns), (Some(SpanId([3; 8])), (1_000, 2_000)));
        assert!(decode(&[0xff]).is_err());
    }
}
