"""Builds the application: `create_app` is the composition root."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from service import __version__
from service.api import errors, openapi, routes
from service.api.auth import ApiKeys
from service.api.handlers import Engine
from service.api.middleware.access_log import AccessLog
from service.api.middleware.load_shedding import LoadShedding
from service.api.middleware.proxy_headers import ProxyHeaders
from service.api.rate_limit import RateLimit
from service.api.v2 import routes as v2_routes
from service.api.v2.messages import LENGTH_HEADER
from service.api.web import routes as web_routes
from service.observability import tracing
from service.observability.metrics import Metrics
from service.runtime import model_reload
from service.runtime.predictor import Predictor, load_predictor
from service.settings import Settings, split_list

_SWITCH_SECONDS = 0.0001
"""How long a thread may keep the GIL while another thread waits for it. A thread that reads
pictures needs the GIL for moments between two calls of the model. With the default of 5 ms it would
wait for an event loop that is busy refusing requests."""

_FILE_THREADS = 4
"""Threads that read the page's files. The default is up to 40 in each worker, while a container may
have 128 threads in all."""

_SHARED_HEADERS = ("X-Request-ID", LENGTH_HEADER.title())
"""Headers of requests and answers that pages of allowed origins (`OCR_CORS_ORIGINS`) may use."""

_DESCRIPTION = """Reads small pictures with a few characters on them.

    curl -F file=@picture.png http://localhost:8000/predict
"""


def create_app(
    settings: Settings | None = None,
    predictor: Predictor | None = None,
    metrics: Metrics | None = None,
    rate_limit: RateLimit | None = None,
) -> FastAPI:
    """Builds the application, which loads the model when it starts.

    Args:
        settings: default: read from the environment.
        predictor: the first model; default: loaded from the file in the settings. Later models
            always come from that file.
        metrics: default: new metrics.
        rate_limit: default: a rate limit of this process.
    """
    settings = settings or Settings()
    metrics = metrics or Metrics()
    limit = rate_limit or RateLimit(settings.key_pictures_per_second)
    traces = tracing.Traces() if tracing.asked_for(os.environ) else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        to_thread.current_default_thread_limiter().total_tokens = _FILE_THREADS
        first = predictor or load_predictor(settings)
        engine = app.state.engine = Engine(first, settings, metrics, app.state.keys, limit)
        reload = asyncio.create_task(
            model_reload.watch(settings, first.file_state, engine.switch, engine.reload_failed)
        )
        sys.setswitchinterval(_SWITCH_SECONDS)
        yield {routes.DRAINING: asyncio.Event()}
        app.state.engine = None
        engine.batcher.close()
        reload.cancel()
        if traces is not None:
            await asyncio.to_thread(traces.close)

    app = FastAPI(
        title="Captcha OCR",
        version=__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        servers=[{"url": settings.root_path or "/"}],
        openapi_url=None,  # see `service.api.openapi`
        redirect_slashes=False,  # a redirect would contain the Host header, which a client chooses
        telemetry={"tracing": False, "metrics": False, "logs": False},  # see `tracing`
    )
    app.state.keys = ApiKeys(settings)
    errors.install(app)
    for router in (routes.router, v2_routes.router, web_routes.router()):
        # Routes of `include_router` would be searched twice for every request.
        app.router.routes += router.routes
        for route in router.routes:
            # RFC 9110, 9.3.2: every GET route also answers HEAD. The server omits the body.
            if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
                app.add_api_route(
                    route.path,
                    route.endpoint,
                    methods=["HEAD"],
                    dependencies=route.dependencies,
                    include_in_schema=False,
                )
    openapi.install(app)
    reading = [route for route in routes.router.routes if isinstance(route, routes.RequestRoute)]
    app.add_middleware(LoadShedding, routes=reading)
    if origins := split_list(settings.cors_origins):
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=[*_SHARED_HEADERS, "X-API-Key", "Authorization", "traceparent"],
            expose_headers=[*_SHARED_HEADERS, "Retry-After"],
        )
    app.add_middleware(AccessLog, metrics=metrics, logs=settings.access_log, traces=traces)
    if proxies := split_list(settings.trusted_proxies):
        app.add_middleware(ProxyHeaders, trusted_hosts=proxies)
    return app
