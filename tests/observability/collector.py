"""A collector of traces for tests: receives OTLP over HTTP (opentelemetry-proto)."""

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SECONDS = 20


class Collector(ThreadingHTTPServer):
    """Keeps the spans that it receives, with their requests and resources."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()
        self.resources: list[dict[str, Any]] = []
        self.spans: list[Span] = []

    @property
    def address(self) -> str:
        """The value for `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self.server_port}"

    def record(self, path: str, body: bytes) -> None:
        """Records an export."""
        self.paths.add(path)
        self.bodies.append(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(attributes(group.resource))
            self.spans += [span for scope in group.scope_spans for span in scope.spans]

    def roots(self, count: int) -> list[Span]:
        """Waits for the spans of so many requests; gives them in the order of their starts."""
        for _ in range(SECONDS * 20):
            found = [span for span in self.spans if span.kind == Span.SPAN_KIND_SERVER]
            if len(found) >= count:
                return sorted(found, key=lambda span: span.start_time_unix_nano)
            time.sleep(0.05)
        raise AssertionError(f"{len(found)} of {count} requests have spans")

    def parts(self, root: Span) -> list[Span]:
        """The spans of a request's parts, in the order of their starts."""
        found = [span for span in self.spans if span.parent_span_id == root.span_id]
        return sorted(found, key=lambda span: span.start_time_unix_nano)


def attributes(holder: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in holder.attributes
    }


@contextmanager
def collecting() -> Iterator[Collector]:
    """Runs a collector."""
    with Collector() as collector:
        threading.Thread(target=collector.serve_forever, args=(0.01,)).start()
        yield collector
        collector.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        """Receives an export."""
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.record(self.path, body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Logs nothing: pytest shows what matters."""
