"""Starts the server, or one with several workers, as the settings say."""

import difflib
import logging.config
import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from uvicorn.config import STARTUP_FAILURE
from uvicorn.server import HANDLED_SIGNALS

from service.api.app import create_app
from service.api.errors import SECURITY_HEADERS
from service.api.handlers import questions_of
from service.observability import tracing as traces
from service.observability.logs import log_config
from service.observability.metrics import FOLDER
from service.observability.tracing import TracesError
from service.ocr.exceptions import ModelError
from service.query_params import InvalidParameterError
from service.runtime.predictor import load_predictor
from service.server import malloc
from service.server.connections import Connections
from service.server.protocol import BoundedProtocol, Bounds
from service.server.supervisor import Supervisor
from service.settings import Settings

logger = logging.getLogger(__name__)


def main() -> int:
    """Serves until a signal ends it.

    Returns:
        The exit status: other than 0 where it could not start. After its orderly end a single
        worker does not come back from here: it exits with 0.
    """
    try:
        # All before any socket is bound or worker started, so that what is wrong is one sentence.
        settings = Settings()
        logging.config.dictConfig(log_config(settings))
        if traces.asked_for(os.environ):
            traces.Traces().close()
        _warn_of_misspelt(os.environ)
        malloc.give_back()
        predictor = load_predictor(settings)
        questions_of(predictor, settings)
    except ValidationError as error:
        for problem in error.errors():
            name = f"OCR_{'_'.join(map(str, problem['loc'])).upper()}"
            message = problem["msg"].removeprefix("Value error, ")
            print(f"error: {name} is {problem['input']!r}: {message}", file=sys.stderr)
        return 1
    except (ModelError, TracesError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except InvalidParameterError as error:
        names, _, message = str(error).partition(": ")
        variables = " and ".join(f"OCR_{name.upper()}" for name in names.split(" and "))
        print(f"error: {variables}: {message}", file=sys.stderr)
        return 1
    if settings.workers > 1:
        return _supervise(settings)
    return _serve(settings, create_app(settings, predictor))


def _warn_of_misspelt(environment: Mapping[str, str]) -> None:
    """Logs what looks like a setting and is none; a template may set more than this version has."""
    known = [f"OCR_{name.upper()}" for name in Settings.model_fields]
    for name in sorted(name for name in environment if name.upper().startswith("OCR_")):
        if name.upper() not in known:
            nearest = difflib.get_close_matches(name.upper(), known, 1)
            hint = f"; {nearest[0]} is one" if nearest else ""
            logger.warning("%s is no setting and changes nothing%s", name, hint)


def _serve(settings: Settings, app: FastAPI) -> int:
    server = uvicorn.Server(_config(settings, app))
    # uvicorn raises the signal that it has ended for once more, which would be an accident then.
    for number in HANDLED_SIGNALS:
        signal.signal(number, _end)
    server.run()
    return 0 if server.started else STARTUP_FAILURE


def _end(number: int, frame: FrameType | None) -> None:
    """Ends the process there and then, with status 0.

    At an end by `sys.exit`, a thread in the midst of the model would crash it.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def _supervise(settings: Settings) -> int:
    config = _config(settings, "service.api.app:create_app")
    with TemporaryDirectory(prefix="captcha-ocr-metrics-") as folder:
        os.environ[FOLDER] = folder  # before the workers start, whose metrics are shared there
        supervisor = Supervisor(config, [config.bind_socket()], Path(folder))
        supervisor.run()
    # uvicorn itself would exit with 0 where its workers could not start.
    failed = any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes)
    return STARTUP_FAILURE if failed else 0


def _config(settings: Settings, app: FastAPI | str) -> uvicorn.Config:
    bounds = Bounds(settings.request_seconds, settings.max_header_bytes)
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        http=partial(  # type: ignore[arg-type]  # called like one
            BoundedProtocol,
            bounds=bounds,
            others=Connections(settings.max_connections),
        ),
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_level=settings.log_level,
        log_config=log_config(settings),
        access_log=False,  # `observed` writes it
        server_header=False,
        headers=list(SECURITY_HEADERS.items()),
        ws="none",
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
