"""Where the time of one request goes."""

import time
from dataclasses import dataclass, field

from service.runtime.predictor import Times

REQUEST_TIMING = "captcha_ocr.timing"
"""The key under which a request's scope holds its `RequestTiming`."""


@dataclass(slots=True)
class RequestTiming:
    """Moments of one request, in seconds of `time.perf_counter`; 0: has not happened.

    Args:
        began: when its headers had arrived.
        receive_began, receive_ended: when its body began to be read, and had been taken apart; its
            pictures wait for a thread from then on.
        reads: of pictures that were read, not of those that were refused.
        model_version: of the model that has read them.
    """

    began: float = field(default_factory=time.perf_counter)
    receive_began: float = 0.0
    receive_ended: float = 0.0
    reads: list[Times] = field(default_factory=list)
    model_version: str | None = None
