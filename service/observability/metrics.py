"""The metrics of the service for Prometheus, summed over all workers.

Names follow https://prometheus.io/docs/practices/naming/; docs/operations.md says what each is for.
"""

import math
import operator
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any

# If it is set for another application, this service would share that application's files.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from service.observability.logs import dropped_lines
from service.observability.request_timing import RequestTiming
from service.ocr.decoding.decoder import Reading
from service.runtime.batcher import BATCH_SIZE, Batcher

Snapshot = list[Metric]
"""The metrics of a process at one moment."""

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_MS = (1, 2, 3, 5, 7.5, 10, 15, 25, 50, 100, 250, 500, 1000, 2500, 10000)
_SECONDS = tuple(ms / 1000 for ms in _MS)
_BYTES = tuple(1 << exponent for exponent in range(10, 24))
_PIXELS = tuple(1000 * 2**exponent for exponent in range(13))
_CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
_AT_ONCE = tuple(range(1, BATCH_SIZE + 1))
_LENGTHS = tuple(range(13))
_MAXIMA = frozenset({"captcha_ocr_reload_failed", "process_start_time_seconds"})
"""Gauges that are merged by taking the maximum over all processes; others are summed."""
_PARTS = ("receive", "wait", "read", "decode", "infer", "respond")

disable_created_metrics()  # type: ignore[no-untyped-call]  # one more unused series each


