"""A service with OpenTelemetry's own SDK: counts what it is told on standard input, a line at a time, and exports it.

Each line is JSON: {"requests": [n, code], "took": [seconds, ...], "work": [milliseconds, ...], "queue": level}. When all
of it is counted and exported, the line is answered with `done`.
"""

import json
import sys

from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

protocol, endpoint, temporality, version, instance, token, packed = sys.argv[1:]

if protocol == "http":
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    where = {"endpoint": f"http://{endpoint}/v1/metrics", "headers": {"Authorization": f"Bearer {token}"}}
    compression = Compression.Gzip if packed == "gzip" else Compression.NoCompression
else:
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    where = {"endpoint": endpoint, "insecure": True, "headers": (("authorization", f"Bearer {token}"),)}
    compression = grpc.Compression.Gzip if packed == "gzip" else grpc.Compression.NoCompression

preferred = {}
if temporality == "delta":
    preferred = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
exporter = OTLPMetricExporter(preferred_temporality=preferred, compression=compression, **where)
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=300)
provider = MeterProvider(
    metric_readers=[reader],
    resource=Resource.create(
        {"service.name": "shop", "service.version": version, "service.instance.id": instance}
    ),
    views=[View(instrument_name="shop.work", aggregation=ExponentialBucketHistogramAggregation())],
)
meter = provider.get_meter("shop")
requests = meter.create_counter("shop.requests", unit="{request}", description="Requests that were served")
took = meter.create_histogram(
    "shop.duration", unit="s", explicit_bucket_boundaries_advisory=[0.01, 0.05, 0.1, 0.5, 1.0, 5.0]
)
work = meter.create_histogram("shop.work", unit="ms")
queue = meter.create_gauge("shop.queue")

for line in sys.stdin:
    told = json.loads(line)
    if "requests" in told:
        number, code = told["requests"]
        requests.add(number, {"http.response.status_code": code})
    for seconds in told.get("took", []):
        took.record(seconds, {"http.route": "/pay"})
    for millis in told.get("work", []):
        work.record(millis)
    if "queue" in told:
        queue.set(told["queue"])
    if not provider.force_flush(10_000):
        sys.exit("the metrics could not be exported")
    print("done", flush=True)

provider.shutdown()
