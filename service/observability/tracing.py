"""Exports traces of requests to OpenTelemetry. Needs the extra `traces`, and OpenTelemetry's
environment variables.

FastAPI's own tracing does not cover the threads, and would record the query string. This module
makes spans from a request's timing after its answer. Names and attributes follow
https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server-span.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from starlette.types import Scope

from service import __version__
from service.observability.request_timing import NO_ROUTE, RequestTiming

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTER = "OTEL_TRACES_EXPORTER"
_HTTP = "http/protobuf"
_PACKAGE = "opentelemetry.exporter.otlp.proto.http"
_CLOSE_SECONDS = 2.0
_PARENT_HEADERS = (b"traceparent", b"tracestate")


class TracesError(Exception):
    """The environment asks for traces that cannot be exported; the message says what to change."""


def asked_for(environment: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces. Imports nothing of OpenTelemetry.

    Raises:
        TracesError: the exporter or protocol is not supported, or the extra is not installed.
    """

    def first(*names: str) -> tuple[str, str]:
        return next(((name, value) for name in names if (value := environment.get(name))), ("", ""))

    endpoint, _ = first(*_ENDPOINTS)
    off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not endpoint or off or environment.get(_EXPORTER) == "none":
        return False
    for (name, value), allowed in ((first(_EXPORTER), "otlp"), (first(*_PROTOCOLS), _HTTP)):
        if value not in ("", allowed):
            raise TracesError(f"{name} is {value!r}; traces are exported by {allowed} only.")
    try:
        installed = find_spec(_PACKAGE) is not None
    except ModuleNotFoundError:  # raised if a parent package is missing
        installed = False
    if not installed:
        raise TracesError(
            f"{endpoint} is set, but the exporter of traces is not installed: run "
            "pip install .[traces], or unset that variable."
        )
    return True


class Traces:
    """Exports a span for every request, and one for each part of it, in a thread of its own.

    OpenTelemetry's variables define the target, the sampling and the name of the service.

    Raises:
        TracesError: OpenTelemetry refuses the value of one of its variables.
    """

    def __init__(self) -> None:
        try:
            self._set_up()
        except ValueError as error:
            raise TracesError(f"an OTEL_ variable is invalid: {error}") from error

    def _set_up(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # Attributes that are passed here override the variables, so only missing ones are passed.
        own = {"service.name": "captcha-ocr", "service.version": __version__}
        given = OTELResourceDetector().detect().attributes
        self._provider = TracerProvider(
            resource=Resource.create({k: v for k, v in own.items() if k not in given}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("service", __version__)

    def answered(self, scope: Scope, timing: RequestTiming) -> str:
        """Traces a request, below the client's span if it sent one; returns the trace id."""
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, StatusCode, format_trace_id, set_span_in_context

        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in _PARENT_HEADERS
        }
        began_at = time.time_ns() - round((time.perf_counter() - timing.began) * 1e9)

        def at(moment: float) -> int:
            return began_at + round((moment - timing.began) * 1e9)

        route = "" if timing.route == NO_ROUTE else timing.route
        span = self._tracer.start_span(
            f"{scope['method']} {route}".rstrip(),
            extract(headers),
            SpanKind.SERVER,
            _attributes(scope, timing, route),
            start_time=began_at,
        )
        if span.is_recording():
            if timing.status >= 500:
                span.set_status(StatusCode.ERROR)
            within = set_span_in_context(span)
            for name, start, end in _parts(timing):
                part = self._tracer.start_span(name, within, start_time=at(start))
                part.end(at(end))
            span.end(at(timing.ended))
        return format_trace_id(span.get_span_context().trace_id)

    def close(self) -> None:
        """Exports the remaining spans; gives up after two seconds.

        The thread may go on, until the process exits: OpenTelemetry waits longer for a collector
        that answers slowly.
        """
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


def _attributes(scope: Scope, timing: RequestTiming, route: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "http.request.method": scope["method"],
        "url.scheme": scope["scheme"],
        "http.response.status_code": timing.status,
    }
    optional = {
        "http.route": route,
        "error.type": timing.reason if timing.status >= 500 else "",
        "captcha_ocr.reason": timing.reason,
        "captcha_ocr.model_version": timing.model_version,
    }
    return attributes | {name: value for name, value in optional.items() if value}


def _parts(timing: RequestTiming) -> Iterator[tuple[str, float, float]]:
    """Name, start and end of each part of a request."""
    if timing.receive_ended:
        yield "receive", timing.receive_began, timing.receive_ended
    for read in timing.reads:
        yield "wait", timing.receive_ended, read.began
        yield "decode", read.began, read.decoded
        yield "infer", read.decoded, read.inferred
    if timing.reads:
        yield "respond", timing.reads[-1].inferred, timing.ended
