"""Builds the application: `create_app` is the composition root."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service import __version__, problems
from service.ocr.recognizer import Recognizer
from service.reader import Reader, load_recognizer
from service.routes import router
from service.settings import Settings

_DESCRIPTION = """Reads small pictures with a few characters on them.

    curl -F file=@picture.png http://localhost:8000/predict
"""


def create_app(
    settings: Settings | None = None, load: Callable[[], Recognizer] | None = None
) -> FastAPI:
    """Builds the application; the model is loaded when it starts, not here.

    Args:
        settings: default: from the environment.
        load: gives the checked model; default: from the file that the settings name.
    """
    settings = settings or Settings()
    load = load or (lambda: load_recognizer(settings))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.reader = Reader.of(load(), settings)
        yield
        app.state.reader = None

    app = FastAPI(
        title="Captcha OCR", version=__version__, description=_DESCRIPTION, lifespan=lifespan
    )
    problems.install(app)
    app.include_router(router)
    return app
