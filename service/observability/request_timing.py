"""How a request is answered, and how long each part of it takes."""

import time
from dataclasses import dataclass, field

from service.runtime.predictor import Times

REQUEST_TIMING = "captcha_ocr.timing"
"""The key under which a request's scope holds its `RequestTiming`."""

NO_ROUTE = "other"
"""The route of requests that match no route. Their path is not used: clients choose it freely."""


@dataclass(slots=True)
class RequestTiming:
    """Times of a request, in seconds of `time.perf_counter` (0: not yet), and its answer.

    Args:
        began: when its headers had arrived.
        receive_began, receive_ended: when reading its body began, and when the body was parsed. Its
            pictures wait for a thread from then on.
        reads: times of pictures that were read, not of pictures that were refused.
        model_version: version of the model that has read the pictures.
        ended: when it was answered.
        route: path of its route, never the path that the client sent.
        status: status of the answer.
        reason: name of the kind of problem; empty if there is none.
    """

    began: float = field(default_factory=time.perf_counter)
    receive_began: float = 0.0
    receive_ended: float = 0.0
    reads: list[Times] = field(default_factory=list)
    model_version: str | None = None
    ended: float = 0.0
    route: str = NO_ROUTE
    status: int = 0
    reason: str = ""
