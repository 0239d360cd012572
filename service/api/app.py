"""Builds the application: `create_app` is the composition root."""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from service import __version__
from service.api import errors as problems
from service.api import openapi as document
from service.api.handlers import Engine
from service.api.middleware.access_log import Observed
from service.api.middleware.bodiless import Bodiless
from service.api.middleware.body_limit import Bodies
from service.api.routes import HOT, router
from service.api.shortcut import Shortcut
from service.api.v2 import errors
from service.api.v2.messages import LENGTH_HEADER
from service.api.v2.routes import router as inference_router
from service.api.web.routes import page_router
from service.observability.metrics import Metrics
from service.observability.tracing import Traces, asked_for
from service.ocr.recognizer import Recognizer
from service.runtime.model_reload import Stamp, stamp_of, watch
from service.runtime.predictor import load_recognizer
from service.server import malloc as allocator
from service.server import shutdown as drain
from service.server.refusing import OVERLOAD
from service.server.shutdown import Drain
from service.settings import Settings

_SWITCH_SECONDS = 0.0001
"""How long a thread may keep the interpreter while another waits for it. A pool thread needs it for
moments between two calls of the model, and its processor has nothing to do as long as it waits; by
Python's default of 5 ms, an event loop that is busy refusing requests starves the pool."""

_BOTH_WAYS = ("X-Request-ID", LENGTH_HEADER.title())
"""Of requests and of answers, which pages of other origins may use where they are let in."""

_DESCRIPTION = """Reads small pictures with a few characters on them.

    curl -F file=@picture.png http://localhost:8000/predict
"""


def create_app(
    settings: Settings | None = None,
    load: Callable[[], Recognizer] | None = None,
    loaded: Stamp = None,
) -> FastAPI:
    """Builds the application; the model is loaded when it starts, not here.

    Args:
        settings: default: from the environment.
        load: gives the checked model to begin with; default: from the file that the settings
            name, which later models come from in any case.
        loaded: of that file before `load`'s model was read from it.
    """
    settings = settings or Settings()
    metrics = Metrics()
    traces = Traces() if asked_for(os.environ) else None

    def load_from_file() -> Recognizer:
        return load_recognizer(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        allocator.give_back()
        stamp = loaded or stamp_of(settings.model_path)
        engine = app.state.engine = Engine((load or load_from_file)(), settings, metrics)
        ending = Drain()
        background = asyncio.gather(
            watch(engine, settings.model_path, settings.reload_seconds, load_from_file, stamp),
            metrics.follow(engine.pool),
        )
        sys.setswitchinterval(_SWITCH_SECONDS)
        # What is there by now stays: the garbage collector, which looks the less often the more it
        # would have to look at, is only to look at what requests leave.
        gc.freeze()
        gc.enable()
        with ending.before_stopping(settings.drain_seconds):
            yield {drain.STATE: ending, OVERLOAD: engine}
        metrics.afterwards.run()  # as long as there is a model that it can name
        metrics.sample(engine.pool)
        app.state.engine = None
        engine.pool.close()
        background.cancel()
        with suppress(asyncio.CancelledError):
            await background
        if traces is not None:
            await asyncio.to_thread(traces.close)

    app = FastAPI(
        title="Captcha OCR",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # see `service.api.openapi`
        redirect_slashes=False,  # the address would be made of a header that the client gives
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
        },  # see `service.observability.tracing`
    )
    document.install(app)
    problems.install(app)
    errors.install(app)
    app.include_router(router)
    app.include_router(inference_router)
    app.include_router(page_router())
    app.add_middleware(Shortcut, endpoints=HOT)
    if origins := [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=[*_BOTH_WAYS, "X-API-Key", "Authorization", "traceparent"],
            expose_headers=[*_BOTH_WAYS, "Retry-After"],
        )
    app.add_middleware(Bodies, most_bytes=settings.max_bodies_bytes)
    app.add_middleware(Observed, metrics=metrics, hot=HOT, logs=settings.access_log, traces=traces)
    app.add_middleware(Bodiless)
    return app
