//! From the bytes of a body to a request, within bounds on what they may become.
//!
//! An empty message is two bytes on the wire and some hundreds in memory, so the bytes alone bound nothing. What a body
//! holds is therefore counted before anything of it is made: its data points, and its fields.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;

use super::receive::Refusal;
use crate::domain::Text;

/// Most bytes of a body, as it comes and once it is unpacked.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most bytes of a body in JSON, once it is unpacked: it takes more room to read.
pub const JSON_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most data points of one request.
pub const POINTS_MAX: usize = 20_000;
/// Most strings and messages of one request; in JSON, most objects.
pub const FIELDS_MAX: usize = 1_000_000;
/// Most objects of one request in JSON.
pub const OBJECTS_MAX: usize = 250_000;
/// Deepest nesting of messages.
const DEPTH_MAX: usize = 64;

/// Reads a body of protobuf.
pub(super) fn protobuf(body: &[u8]) -> Result<ExportMetricsServiceRequest, Refusal> {
    fits(body.len(), BODY_BYTES_MAX)?;
    let mut census = Census::default();
    census.take(body, Kind::Request, 0)?;
    ExportMetricsServiceRequest::decode(body)
        .map_err(|error| Refusal::Malformed(Text::new(format!("the body is no OTLP metrics request: {error}"))))
}

/// Reads a body of JSON.
pub(super) fn json(body: &[u8]) -> Result<ExportMetricsServiceRequest, Refusal> {
    fits(body.len(), JSON_BYTES_MAX)?;
    if body.iter().filter(|byte| **byte == b'{').count() > OBJECTS_MAX {
        return Err(Refusal::TooLarge(Text::new(format!("the body has more than {OBJECTS_MAX} objects"))));
    }
    let request: ExportMetricsServiceRequest = serde_json::from_slice(body)
        .map_err(|error| Refusal::Malformed(Text::new(format!("the body is no OTLP metrics request: {error}"))))?;
    let metrics = request.resource_metrics.iter().flat_map(|of| &of.scope_metrics).flat_map(|of| &of.metrics);
    if metrics.map(super::points::count).sum::<usize>() > POINTS_MAX {
        return Err(too_many_points());
    }
    Ok(request)
}

fn fits(bytes: usize, most: usize) -> Result<(), Refusal> {
    let what = || Refusal::TooLarge(Text::new(format!("the body has more than {most} bytes")));
    if bytes > most { Err(what()) } else { Ok(()) }
}

fn too_many_points() -> Refusal {
    let what = format!("more than {POINTS_MAX} data points in one request: let the exporter send smaller batches");
    Refusal::TooLarge(Text::new(what))
}

/// Messages that hold others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Request,
    ResourceMetrics,
    Resource,
    ScopeMetrics,
    Scope,
    Metric,
    Numbers,
    Histograms,
    Exponentials,
    Summaries,
    Number,
    Histogram,
    Exponential,
    Summary,
    Exemplar,
    KeyValue,
    AnyValue,
    Array,
    KeyValues,
    /// Names of entities: nothing but strings.
    Entity,
}

impl Kind {
    /// What a field of this number holds, where it holds a message that holds others.
    fn child(self, field: u64) -> Option<Self> {
        let child = match (self, field) {
            (Self::Request, 1) => Self::ResourceMetrics,
            (Self::ResourceMetrics, 1) => Self::Resource,
            (Self::ResourceMetrics, 2) => Self::ScopeMetrics,
            (Self::Resource, 3) => Self::Entity,
            (Self::ScopeMetrics, 1) => Self::Scope,
            (Self::ScopeMetrics, 2) => Self::Metric,
            (Self::Metric, 5 | 7) => Self::Numbers,
            (Self::Metric, 9) => Self::Histograms,
            (Self::Metric, 10) => Self::Exponentials,
            (Self::Metric, 11) => Self::Summaries,
            (Self::Numbers, 1) => Self::Number,
            (Self::Histograms, 1) => Self::Histogram,
            (Self::Exponentials, 1) => Self::Exponential,
            (Self::Summaries, 1) => Self::Summary,
            (Self::Number, 5) | (Self::Histogram, 8) | (Self::Exponential, 11) => Self::Exemplar,
            (Self::Resource | Self::Exponential | Self::KeyValues, 1)
            | (Self::Scope, 3)
            | (Self::Metric, 12)
            | (Self::Number | Self::Summary | Self::Exemplar, 7)
            | (Self::Histogram, 9) => Self::KeyValue,
            (Self::KeyValue, 2) | (Self::Array, 1) => Self::AnyValue,
            (Self::AnyValue, 5) => Self::Array,
            (Self::AnyValue, 6) => Self::KeyValues,
            (_, _) => return None,
        };
        Some(child)
    }

    fn is_point(self) -> bool {
        matches!(self, Self::Number | Self::Histogram | Self::Exponential | Self::Summary)
    }
}

/// What a body would become.
#[derive(Debug, Default)]
struct Census {
    points: usize,
    fields: usize,
}