class Metrics(Collector):
    """Counts and measures; every method takes a few microseconds, and is safe in any thread.

    Args:
        others: returns the metrics of the other workers; it may block while it waits for them.
    """

    def __init__(self, others: Callable[[], Snapshot] = list) -> None:
        self._registry = registry = CollectorRegistry()
        self._others = others
        registry.register(_DroppedLines())
        ProcessCollector(registry=registry)

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"captcha_ocr_{name}", meaning, labels, registry=registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(f"captcha_ocr_{name}", meaning, labels, registry=registry)

        def histogram(name: str, meaning: str, buckets: Any, *labels: str) -> Histogram:
            return Histogram(
                f"captcha_ocr_{name}", meaning, labels, registry=registry, buckets=buckets
            )

        requests = counter(
            "requests", "Requests answered; reason: the problem.", "route", "status", "reason"
        )
        request_seconds = histogram(
            "request_seconds", "Time from a request's headers to its answer.", _SECONDS, "route"
        )
        # Finding a metric by its labels takes several times as long as counting.
        self._requests = cache(requests.labels)
        self._request_seconds = cache(request_seconds.labels)
        self._key_requests = counter(
            "key_requests", "Requests with an API key, by its name.", "key", "status"
        )
        self._key_pictures = counter(
            "key_pictures", "Pictures of requests with an API key, by its name.", "key"
        )
        parts = histogram(
            "request_part_seconds",
            f"Parts of a request's time: {', '.join(_PARTS)}.",
            _SECONDS,
            "part",
        )
        self._receive, self._wait, self._read, self._decode, self._infer, self._respond = (
            parts.labels(part) for part in _PARTS
        )
        self._together = histogram("pictures_at_once", "Pictures read together.", _AT_ONCE)
        self._bytes = histogram("picture_bytes", "Sizes of the pictures read.", _BYTES)
        self._pixels = histogram("picture_pixels", "Width × height of the pictures.", _PIXELS)
        self._confidence = histogram("confidence", "Confidences of the texts.", _CONFIDENCES)
        self._length = histogram("text_length", "Characters of the texts.", _LENGTHS)
        self._in_flight = gauge("in_flight", "Pictures that wait or are being read.")
        self._waiting = gauge("queue_depth", "Pictures that wait for a thread.")
        self._threads = gauge("threads", "Pictures that can be read at once.")
        self._workers = gauge("workers", "Processes that serve.")
        self._starts = counter("worker_starts", "Processes that began to serve.")
        self._models = gauge("model_info", "Processes that serve this model.", "name", "version")
        self._reloads = counter("reloads", "Switches to a newly exported model.")
        self._failures = counter("reload_failures", "New model files that were not switched to.")
        self._stale = gauge("reload_failed", "1 while the newest model file is not the one served.")
        self._served: Gauge | None = None
        self._exposing = threading.Lock()
        self._exposed = (-math.inf, b"")  # start time and text of the newest exposition

    def answered(self, timing: RequestTiming) -> None:
        """Counts an answer, and measures the parts of its time."""
        self._requests(timing.route, timing.status, timing.reason).inc()
        self._request_seconds(timing.route).observe(timing.ended - timing.began)
        if timing.receive_ended:
            self._receive.observe(timing.receive_ended - timing.receive_began)
        for read in timing.reads:
            self._decode.observe(read.decoded - read.began)
            self._infer.observe(read.inferred - read.decoded)
        if timing.reads:
            self._respond.observe(timing.ended - timing.reads[-1].inferred)

    def key_answered(self, name: str, status: int) -> None:
        """Counts an answer to a request with the API key of this name."""
        self._key_requests.labels(name, status).inc()

    def key_pictures(self, name: str, pictures: int) -> None:
        """Counts pictures that were sent with the API key of this name, readable or not."""
        self._key_pictures.labels(name).inc(pictures)

    def worked(self, waits: Sequence[float], read: float, pictures: int) -> None:
        """Measures a batch.

        Args:
            waits: seconds that each item of the batch waited for a thread.
            read: seconds that the thread took for the batch.
            pictures: number of pictures in the batch.
        """
        for wait in waits:
            self._wait.observe(wait)
            self._read.observe(read)
        self._together.observe(pictures)

    def read(self, size: int, reading: Reading) -> None:
        """Counts a picture of `size` bytes and its reading."""
        self._bytes.observe(size)
        self._pixels.observe(reading.pixels)
        self._confidence.observe(reading.confidence)
        self._length.observe(len(reading.text))

    def started(self, batcher: Batcher) -> None:
        """Counts a process that begins to serve, and exposes how busy its threads are."""
        self._starts.inc()
        self._workers.set(1)
        self._threads.set(batcher.threads)
        self._in_flight.set_function(lambda: batcher.in_flight)
        self._waiting.set_function(lambda: batcher.waiting)
        self._stale.set(0)

    def serves(self, name: str, version: str) -> None:
        """Exposes the name and version of the model that answers now."""
        if self._served is not None:
            self._served.set(0)
            self._reloads.inc()
        self._served = self._models.labels(name, version)
        self._served.set(1)
        self._stale.set(0)

    def reload_failed(self) -> None:
        """Counts a new model file that cannot be served."""
        self._failures.inc()
        self._stale.set(1)

    def snapshot(self) -> Snapshot:
        """The metrics of this process."""
        return list(self._registry.collect())

    def collect(self) -> Snapshot:
        """The metrics of all workers."""
        return merge([self.snapshot(), self._others()])

    def exposition(self, asked: float = math.inf) -> bytes:
        """The metrics of all workers in Prometheus' text format, version 0.0.4.

        Call it in a thread, since it may wait for the other workers. Only one thread at a time
        makes an exposition, so that many scrapes leave the GIL to the event loop. Scrapes that wait
        meanwhile share the next exposition; otherwise hundreds of scrapes would hold their
        connections for seconds.

        Args:
            asked: time of the scrape, in seconds of `time.monotonic`. An exposition that was begun
                later is returned again.

        Raises:
            TimeoutError: the other workers did not send their metrics in time.
        """
        with self._exposing:
            if self._exposed[0] < asked:
                self._exposed = time.monotonic(), generate_latest(self)
            return self._exposed[1]


def merge(snapshots: Iterable[Snapshot], ended: bool = False) -> Snapshot:
    """The metrics of several processes, merged.

    Args:
        ended: whether the processes have ended: their counters are kept, their gauges dropped.
    """
    merged: dict[str, Metric] = {}
    values: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = {}
    for metric in chain.from_iterable(snapshots):
        if ended and metric.type == "gauge":
            continue
        merged.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
        combined = max if metric.name in _MAXIMA else operator.add
        for sample in metric.samples:
            key = metric.name, sample.name, tuple(sample.labels.items())
            values[key] = combined(values.get(key, 0), sample.value)
    for (name, sample_name, labels), value in values.items():
        merged[name].add_sample(sample_name, dict(labels), value)
    return list(merged.values())


class _DroppedLines(Collector):
    """Counts the lines that the log has dropped."""

    def collect(self) -> Iterable[Metric]:
        """The number of lines so far."""
        yield CounterMetricFamily(
            "captcha_ocr_log_lines_dropped",
            "Lines of the log that were lost: it is not read fast enough, or cannot be written.",
            value=dropped_lines(),
        )
