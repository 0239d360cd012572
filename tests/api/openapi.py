"""Writes docs/openapi.json: `python -m tests.api.openapi`."""

import json

from service.api.app import create_app
from service.settings import Settings
from tests.server.process import ROOT

PATH = ROOT / "docs" / "openapi.json"


def text() -> str:
    """The text of docs/openapi.json for the current application."""
    document = create_app(Settings()).openapi()
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