impl Census {
    fn take(&mut self, mut body: &[u8], kind: Kind, depth: usize) -> Result<(), Refusal> {
        let cut = || Refusal::Malformed(Text::new("the body is no whole protobuf message"));
        if depth > DEPTH_MAX {
            return Err(Refusal::Malformed(Text::new(format!("values are nested more than {DEPTH_MAX} deep"))));
        }
        while !body.is_empty() {
            let key = varint(&mut body).ok_or_else(cut)?;
            let skipped = match key & 7 {
                0 => varint(&mut body).map(|_| 0),
                1 => Some(8),
                5 => Some(4),
                2 => {
                    let length = varint(&mut body).and_then(|length| usize::try_from(length).ok());
                    let inside = length.and_then(|length| body.get(..length)).ok_or_else(cut)?;
                    self.fields += 1;
                    if let Some(child) = kind.child(key >> 3) {
                        self.points += usize::from(child.is_point());
                        if self.points > POINTS_MAX {
                            return Err(too_many_points());
                        }
                        self.take(inside, child, depth + 1)?;
                    }
                    if self.fields > FIELDS_MAX {
                        let what = format!("the body has more than {FIELDS_MAX} strings and messages");
                        return Err(Refusal::TooLarge(Text::new(what)));
                    }
                    Some(inside.len())
                }
                _ => None,
            };
            body = skipped.and_then(|bytes| body.get(bytes..)).ok_or_else(cut)?;
        }
        Ok(())
    }
}

fn varint(body: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = body.split_first()?;
        *body = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::{
        Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data,
    };
    use proptest::prelude::*;

    use super::*;

    fn with_points(points: usize) -> ExportMetricsServiceRequest {
        let data_points = vec![NumberDataPoint::default(); points];
        let metric = Metric { data: Some(Data::Gauge(Gauge { data_points })), ..Metric::default() };
        let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
        let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
        ExportMetricsServiceRequest { resource_metrics }
    }

    #[test]
    fn a_request_is_read_from_both_encodings() {
        let request = with_points(3);
        assert_eq!(protobuf(&request.encode_to_vec()).unwrap(), request);
        assert_eq!(json(&serde_json::to_vec(&request).unwrap()).unwrap(), request);
    }

    #[test]
    fn the_limit_of_points_holds_at_its_edge_in_both_encodings() {
        for (points, fits) in [(POINTS_MAX, true), (POINTS_MAX + 1, false)] {
            let request = with_points(points);
            let refused = protobuf(&request.encode_to_vec()).err();
            assert_eq!(refused.is_none(), fits, "{refused:?}");
            let refused = json(&serde_json::to_vec(&request).unwrap()).err();
            assert_eq!(refused.is_none(), fits, "{refused:?}");
        }
    }

    #[test]
    fn what_is_small_on_the_wire_and_large_in_memory_is_refused_before_it_is_made() {
        // Messages of ResourceMetrics without anything in them, two bytes each.
        let empty = |n: usize| [0x0a, 0x00].repeat(n);
        assert!(protobuf(&empty(FIELDS_MAX)).is_ok());
        assert!(matches!(protobuf(&empty(FIELDS_MAX + 1)), Err(Refusal::TooLarge(_))));
        let objects = format!("{{\"resourceMetrics\":[{}]}}", ["{}"].repeat(OBJECTS_MAX).join(","));
        assert!(matches!(json(objects.as_bytes()), Err(Refusal::TooLarge(_))));
        assert!(matches!(protobuf(&vec![0; BODY_BYTES_MAX + 1]), Err(Refusal::TooLarge(_))));
        assert!(matches!(json(&vec![b' '; JSON_BYTES_MAX + 1]), Err(Refusal::TooLarge(_))));
    }

    #[test]
    fn deep_nests_and_cut_bodies_are_refused() {
        let mut nest = Vec::new();
        for _ in 0..500 {
            // An AnyValue that holds an array of one AnyValue.
            let mut array = vec![0x0a];
            prost::encoding::encode_varint(nest.len() as u64, &mut array);
            array.extend(&nest);
            let mut value = vec![0x2a];
            prost::encoding::encode_varint(array.len() as u64, &mut value);
            value.extend(&array);
            nest = value;
        }
        for tag in [0x12, 0x0a, 0x0a, 0x0a] {
            let mut outer = vec![tag];
            prost::encoding::encode_varint(nest.len() as u64, &mut outer);
            outer.extend(&nest);
            nest = outer;
        }
        let refused = protobuf(&nest).unwrap_err();
        assert!(matches!(&refused, Refusal::Malformed(why) if why.as_str().contains("nested")), "{refused:?}");
        let whole = with_points(5).encode_to_vec();
        for cut in 1..whole.len() {
            assert!(matches!(protobuf(&whole[..cut]), Err(Refusal::Malformed(_))), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = protobuf(&body);
            let _ = json(&body);
        }

        #[test]
        fn a_changed_byte_makes_it_no_more_than_wrong(at in 0..200_usize, byte in any::<u8>()) {
            let mut body = with_points(40).encode_to_vec();
            if let Some(old) = body.get_mut(at) {
                *old = byte;
            }
            let _ = protobuf(&body);
        }
    }
}
