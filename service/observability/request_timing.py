"""Where the time of one request goes, and how it is answered."""

import time
from dataclasses import dataclass, field

from service.runtime.predictor import Times

REQUEST_TIMING = "captcha_ocr.timing"
"""The key under which a request's scope holds its `RequestTiming`."""

NO_ROUTE = "other"
"""The route of what no route answers; the path itself is whatever the client likes."""


@dataclass(slots=True)
class RequestTiming:
    """Moments of a request, in seconds of `time.perf_counter`, and its answer; 0: not yet.

    Args:
        began: when its headers had arrived.
        receive_began, receive_ended: when its body began to be read, and had been taken apart; its
            pictures wait for a thread from then on.
        reads: of pictures that were read, not of those that were refused.
        model_version: of the model that has read them.
        ended: when it was answered.
        route: its path, one of few; never as the client sent it.
        status: of the answer.
        reason: the name of the kind of problem; empty where there is none.
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
